"""The README's table of tunes on a GPU, from the runs' ledgers.

python -m tests.gpu.table reports/RUN...

One row a tune, finished or not: default, tuned, the gain with its 95% interval, joules per output token of both,
launches and how long they took, and the minutes in all. Runs of other commands have no row.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from infertune.domain.objective import objective_of
from infertune.domain.request import TuneRequest, make_request
from infertune.errors import InfertuneError
from infertune.runs.ledger import Ledger
from infertune.runs.summary import Summary, summarise
from infertune.stats import Estimate
from infertune.units import format_percent, format_rate

HEAD = (
    "| model | engine | default, tok/s | tuned, tok/s | gain (95% interval) | J/token | settings | launches | min |",
    "| --- | --- | ---: | ---: | --- | --- | --- | --- | ---: |",
)


def main(folders: Sequence[str]) -> int:
    """Print the table of these runs; exit status 2 if a folder is no run."""
    try:
        rows = [row for folder in folders if (row := row_of(Path(folder)))]
    except InfertuneError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("\n".join((*HEAD, *rows)))
    return 0


def row_of(folder: Path) -> str | None:
    """The row of a tune; None for a run of another command, or where nothing ran.

    Raises:
        UsageError: The folder is not a run.
    """
    ledger = Ledger.open(folder)
    header = ledger.header
    if header.command != "tune" or not any(trial.measurement for trial in ledger.trials):
        return None
    found = summarise(ledger, objective_of(make_request(TuneRequest, {}, earlier=header.request)))
    differs = {n: v for n, v in found.candidate_config.root.items() if found.default_config.root.get(n) != v}
    launches = [trial.launch_s for trial in ledger.trials if trial.launch_s]
    cells = (
        header.model.name if header.model else "",
        f"{header.engine} {header.engine_version}",
        _rate(found.default),
        _rate(found.candidate),
        _gain(found),
        " → ".join(_joules(e.j_per_output_token) for e in (found.default_economy, found.candidate_economy)),
        " ".join(f"{name}={value}" for name, value in differs.items()) or "the default",
        f"{found.launches}, {min(launches):.0f} to {max(launches):.0f} s" if launches else "0",
        f"{(found.launch_s + found.run_s) / 60:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _rate(estimate: Estimate | None) -> str:
    return format_rate(estimate.mean) if estimate else "?"


def _gain(found: Summary) -> str:
    gain = found.gain
    if gain is None or gain.low is None or gain.high is None:
        return found.answer
    return f"{format_percent(gain.mean)} ({format_percent(gain.low)} to {format_percent(gain.high)}): {found.answer}"


def _joules(joules: float | None) -> str:
    return "?" if joules is None else f"{joules:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
