"""What each part of a run cost: launches and seconds."""

from collections import defaultdict
from collections.abc import Iterator

from infertune.domain.measurement import Frozen
from infertune.domain.record import Record
from infertune.domain.trial import Trial

_PARTS = {"confirm": "proof", "final": "proof", "device": "comparing devices"}


class Spent(Frozen):
    """What a part of a run cost.

    Attributes:
        what: `search`, `proof`, `comparing devices`, `answers`, or the command that searches for nothing.
        trials: How many there were; of answers, how many checks.
        launches: How often an engine was launched for them.
        launch_s: Seconds of those launches.
        run_s: Seconds of warm-up and windows; of answers, of answering and scoring.
    """

    what: str
    trials: int
    launches: int
    launch_s: float
    run_s: float


def spent_on(record: Record) -> Iterator[Spent]:
    """What each part of a run cost, in the order of the parts; the check of answers comes last."""
    parts: dict[str, list[Trial]] = defaultdict(list)
    for trial in record.trials:
        parts[_PARTS.get(trial.phase, trial.phase)].append(trial)
    for what, of in parts.items():
        yield Spent(
            what=what,
            trials=len(of),
            launches=sum(not trial.live for trial in of),
            launch_s=sum(trial.launch_s for trial in of),
            run_s=sum(trial.run_s for trial in of),
        )
    if checks := record.checks:
        yield Spent(
            what="answers",
            trials=len(checks),
            launches=sum(check.launch_s > 0 for check in checks),
            launch_s=sum(check.launch_s for check in checks),
            run_s=sum(check.score_s for check in checks),
        )
