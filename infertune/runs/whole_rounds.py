"""Rounds of a proof: which trials are part of them, and which configurations are out."""

from collections import Counter
from collections.abc import Sequence

from infertune.domain.knobs import Config
from infertune.domain.trial import Phase, Trial

_MOST_CRASHES = 2  # of a configuration in one round; the first may be an accident (judgement)


def on_one_device(trials: Sequence[Trial]) -> list[Trial]:
    """The trials without those of a confirmation or comparison whose round was measured again on another device."""
    last: dict[tuple[Phase, int], str | None] = {}
    for trial in trials:
        if trial.phase in ("confirm", "final"):
            last[trial.phase, trial.round_number] = trial.device_id
    return [t for t in trials if last.get((t.phase, t.round_number), t.device_id) == t.device_id]


def failed_in(trials: Sequence[Trial]) -> set[Config]:
    """Configurations that are out of a proof: infeasible, or crashed or ended at a deadline twice in one round.

    Args:
        trials: Of a confirmation, or of a final comparison.
    """
    crashes = Counter((t.config, t.round_number) for t in trials if t.outcome.kind in ("crashed", "timed_out"))
    crashed = {config for (config, _), n in crashes.items() if n >= _MOST_CRASHES}
    return crashed | {trial.config for trial in trials if trial.outcome.kind == "infeasible"}
