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


def test_a_closed_loop_has_clients_and_no_rate() -> None:
    found = Arrivals.parse("concurrency:8")
    assert (found.clients, found.open_loop, str(found)) == (8, False, "concurrency:8")
    assert Arrivals.parse("all-at-once").due_s(3, None, "") == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "text", ["", "poisson:2", "gamma", "gamma:0", "gamma:nan", "trace:x", "concurrency:1.5", "soon"]
)
def test_what_is_no_arrival_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(
        ValueError, match="is no number" if text in ("gamma:nan", "trace:x") else "there are all-at-once"
    ):
        Arrivals.parse(text)


def test_a_rate_or_times_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match="need a rate"):
        Arrivals("poisson").due_s(2, None, "")
    with pytest.raises(ValueError, match="no times"):
        Arrivals("trace").due_s(2, math.pi, "", (1.0,))
