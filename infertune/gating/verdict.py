"""The gate's rules, without anything that measures: a paired sequential test, the test against earlier runs, Holm.

Every rule works on gains: ln(how many times better the candidate is than the base). Below 0 the candidate is worse,
whatever the metric. `python -m tests.benchmarks.gate` simulates what these rules promise, and
`tests/benchmarks/test_gate.py` checks it.
"""

import math
import random
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import betainc, betaincinv, chdtri, nctdtrinc, stdtr, stdtrit

Answer = Literal["pass", "regression", "inconclusive"]

# Chosen by simulation, `python -m tests.benchmarks.gate`: without a change and with a run-to-run CV up to 3%, at most
# 1% of the gates report a regression; a true drop of the margin passes in at most 5%.
LOOKS = (4, 6, 9, 12)  # pairs
ALPHA_A_LOOK = 0.015  # one-sided level of each look
FEWEST_RUNS = 8  # earlier runs; the same simulation
ALPHA_STORED = 0.01  # one-sided level: false alarms of the stored mode
_POWER = 0.95  # probability that a calibration's figures refer to (judgement)
_STEPS, _HALVINGS = 400, 20  # of the integral and the search behind a share's bound: 10% off at 0.1%, 1% at 1%
_SAME = 1e-9  # relative; a spread below it is rounding error of equal samples (judgement)


class Ruling(BaseModel):
    """The ruling on one metric.

    Attributes:
        answer: Of this metric alone.
        low: The gain's lower bound at the rule's level, as a ratio: above 1 − margin is a pass. None if there is none.
        high: Its upper bound; below 1 − margin is a regression, unless Holm's correction for several metrics objects.
    """

    model_config = ConfigDict(frozen=True)

    answer: Answer
    low: float | None
    high: float | None


class Judgement(BaseModel):
    """The verdict over all metrics.

    Attributes:
        answer: `regression` if any metric regressed, `pass` if every metric passed.
        rulings: Metric → its ruling.
    """

    model_config = ConfigDict(frozen=True)

    answer: Answer
    rulings: dict[str, Ruling]


class Calibration(BaseModel):
    """What a gate can detect given the machine's noise, from pairs of one and the same configuration.

    Attributes:
        cv: Run-to-run coefficient of variation of a launch: the pairs' standard deviation over √2.
        cv_low: Lower end of its 95% interval.
        cv_high: Upper end of its 95% interval.
        pairs_needed: Pairs after which 95% of the gates without a change have passed; None if over the last look.
        smallest_margin: The smallest margin at which 95% of the gates without a change pass, a share.
        smallest_drop: The smallest drop that 95% of the gates with the given margin report, a share.
        n: Pairs behind it.
    """

    model_config = ConfigDict(frozen=True)

    cv: float
    cv_low: float
    cv_high: float
    pairs_needed: int | None
    smallest_margin: float
    smallest_drop: float
    n: int


class Tails(NamedTuple):
    """One-sided p values of a look: floats, or arrays of many simulated gates.

    Attributes:
        worse: Of "the drop is the margin or more", which a pass rejects.
        kept: Of "the drop is the margin or less", which a regression rejects.
    """

    worse: np.ndarray
    kept: np.ndarray


class Share(NamedTuple):
    """A share of requests.

    Attributes:
        kept: How many of them kept a promise.
        n: How many independent ones there are, or all are worth.
    """

    kept: float
    n: float


