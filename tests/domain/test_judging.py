"""How a load was served: broken promises, late generators, growing queues, intervals of dependent requests."""

import math
import random

import pytest

from infertune.domain.judging import RequestRows, attained, service_of
from infertune.domain.load import Gauges, Load, Sent
from infertune.domain.promise import Promise, RequestLimit, parse_limit
from infertune.domain.service import LoadCounts, Service, Sketch, isotonic, sustained
from infertune.errors import UsageError

PROMISE = Promise(limits=(RequestLimit(figure="ttft_s", most_s=0.5),), attain=0.9)


def load(*ttft_s: float, rate: float = 10.0, late_s: float = 0.0, errors: int = 0) -> Load:
    """Requests of three tokens in a fixed rhythm; the last few fail if so asked."""
    sent = []
    for number, ttft in enumerate(ttft_s):
        due = number / rate
        error = "HTTP 500" if number >= len(ttft_s) - errors else ""
        sent.append(Sent(due, due + late_s, due + ttft + 0.2, due + ttft, 3, (0.1, 0.1), error))
    return Load(sent=tuple(sent))


def look(rate: float, strain: float, *, n: int = 100, late: bool = False, growing: bool = False) -> Service:
    return Service(
        arrivals="poisson",
        rate_per_s=rate,
        promise=PROMISE,
        n_counted=n,
        strain=strain,
        attainment=1.0 if strain <= 1 else 0.5,
        late=late,
        growing=growing,
        growth=0.2 if growing else 0.0,
    )


def test_figures_count_from_when_a_request_was_due_and_the_ramp_does_not_count() -> None:
    found = service_of(load(*[9.0] * 20, *[0.3] * 70, *[9.0] * 10), PROMISE, "constant", 10.0)
    assert found.n_counted == 70 and found.attainment == 1.0
    assert found.ttft_s and found.ttft_s.at(0.99) == pytest.approx(0.3)
    assert found.strain == pytest.approx(0.6) and found.kept
    assert found.itl_s and found.itl_s.mean == pytest.approx(0.1)
    assert found.latency_s and found.latency_s.at(0.5) == pytest.approx(0.5)


def test_a_failed_request_has_broken_the_promise_and_gives_no_latency() -> None:
    found = service_of(load(*[0.1] * 100, errors=30), PROMISE, "constant", 10.0)
    assert found.n_failed == 30 and found.failures == ("HTTP 500 (30)",)
    assert found.attainment == pytest.approx(50 / 70) and not found.kept
    assert found.ttft_s and found.ttft_s.at(1.0) == pytest.approx(0.1)


def test_a_limit_on_a_percentile_may_be_broken_where_the_promise_is_kept() -> None:
    p99 = RequestLimit(figure="ttft_s", most_s=0.5, share=0.99)
    times = ([0.1] * 19 + [0.8]) * 5
    assert service_of(load(*times), PROMISE, "constant", 10.0).kept
    both = Promise(limits=(*PROMISE.limits, p99), attain=0.9)
    found = service_of(load(*times), both, "constant", 10.0)
    assert found.strain == pytest.approx(1.6) and not found.kept and found.attainment == pytest.approx(0.95, abs=0.02)


def test_a_late_generator_is_marked() -> None:
    assert not service_of(load(*[0.1] * 50, late_s=0.02), PROMISE, "constant", 10.0).late
    found = service_of(load(*[0.1] * 50, late_s=0.03), PROMISE, "constant", 10.0)
    assert found.late and found.late_p99_s == pytest.approx(0.03)


def test_where_the_generator_sets_the_pace_of_a_load_without_a_rate_that_is_marked() -> None:
    no_limits = Promise()
    assert not service_of(load(*[0.3] * 50, late_s=0.02), no_limits, "concurrency:4", None).late
    assert service_of(load(*[0.3] * 50, late_s=0.03), no_limits, "concurrency:4", None).late  # of 0.5 s
    assert service_of(load(*[0.3] * 50, late_s=0.03), PROMISE, "concurrency:4", None).late
    lasts_s = 49 / 10 + 0.5
    for cpu_s, busy in ((0.5 * lasts_s, False), (0.95 * lasts_s, True)):
        sent = load(*[0.3] * 50).model_copy(update={"generator_cpu_s": cpu_s})
        assert service_of(sent, no_limits, "all-at-once", None).late is busy


