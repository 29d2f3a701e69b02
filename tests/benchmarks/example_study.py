"""Measure `reports/example-study` again: `python -m tests.benchmarks.example_study SMOLLM2 [--repeats 2]`.

SMOLLM2 is a folder with SmolLM2-135M-Instruct. The study runs in a scratch folder, and the command goes on with it when
it is given again. Ledgers, report and tables are then copied, without what names this machine's folders.
"""

import argparse
import os
import shutil
from pathlib import Path

from infertune.cli.options import Progress
from infertune.tuning.study.run import study

ROOT = Path(__file__).parents[2]
PLAN = Path(__file__).parent / "plans" / "example-study.yaml"
MODEL = "SmolLM2-135M-Instruct"  # as the plan names it


def curate(made: Path, out: Path, model: Path) -> None:
    """Copy ledgers, report and tables of a study; folders of this machine become `.` and `~`."""
    kept = [
        *made.glob("*.csv"),
        *made.glob("study.*"),
        *made.glob("pictures/*.svg"),
        *made.glob("cells/*/trials.jsonl"),
    ]
    shutil.rmtree(out, ignore_errors=True)
    for file in kept:
        if file.name == "study.html":
            continue
        text = file.read_text(encoding="utf-8")
        for folder, short in ((model, MODEL), (made.parent, "."), (ROOT, "."), (Path.home(), "~")):
            text = text.replace(str(folder.resolve()), short)
        target = out / file.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    shutil.copy(PLAN, out / "plan.yaml")


def main() -> None:
    """Run the study and copy what is kept of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/infertune-example-study"))
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "example-study")
    given = parser.parse_args()
    model, out = given.model.resolve(), given.out.resolve()
    given.scratch.mkdir(parents=True, exist_ok=True)
    os.chdir(given.scratch)  # so that the ledgers name the model by a relative path
    if not Path(MODEL).exists():
        Path(MODEL).symlink_to(model)
    plan = Path("plan.yaml")
    plan.write_text(PLAN.read_text().replace("repeats: 2", f"repeats: {given.repeats}"))
    with Progress() as observer:
        made = study(plan, Path("example-study"), observer)
    curate(made.folder.resolve(), out, model)
    print(f"{made.count('done')} cells are done, {made.count('failed')} failed; {out}")


if __name__ == "__main__":
    main()
