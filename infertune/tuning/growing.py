"""Ladders that go on: where the best so far lies at the end of one, the search may look beyond.

Curated ladders are a start. What a ladder grows by is a function of the trials alone, so that a resumed run has the
same space again.
"""

from collections.abc import Sequence

from infertune.domain.knobs import Config, Knob, SearchSpace
from infertune.domain.objective import Objective
from infertune.domain.trial import Trial
from infertune.landscape import at_end


def grown(space: SearchSpace, trials: Sequence[Trial], objective: Objective) -> SearchSpace:
    """The space after these trials of a search: a ladder is doubled once for each time that its end was the best.

    Args:
        space: As the run began.
        trials: Of the search, in order.
        objective: What says which is the best.
    """
    scores: dict[Config, float] = {}
    for trial in trials:
        score = objective.score(trial.measurement) if trial.measurement else None
        if score is None or trial.measurement is None:
            continue
        scores[trial.config] = score
        best = max(scores, key=lambda config: scores[config])
        for knob in space.knobs:
            if at_end(knob, best, scores) and (wider := _doubled(space, knob, best, trial.measurement.n_requests)):
                space = wider
    return space


def _doubled(space: SearchSpace, knob: Knob, best: Config, n_requests: int) -> SearchSpace | None:
    """The space with a longer ladder; None where nothing more can be told apart, or a rule forbids it."""
    value = 2 * int(knob.numbers[-1])
    if knob.kind != "int" or knob.most is None or value > knob.most:
        return None
    if knob.is_concurrency and knob.numbers[-1] >= n_requests:
        return None
    wider = space.with_knob(knob.with_values([value]))
    return wider if wider.repair(best.updated({knob.name: value}))[knob.name] == value else None