def test_a_request_whose_tokens_come_together_keeps_a_limit_on_the_longest_gap() -> None:
    """64 tokens in 62 events: llama.cpp holds back parts of a character, speculation sends several at once."""
    promise = Promise(limits=(RequestLimit(figure="itl_s", most_s=1.0),), attain=0.9)
    sent = [Sent(n / 10, n / 10, n / 10 + 1, n / 10 + 0.1, 64, (0.01,) * 61) for n in range(30)]
    found = service_of(Load(sent=tuple(sent)), promise, "constant", 10.0)
    assert found.kept and found.strain == pytest.approx(0.01) and found.itl_s is None
    single = [Sent(n / 10, n / 10, n / 10 + 1, n / 10 + 0.1, 64, (0.02,) * 63) for n in range(30)]
    mixed = service_of(Load(sent=(*sent[:15], *single[15:])), promise, "constant", 10.0)
    assert mixed.itl_s and mixed.itl_s.at(0.0) == 0.02, "of those whose tokens came one by one"


def test_a_queue_that_grows_breaks_the_promise_whatever_the_requests_took() -> None:
    slow = Promise(limits=(RequestLimit(figure="ttft_s", most_s=1000.0),), attain=0.9)
    steady = service_of(load(*[2.0 + 0.1 * (n % 3) for n in range(200)]), slow, "constant", 10.0)
    assert not steady.growing and steady.kept and steady.growth == pytest.approx(0.0, abs=0.02)
    growing = service_of(load(*[0.1 * n for n in range(200)]), slow, "constant", 10.0)
    assert growing.growing and not growing.kept
    assert growing.growth == pytest.approx(0.5, abs=0.05)  # of ten that come in a second, five end


def test_each_limit_that_is_broken_is_named() -> None:
    tpot = RequestLimit(figure="tpot_s", most_s=0.05)  # the requests take 0.1 s a token
    p99 = RequestLimit(figure="ttft_s", most_s=0.9, share=0.99)
    three = Promise(limits=(*PROMISE.limits, tpot, p99), attain=0.9)
    found = service_of(load(*([0.1] * 19 + [0.8]) * 5), three, "constant", 10.0)
    assert found.broken == ("tpot_s<0.05",) and not found.kept
    failed = service_of(load(*[0.1] * 100, errors=30), three, "constant", 10.0)
    assert failed.broken == ("ttft_s<0.5", "tpot_s<0.05", "ttft_p99_s<0.9")
    late = found.model_copy(update={"late": True})
    counts = LoadCounts.of([found, found.model_copy(update={"growing": True}), late, failed])
    assert (counts.n_loads, counts.n_late, counts.n_kept, counts.n_growing) == (3, 1, 0, 1)
    assert counts.broken == {"ttft_s<0.5": 1, "tpot_s<0.05": 3, "ttft_p99_s<0.9": 1}


def test_time_in_the_queue_comes_from_the_servers_own_count() -> None:
    gauges = tuple(Gauges(at_s=float(n), running=4, waiting=5, preemptions=n) for n in range(10))
    found = service_of(Load(sent=load(*[0.1] * 100).sent, gauges=gauges), PROMISE, "constant", 10.0)
    assert found.queue_s == pytest.approx(0.5, rel=0.05)
    assert (found.running, found.waiting, found.preemptions) == (4.0, 5.0, 9)


def test_the_interval_of_a_share_covers_it_although_successive_requests_are_alike() -> None:
    """Broken promises come in bursts of 25 on average: an interval for independent requests would miss in a third."""
    rng, truth, covered = random.Random(1), 0.9, 0
    for _ in range(200):
        kept, state = [], True
        for _ in range(2000):
            if rng.random() < (0.04 if not state else 0.04 / 9):
                state = not state
            kept.append(state)
        share, low, high = attained(kept)
        assert low <= share <= high
        covered += low <= truth <= high
    assert covered >= 180


