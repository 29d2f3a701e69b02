"""Intervals: what they are, what leaves them unchanged, and how often they cover the truth."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from scipy.stats import t as student

from infertune.stats import cluster_share_interval, geometric_mean, log_t_interval, paired_ratio, unpaired_ratio

rates = st.floats(1e-3, 1e6)
pairs = st.lists(st.tuples(rates, rates), min_size=2, max_size=12)


def test_the_interval_is_students_t_on_logarithms() -> None:
    samples = [100.0, 110.0, 121.0]  # equal steps of ln 1.1: standard deviation ln 1.1
    margin = student.ppf(0.975, 2) * math.log(1.1) / math.sqrt(3)
    found = log_t_interval(samples)
    assert found.mean == pytest.approx(110)
    assert (found.low, found.high) == (pytest.approx(110 * math.exp(-margin)), pytest.approx(110 * math.exp(margin)))
    assert found.half_width == pytest.approx(margin)
    assert (found.n, found.level) == (3, 0.95)


def test_a_single_sample_has_no_interval_and_an_infinite_half_width() -> None:
    found = log_t_interval([42.0])
    assert (found.mean, found.low, found.high, found.half_width) == (pytest.approx(42), None, None, math.inf)


@pytest.mark.parametrize("samples", [[], [0.0], [1.0, -1.0], [math.nan, 1.0], [math.inf]])
def test_samples_that_are_no_rates_are_refused(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="positive, finite"):
        log_t_interval(samples)


@pytest.mark.parametrize(("new", "base"), [([1.0], [0.0]), ([-1.0], [-1.0]), ([1.0], [math.nan]), ([0.0], [1.0])])
def test_a_ratio_of_anything_but_rates_is_refused(new: list[float], base: list[float]) -> None:
    with pytest.raises(ValueError, match="positive, finite"):
        paired_ratio(new, base)


def test_pairs_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        paired_ratio([1.0], [1.0, 2.0])


def test_a_drift_shared_by_both_of_a_pair_does_not_widen_the_interval() -> None:
    found = paired_ratio([110, 55, 220], [100, 50, 200])
    assert found.mean == pytest.approx(1.1)
    assert found.half_width == pytest.approx(0, abs=1e-9)


def same(a: float | None, b: float | None) -> bool:
    assert a is not None and b is not None
    return math.isclose(a, b, rel_tol=1e-6)


@settings(deadline=None)
@given(pairs, st.floats(0.01, 100))
def test_a_paired_ratio_does_not_depend_on_the_unit(found: list[tuple[float, float]], factor: float) -> None:
    new, base = zip(*found, strict=True)
    plain, scaled = paired_ratio(new, base), paired_ratio([factor * x for x in new], [factor * x for x in base])
    assert same(plain.mean, scaled.mean) and same(plain.low, scaled.low) and same(plain.high, scaled.high)


@settings(deadline=None)
@given(pairs)
def test_exchanging_the_two_of_a_paired_ratio_inverts_it_with_its_interval(found: list[tuple[float, float]]) -> None:
    new, base = zip(*found, strict=True)
    there, back = paired_ratio(new, base), paired_ratio(base, new)
    assert there.high is not None and there.low is not None
    assert same(there.mean, 1 / back.mean) and same(back.low, 1 / there.high) and same(back.high, 1 / there.low)


@settings(deadline=None)
@given(pairs, st.randoms(use_true_random=False))
def test_a_paired_ratio_does_not_depend_on_the_order_of_the_pairs(
    found: list[tuple[float, float]], rng: random.Random
) -> None:
    mixed = rng.sample(found, len(found))
    plain, shuffled = paired_ratio(*zip(*found, strict=True)), paired_ratio(*zip(*mixed, strict=True))
    assert same(plain.mean, shuffled.mean) and same(plain.low, shuffled.low)


@settings(deadline=None)
@given(st.lists(rates, min_size=2, max_size=12))
def test_more_confidence_needs_a_wider_interval_around_the_same_mean(samples: list[float]) -> None:
    narrow, wide = log_t_interval(samples, 0.95), log_t_interval(samples, 0.99)
    assert narrow.mean == wide.mean == pytest.approx(geometric_mean(samples))
    assert wide.half_width >= narrow.half_width
    assert min(samples) <= narrow.mean * (1 + 1e-9) and narrow.mean <= max(samples) * (1 + 1e-9)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_the_95_percent_interval_misses_lognormal_truth_in_5_percent_of_cases(n: int) -> None:
    rng, times = random.Random(n), 4000
    missed = 0
    for _ in range(times):
        found = log_t_interval([1000 * math.exp(rng.gauss(0, 0.05)) for _ in range(n)])
        assert found.low is not None and found.high is not None
        missed += not found.low <= 1000 <= found.high
    low, high = binom.ppf((0.001, 0.999), times, 0.05)
    assert low <= missed <= high


def test_samples_far_apart_have_a_finite_interval() -> None:
    found = log_t_interval([1.0, 1e50])
    assert found.high is not None and 1e50 < found.high < math.inf
    ratio = unpaired_ratio([1.0, 1e50], [1.0, 1e50])
    assert ratio.high is not None and ratio.high > 1


@pytest.mark.parametrize("share", [0.9, 0.97, 0.995])
def test_the_interval_of_a_share_covers_clustered_truth_near_its_end(share: float) -> None:
    rng, times, missed = random.Random(7), 2000, 0
    spread = 12  # of the prompts' own shares: a beta distribution
    for _ in range(times):
        sums = []
        for _ in range(16):
            own = rng.betavariate(share * spread, (1 - share) * spread)
            sums.append(sum(rng.random() < own for _ in range(30)))
        _, low, high = cluster_share_interval(sums, [30] * 16)
        assert low is not None and high is not None and 0 <= low <= high <= 1
        missed += not low <= share <= high
    assert missed / times < 0.09
