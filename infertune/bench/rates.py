"""At which rate a server is looked at next: the search for the highest rate that keeps a promise.

A look is a load at one rate. Looks bracket the rate from a first guess on, in steps as wide as the guess is unsure, and
then close in: the next one lies where ln(strain) over ln(rate) is expected to cross 0 (see `domain.service.sustained`),
which takes 4 to 6 looks. A queue that grows breaks the promise whatever its requests took, and what such a look
completed bounds the rate from above.

Assumed: at one rate the server is in a steady state after the ramp, and more load never makes it better.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from infertune.domain.service import Service, Sustained, sustained

_EDGE = 0.25  # of the bracket: the next look stays so far away from both ends, so that the bracket shrinks; judgement
_HOPELESS = 0.85  # of the best rate so far: one that is surely below it is not located any closer; judgement
_ASTRAY = 0.2  # a guess that three looks showed to be wrong is off by so much or more, as ln; judgement
_WIDER = 1.6  # each further step outwards, over the one before; judgement
_WIDE, _WIDEST = math.log(1.6), math.log(3)  # a step outwards at most, and one after three looks; judgement
_AFTER_CLIMB, MOST_MORE = 3, 1  # looks that follow those from far below, and how many more that may make; judgement
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
        most_looks: At most; where the first of them are far below the limit, three after those, so up to one more.
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
    usable = [look for look in looks if not look.late and look.rate_per_s]
    found = sustained(usable)
    climb = sum(1 for _ in takewhile(lambda look: look.excess < _NEAR, usable))
    if len(looks) >= max(aim.most_looks, min(climb + _AFTER_CLIMB, aim.most_looks + MOST_MORE)):
        return None
    late_per_s = _surely_late(looks, found.low_per_s if found else 0.0)
    if not usable:
        return guess.rate_per_s * math.exp(-guess.spread / 2) if late_per_s is None else late_per_s / 2
    if found is None:
        return _lower(usable, guess)
    if found.high_per_s is None:
        higher = _higher(usable, guess, found)
        if late_per_s is None:
            return higher
        narrow = late_per_s / found.low_per_s <= aim.precision
        return None if narrow else min(higher, math.sqrt(found.low_per_s * late_per_s))
    if found.high_per_s / found.low_per_s <= aim.precision:
        return _doubted(usable, found)
    if aim.best_per_s is not None and found.high_per_s < _HOPELESS * aim.best_per_s:
        return None
    low, high = math.log(found.low_per_s), math.log(found.high_per_s)
    at = min(max(math.log(found.rate_per_s), low + _EDGE * (high - low)), high - _EDGE * (high - low))
    return math.exp(at)


def _surely_late(looks: Sequence[Service], above_per_s: float) -> float | None:
    """The lowest rate above another at which two looks were sent late: one may have met a busy moment."""
    late = Counter(look.rate_per_s for look in looks if look.late and look.rate_per_s and look.rate_per_s > above_per_s)
    return min((rate for rate, n in late.items() if n > 1), default=None)


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
    step = _step(guess, len(rising), _WIDE)
    slope = 1.0  # of ln(strain) over ln(rate): strain rises about as fast as the rate, and faster near the limit
    if len(rising) > 1 and (apart := math.log((top.rate_per_s or 1.0) / (rising[-2].rate_per_s or 1.0))) > 0:
        slope = max(_FLATTEST, (top.excess - rising[-2].excess) / apart)
    if not all(look.kept for look in usable if look.rate_per_s == top.rate_per_s):
        step = min(step, _BESIDE)
    if top.excess > _NEAR:
        step = min(step, _BEYOND - top.excess / slope)
    return found.low_per_s * math.exp(step)


def _lower(usable: Sequence[Service], guess: Guess) -> float | None:
    """None kept it: further down, each step wider, and below what a growing queue completed."""
    bottom = min(usable, key=lambda look: look.rate_per_s or 0.0)
    lowest = bottom.rate_per_s or 1.0
    rate = lowest * math.exp(-_step(guess, len(usable), _WIDEST))
    if bottom.growing and bottom.completed_per_s > 0:
        rate = min(rate, 0.95 * bottom.completed_per_s)
    return rate if rate >= _LEAST_PER_S else None


def _step(guess: Guess, n_looks: int, most: float) -> float:
    """The next step outwards, as a natural logarithm.

    After three looks that ended alike, a narrow guess counts as a wrong one: a server that has become several times
    slower is found too, and one that is several times faster than its warm-up let expect.
    """
    if n_looks < 3:
        return min(most, guess.spread * _WIDER ** (n_looks - 1))
    return min(_WIDEST, max(guess.spread, _ASTRAY) * _WIDER ** (n_looks - 1))
