"""Which way each metric of a gate is better, its limit, and what a share of 0 is."""

import math

import pytest

from infertune.gating.comparison import RATE
from infertune.gating.metrics import gain, paired_metrics
from infertune.gating.verdict import judge_pairs


def test_more_throughput_is_a_gain_and_more_of_anything_else_a_loss() -> None:
    assert gain(RATE, 110, 100) == pytest.approx(math.log(1.1))
    assert gain("j_per_output_token", 110, 100) == pytest.approx(-math.log(1.1))
    assert gain("latency_p99_s", 0.5) == pytest.approx(math.log(2))


def test_the_limit_of_a_metric_is_on_the_side_that_is_worse() -> None:
    base = {RATE: [100.0] * 4, "latency_p50_s": [1.0] * 4, "power_w": [50.0] * 4}
    new = {RATE: [101.0] * 4, "latency_p50_s": [1.2] * 4, "power_w": [50.0] * 4}
    gains = {n: [gain(n, a, b) for a, b in zip(new[n], base[n], strict=True)] for n in (RATE, "latency_p50_s")}
    rate, latency, power = paired_metrics(base, new, judge_pairs(gains, 0.05), 0.05)
    assert (rate.name, rate.answer, rate.limit) == (RATE, "pass", 0.95)
    assert (latency.answer, latency.limit, latency.ratio) == ("regression", pytest.approx(1 / 0.95), pytest.approx(1.2))
    assert (power.name, power.gated, power.answer, power.limit) == ("power_w", False, None, None)


def test_a_share_of_0_is_judged_and_shown_as_it_is() -> None:
    judgement = judge_pairs({"attainment": [gain("attainment", 0.99, 0.0)] * 4}, 0.05)
    (metric,) = paired_metrics({"attainment": [0.0] * 4}, {"attainment": [0.99] * 4}, judgement, 0.05)
    assert (metric.answer, metric.ratio, metric.base_samples) == ("pass", None, (0.0,) * 4)
    judgement = judge_pairs({"attainment": [gain("attainment", 0.0, 0.99)] * 4}, 0.05)
    assert judgement.answer == "regression"
    assert gain("attainment", 0.0, 0.0) == 0.0
