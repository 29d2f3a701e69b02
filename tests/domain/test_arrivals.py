"""Arrivals: the rate is exact, bursts stay as they are, and a trace keeps its own times."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertune.domain.arrivals import Arrivals

OPEN = ["poisson", "gamma:3", "constant", "trace"]
RECORDED = tuple(0.5 * n + (5.0 if n > 40 else 0.0) for n in range(80))


@given(kind=st.sampled_from(OPEN), n=st.integers(2, 300), rate=st.floats(0.01, 1000), seed=st.text(max_size=5))
def test_due_times_ascend_from_the_start_and_have_the_rate_that_was_asked_for(
    kind: str, n: int, rate: float, seed: str
) -> None:
    due_s = Arrivals.parse(kind).due_s(n, rate, seed, RECORDED)
    assert len(due_s) == n and due_s[0] >= 0 and list(due_s) == sorted(due_s)
    assert due_s[-1] <= n / rate * (1 + 1e-9)
    assert due_s == Arrivals.parse(kind).due_s(n, rate, seed, RECORDED)


def _variation(text: str) -> float:
    due_s = Arrivals.parse(text).due_s(20_000, 10.0, "seed")
    gaps = [b - a for a, b in zip(due_s, due_s[1:], strict=False)]
    return statistics.pstdev(gaps) / statistics.mean(gaps)


@pytest.mark.parametrize(
    ("text", "variation"), [("poisson", 1.0), ("gamma:3", 3.0), ("gamma:0.5", 0.5), ("constant", 0)]
)
def test_gaps_vary_as_much_as_the_kind_says(text: str, variation: float) -> None:
    assert _variation(text) == pytest.approx(variation, rel=0.08, abs=1e-9)


def test_one_load_at_two_rates_has_the_same_bursts() -> None:
    slow, fast = (Arrivals("poisson").due_s(50, rate, "seed") for rate in (1.0, 4.0))
    assert [a / b for a, b in zip(slow, fast, strict=True)] == pytest.approx([4.0] * 50)


def test_a_trace_is_replayed_as_it_was_or_faster_or_at_a_rate() -> None:
    as_it_was = Arrivals.parse("trace").due_s(80, None, "seed", RECORDED)
    assert as_it_was == pytest.approx(RECORDED)
    assert Arrivals.parse("trace:2").due_s(80, None, "seed", RECORDED) == pytest.approx([t / 2 for t in RECORDED])
    scaled = Arrivals.parse("trace").due_s(80, 4.0, "seed", RECORDED)
    assert scaled[-1] == pytest.approx(79 / 4)
    assert max(b - a for a, b in zip(scaled, scaled[1:], strict=False)) == pytest.approx(
        5.5 * scaled[-1] / RECORDED[-1]
    )


def test_a_trace_has_as_many_times_within_a_duration_as_its_own_rate_and_the_speed_up_say() -> None:
    evenly = tuple(0.1 * number for number in range(301))
    assert Arrivals.parse("trace").n_within(10, evenly) == pytest.approx(100, abs=1)
    assert Arrivals.parse("trace:2").n_within(10, evenly) == pytest.approx(200, abs=1)
    assert Arrivals.parse("trace").n_within(0.001, evenly) == 1
    assert Arrivals.parse("trace:10").n_within(10, evenly) == 301, "no more than there are"


def test_a_closed_loop_has_clients_and_no_rate() -> None:
    found = Arrivals.parse("concurrency:8")
    assert (found.clients, found.open_loop, str(found)) == (8, False, "concurrency:8")
    assert Arrivals.parse("all-at-once").due_s(3, None, "") == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("text", ["", "poisson:2", "gamma", "gamma:nan", "trace:x", "concurrency", "soon"])
def test_what_is_no_arrival_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(
        ValueError, match="is no number" if text in ("gamma:nan", "trace:x") else "there are all-at-once"
    ):
        Arrivals.parse(text)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("gamma:0", "over 0 and at most 20"),
        ("gamma:21", "over 0 and at most 20"),
        ("trace:1e-6", "the speed-up must be from 0.001 to 1,000"),
        ("trace:1001", "the speed-up must be from 0.001 to 1,000"),
        ("trace:0", "the speed-up must be from 0.001 to 1,000"),
        ("concurrency:1.5", "a whole number from 1 to 100,000"),
        ("concurrency:0", "a whole number from 1 to 100,000"),
    ],
)
def test_a_number_that_is_out_of_range_is_refused_with_the_range(text: str, limits: str) -> None:
    with pytest.raises(ValueError, match=limits):
        Arrivals.parse(text)


@pytest.mark.parametrize("text", ["gamma:20", "trace:0.001", "trace:1000", "concurrency:100000"])
def test_the_ends_of_a_range_are_in_it(text: str) -> None:
    assert str(Arrivals.parse(text)) == text


@pytest.mark.parametrize("n", [2, 3, 60, 61])
def test_a_stretch_without_a_length_is_not_taken_where_the_trace_has_another(n: int) -> None:
    recorded = (0.0,) * 59 + (4.0,)
    for seed in "abcdefgh":
        assert Arrivals("trace").due_s(n, None, seed, recorded)[-1] >= 4.0
        assert Arrivals("trace").due_s(n, 5.0, seed, recorded)[-1] == pytest.approx((n - 1) / 5)


def test_a_trace_whose_times_are_all_the_same_has_none_and_a_single_request_has_no_length() -> None:
    with pytest.raises(ValueError, match="all times of this trace are the same"):
        Arrivals("trace").due_s(2, 5.0, "", (3.0,) * 60)
    assert Arrivals("trace").due_s(1, 5.0, "", (0.0, 4.0)) == (0.0,)


@given(n=st.integers(1, 200), seed=st.text(max_size=5), kind=st.sampled_from(["trace", "trace:2", "constant"]))
def test_no_draw_is_longer_than_the_longest(n: int, seed: str, kind: str) -> None:
    arrivals, rate = Arrivals.parse(kind), 4.0 if kind == "constant" else None
    assert arrivals.due_s(n, rate, seed, RECORDED)[-1] <= arrivals.longest_s(n, rate, RECORDED) + 1e-9


def test_the_longest_is_that_of_a_stretch_of_the_whole_trace_or_of_the_rate() -> None:
    assert Arrivals("trace").longest_s(2, None, RECORDED) == pytest.approx(5.5)
    assert Arrivals("trace", 2.0).longest_s(80, None, RECORDED) == pytest.approx(RECORDED[-1] / 2)
    assert Arrivals("poisson").longest_s(10, 0.5) == 20
    assert Arrivals("concurrency", 3.0).longest_s(10, None) == 0


def test_a_rate_or_times_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match="need a rate"):
        Arrivals("poisson").due_s(2, None, "")
    with pytest.raises(ValueError, match="no times"):
        Arrivals("trace").due_s(2, math.pi, "", (1.0,))
