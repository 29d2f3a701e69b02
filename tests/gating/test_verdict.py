"""The gate's rules on known answers; what they promise under noise is in tests/benchmarks/test_gate.py."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from infertune.gating.verdict import (
    ALPHA_A_LOOK,
    FEWEST_RUNS,
    LOOKS,
    Share,
    calibrate,
    chance_of,
    holm,
    judge_pairs,
    judge_stored,
    pair_order,
)

MARGIN = 0.05
GAINS = [0.012, -0.004, 0.003, -0.021, 0.008, 0.015]


def shifted(by: float, spread: float = 1.0) -> list[float]:
    return [by + spread * (gain - sum(GAINS) / len(GAINS)) for gain in GAINS]


def test_the_bounds_are_students_one_sided_ones() -> None:
    ruling = judge_pairs({"rate": GAINS}, MARGIN).rulings["rate"]
    mean, error = np.mean(GAINS), stats.sem(GAINS)
    low, high = stats.t.interval(1 - 2 * ALPHA_A_LOOK, len(GAINS) - 1, loc=mean, scale=error)
    assert ruling.low == pytest.approx(math.exp(low)) and ruling.high == pytest.approx(math.exp(high))


@pytest.mark.parametrize(
    ("drop", "spread", "answer"),
    [
        (0.0, 1.0, "pass"),
        (0.02, 1.0, "pass"),
        (-0.30, 1.0, "pass"),
        (0.049, 1.0, "inconclusive"),
        (0.051, 1.0, "inconclusive"),
        (0.0, 8.0, "inconclusive"),
        (0.08, 1.0, "regression"),
        (0.30, 1.0, "regression"),
    ],
)
def test_a_pass_is_shown_to_be_above_the_margin_and_a_regression_below_it(
    drop: float, spread: float, answer: str
) -> None:
    assert judge_pairs({"rate": shifted(math.log1p(-drop), spread)}, MARGIN).answer == answer


@given(st.floats(-0.3, 0.3), st.floats(0.01, 5.0), st.floats(0.01, 0.3))
def test_an_answer_follows_from_the_bounds(mean: float, spread: float, margin: float) -> None:
    judgement = judge_pairs({"rate": shifted(mean, spread)}, margin)
    ruling = judgement.rulings["rate"]
    assert ruling.low is not None and ruling.high is not None
    assert (judgement.answer == "pass") == (ruling.low > 1 - margin)
    assert (judgement.answer == "regression") == (ruling.high < 1 - margin)


def test_equal_samples_have_no_spread_and_are_judged_by_their_mean() -> None:
    third = math.log(0.3) / 3
    assert judge_pairs({"rate": [third * 0.03] * 4}, MARGIN).answer == "pass"
    assert judge_pairs({"rate": [-0.1] * 4}, MARGIN).answer == "regression"
    assert judge_pairs({"rate": [math.log1p(-MARGIN)] * 4}, MARGIN).answer == "inconclusive"


@pytest.mark.parametrize("gains", [[], [0.1], [0.1, math.nan], [0.1, math.inf]])
def test_a_verdict_without_two_finite_gains_is_refused(gains: list[float]) -> None:
    with pytest.raises(ValueError, match="two finite gains"):
        judge_pairs({"rate": gains}, MARGIN)


def test_holm_steps_down_from_the_smallest_p_value() -> None:
    # 0.005 < 0.05/4, 0.01 < 0.05/3, but 0.03 > 0.05/2: it and all larger ones stay.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}, 0.05) == {"a", "d"}
    assert holm({"a": 0.02, "b": 0.03}, 0.05) == {"a", "b"}
    assert holm({}, 0.05) == set()


def test_of_several_metrics_one_regression_is_enough_but_must_be_clearer() -> None:
    drop = shifted(math.log1p(-0.067))
    p = float(stats.ttest_1samp(drop, math.log1p(-MARGIN), alternative="less").pvalue)
    assert ALPHA_A_LOOK / 2 < p < ALPHA_A_LOOK, "alone it is a regression, beside another metric it is not"
    same = shifted(0.0)
    assert judge_pairs({"rate": drop}, MARGIN).answer == "regression"
    assert judge_pairs({"rate": drop, "energy": same}, MARGIN).answer == "inconclusive"
    assert judge_pairs({"rate": drop, "energy": drop}, MARGIN).answer == "inconclusive"
    clear = judge_pairs({"rate": shifted(math.log1p(-0.08)), "energy": same}, MARGIN)
    assert clear.answer == "regression"
    assert {name: ruling.answer for name, ruling in clear.rulings.items()} == {"rate": "regression", "energy": "pass"}


def test_a_pass_needs_every_metric_to_pass() -> None:
    assert judge_pairs({"rate": shifted(0.0), "energy": shifted(0.0)}, MARGIN).answer == "pass"
    assert judge_pairs({"rate": shifted(0.0), "energy": shifted(0.0, 8)}, MARGIN).answer == "inconclusive"


HISTORY = [6.90, 6.91, 6.92, 6.90, 6.91, 6.93, 6.91, 6.90]


def test_a_stored_run_fails_below_the_prediction_bound_and_not_above_it() -> None:
    k = len(HISTORY)
    bound = np.mean(HISTORY) - stats.t.ppf(0.99, k - 1) * np.std(HISTORY, ddof=1) * math.sqrt(1 + 1 / k)
    below = judge_stored({"rate": bound - 1e-6}, {"rate": HISTORY})
    assert below.answer == "regression"
    assert below.rulings["rate"].low == pytest.approx(math.exp(bound))
    assert judge_stored({"rate": bound + 1e-6}, {"rate": HISTORY}).answer == "pass"
    assert judge_stored({"rate": 8.0}, {"rate": HISTORY}).answer == "pass", "faster is no regression"


def test_fewer_than_eight_earlier_runs_give_no_verdict() -> None:
    assert len(HISTORY) == FEWEST_RUNS
    for n in range(FEWEST_RUNS):
        judgement = judge_stored({"rate": 1.0}, {"rate": HISTORY[:n]})
        assert judgement.answer == "inconclusive" and judgement.rulings["rate"].low is None


def test_a_request_that_misses_after_runs_without_a_miss_is_no_regression_and_several_are() -> None:
    """Eight runs of 100 requests: by chance, 1 of 9 further runs has a miss and 1 of 750 has three (Fisher)."""
    earlier = Share(800, 800)
    assert chance_of(Share(99, 100), earlier) == pytest.approx(1 / 9, rel=1e-3)
    assert chance_of(Share(97, 100), earlier) == pytest.approx(math.comb(100, 3) / math.comb(900, 3), rel=0.1)
    assert chance_of(Share(100, 100), Share(700, 800)) == 1
    answers = {}
    for kept in (100, 99, 98, 97, 50):
        found = judge_stored(
            {"share": math.log(kept / 100)}, {"share": [0.0] * 8}, {"share": (Share(kept, 100), earlier)}
        )
        answers[kept] = found.answer
        assert found.rulings["share"].low == pytest.approx(0.979, abs=0.001), "between two misses and three"
    assert answers == {100: "pass", 99: "pass", 98: "pass", 97: "regression", 50: "regression"}


def test_the_spread_of_earlier_runs_counts_beside_the_number_of_requests() -> None:
    history = [math.log(share) for share in (1.0, 0.9) * 4]
    found = judge_stored(
        {"share": math.log(0.85)}, {"share": history}, {"share": (Share(8500, 10_000), Share(76e3, 8e4))}
    )
    assert found.answer == "pass", "too few for the requests alone, but not for how runs differ"


def test_a_share_that_has_not_changed_is_a_regression_in_one_gate_of_100_at_most() -> None:
    rng, alarms, gates = np.random.default_rng(1), 0, 100
    for rate in (0.999, 0.99):
        for _ in range(gates // 2):
            kept = rng.binomial(200, rate, 9)
            history = [math.log(one / 200) for one in kept[:8]]
            shares = {"share": (Share(float(kept[8]), 200), Share(float(sum(kept[:8])), 1600))}
            alarms += (
                judge_stored({"share": math.log(kept[8] / 200)}, {"share": history}, shares).answer == "regression"
            )
    assert alarms <= 0.01 * gates


def test_stored_runs_that_are_all_equal_pass_an_equal_one() -> None:
    tenth = math.log(1000.1)
    assert judge_stored({"rate": tenth}, {"rate": [tenth] * 9}).answer == "pass"
    assert judge_stored({"rate": tenth - 0.01}, {"rate": [tenth] * 9}).answer == "regression"


def test_between_looks_base_and_candidate_begin_equally_often() -> None:
    firsts: Counter[int] = Counter()
    orders = [pair_order(seed) for seed in range(400)]
    for order in orders:
        assert len(order) == LOOKS[-1]
        for before, look in zip((0, *LOOKS), LOOKS, strict=False):
            block = order[before:look]
            assert abs(2 * sum(block) - len(block)) <= 1
        firsts.update(i for i, new_first in enumerate(order) if new_first)
    assert all(150 <= firsts[pair] <= 250 for pair in range(LOOKS[-1])), "no pair has a habit"
    assert pair_order(7) == pair_order(7) and len({tuple(order) for order in orders}) > 50


def test_a_calibrations_claims_hold_when_they_are_simulated() -> None:
    rng = np.random.default_rng(1)
    sample = rng.normal(0, 0.02 * math.sqrt(2), 12)
    found = calibrate(list(sample), MARGIN)
    assert found.cv == pytest.approx(np.std(sample, ddof=1) / math.sqrt(2))
    assert found.cv_low < found.cv < found.cv_high and found.cv_low < 0.02 < found.cv_high
    deviation, last = found.cv * math.sqrt(2), LOOKS[-1]
    gates = rng.normal(0, deviation, (20_000, last))
    t = stats.t.ppf(1 - ALPHA_A_LOOK, last - 1)

    def share(limit: float, n: int, sign: int, shift: float) -> float:
        d = gates[:, :n] + shift
        error = d.std(axis=1, ddof=1) / math.sqrt(n) * stats.t.ppf(1 - ALPHA_A_LOOK, n - 1)
        return float((sign * (d.mean(axis=1) - limit) > error).mean())

    assert t > 2 and share(math.log1p(-found.smallest_margin), last, 1, 0.0) == pytest.approx(0.95, abs=0.01)
    dropped = math.log1p(-found.smallest_drop)
    assert share(math.log1p(-MARGIN), last, -1, dropped) == pytest.approx(0.95, abs=0.01)
    assert found.pairs_needed in LOOKS
    assert share(math.log1p(-MARGIN), found.pairs_needed, 1, 0.0) >= 0.94
    fewer = [look for look in LOOKS if look < found.pairs_needed]
    assert all(share(math.log1p(-MARGIN), look, 1, 0.0) < 0.96 for look in fewer)


def test_a_calibration_of_a_very_noisy_machine_says_that_no_number_of_pairs_is_enough() -> None:
    assert calibrate([0.2, -0.2, 0.1, -0.1, 0.15, -0.15], MARGIN).pairs_needed is None
    assert calibrate([0.0] * 12, MARGIN).pairs_needed == LOOKS[0]
