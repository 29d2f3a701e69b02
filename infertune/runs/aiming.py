"""Where the rate that a configuration sustains is expected, from what was measured before."""

import math
from collections.abc import Sequence

from infertune.bench.rates import Guess
from infertune.bench.serving import ServePlan
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.trial import Trial
from infertune.stats import geometric_mean

_OWN, _NEIGHBOURS = 0.05, 0.2  # how far off a guess may be, as a natural logarithm; judgement
_A_STEP = 0.1  # more for each step on a ladder to the nearest neighbour; judgement


def aimed(plan: ServePlan, config: Config, trials: Sequence[Trial], space: SearchSpace, *, closely: bool) -> ServePlan:
    """A plan with a guess of the rate, and with the best rate so far.

    Args:
        plan: What to run.
        config: What is measured.
        trials: Every trial so far.
        space: Its knobs.
        closely: Whether the rate is to be known closely, however low it is: for a proof.
    """
    found: dict[Config, list[float]] = {}
    for trial in trials:
        if trial.measurement and (rate := trial.measurement.sustained):
            found.setdefault(trial.config, []).append(rate.rate_per_s)
    rates = {one: geometric_mean(values) for one, values in found.items()}
    best = max(rates.values(), default=None)
    if config in rates:
        guess = Guess(rates[config], _OWN)
    elif rates:
        nearest = min(rates, key=lambda one: _steps(space, config, one))
        guess = Guess(rates[nearest], _NEIGHBOURS + _A_STEP * _steps(space, config, nearest))
    else:
        guess = None
    return plan.expecting(guess, None if closely else best)


def _steps(space: SearchSpace, one: Config, other: Config) -> float:
    """How many steps on the ladders two configurations are apart; another choice is one."""
    steps = 0.0
    for knob in space.knobs:
        if one[knob.name] != other[knob.name]:
            try:
                apart = abs(knob.values.index(one[knob.name]) - knob.values.index(other[knob.name]))
            except ValueError:  # of a ladder that was longer
                apart = 1
            steps += apart if knob.ordinal else 1
    return math.sqrt(steps)
