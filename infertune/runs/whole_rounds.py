"""Rounds of a proof on one device each: what is left of a round whose worker was lost is no part of it."""

from collections.abc import Sequence

from infertune.domain.trial import Phase, Trial


def on_one_device(trials: Sequence[Trial]) -> list[Trial]:
    """The trials without those of a confirmation or comparison whose round was measured again on another device."""
    last: dict[tuple[Phase, int], str | None] = {}
    for trial in trials:
        if trial.phase in ("confirm", "final"):
            last[trial.phase, trial.round_number] = trial.device_id
    return [t for t in trials if last.get((t.phase, t.round_number), t.device_id) == t.device_id]