def test_where_all_keep_the_promise_the_interval_says_how_many_were_seen() -> None:
    _, low, high = attained([True] * 300)
    assert high == 1.0 and low == pytest.approx(1 - 3.69 / 300, abs=1e-3)  # 0.025 ** (1 / 300)


def test_the_highest_rate_lies_where_the_strain_crosses_the_limit() -> None:
    found = sustained([look(10.0, 0.8), look(12.0, 1.25), look(20.0, 9.0)])
    assert found and (found.low_per_s, found.high_per_s) == (pytest.approx(10.0), pytest.approx(12.0))
    assert found.rate_per_s == pytest.approx((10 * 12) ** 0.5)
    assert found.goodput_per_s == pytest.approx(0.9 * found.rate_per_s)


def test_a_rate_that_no_look_broke_is_a_lower_bound_and_one_that_none_kept_is_none() -> None:
    found = sustained([look(5.0, 0.2), look(8.0, 0.4)])
    assert found and found.rate_per_s == pytest.approx(8.0) and found.high_per_s is None
    assert sustained([look(5.0, 1.4)]) is None
    assert sustained([]) is None


def test_late_looks_are_no_evidence_and_growing_ones_break() -> None:
    late = look(6.0, 2.0, late=True)
    assert sustained([look(5.0, 0.5), late]) is None, "the sender is the limit, not the server"
    assert sustained([look(5.0, 0.5), late, look(5.5, 2.0)]) == sustained([look(5.0, 0.5), look(5.5, 2.0)])
    found = sustained([look(5.0, 0.5), look(6.0, 0.5, growing=True)])
    assert found and found.high_per_s == pytest.approx(6.0)


def test_where_the_queue_alone_breaks_the_promise_its_growth_says_what_the_server_can_do() -> None:
    """Interpolating between far below a limit and a little above it would find 8.8 of 10."""
    found = sustained([look(6.0, 0.01), look(10.0, 0.02, growing=True)])
    assert found and found.rate_per_s == pytest.approx(8.0)  # a fifth of those that came stayed
    near = sustained([look(9.0, 0.01), look(10.0, 0.02, growing=True)])
    assert near and near.rate_per_s == pytest.approx(9.0)  # what was kept is believed
    steep = sustained([look(4.0, 0.5), look(10.0, 2.0, growing=True)])
    assert steep and steep.rate_per_s == pytest.approx(40**0.5)


def test_looks_that_say_that_more_load_is_easier_are_averaged() -> None:
    assert isotonic([0.0, 2.0, 1.0, 3.0], [1, 1, 3, 1]) == pytest.approx([0.0, 1.25, 1.25, 3.0])
    found = sustained([look(8.0, 0.7), look(10.0, 1.1, n=50), look(11.0, 0.8, n=200), look(13.0, 1.6)])
    assert found and found.low_per_s == pytest.approx(11.0)


def test_limits_are_read_of_requests_of_percentiles_and_of_launches() -> None:
    figures = ("ttft_p99_s", "j_per_output_token")
    one = parse_limit("ttft_s<0.5", figures)
    assert one.of_requests == RequestLimit(figure="ttft_s", most_s=0.5)
    p99 = parse_limit(" ttft_p99_s <= 2 ", figures).of_requests
    assert p99 == RequestLimit(figure="ttft_s", most_s=2.0, share=0.99) and str(p99) == "ttft_p99_s<2"
    assert parse_limit("j_per_output_token<0.05", figures).of_requests is None
    for wrong in ("ttft_s>0.5", "ttft_s<0", "ttft<1", "ttft_s", "ttft_s<nan"):
        with pytest.raises(UsageError, match="--slo"):
            parse_limit(wrong, figures)


def test_limits_that_no_launch_can_keep_are_refused_and_those_that_the_best_one_can_are_not() -> None:
    figures = ("ttft_p99_s", "j_per_output_token", "attainment")
    for wrong in ("ttft_p99_s<-1", "j_per_output_token<0", "j_per_output_token<=-3", "attainment<0"):
        with pytest.raises(UsageError, match="can be kept by no launch: a limit from above must be over 0"):
            parse_limit(wrong, figures)
    with pytest.raises(UsageError, match="can be kept by no launch: attainment is a share, 1 at most"):
        parse_limit("attainment>1.5", figures)
    assert parse_limit("attainment>=1", figures).value == 1, "every request may keep the promise"
    assert parse_limit("j_per_output_token>-1", figures).value == -1, "senseless, but kept"


