"""When launches end, and the interval after an early end."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from infertune.sequential import (
    TRUST,
    contrast,
    first_look_weights,
    interval,
    is_better,
    look,
    looks_within,
    narrow_mean,
    side,
)
from tests.benchmarks.proof_levels import bench_coverage, simulate

NORMAL = TRUST["normal"]


def logs(*rates: float) -> list[float]:
    return [math.log(rate) for rate in rates]


def test_the_variance_is_pooled_over_both_sides() -> None:
    found = contrast([1.0, 1.2], [0.0, 0.1])
    assert found.mean == pytest.approx(1.05)
    variance = (0.1**2 * 2 + 0.05**2 * 2) / 2
    assert found.error == pytest.approx(math.sqrt(variance * (1 / 2 + 1 / 2)))
    assert (found.degrees, found.within_rounds) == (2, False)


def test_launches_of_the_base_without_a_partner_count() -> None:
    found = contrast([1.0, 1.2], [0.0, 0.1], [0.2])
    assert found.mean == pytest.approx(1.1 - 0.1) and found.degrees == 3


def test_where_rounds_drift_the_difference_is_taken_round_by_round() -> None:
    drift = [0.0, 0.3, 0.6, 0.9]
    noise = [0.001, -0.001, 0.001, -0.001]
    new = [0.5 + d + e for d, e in zip(drift, noise, strict=True)]
    found = contrast(new, drift)
    assert found.within_rounds and found.degrees == 3
    assert found.mean == pytest.approx(0.5) and found.error < 0.01
    assert not contrast(new[:3], drift[:3]).within_rounds, "three rounds cannot tell drift from noise"


@pytest.mark.parametrize(("new", "base"), [([1.0], [1.0]), ([1.0, 1.0], [1.0]), ([], [])])
def test_less_than_two_whole_rounds_are_no_comparison(new: list[float], base: list[float]) -> None:
    with pytest.raises(ValueError):
        contrast(new, base)


def test_the_interval_has_the_level_of_its_look() -> None:
    found = contrast(logs(110, 112, 111), logs(100, 101, 99))
    told = interval(found, 3, NORMAL)
    margin = student.ppf(1 - 0.028 / 2, 4) * found.error
    assert told.low == pytest.approx(math.exp(found.mean - margin)) and told.n == 3
    assert interval(found, 5, NORMAL) != told, "five launches have the level of the look at four"


def test_a_side_is_known_by_the_noise_of_both() -> None:
    found = contrast(logs(110, 112, 111), logs(100, 101, 99))
    told = side(logs(110, 112, 111), found, 3, NORMAL)
    assert told.low is not None and told.low == pytest.approx(
        told.mean * math.exp(-student.ppf(1 - 0.028 / 2, 4) * found.deviation / math.sqrt(3))
    )


def test_a_large_gain_is_proven_by_two_launches_of_each_side() -> None:
    decision = look(contrast(logs(700, 710), logs(100, 101)), 2, 2, NORMAL, 12)
    assert decision.ends and "narrow enough" in decision.why


def test_a_gain_that_is_certain_goes_on_until_it_is_known_well_enough() -> None:
    found = contrast(logs(111, 107, 109), logs(100, 101, 99))
    assert not look(found, 3, 3, NORMAL, 12).ends


def test_it_ends_where_a_gain_of_one_percent_is_ruled_out() -> None:
    found = contrast(logs(95, 95.1, 94.9, 95), logs(100, 100.1, 99.9, 100))
    assert "ruled out" in look(found, 4, 4, NORMAL, 12).why


def test_it_ends_where_further_launches_have_next_to_no_chance() -> None:
    found = contrast(logs(98, 100, 97, 99, 100, 96), logs(100, 99, 101, 98, 100, 101))
    assert "chance" in look(found, 6, 6, NORMAL, 12).why


def test_the_last_round_is_a_look_whatever_was_asked() -> None:
    assert looks_within(NORMAL, 2, 12) == (2, 3, 4, 6, 9, 12)
    assert looks_within(NORMAL, 5, 10) == (6, 9, 10)
    assert looks_within(NORMAL, 2, 2) == (2,)


def test_equal_launches_have_no_noise_and_divide_by_nothing() -> None:
    same = contrast([0.0, 0.0], [0.0, 0.0])
    assert look(same, 2, 2, NORMAL, 12).ends
    assert look(contrast([0.5, 0.5], [0.0, 0.0]), 2, 2, NORMAL, 12).ends
    assert not is_better(interval(same, 2, NORMAL))


def test_one_configuration_has_an_interval_from_two_launches_on() -> None:
    assert narrow_mean([0.0], NORMAL).low is None
    told = narrow_mean(logs(100, 102), NORMAL)
    assert told.low is not None and told.low < told.mean == pytest.approx(math.sqrt(100 * 102))


@pytest.mark.parametrize("name", sorted(TRUST))
def test_levels_stand_for_every_look(name: str) -> None:
    trust = TRUST[name]
    assert len(trust.looks) == len(trust.certain) == len(trust.missed) == len(trust.missed_alone)
    assert list(trust.looks) == sorted(trust.looks)
    assert all(2 * sure < miss for sure, miss in zip(trust.certain[:-1], trust.missed, strict=False))


def test_where_nothing_is_better_few_comparisons_say_so() -> None:
    """2.5% asked; the bound leaves room for the luck of 1,000 draws."""
    assert simulate(0.0, 0.02, NORMAL, 1000).better <= 0.04


def test_where_more_rounds_are_allowed_no_more_comparisons_find_what_is_not_there() -> None:
    """2.4% over 11,000 draws; 3.8% of these where the last look kept its level, and the one behind it had it too."""
    assert simulate(0.0, 0.02, NORMAL, 1000, most=40).better <= 0.03


@pytest.mark.parametrize("name", sorted(TRUST))
def test_a_look_behind_the_last_one_shares_its_level_with_it(name: str) -> None:
    trust = TRUST[name]
    more = trust.up_to(40)
    assert more.looks == (*trust.looks, 40) and more.total == pytest.approx(trust.total)
    assert sum(more.certain[-2:]) == pytest.approx(trust.certain[-1]) and more.missed[-1] == 2 * more.certain[-1]
    assert len(more.looks) == len(more.certain) == len(more.missed) == len(more.missed_alone)
    assert trust.up_to(trust.looks[-1]) == trust.up_to(2) == trust


def test_a_gain_of_three_percent_at_two_percent_noise_is_found() -> None:
    """90% asked, 90.4% over 4,000 draws."""
    assert simulate(0.03, 0.02, NORMAL, 500).better >= 0.86


@pytest.mark.parametrize(("gain", "noise"), [(0.03, 0.01), (0.1, 0.03), (0.8, 0.03), (0.8, 0.08)])
def test_intervals_keep_their_promise_after_an_early_end(gain: float, noise: float) -> None:
    """93 to 97% asked, over all cells; a cell of 600 draws is known to ±2.5%."""
    assert 0.91 <= simulate(gain, noise, NORMAL, 600).covered <= 0.985


def test_drift_makes_no_gain_of_nothing() -> None:
    assert simulate(0.0, 0.03, NORMAL, 600, drift=0.9).better <= 0.04


def test_the_interval_of_a_single_configuration_keeps_its_promise() -> None:
    assert 0.925 <= bench_coverage(0.02, 1500) <= 0.98


def test_more_trust_finds_less_that_is_not_there() -> None:
    quick, strict = (simulate(0.0, 0.02, TRUST[name], 600, seed=1).better for name in ("quick", "strict"))
    assert strict <= 0.015 and strict < quick <= 0.08


@pytest.mark.parametrize(("gain", "more_base", "draws"), [(0.0, 1, 250), (0.8, 0, 400)])
def test_an_early_end_does_not_bias_the_gain(gain: float, more_base: int, draws: int) -> None:
    """The plain mean is 1.9% too low where nothing is better, and 0.7% too high at +80%; known to ±0.3%, ±0.2%."""
    kept = simulate(gain, 0.08, NORMAL, draws, seed=3, more_base=more_base, corrected=draws)
    assert abs(kept.optimism) < (0.004 if gain else 0.009)


def test_over_sixteen_rounds_every_one_counts_the_same() -> None:
    rounds = tuple(np.random.default_rng(0).normal(0, 0.1, 17).tolist())
    assert first_look_weights(rounds, (0.0,) * 17, (), NORMAL, (2, 3, 24)) == (1 / 17,) * 17


def test_at_the_first_look_every_round_counts_the_same() -> None:
    assert first_look_weights((0.5, 0.6), (0.0, 0.1), (), NORMAL, NORMAL.looks) == (0.5, 0.5)


def test_a_round_that_would_have_ended_it_at_once_was_not_in_the_first_look() -> None:
    """Rounds 0 and 1 are alike, so an order that begins with them ends: 0.9 with either of them does not."""
    new, base = (0.5001, 0.5, 0.9), (0.0, 0.0001, 0.0)
    weights = first_look_weights(new, base, (), NORMAL, NORMAL.looks)
    assert weights == pytest.approx((0.25, 0.25, 0.5))


def test_weights_add_up_to_one_whatever_ended_it() -> None:
    same = (0.1,) * 3
    assert sum(first_look_weights(same, (0.0,) * 3, (), NORMAL, NORMAL.looks)) == pytest.approx(1)


def test_the_draws_repeat_themselves() -> None:
    once, again = (simulate(6.0, 0.08, NORMAL, 20, corrected=20) for _ in range(2))
    assert once == again and np.isfinite(once.optimism)
