"""What can be made of a finished run without measuring anything: its report again, and profiles of other points."""

from pathlib import Path

from infertune.engines import export_served
from infertune.engines.base import Served
from infertune.errors import UsageError
from infertune.landscape import PLACES, pareto_front, point_on
from infertune.ledger import Ledger
from infertune.objective import Objective, objective_of
from infertune.profile import Profile, load_profile, profile_at, profile_of
from infertune.report import write_report
from infertune.request import JobRequest, TuneRequest, make_request
from infertune.summary import summarise


def report_again(folder: Path) -> Path:
    """Write a run's report again from its ledger alone; its path.

    Raises:
        UsageError: The folder is not a run, or cannot be written.
    """
    ledger = Ledger.open(folder)
    if ledger.header.command == "gate":
        raise UsageError(
            f"{folder} is a run of `infertune gate`; its verdict and samples are in {folder / 'gate.json'}"
        )
    try:
        return write_report(ledger, summarise(ledger, _objective(ledger)))
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}") from None


def profile_from(source: Path, place: str | None = None) -> Profile:
    """The profile in a file, or the one that a run's folder gives.

    Args:
        source: A profile, or a run's folder.
        place: Of a run: a point of its front of throughput against energy; None takes what the run recommends.

    Raises:
        UsageError: It is neither, has no energy figures, or there is no such place.
    """
    chosen = next((known for known in PLACES if known == place), None)
    if place is not None and chosen is None:
        raise UsageError(f"--point {place}: there are {', '.join(PLACES)}")
    if not source.is_dir():
        if place is not None:
            raise UsageError(f"--point chooses among the trials of a run: name a run's folder, not the file {source}")
        return load_profile(source)
    ledger = Ledger.open(source)
    objective = _objective(ledger)
    if chosen is None:
        return profile_of(ledger, summarise(ledger, objective), objective.name)
    return profile_at(ledger, point_on(pareto_front(ledger.trials), chosen).config, objective)


def export_profile(profile: Profile, form: str | None = None) -> str:
    """A profile as text: YAML, or one of its engine's own forms.

    Raises:
        UsageError: Its engine has no such form, or the profile cannot be written so.
    """
    if form is None:
        return profile.text()
    found = profile.fingerprint
    served = None
    if found.model:
        served = Served(
            model=found.model,
            device=found.device,
            engine_version=found.engine_version,
            config=profile.config,
            changed=profile.changed,
            answer=profile.verdict(),
        )
    return export_served(found.engine, served, form)


def _objective(ledger: Ledger) -> Objective:
    kind = TuneRequest if ledger.header.command == "tune" else JobRequest
    known = {name: value for name, value in ledger.header.request.items() if name in kind.model_fields}
    return objective_of(make_request(kind, known))
