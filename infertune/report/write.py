"""The files of a report: `report.html`, `report.md` with its pictures, and `landscape.csv`."""

from collections.abc import Sequence
from pathlib import Path

from infertune.domain.objective import Objective
from infertune.report import pictures
from infertune.report.compare import compare, comparison_html, comparison_markdown, comparison_picture
from infertune.report.findings import Findings, find
from infertune.report.markdown import PICTURES, to_markdown
from infertune.report.page import to_html
from infertune.report.table import write_table
from infertune.runs.ledger import Ledger


def write_report(ledger: Ledger, objective: Objective) -> Path:
    """Write every file of a run's report into its folder; the page's path.

    Raises:
        OSError: The folder cannot be written.
    """
    return write_found(find(ledger, objective))


def write_found(found: Findings) -> Path:
    """The same, of what was computed already."""
    folder = found.ledger.folder
    write_table(found.ledger)
    made = {f"{name}.svg": text for name, (_, text) in pictures.drawn(found).items()}
    (folder / PICTURES).mkdir(exist_ok=True)
    for name, text in made.items():
        _put(folder / PICTURES / name, text)
    for stale in (folder / PICTURES).glob("*.svg"):
        if stale.name not in made:
            stale.unlink()
    _put(folder / "report.md", to_markdown(found))
    return _put(folder / "report.html", to_html(found))


def write_comparison(runs: Sequence[Findings], folder: Path) -> Path:
    """Write `comparison.html`, `comparison.md` and `comparison.svg` of several runs into a folder; the page's path.

    Raises:
        OSError: The folder cannot be written.
    """
    compared = compare(runs)
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / "comparison.svg", comparison_picture(compared))
    _put(folder / "comparison.md", comparison_markdown(compared))
    return _put(folder / "comparison.html", comparison_html(compared))


def _put(path: Path, text: str) -> Path:
    """A file, whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
