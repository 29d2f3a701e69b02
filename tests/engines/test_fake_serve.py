"""The simulated server: its batches keep the rules of continuous batching; its true goodput is that of its loads."""

import time

import pytest

from infertune.domain.arrivals import Arrivals
from infertune.domain.device import cpu
from infertune.domain.judging import service_of
from infertune.domain.promise import Promise, RequestLimit
from infertune.domain.workload import parse_workload
from infertune.engines.base import EngineOptions, Prompt
from infertune.engines.fake.batching import Speed, served
from infertune.engines.fake.serving import FakeServeEngine, speed_of

SPEED = Speed(
    step_s=0.01, sequence_s=0.0, prompt_token_s=0.0, kv_token_s=0.0, slots=4, step_tokens=64, kv_tokens=10_000
)
PROMISE = Promise(
    limits=(RequestLimit(figure="ttft_s", most_s=0.5), RequestLimit(figure="tpot_s", most_s=0.03)), attain=0.9
)
CONFIG = FakeServeEngine(EngineOptions()).space(None, cpu(), parse_workload("synthetic:in=8,out=8")).default


def prompts(n: int, tokens: int = 10, output: int = 5) -> list[Prompt]:
    return [Prompt([1] * tokens, output) for _ in range(n)]


def test_a_request_alone_takes_a_step_a_token() -> None:
    (one,) = served(SPEED, prompts(1), [2.0]).sent
    assert one.ttft_s == pytest.approx(0.01) and one.latency_s == pytest.approx(0.05)
    assert one.tpot_s == pytest.approx(0.01) and len(one.gaps_s) == 4 and one.output_tokens == 5


def test_no_more_run_at_once_than_there_are_slots_and_the_first_to_come_is_the_first_served() -> None:
    load = served(SPEED, prompts(8), [0.0] * 8)
    firsts = [one.first_s for one in load.sent]
    assert firsts == sorted(firsts, key=lambda at: at or 0.0)
    assert load.sent[3].ttft_s == pytest.approx(0.01) and load.sent[4].ttft_s == pytest.approx(0.06)


def test_long_prompts_are_cut_into_steps_of_the_token_budget() -> None:
    (one,) = served(SPEED, prompts(1, tokens=200), [0.0]).sent
    assert one.ttft_s == pytest.approx(0.04)


def test_a_full_cache_keeps_requests_waiting() -> None:
    tight = Speed(0.01, 0.0, 0.0, 0.0, slots=4, step_tokens=64, kv_tokens=30)
    assert served(tight, prompts(3), [0.0] * 3).sent[2].ttft_s == pytest.approx(0.06)


def test_what_is_not_answered_in_time_is_cut_and_says_so() -> None:
    load = served(SPEED, prompts(8, output=100), [0.0] * 8, cut_after_s=0.5)
    assert [bool(one.error) for one in load.sent] == [True] * 8
    assert load.sent[0].output_tokens == 50 and load.sent[7].first_s is None


def test_a_closed_loop_sends_one_when_another_ends() -> None:
    load = served(SPEED, prompts(6), [0.0] * 6, concurrency=2)
    assert [round(one.due_s, 6) for one in load.sent] == [0.0, 0.0, 0.05, 0.05, 0.1, 0.1]
    assert all(one.latency_s == pytest.approx(0.05) for one in load.sent)


def test_requests_in_the_server_obey_littles_law() -> None:
    rate, n = 40.0, 3000
    load = served(speed_of(CONFIG), prompts(n, 100, 50), Arrivals("poisson").due_s(n, rate, "x"))
    latency_s = sum(one.latency_s for one in load.sent) / n
    inside = [(look.running or 0) + (look.waiting or 0) for look in load.gauges]
    assert sum(inside) / len(inside) == pytest.approx(rate * latency_s, rel=0.08)


def test_the_true_goodput_is_where_loads_stop_to_keep_the_promise_and_costs_no_real_time_to_speak_of() -> None:
    workload = parse_workload("synthetic:in=64,out=16")

    def draw(n: int) -> list[Prompt]:
        return [Prompt([0] * (r.prompt_tokens or 1), r.output_tokens) for r in workload.draw("final", n, 9)]

    engine = FakeServeEngine(EngineOptions())
    started = time.perf_counter()
    truth = engine.true_goodput(CONFIG, PROMISE, Arrivals("poisson"), draw, n_requests=3000)
    assert time.perf_counter() - started < 30
    for share, kept in ((0.9, True), (1.1, False)):
        rate = share * truth / PROMISE.attain
        load = served(speed_of(CONFIG), draw(3000), Arrivals("poisson").due_s(3000, rate, "other"), 30.0)
        assert service_of(load, PROMISE, "poisson", rate).kept is kept
