"""`--from`: a profile or a run of another GPU, model or version that a tune starts from."""

import os
from dataclasses import dataclass
from pathlib import Path

from infertune.domain.knobs import Config
from infertune.domain.objective import Objective
from infertune.domain.trial import Trial
from infertune.errors import UsageError
from infertune.profiles.profile import changed_settings, load_profile
from infertune.runs.job import Job
from infertune.runs.ledger import Ledger
from infertune.runs.summary import ranked, requests_of, summarise
from infertune.search import Result


@dataclass(frozen=True)
class Origin:
    """The best settings of another run or profile, and its measurements.

    Attributes:
        config: Its best settings, in the space of this run.
        results: What it measured; empty for a profile.
        note: One sentence for people: which file, how many configurations, which device.
    """

    config: Config
    results: tuple[Result, ...]
    note: str


def read_origin(path: Path, job: Job, objective: Objective) -> Origin:
    """Read a profile or a run's folder for a run that is about to start.

    Settings that the origin left at its engine's default take this engine's default. Values that this space lacks
    become the nearest that it has.

    Raises:
        UsageError: It is neither a profile nor a run, or shares no knob with this run.
    """
    if os.path.isdir(path):
        ledger = Ledger.open(path)
        best = summarise(ledger, objective).best_config
        changed = changed_settings(best, ledger.header.engine_defaults)
        device, engine, results = ledger.header.device, ledger.header.engine, _results(ledger.trials, objective)
        known = {knob.name for knob in ledger.header.space.knobs}
    else:
        profile = load_profile(path)
        changed, device, engine = profile.changed, profile.fingerprint.device, profile.fingerprint.engine
        results, known = (), set(profile.config.root)
    if not known & set(job.space.names):
        raise UsageError(f"--from {path} is of {engine} and shares no knob with {job.engine.name}")
    own = {name: value for name, value in changed.root.items() if name in job.space}
    here = job.space.repair(job.space.default.updated(own))
    settings = changed_settings(here, job.space.default)
    told = f", {len(results)} configuration{'s' if len(results) > 1 else ''}" if results else ""
    shown = settings if settings.root else "the default"
    return Origin(here, results, f"starts from {path}{told}, measured on {device}: {shown}")


def _results(trials: list[Trial], objective: Objective) -> tuple[Result, ...]:
    """The mean score of every configuration that ran in its search or grid, with the size of that run's jobs."""
    n_requests = requests_of(trials)
    return tuple(
        Result(config, objective.score_of(figure), n_requests=n_requests)
        for config, figure in ranked(trials, objective)
    )
