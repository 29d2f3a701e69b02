"""A run of `infertune landscape` as a small table for the benchmark.

    python -m tests.benchmarks.search.record RUN NAME

Writes NAME.csv.gz, one row a measurement, and NAME.json: what the header says of model, device, workload and space.
"""

import argparse
import gzip
import json
from pathlib import Path

import pandas as pd

from infertune.domain.measurement import Infeasible, Measurement
from infertune.runs.ledger import Ledger
from tests.benchmarks.search.problems import RECORDED


def main() -> None:
    """Convert one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    ledger = Ledger.open(arguments.run)
    launch_s = {trial.launch_number: trial.launch_s for trial in ledger.trials if trial.launch_s}
    rows = []
    for trial in ledger.trials:
        match trial.outcome:
            case Measurement() as measurement:
                status, rate = "ok", measurement.output_tokens_per_s
            case Infeasible(reason="oom"):
                status, rate = "oom", None
            case failure:
                status, rate = ("timeout" if failure.kind == "timed_out" else "crash"), None
        rows.append(
            {
                **{name: _cell(value) for name, value in trial.config.root.items()},
                "round": trial.round_number,
                "output_tokens_per_s": None if rate is None else round(rate, 1),
                "status": status,
                "launch_s": round(launch_s.get(trial.launch_number, 0.0), 2),
                "run_s": round(trial.run_s, 2),
            }
        )
    RECORDED.mkdir(parents=True, exist_ok=True)
    text = pd.DataFrame(rows).to_csv(index=False)
    with gzip.GzipFile(RECORDED / f"{arguments.name}.csv.gz", "wb", mtime=0) as file:
        file.write(text.encode())
    header = ledger.header.model_dump(mode="json", include=_KEPT)
    header["request"].pop("out", None)  # folders of the machine that recorded it mean nothing elsewhere
    header["model"]["path"] = header["model"]["name"]
    (RECORDED / f"{arguments.name}.json").write_text(json.dumps(header, indent=1) + "\n")


_KEPT = {"created_at", "engine", "engine_version", "model", "device", "workload", "space", "request"}


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


if __name__ == "__main__":
    main()
