"""What can be made of a finished run without measuring anything: its report again, and profiles of other points."""

from collections.abc import Sequence
from pathlib import Path

from infertune.errors import UsageError
from infertune.landscape import EXPLORING, PLACES, pareto_front, point_on
from infertune.ledger import Ledger
from infertune.measurement import describe
from infertune.objective import Objective, objective_of
from infertune.profile import Profile, profile_at
from infertune.report import Findings, find, write_comparison, write_found
from infertune.request import JobRequest, TuneRequest, make_request
from infertune.search.export import Result, export_study


def report_again(folder: Path) -> tuple[Findings, Path]:
    """Write a run's report again from its ledger alone; what was found, and the page.

    Raises:
        UsageError: The folder is not a run, or cannot be written.
    """
    found = findings_of(folder)
    try:
        return found, write_found(found)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}") from None


def findings_of(folder: Path) -> Findings:
    """What was found in a run.

    Raises:
        UsageError: The folder is not a run.
    """
    ledger = Ledger.open(folder)
    return find(ledger, _objective(ledger))


def check_report(folders: Sequence[Path], out: Path | None, storage: str | None) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: There are several runs without a folder for their comparison, or one run with one.
    """
    if len(folders) > 1 and storage is not None:
        raise UsageError("--to-optuna takes one run; name one")
    if len(folders) > 1 and out is None:
        raise UsageError("several runs give a comparison: name a folder for it with --out FOLDER")
    if len(folders) == 1 and out is not None:
        raise UsageError("a run's report is written into the run's folder; leave --out out, or name several runs")


def compare_runs(folders: Sequence[Path], out: Path) -> Path:
    """Set several runs beside each other; the page.

    Raises:
        UsageError: A folder is not a run, stands twice, or `out` cannot be written.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("a run is named twice; name different ones to compare them")
    runs = [findings_of(folder) for folder in folders]
    try:
        return write_comparison(runs, out)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from None


def to_optuna(folder: Path, storage: str) -> tuple[str, int]:
    """Write a run's search or grid as an Optuna study; its name, and how many trials it has.

    Raises:
        UsageError: The folder is not a run, or the database cannot be written.
    """
    ledger = Ledger.open(folder)
    objective = _objective(ledger)
    results = [
        Result(trial, objective.figure(trial.measurement) if trial.measurement else None, describe(trial.outcome))
        for trial in ledger.trials
        if trial.phase in EXPLORING
    ]
    name = folder.resolve().name
    knobs = ledger.header.space.knobs
    return name, export_study(storage, name, knobs, results, minimize=objective.lower_is_better)


def export_point(folder: Path, place: str, out: Path) -> Profile:
    """Write a profile of one point of a run's front of throughput against energy.

    Raises:
        UsageError: The folder is not a run, has no energy figures, there is no such place, or `out` cannot be written.
    """
    ledger = Ledger.open(folder)
    chosen = next((known for known in PLACES if known == place), None)
    if chosen is None:
        raise UsageError(f"--point {place}: there are {', '.join(PLACES)}")
    point = point_on(pareto_front(ledger.trials), chosen)
    profile = profile_at(ledger, point.config, _objective(ledger))
    profile.save(out)
    return profile


def _objective(ledger: Ledger) -> Objective:
    kind = TuneRequest if ledger.header.command == "tune" else JobRequest
    known = {name: value for name, value in ledger.header.request.items() if name in kind.model_fields}
    return objective_of(make_request(kind, known))