def pair_order(seed: int | str) -> list[bool]:
    """Whether the candidate is launched first, pair by pair up to the last look.

    Between two looks half of the pairs begin with the candidate, in random order; of an odd number, the last is drawn.
    Against drift this is as good as A B B A. Strict alternation correlates neighbouring pairs under autocorrelated
    noise: a true drop of the margin then passes in 5.3% of the gates instead of 4.9%
    (`python -m tests.benchmarks.gate --gates 50000 --order abba`, and without `--order`).
    """
    rng = random.Random(f"{seed}/gate")
    order: list[bool] = []
    for before, look in zip((0, *LOOKS), LOOKS, strict=False):
        n = look - before
        block = [True, False] * (n // 2) + [rng.random() < 0.5] * (n % 2)
        rng.shuffle(block)
        order += block
    return order


def tails(mean: np.ndarray | float, deviation: np.ndarray | float, n: int, margin: float) -> Tails:
    """The p values of n pairs from the mean and the standard deviation of their gains, by Student's t."""
    gap = np.asarray(mean, dtype=float) - math.log1p(-margin)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.nan_to_num(
            gap / (np.asarray(deviation, dtype=float) / math.sqrt(n)), nan=0.0, posinf=np.inf, neginf=-np.inf
        )
    below = stdtr(n - 1, t)
    return Tails(worse=1 - below, kept=below)


def judge_pairs(gains: Mapping[str, Sequence[float]], margin: float) -> Judgement:
    """The verdict at a look.

    A regression of any of several metrics is tested at the level of a look with Holm's correction. A pass needs every
    metric to pass, each at that level: all of them
    passing wrongly is no likelier than one passing wrongly, so no correction is needed.

    Args:
        gains: Metric → gains of the pairs so far, equally many of every metric.
        margin: The drop that must not pass, a share.

    Raises:
        ValueError: Fewer than two pairs, or a gain that is no finite number.
    """
    found = {name: _moments(values) for name, values in gains.items()}
    ps = {name: tails(mean, deviation, n, margin) for name, (mean, deviation, n) in found.items()}
    regressed = holm({name: float(p.kept) for name, p in ps.items()}, ALPHA_A_LOOK)
    rulings = {}
    for name, (mean, deviation, n) in found.items():
        half = float(stdtrit(n - 1, 1 - ALPHA_A_LOOK)) * deviation / math.sqrt(n)
        passed = float(ps[name].worse) < ALPHA_A_LOOK
        answer: Answer = "regression" if name in regressed else "pass" if passed else "inconclusive"
        rulings[name] = Ruling(answer=answer, low=math.exp(mean - half), high=math.exp(mean + half))
    return Judgement(answer=_together(rulings), rulings=rulings)


def with_withheld(judgement: Judgement, metrics: Iterable[str], regressed: Container[str] = ()) -> Judgement:
    """Add metrics that are not compared: the verdict cannot be a pass, and a regression of another metric stands.

    Args:
        judgement: The rulings on those that are.
        metrics: Those that are not.
        regressed: Those of them that are a regression all the same: the candidate alone has no figure to compare.
    """
    answers: dict[str, Answer] = {name: "regression" if name in regressed else "inconclusive" for name in metrics}
    withheld = {name: Ruling(answer=answer, low=None, high=None) for name, answer in answers.items()}
    rulings = {**judgement.rulings, **withheld}
    return Judgement(answer=_together(rulings), rulings=rulings)


def judge_stored(
    gains: Mapping[str, float],
    history: Mapping[str, Sequence[float]],
    shares: Mapping[str, tuple[Share, Share]] | None = None,
) -> Judgement:
    """The verdict on one run against earlier runs: a regression below mean − t(0.99, K−1)·s·√(1+1/K).

    That is the prediction bound for one more run. Several metrics share the level by Holm's correction. With fewer than
    `FEWEST_RUNS` earlier runs there is no verdict: their spread is not known well enough.

    A share of requests is a regression only if it is too small for the number of requests too, see `chance_of`: runs
    that all kept a promise wholly have no spread, and yet the next may miss it once.

    Args:
        gains: Metric → ln of this run's figure, higher is better.
        history: Metric → the same of every earlier run.
        shares: Metric that is a share of requests → the share of this run, and that of all earlier ones together.
    """
    bounds, ps = {}, {}
    for name, values in history.items():
        if len(values) < FEWEST_RUNS:
            return Judgement(
                answer="inconclusive",
                rulings={each: Ruling(answer="inconclusive", low=None, high=None) for each in gains},
            )
        mean, deviation, n = _moments(values)
        spread = deviation * math.sqrt(1 + 1 / n)
        bounds[name] = mean - float(stdtrit(n - 1, 1 - ALPHA_STORED)) * spread
        gap = gains[name] - mean
        ps[name] = float(stdtr(n - 1, gap / spread)) if spread else (0.0 if gap < -_SAME else 0.5)
        if shares and name in shares:
            share, earlier = shares[name]
            ps[name] = max(ps[name], chance_of(share, earlier))
            bounds[name] = min(bounds[name], math.log(_least_share(share.n, earlier)))
    regressed = holm(ps, ALPHA_STORED)
    rulings = {
        name: Ruling(answer="regression" if name in regressed else "pass", low=math.exp(bound), high=None)
        for name, bound in bounds.items()
    }
    return Judgement(answer=_together(rulings), rulings=rulings)


def chance_of(share: Share, earlier: Share) -> float:
    """How likely requests alone bring out so small a share, or a smaller one, where nothing has changed.

    Fisher's exact test, one-sided, in the form that takes numbers that are not whole: it is the probability that one
    Beta variable is below another (P. M. E. Altham, J. R. Statist. Soc. B 31, 1969). `share` misses x of n and
    `earlier` y of m; then Beta(x, n - x + 1) stays below Beta(y + 1, m - y).
    """
    missed, missed_earlier = share.n - share.kept, earlier.n - earlier.kept
    if missed <= _SAME * share.n:
        return 1.0
    levels = (np.arange(_STEPS) + 0.5) / _STEPS
    rates = betaincinv(missed, share.kept + 1, levels)
    return float(np.mean(1 - betainc(missed_earlier + 1, max(earlier.kept, _SAME), rates)))


def _least_share(n: float, earlier: Share) -> float:
    """The smallest share of so many requests that their number still explains."""
    low, high = 0.0, n  # kept
    for _ in range(_HALVINGS):
        kept = (low + high) / 2
        low, high = (low, kept) if chance_of(Share(kept, n), earlier) >= ALPHA_STORED else (kept, high)
    return max(high / n, _SAME)


def holm(p_values: Mapping[str, float], alpha: float) -> set[str]:
    """The hypotheses that Holm's step-down procedure rejects.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).
    """
    rejected: set[str] = set()
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if p >= alpha / (len(p_values) - rank):
            break
        rejected.add(name)
    return rejected


def calibrate(gains: Sequence[float], margin: float) -> Calibration:
    """What a gate can detect, from pairs of one and the same configuration.

    Powers are those of a single look, by the noncentral t distribution: with the earlier looks they are a little
    higher.

    Args:
        gains: One a pair, two at least.
        margin: The gate's, a share.

    Raises:
        ValueError: Fewer than two pairs, or a gain that is no finite number.
    """
    _, deviation, n = _moments(gains)
    cv = deviation / math.sqrt(2)
    chi_low, chi_high = float(chdtri(n - 1, 0.975)), float(chdtri(n - 1, 0.025))
    last = LOOKS[-1]
    visible = _visible(last) * deviation / math.sqrt(last)
    limit = -math.log1p(-margin)
    enough = [look for look in LOOKS if _visible(look) * deviation / math.sqrt(look) <= limit]
    return Calibration(
        cv=cv,
        cv_low=cv * math.sqrt((n - 1) / chi_high),
        cv_high=cv * math.sqrt((n - 1) / chi_low),
        pairs_needed=enough[0] if enough else None,
        smallest_margin=-math.expm1(-visible),
        smallest_drop=-math.expm1(-(visible + limit)),
        n=n,
    )


def _visible(n: int) -> float:
    """Distance from a limit, in standard errors of n pairs, that one look detects with probability `_POWER`."""
    return float(nctdtrinc(n - 1, 1 - _POWER, float(stdtrit(n - 1, 1 - ALPHA_A_LOOK))))


def _moments(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean, standard deviation and number; a spread that is only rounding counts as none."""
    n = len(values)
    if n < 2 or not all(map(math.isfinite, values)):
        raise ValueError("a verdict needs at least two finite gains")
    mean = sum(values) / n
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    return mean, deviation if deviation > _SAME else 0.0, n


def _together(rulings: Mapping[str, Ruling]) -> Answer:
    answers = {ruling.answer for ruling in rulings.values()}
    if "regression" in answers:
        return "regression"
    return "pass" if answers == {"pass"} else "inconclusive"
