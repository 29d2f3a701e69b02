"""What needs a run's ledger only and measures nothing: its report, comparisons, exports, profiles of other points."""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from infertune.domain.assigning import assignments
from infertune.domain.knobs import format_scalar
from infertune.domain.objective import Objective, objective_of
from infertune.domain.record_checks import recorded_request
from infertune.domain.trial import EXPLORING
from infertune.engines import export_served
from infertune.engines.asking import canonical
from infertune.engines.base import Served
from infertune.errors import UsageError
from infertune.landscape import PLACES, pareto_front, point_on
from infertune.profiles.profile import Profile, load_profile, profile_at, profile_of
from infertune.report import Findings, find, write_comparison, write_found
from infertune.report.study.ported_runs import write_porting
from infertune.report.study.porting_section import headlines
from infertune.runs.ledger import Ledger
from infertune.runs.summary import summarise
from infertune.search.export import export_study
from infertune.tuning.in_storage import shown
from infertune.writing import write_inside, write_named


def report_again(folder: Path) -> tuple[Findings, Path]:
    """Write a run's report again from its ledger alone.

    Returns:
        The findings, and the page's path.

    Raises:
        UsageError: The folder is not a run, or cannot be written.
    """
    found = findings_of(folder)
    return found, write_found(found)


def findings_of(folder: Path) -> Findings:
    """The findings of a run.

    Raises:
        UsageError: The folder is not a run.
    """
    ledger = Ledger.open(folder)
    if ledger.header.command == "gate":
        raise UsageError(
            f"{folder} is a run of `infertune gate`; its verdict and samples are in {folder / 'gate.json'}"
        )
    return find(ledger, _objective(ledger))


def check_report(folders: Sequence[Path], out: Path | None, storage: str | None, *, port: bool = False) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: There are several runs without a folder for their comparison, or one run with one.
    """
    if port and len(folders) < 2:
        raise UsageError("--port brings configurations from one run to another: name two runs or more")
    if len(folders) > 1 and storage is not None:
        raise UsageError("--to-optuna takes one run; name one")
    if len(folders) > 1 and out is None:
        raise UsageError("several runs give a comparison: name a folder for it with --out FOLDER")
    if len(folders) == 1 and out is not None:
        raise UsageError("a run's report is written into the run's folder; leave --out out, or name several runs")


def compare_runs(folders: Sequence[Path], out: Path) -> Path:
    """Write the comparison of several runs.

    Returns:
        The page's path.

    Raises:
        UsageError: A folder is not a run, stands twice, or `out` cannot be written.
    """
    _check_different(folders)
    return write_comparison([findings_of(folder) for folder in folders], out)


def port_runs(folders: Sequence[Path], out: Path) -> tuple[Path, list[str]]:
    """Write what is lost where the best of one run is used in another.

    Returns:
        The page's path, and what was found in sentences.

    Raises:
        UsageError: A folder is not a run, stands twice, or `out` cannot be written.
    """
    _check_different(folders)
    page, found, _ = write_porting([findings_of(folder) for folder in folders], out)
    return page, headlines(found)


def to_optuna(folder: Path, storage: str) -> tuple[str, int]:
    """Write a run's search or grid as an Optuna study.

    Returns:
        The study's name and its number of trials.

    Raises:
        UsageError: The folder is not a run, or the database cannot be written.
    """
    ledger = Ledger.open(folder)
    objective = _objective(ledger)
    trials = [shown(trial, objective) for trial in ledger.trials if trial.phase in EXPLORING]
    name = Path(os.path.realpath(folder)).name
    knobs = ledger.header.space.knobs
    return name, export_study(storage, name, knobs, trials, minimize=objective.lower_is_better)


def profile_from(source: Path, place: str | None = None) -> Profile:
    """Load a profile, or make the profile of a run.

    Args:
        source: A profile, or a run's folder.
        place: Of a run: a named point of its front of throughput against energy; None takes the recommended one.

    Raises:
        UsageError: It is neither a profile nor a run, the run has no energy figures, or there is no such place.
    """
    chosen = next((known for known in PLACES if known == place), None)
    if place is not None and chosen is None:
        raise UsageError(f"--point {place}: there are {', '.join(PLACES)}")
    if not os.path.isdir(source):
        if place is not None:
            raise UsageError(f"--point chooses among the trials of a run: name a run's folder, not the file {source}")
        return load_profile(source)
    ledger = Ledger.open(source)
    objective = _objective(ledger)
    if chosen is None:
        return profile_of(ledger, summarise(ledger, objective), objective.name)
    return profile_at(ledger, point_on(pareto_front(ledger.trials, objective), chosen).config, objective)


def export_profile(profile: Profile, form: str | None = None, allowed: Collection[str] = ()) -> str:
    """A profile as text: YAML, or one of its engine's own forms.

    Args:
        profile: What to write.
        form: One of its engine's own forms; None for the profile itself.
        allowed: Settings `NAME=VALUE` of it that can load code or reach out, and that the user wants all the same.

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
            held=found.held,
            current=profile.current,
            running=profile.running,
            allowed=frozenset(_allowed(profile, allowed)),
        )
    return export_served(found.engine, served, form)


def write_export(path: Path, text: str, what: str, source: Path) -> Path:
    """Write an export to the file that the user named; in the run's own folder no link is followed.

    Args:
        path: The file.
        text: Its content.
        what: What it is, for the message.
        source: What was exported: a profile, or a run's folder.

    Raises:
        UsageError: It cannot be written.
    """
    place, folder = (Path(os.path.abspath(found)) for found in (path, source))
    if source.is_dir() and place.is_relative_to(folder):
        return write_inside(folder, str(place.relative_to(folder)), text, what)
    return write_named(path, text, what)


def _allowed(profile: Profile, given: Collection[str]) -> Iterator[str]:
    """Names that the user allows: only a setting that he repeats with its value is one that he has seen."""
    try:
        settings = assignments(list(given))
    except ValueError as error:
        raise UsageError(f"--set: {error}") from None
    own = profile.fingerprint.held.updated(profile.changed.root)
    server = profile.running.server if profile.running else ()
    for name, value in settings.items():
        flag = f"--{canonical(name).replace('_', '-')}"
        if own.root.get(canonical(name), "nothing") != value and f"{flag}={format_scalar(value)}" not in server:
            raise UsageError(f"--set {name}={format_scalar(value)}: the profile has no such setting")
        yield canonical(name)


def _check_different(folders: Sequence[Path]) -> None:
    if len(set(map(os.path.realpath, folders))) < len(folders):
        raise UsageError("a run is named twice; name different ones to compare them")


def _objective(ledger: Ledger) -> Objective:
    return objective_of(recorded_request(ledger.header.command, ledger.header.request))
