"""A small guard: one tune on the simulated server reports the goodput that is there, and costs a part of the usual."""

import pytest

from tests.benchmarks.serving import Outcome, gated, tuned


@pytest.mark.slow
def test_a_tune_costs_a_part_of_a_restart_for_each_rate_and_finds_what_is_better() -> None:
    found: Outcome = tuned(1, window="4s", trust="quick", check=False)
    assert found.answer == "better" and found.looks <= 6
    assert found.search_s < found.usual_s / 8


def test_gates_on_goodput_err_as_those_on_throughput() -> None:
    samples = [100 * (1 + 0.02 * ((7 * n) % 11 - 5) / 5) for n in range(11)]  # they differ by about 1.3%
    assert gated(samples, 0.0, 500)["regression"] <= 0.02
    assert gated(samples, 0.05, 500)["pass"] <= 0.08
    assert gated(samples, 0.12, 500)["regression"] >= 0.95
