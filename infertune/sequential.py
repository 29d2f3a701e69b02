"""Group-sequential comparison: when launches may end, and the interval that is still honest after an early end.

Two configurations are launched in turn. After 2, 3, 4, 6, 9 and 12 launches of each there is a look. Ending as soon as
a plain 95% interval looks good would find gains that are not there: so every look has its own, stricter level, taken
from a fixed total (alpha spending; Jennison and Turnbull, Group Sequential Methods with Applications to Clinical
Trials, 2000, chapters 7 and 11: nominal levels applied to Student's t). The reported 95% interval is Student's t with
a level for each look that makes up for ending early. All levels were chosen by simulation, and
`python -m tests.benchmarks.proof_levels` shows what they keep.

Everything works on gains: the logarithm of how many times better the new side is, whatever the unit of the figure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtr, stdtrit

from infertune.stats import Estimate

TrustName = Literal["quick", "normal", "strict"]
INDIFFERENCE = 0.01  # judgement: a smaller gain is not worth a launch, nor a change of settings

_DRIFT_LEVEL = 0.01  # of the F test that rounds differ; judgement
_FEWEST_PAIRS_FOR_DRIFT = 4
_MOST_IN_ALL_ORDERS = 16  # rounds; a second of processor time


@dataclass(frozen=True)
class Trust:
    """How sure a comparison must be.

    Attributes:
        name: What `--trust` takes.
        looks: Launches of each side after which there is a look.
        certain: One-sided level of each look for calling the new side better; their sum bounds the error.
        missed: Share of reported 95% intervals that may miss at each look; below 5% to make up for ending early, and
            twice `certain` at the last look, where the interval itself decides.
        missed_alone: The same for one configuration that nothing is compared with.
        half_width: The interval's half-width, relative, at which it is narrow enough for any decision.
        gain_share: The same as a share of the gain: +80% is known well enough to ±16%.
        hopeless: Chance of ever calling it better under which launching more is pointless.
        rounds: Most rounds among the finalists.
    """

    name: TrustName
    looks: tuple[int, ...]
    certain: tuple[float, ...]
    missed: tuple[float, ...]
    missed_alone: tuple[float, ...]
    half_width: float
    gain_share: float
    hopeless: float
    rounds: int

    @property
    def total(self) -> float:
        """Bound on the chance of calling something better where nothing is, one-sided."""
        return 0.5 * self.missed[-1] + sum(self.certain[:-1])

    def up_to(self, most: int) -> "Trust":
        """The same trust where more rounds than usual are allowed: one look more, and the same total for all of them.

        The last look becomes one of many, at the level of the look before it, and leaves the rest of its own to the new
        last one. At its old level, both would spend it: 3.5% in place of 2.5% where nothing is better, up to 40 rounds.

        Args:
            most: Rounds at most.
        """
        if most <= self.looks[-1]:
            return self
        certain = (*self.certain[:-1], self.certain[-2], self.certain[-1] - self.certain[-2])
        return replace(
            self,
            looks=(*self.looks, most),
            certain=certain,
            missed=(*self.missed[:-1], self.missed[-2], 2 * certain[-1]),
            missed_alone=(*self.missed_alone[:-1], *self.missed_alone[-2:]),
        )


TRUST = {
    "quick": Trust(
        "quick",
        (2, 3, 4, 6),
        (0.004, 0.006, 0.01, 0.02),
        (0.04, 0.035, 0.035, 0.04),
        (0.05, 0.04, 0.035, 0.04),
        half_width=0.04,
        gain_share=1 / 3,
        hopeless=0.1,
        rounds=1,
    ),
    "normal": Trust(
        "normal",
        (2, 3, 4, 6, 9, 12),
        (0.001, 0.0015, 0.002, 0.003, 0.0045, 0.0165),
        (0.035, 0.028, 0.022, 0.022, 0.024, 0.033),
        (0.045, 0.038, 0.032, 0.028, 0.03, 0.036),
        half_width=0.02,
        gain_share=0.2,
        hopeless=0.02,
        rounds=2,
    ),
    "strict": Trust(
        "strict",
        (3, 4, 6, 9, 12, 16),
        (0.0002, 0.0003, 0.0005, 0.0008, 0.0012, 0.005),
        (0.028, 0.026, 0.026, 0.028, 0.03, 0.01),
        (0.038, 0.032, 0.028, 0.03, 0.036, 0.04),
        half_width=0.01,
        gain_share=0.1,
        hopeless=0.01,
        rounds=5,
    ),
}


@dataclass(frozen=True)
class Contrast:
    """The mean gain of one side over the other.

    Attributes:
        mean: Of the gain, a natural logarithm.
        error: Its standard error.
        degrees: Of freedom, of the error.
        within_rounds: Whether the difference was taken round by round, because rounds differ.
        deviation: Of a single launch, a natural logarithm.
    """

    mean: float
    error: float
    degrees: float
    within_rounds: bool
    deviation: float

    def bound(self, level: float) -> float:
        """How far from the mean a one-sided bound of a level lies."""
        return float(stdtrit(self.degrees, 1 - level)) * self.error


def contrast(new: Sequence[float], base: Sequence[float], more_base: Sequence[float] = ()) -> Contrast:
    """Compare two sides that were launched in turn.

    The variance is pooled over the launches of both sides. Where rounds differ by more than chance (F test of two-way
    analysis of variance), as on a machine that drifts, the difference is taken round by round instead.

    Args:
        new: Logarithms of how good the new side was, one a launch.
        base: The same of the base, of the same rounds in the same order.
        more_base: Launches of the base without a partner.

    Raises:
        ValueError: Fewer than two rounds, or sides of different length.
    """
    n = len(new)
    if n < 2 or len(base) != n:
        raise ValueError("a comparison needs two rounds at least")
    gains = [a - b for a, b in zip(new, base, strict=True)]
    mean_gain = sum(gains) / n
    within = sum((gain - mean_gain) ** 2 for gain in gains) / 2
    around = _squares(new) + _squares(base)
    if n >= _FEWEST_PAIRS_FOR_DRIFT and within > 0:
        drift = float(fdtrc(n - 1, n - 1, max(0.0, around - within) / within))
        if drift < _DRIFT_LEVEL:
            variance = within / (n - 1)
            return Contrast(mean_gain, math.sqrt(2 * variance / n), n - 1, True, math.sqrt(variance))
    whole_base = (*base, *more_base)
    m = len(whole_base)
    variance = (_squares(new) + _squares(whole_base)) / (n + m - 2)
    mean = sum(new) / n - sum(whole_base) / m
    return Contrast(mean, math.sqrt(variance * (1 / n + 1 / m)), n + m - 2, False, math.sqrt(variance))


def interval(found: Contrast, n: int, trust: Trust, level: float = 0.95) -> Estimate:
    """The ratio new / base with its 95% interval after n launches of the new side.

    Args:
        found: The comparison so far.
        n: Launches of the new side.
        trust: Whose levels make up for ending early.
        level: What the interval is called; only 0.95 is calibrated.
    """
    margin = found.bound(_at(n, trust.looks, trust.missed) / 2)
    return Estimate(
        mean=math.exp(found.mean), low=_exp(found.mean - margin), high=_exp(found.mean + margin), n=n, level=level
    )


def is_better(gain: Estimate) -> bool:
    """Whether a ratio new / base says that the new side is better: above 1, and not surely below the indifference."""
    return gain.low is not None and gain.high is not None and gain.low > 1 and gain.high > 1 + INDIFFERENCE


@dataclass(frozen=True)
class Decision:
    """What a look says.

    Attributes:
        ends: Whether launching ends.
        why: In words; empty while it goes on.
    """

    ends: bool
    why: str = ""


def look(found: Contrast, n: int, n_base: int, trust: Trust, most: int) -> Decision:
    """Whether another round of launches can still change the answer.

    Args:
        found: The comparison so far.
        n: Launches of the new side.
        n_base: Launches of the base.
        trust: How sure the answer must be.
        most: Launches of the new side at most.
    """
    estimate = interval(found, n, trust)
    gain = estimate.mean - 1
    wanted = max(trust.half_width, trust.gain_share * gain)
    certain = found.mean - found.bound(_at(n, trust.looks, trust.certain)) > 0
    if certain and estimate.half_width <= wanted:
        return Decision(True, f"the gain is certain and known to ±{estimate.half_width:.1%}, which is narrow enough")
    if found.mean + found.bound(_at(n, trust.looks, trust.certain)) < math.log1p(INDIFFERENCE):
        return Decision(True, f"a gain of {INDIFFERENCE:.0%} is ruled out")
    if n >= most:
        return Decision(True, f"all {most} rounds were made")
    chance = _chance(found, n, n_base, trust, most)
    if not certain and chance < trust.hopeless:
        return Decision(True, f"further rounds have a chance of {chance:.0%} of showing a gain")
    return Decision(False)


def looks_within(trust: Trust, least: int, most: int) -> tuple[int, ...]:
    """The looks of a comparison of so many rounds; the last one is always one."""
    return tuple(sorted({n for n in trust.looks if least <= n < most} | {most}))


def rounds_asked(trust: Trust, asked: tuple[int, int] | None) -> tuple[int, int]:
    """Least and most rounds of a comparison: what was asked, else what the trust needs."""
    return asked or (trust.looks[0], trust.looks[-1])


@lru_cache(maxsize=64)  # of one run, that of every ratio; a benchmark asks for thousands
def first_look_weights(
    new: tuple[float, ...], base: tuple[float, ...], more_base: tuple[float, ...], trust: Trust, looks: tuple[int, ...]
) -> tuple[float, ...]:
    """How much each round counts in a mean gain that ending early does not bias; they add up to 1.

    A comparison that happens to look good ends sooner, so the plain mean at its end is too high on average. That of its
    first look is not: no figure had a say in it. The weights give the first look's mean over all orders of the same
    rounds that would not have ended earlier, which is unbiased and uses every round (the idea of Emerson and Fleming,
    Parameter estimation following group sequential hypothesis testing, Biometrika 77, 1990, with orders in place of a
    normal distribution: it needs only that the rounds could have come in any order). Over 16 rounds there are too many
    orders to go through, and every round counts the same.

    Launches of the base without a partner have a say in when it ends, but none in this mean: where they were slow by
    chance, a comparison is begun that is not begun otherwise, so that they are too low on average.

    Args:
        new: Logarithms of how good the new side was, one a round.
        base: The same of the base.
        more_base: Launches of the base without a partner, all before the first round.
        trust: How sure the answer had to be.
        looks: After how many rounds there was a look; the last is the most rounds.
    """
    n = len(new)
    earlier = [size for size in looks if size < n]

    @cache
    def ended(rounds: tuple[int, ...]) -> bool:
        found = contrast([new[r] for r in rounds], [base[r] for r in rounds], more_base)
        return look(found, len(rounds), len(rounds) + len(more_base), trust, looks[-1]).ends

    @cache
    def in_first_look(rounds: tuple[int, ...], depth: int) -> NDArray[np.float64]:
        """In how many orders without an earlier end each round is in the first look."""
        if not depth:
            return np.isin(range(n), rounds).astype(float)
        kept = (fewer for fewer in combinations(rounds, earlier[depth - 1]) if not ended(fewer))
        return sum((in_first_look(fewer, depth - 1) for fewer in kept), np.zeros(n))

    counts = in_first_look(tuple(range(n)), len(earlier) if n <= _MOST_IN_ALL_ORDERS else 0)
    total = counts.sum()
    return tuple((counts / total).tolist()) if total else (1 / n,) * n


def narrow_mean(scores: Sequence[float], trust: Trust) -> Estimate:
    """The geometric mean of one configuration's launches with a 95% interval that makes up for ending when narrow.

    Args:
        scores: Natural logarithms of the figures, one a launch.
        trust: Whose levels are used.
    """
    n = len(scores)
    mean = sum(scores) / n
    if n == 1:
        return Estimate(mean=math.exp(mean), low=None, high=None, n=1, level=0.95)
    error = math.sqrt(_squares(scores) / (n - 1) / n)
    margin = float(stdtrit(n - 1, 1 - _at(n, trust.looks, trust.missed_alone) / 2)) * error
    return Estimate(mean=math.exp(mean), low=_exp(mean - margin), high=_exp(mean + margin), n=n, level=0.95)


def side(scores: Sequence[float], found: Contrast, n: int, trust: Trust) -> Estimate:
    """One side's geometric mean with a 95% interval from the noise of both sides together.

    Args:
        scores: Logarithms of how good it was, one a launch.
        found: The comparison that it is part of.
        n: Launches of the new side, for the level of the look.
        trust: Whose levels are used.
    """
    mean = sum(scores) / len(scores)
    margin = float(stdtrit(found.degrees, 1 - _at(n, trust.looks, trust.missed) / 2))
    margin *= found.deviation / math.sqrt(len(scores))
    return Estimate(mean=math.exp(mean), low=_exp(mean - margin), high=_exp(mean + margin), n=len(scores), level=0.95)


def _chance(found: Contrast, n: int, n_base: int, trust: Trust, most: int) -> float:
    """Predictive probability that the last look would call the new side better (flat prior on the gain)."""
    if not found.deviation:
        return 1.0 if found.mean > 0 else 0.0
    more = n_base + most - n
    needed = float(stdtrit(most + more - 2, 1 - trust.missed[-1] / 2)) * math.sqrt(1 / most + 1 / more)
    open_ = math.sqrt(max(1e-12, 1 / n - 1 / most + 1 / n_base - 1 / more))
    return 1 - float(stdtr(found.degrees, (needed * found.deviation - found.mean) / (open_ * found.deviation)))


def _at(n: int, looks: Sequence[int], levels: Sequence[float]) -> float:
    """The level of the last look that n launches have reached; that of the first before it."""
    reached = [level for look, level in zip(looks, levels, strict=True) if look <= n]
    return reached[-1] if reached else levels[0]


def _squares(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)


def _exp(logarithm: float) -> float:
    """exp, or the largest that a float can hold."""
    return math.exp(min(logarithm, 709.0))