def test_a_request_that_cannot_be_judged_has_broken_the_promise() -> None:
    tpot = Promise(limits=(RequestLimit(figure="tpot_s", most_s=0.1),))
    assert tpot.strain(Sent(0, 0, 1.0, 0.5, 1)) == 0.0  # a single token has no time between tokens
    assert tpot.strain(Sent(0, 0, 1.0, None, 8)) > 1
    assert tpot.strain(Sent(0, 0, 1.0, 0.5, 6)) == pytest.approx(1.0)


def test_waiting_for_what_is_left_ends_when_the_promise_is_surely_broken() -> None:
    both = Promise(limits=(RequestLimit(figure="ttft_s", most_s=1.0), RequestLimit(figure="tpot_s", most_s=0.1)))
    assert both.patience_s(20) == pytest.approx(1.5 * 3.0)
    assert Promise(limits=(RequestLimit(figure="latency_s", most_s=4.0),)).patience_s(20) == pytest.approx(6.0)


@pytest.mark.parametrize("text", ["ttft_s<1", "tpot_s<0.1", "itl_s<0.1", "latency_p50_s<4", "ttft_p90_s<1"])
def test_a_request_is_not_cut_by_a_limit_that_it_may_have_kept(text: str) -> None:
    """A first token within a second says nothing of the last, and half of all may take longer than the median."""
    limit = parse_limit(text, ("latency_p50_s", "ttft_p90_s")).of_requests
    assert limit
    promise = Promise(limits=(limit,))
    assert not promise.bounds_requests
    assert promise.patience_s(20) >= 60 and promise.patience_s(20, takes_s=100) > 3 * 100
    assert Promise(limits=(RequestLimit(figure="ttft_s", most_s=120),)).patience_s(20) > 120


def test_rows_and_sketches_keep_what_they_are_of() -> None:
    rows = RequestRows.of(load(0.1, 0.2, errors=1).sent)
    assert rows.ttft_s == (0.1, 0.2) and rows.error == ("", "HTTP 500") and rows.longest_gap_s == (0.1, 0.1)
    sketch = Sketch.of([float(n) for n in range(1, 101)])
    assert sketch and (sketch.at(0.5), sketch.at(0.99), sketch.at(1.0), sketch.mean) == (50, 99, 100, 50.5)
    assert Sketch.of([]) is None


def test_a_short_load_finds_what_a_long_one_would_whether_tokens_or_the_queue_break_the_promise() -> None:
    """Time per token varies around its mean with what runs at once; a queue is mostly short, and sometimes long."""
    rng, loads = random.Random(2), 40
    tokens = Promise(limits=(RequestLimit(figure="tpot_s", most_s=1.0),), attain=0.95)
    queue = Promise(limits=(RequestLimit(figure="ttft_s", most_s=1.0),), attain=0.95)
    strains = {"tokens": 0.0, "queue": 0.0}
    for _ in range(loads):
        running, waiting, sent = rng.gauss(), rng.expovariate(0.1), []
        for number in range(2000):
            running = 0.98 * running + 0.199 * rng.gauss()  # of variance 1; fifty requests are alike
            waiting = max(0.0, waiting + rng.gauss(-0.05))  # exponential with a mean of 10 in the long run
            due, first = number / 10, number / 10 + waiting / 30
            sent.append(Sent(due, due, first + 0.8 + 0.1 * running, first, 2))
        for name, promise in (("tokens", tokens), ("queue", queue)):
            found = service_of(Load(sent=tuple(sent)), promise, "poisson", 10.0)
            assert found.strain is not None
            strains[name] += found.strain / loads
    assert strains["tokens"] == pytest.approx(0.8 + 0.1 * 1.645, rel=0.01)  # 1.03 at the raised share
    assert strains["queue"] == pytest.approx(10 * math.log(20) / 30, rel=0.15)  # 0.73 at the share itself
