"""What can be made of a finished run without measuring anything: its report again, and profiles of other points."""

from pathlib import Path

from infertune.errors import UsageError
from infertune.landscape import PLACES, pareto_front, point_on
from infertune.ledger import Ledger
from infertune.objective import Objective, objective_of
from infertune.profile import Profile, profile_at
from infertune.report import write_report
from infertune.request import JobRequest, TuneRequest, make_request


def report_again(folder: Path) -> Path:
    """Write a run's report again from its ledger alone; its path.

    Raises:
        UsageError: The folder is not a run, or cannot be written.
    """
    ledger = Ledger.open(folder)
    try:
        return write_report(ledger, _objective(ledger))
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}") from None


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
