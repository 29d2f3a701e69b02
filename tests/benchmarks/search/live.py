"""A live tune on the real engine, compared with the recorded landscape of the same machine: regret and time.

    python -m tests.benchmarks.search.live vllm-tiny-chat --trials 20

Tunes over the very grid that was recorded, on the machine that recorded it, and looks the answer up in the record. The
time is set against a search that launches the engine for every point of the grid, as server sweeps do: the recorded
launches and runs, added up, once each.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from infertune.domain.request import TuneRequest, make_request
from infertune.tuning.tune import tune_request
from tests.benchmarks.search.problems import RECORDED, of_table


def main() -> None:
    """Tune and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--model", help="where the model is now, if it was a folder")
    parser.add_argument("--out", type=Path, help="keep the run in this folder")
    arguments = parser.parse_args()
    problem = of_table(RECORDED / f"{arguments.table}.csv.gz")
    asked = json.loads((RECORDED / f"{arguments.table}.json").read_text())["request"]
    kept = {name: value for name, value in asked.items() if name in TuneRequest.model_fields and name != "out"}
    flags = {**kept, "trials": arguments.trials, "finalists": 3, "confirm_launches": 2, "final_launches": (2, 3)}
    if arguments.model:
        flags["model"] = arguments.model
    with tempfile.TemporaryDirectory() as folder:
        flags.update(out=arguments.out or Path(folder) / "run", profiles=Path(folder) / "profiles")
        started = time.perf_counter()
        study = tune_request(make_request(TuneRequest, flags))
        took_s = time.perf_counter() - started
    searched_s = sum(trial.cost_s for trial in study.ledger.trials if trial.phase == "search")
    each_s = sum(run.launch_s + run.run_s for run in problem.once.values())
    found = study.summary.best_config
    print(f"{arguments.table}: {study.summary.answer}: {study.profile.changed}")
    print(f"recorded rate of it: {problem.true[found] / problem.best:.1%} of the best of {len(problem.true)}")
    print(f"search {searched_s:.0f} s, with confirmation {took_s:.0f} s; a launch for every point {each_s:.0f} s")
    print(f"1/{each_s / searched_s:.1f}, and 1/{each_s / took_s:.1f} with confirmation")


if __name__ == "__main__":
    main()
