"""At which rate a server is looked at next: the search for the highest rate that keeps a promise.

A look is a load at one rate. Looks bracket the rate from a first guess on, in steps as wide as the guess is unsure, and
then close in: the next one lies where ln(strain) over ln(rate) is expected to cross 0 (see `domain.service.sustained`),
which takes 4 to 6 looks. A queue that grows breaks the promise whatever its requests took, and what such a look
completed bounds the rate from above.

Assumed: at one rate the server is in a steady state after the ramp, and more load never makes it better.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from infertune.domain.service import Service, Sustained, sustained

_EDGE = 0.25  # of the bracket: the next look stays so far away from both ends, so that the bracket shrinks; judgement
_HOPELESS = 0.85  # of the best rate so far: one that is surely below it is not located any closer; judgement
_ASTRAY = 0.2  # a guess that three looks showed to be too high is off by so much or more, as ln; judgement
_WIDER = 1.6  # each further step outwards, over the one before; judgement
_FAR_BELOW = -0.3  # ln of the strain; in a narrow bracket, it rises by less than that to the limit; judgement
_NEAR = -0.5  # ln of the strain above which it is extrapolated; judgement
_FLATTEST, _BEYOND = 0.5, 0.04  # slope at least, and how much further than the crossing; judgement
_BESIDE = 0.1  # as a natural logarithm: how far above a rate that was kept once and broken once; judgement
_LEAST_PER_S = 1e-3  # a request every quarter of an hour


@dataclass(frozen=True)
class Guess:
    """Where the rate is expected.

    Attributes:
        rate_per_s: The middle.
        spread: How far off it may be, as a natural logarithm.
    """

    rate_per_s: float
    spread: float


@dataclass(frozen=True)
class Aim:
    """When looking ends.

    Attributes:
        most_looks: At most.
        precision: Ratio of the bracket's ends at which it is narrow enough.
        best_per_s: The best rate of other configurations; None before there is one.
    """

    most_looks: int = 6
    precision: float = 1.08
    best_per_s: float | None = None


def next_rate(looks: Sequence[Service], guess: Guess, aim: Aim) -> float | None:
    """The rate to look at next; None where looking ends.

    Args:
        looks: Every look so far, in their order; late ones count as made, not as evidence.
        guess: Where the rate was expected before the first.
        aim: When looking ends.
    """
    if len(looks) >= aim.most_looks:
        return None
    usable = [look for look in looks if not look.late and look.rate_per_s]
    if not usable:
        return guess.rate_per_s * math.exp(-guess.spread / 2)
    found = sustained(usable)
    if found is None:
        return _lower(usable, guess)
    if found.high_per_s is None:
        return _higher(usable, guess, found)
    if found.high_per_s / found.low_per_s <= aim.precision:
        return _doubted(usable, found)
    if aim.best_per_s is not None and found.high_per_s < _HOPELESS * aim.best_per_s:
        return None
    low, high = math.log(found.low_per_s), math.log(found.high_per_s)
    at = min(max(math.log(found.rate_per_s), low + _EDGE * (high - low)), high - _EDGE * (high - low))
    return math.exp(at)


def _doubted(usable: Sequence[Service], found: Sustained) -> float | None:
    """The rate of the look that broke the promise, to look again, where one just below it was far from breaking it.

    On a busy machine a single bad moment would else bound the rate for good.
    """
    low = [look.excess for look in usable if look.rate_per_s == found.low_per_s]
    high = [look for look in usable if look.rate_per_s == found.high_per_s]
    return found.high_per_s if len(high) == 1 and low and max(low) < _FAR_BELOW else None


def bracketed(looks: Sequence[Service], within: float) -> bool:
    """Whether the rate is known to a factor: looks that come now deserve more requests than those before."""
    found = sustained([look for look in looks if not look.late])
    return found is not None and found.high_per_s is not None and found.high_per_s / found.low_per_s <= within


def _higher(usable: Sequence[Service], guess: Guess, found: Sustained) -> float:
    """All kept the promise: further up, each step wider, but little further than where the strain would cross 1."""
    *_, top = rising = sorted(usable, key=lambda look: look.rate_per_s or 0.0)
    step = min(math.log(1.6), guess.spread * _WIDER ** (len(rising) - 1))
    slope = 1.0  # of ln(strain) over ln(rate): strain rises about as fast as the rate, and faster near the limit
    if len(rising) > 1 and (apart := math.log((top.rate_per_s or 1.0) / (rising[-2].rate_per_s or 1.0))) > 0:
        slope = max(_FLATTEST, (top.excess - rising[-2].excess) / apart)
    if not all(look.kept for look in usable if look.rate_per_s == top.rate_per_s):
        step = min(step, _BESIDE)
    if top.excess > _NEAR:
        step = min(step, _BEYOND - top.excess / slope)
    return found.low_per_s * math.exp(step)


def _lower(usable: Sequence[Service], guess: Guess) -> float | None:
    """None kept it: further down, below what a growing queue completed.

    Each step is wider. After a third look that broke the promise, a narrow guess counts as a wrong one: a server that
    has become several times slower is found too.
    """
    bottom = min(usable, key=lambda look: look.rate_per_s or 0.0)
    lowest = bottom.rate_per_s or 1.0
    spread = guess.spread if len(usable) < 3 else max(guess.spread, _ASTRAY)
    step = min(math.log(3), spread * _WIDER ** (len(usable) - 1))
    rate = lowest * math.exp(-step)
    if bottom.growing and bottom.completed_per_s > 0:
        rate = min(rate, 0.95 * bottom.completed_per_s)
    return rate if rate >= _LEAST_PER_S else None
