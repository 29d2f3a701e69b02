"""What failed in a run, grouped by the kind of failure."""

from dataclasses import dataclass

from infertune.domain.knobs import Config
from infertune.domain.trial import Trial
from infertune.report.data import status_of
from infertune.report.findings import Findings
from infertune.report.words import settings_text

# Judgement: enough of each to recognise a failure, without burying the page in logs.
_MOST_EXAMPLES = 5  # trials of a kind
_LOG_LINES = 25  # last lines of a trial's log
_LOG_CHARACTERS = 4000  # and of those lines no more characters than this


@dataclass(frozen=True)
class FailedTrial:
    """One failed trial.

    Attributes:
        number: Its position in the ledger.
        settings: What its configuration changes of the default.
        what: What went wrong, on one line.
        log: The last lines of the engine's log; empty where there is none.
    """

    number: int
    settings: str
    what: str
    log: str


@dataclass(frozen=True)
class FailureKind:
    """All failures of one kind.

    Attributes:
        name: The kind, such as `out of memory`.
        count: How many trials.
        shared: The settings that all of them have and that other trials do not all have; may be empty.
        examples: The first few.
    """

    name: str
    count: int
    shared: str
    examples: tuple[FailedTrial, ...]


def failure_kinds(found: Findings) -> list[FailureKind]:
    """The failures of a run by kind, the most frequent kind first."""
    by_kind: dict[str, list[Trial]] = {}
    for trial in found.ledger.trials:
        if trial.measurement is None:
            by_kind.setdefault(status_of(trial), []).append(trial)
    what = {line.number: line.what for line in found.summary.failures}
    return [
        FailureKind(
            name=name,
            count=len(trials),
            shared=_shared([trial.config for trial in trials], found),
            examples=tuple(
                FailedTrial(
                    number=trial.number,
                    settings=settings_text(found.changed(trial.config), found.summary.base_name),
                    what=what[trial.number],
                    log=_end_of(getattr(trial.outcome, "stderr_tail", "")),
                )
                for trial in trials[:_MOST_EXAMPLES]
            ),
        )
        for name, trials in sorted(by_kind.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _end_of(log: str) -> str:
    return "\n".join(log.splitlines()[-_LOG_LINES:])[-_LOG_CHARACTERS:]


def _shared(configs: list[Config], found: Findings) -> str:
    """The settings that several failed configurations share, without those that the whole run shares."""
    if len(configs) < 2:
        return ""
    spots = found.terrain.spots
    constant = {name for name in configs[0].root if len({repr(spot.config[name]) for spot in spots}) <= 1}
    shared = {
        name: value
        for name, value in configs[0].root.items()
        if name not in constant and all(repr(config.root.get(name)) == repr(value) for config in configs)
    }
    return str(Config(shared)) if shared else ""
