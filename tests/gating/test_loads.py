"""What the loads of a gate say, and what they do not: failed requests, no goodput, and what loads have in common."""

from dataclasses import replace

import pytest

from infertune.domain.arrivals import Arrivals
from infertune.domain.promise import Promise
from infertune.errors import BenchmarkError
from infertune.gating.loads import check_answered, check_kept, length_of, lost, newly_lost, requests_behind
from infertune.runs.serving import Serving
from tests.domain.test_figures import loads

SOUND = loads({"n_failed": 1})
FAILING = loads({"n_failed": 40, "failures": ("HTTP 503 (40)",)})
SLOW = loads({"strain": 3.0}, {"strain": 4.0})


def test_quantiles_of_which_too_many_requests_failed_are_lost_with_the_reason() -> None:
    assert lost([SOUND], "new") == {}, "1 of 100 is what a 99th percentile leaves room for"
    found = lost([SOUND, FAILING], "new")
    assert "ttft_p99_s" in found and "latency_p90_s" in found
    assert not {"ttft_p50_s", "attainment", "completed_per_s", "output_tokens_per_s"} & found.keys()
    assert found["ttft_p99_s"] == "41 of 200 requests of new failed, such as HTTP 503 (40)"


def test_failing_is_a_regression_only_where_each_launch_of_the_new_side_fails_and_none_of_the_base() -> None:
    assert "ttft_p99_s" in newly_lost([SOUND] * 4, [FAILING] * 4)
    assert newly_lost([SOUND] * 4, [FAILING] * 3 + [SOUND]) == set(), "a bad moment is none"
    assert newly_lost([FAILING] * 4, [FAILING] * 4) == set()


def test_the_requests_behind_an_attainment_are_as_many_as_they_are_worth() -> None:
    assert requests_behind([loads({"n_counted": 70, "n_worth": 35.0}), loads({"n_counted": 70})]) == 105
    assert requests_behind([]) is None


def test_without_a_base_a_lost_quantile_is_no_ground_for_a_verdict() -> None:
    with pytest.raises(BenchmarkError, match=r"40 of 100 requests of profile failed, .*HTTP 503.*ttft_p99_s is of the"):
        check_answered(FAILING, "profile", ["attainment", "ttft_p99_s"])
    check_answered(FAILING, "profile", ["attainment", "ttft_p50_s"])


def test_a_launch_without_goodput_says_at_which_rate_the_promise_was_still_broken() -> None:
    with pytest.raises(BenchmarkError, match=r"profile has no goodput: .* at 1 requests/s 3 times .*--metric attain"):
        check_kept(SLOW, "profile")
    check_kept(loads({"strain": 0.5}), "profile")


def test_what_loads_have_in_common_holds_their_size_and_their_rates() -> None:
    around = Serving(Arrivals.parse("poisson"), Promise(), window_s=30.0, proof_window_s=30.0)
    at = replace(around, searches=False, rates_per_s=(12.5,))
    assert length_of(around) == "loads at rates around the highest for 30 s or more"
    assert length_of(at) == "loads at 12.5 requests/s for 30 s or more"
    assert length_of(replace(at, n_requests=80)) == "loads of 80 requests at 12.5 requests/s"
