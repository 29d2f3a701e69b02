"""Rounds of a proof: which trials are part of them, and which configurations are out."""

from collections import Counter
from collections.abc import Sequence

from infertune.domain.knobs import Config
from infertune.domain.objective import Objective
from infertune.domain.trial import Phase, Trial

_MOST_LOST = 2  # launches of a configuration in one round; the first may be an accident (judgement)


def on_one_device(trials: Sequence[Trial]) -> list[Trial]:
    """The trials without those of a confirmation or comparison whose round was measured again on another device."""
    last: dict[tuple[Phase, int], str | None] = {}
    for trial in trials:
        if trial.phase in ("confirm", "final"):
            last[trial.phase, trial.round_number] = trial.device_id
    return [t for t in trials if last.get((t.phase, t.round_number), t.device_id) == t.device_id]


def has_figure(trial: Trial, objective: Objective) -> bool:
    """Whether a trial gave the objective's figure: a server that keeps no promise, or was loaded late, does not."""
    return trial.measurement is not None and objective.figure(trial.measurement) is not None


def failed_in(trials: Sequence[Trial], objective: Objective) -> set[Config]:
    """Configurations that are out of a proof: infeasible, or twice in one round crashed, too slow or without a figure.

    Args:
        trials: Of a confirmation, or of a final comparison.
        objective: Whose figure counts.
    """
    trials = on_one_device(trials)
    lost = Counter((t.config, t.round_number) for t in trials if not has_figure(t, objective))
    again = {config for (config, _), n in lost.items() if n >= _MOST_LOST}
    return again | {trial.config for trial in trials if trial.outcome.kind == "infeasible"}
