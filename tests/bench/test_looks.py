"""The loads of one configuration on a server: how long they last, and what is sent again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infertune.bench.bench import Bench
from infertune.bench.channel import LoadCommand, ServeCommand, ServedReply
from infertune.bench.isolation import Deadlines
from infertune.bench.measure import Session
from infertune.domain.arrivals import Arrivals
from infertune.domain.device import cpu
from infertune.domain.knobs import Config
from infertune.domain.load import Load
from infertune.domain.measurement import Measurement
from infertune.domain.promise import Promise, RequestLimit
from infertune.domain.workload import Request, parse_workload
from infertune.engines.base import EngineOptions, Prompt, Setup
from infertune.engines.fake import serving
from infertune.engines.fake.serving import FakeServeEngine, LoadedFakeServe
from infertune.runs.serving import Serving


def test_a_look_is_as_long_as_requests_take_within_the_limits_and_not_as_in_a_burst(tmp_path: Path) -> None:
    """A burst of 64 requests on four slots takes each of them eight times as long as one that finds a slot free."""
    engine, workload = FakeServeEngine(EngineOptions()), parse_workload("synthetic:in=64,out=64")
    space = engine.space(None, cpu(), workload)
    promise = Promise(limits=(RequestLimit(figure="ttft_s", most_s=0.2),), attain=0.9)
    plan = Serving(Arrivals("poisson"), promise, window_s=0.1, proof_window_s=0.1).plan(workload, "search", 0)
    with Bench(engine, EngineOptions(), None, cpu(), space, tmp_path, Deadlines(), seed=1) as bench:
        found = bench.measure(space.default.updated({"max_num_seqs": 4}), plan, fresh=True).outcome
    assert isinstance(found, Measurement)
    looks = [window.service for window in found.windows if window.service]
    kept_s = max(look.latency_s.mean for look in looks if look.kept and look.latency_s)
    assert found.warmup_s > 10 * kept_s and len(looks) > 2
    for look in looks[1:]:  # the first one has only the burst to go by
        assert look.rate_per_s and 7 * kept_s < look.n_counted / 0.7 / look.rate_per_s < 20 * kept_s


def test_requests_that_come_again_within_a_load_are_told_from_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's prefix cache would find the whole prompt."""
    engine, workload = FakeServeEngine(EngineOptions()), parse_workload("synthetic:in=64,out=4")
    default = engine.space(None, cpu(), workload).default
    setup = Setup(model=None, device=cpu(), config=default, defaults=default, faithful=False)
    seen: list[Prompt] = []

    class Noting(LoadedFakeServe):
        def serve(self, prompts: Sequence[Prompt], *arguments: Any, **more: Any) -> Load:
            seen.extend(prompts)
            return super().serve(prompts, *arguments, **more)

    monkeypatch.setattr(serving, "LoadedFakeServe", Noting)
    session = Session(on_stage=lambda stage: None)
    session.handle(LoadCommand(engine="fake-serve", options=EngineOptions(), setup=setup))
    sent = 2 * workload.draw("search", 3) + workload.draw("search", 1)
    due_s = tuple(float(number) for number in range(7))
    command = ServeCommand(
        live=Config({}), requests=sent, due_s=due_s, cut_after_s=9, arrivals="constant", n_different=3, rate_per_s=1
    )
    assert isinstance(session.handle(command), ServedReply)
    assert [prompt.repeat for prompt in seen] == [0, 0, 0, 1, 1, 1, 2]


def test_a_closed_loop_that_is_cut_counts_what_was_sent() -> None:
    engine, workload = FakeServeEngine(EngineOptions()), parse_workload("synthetic:in=64,out=16")
    default = engine.space(None, cpu(), workload).default
    setup = Setup(model=None, device=cpu(), config=default, defaults=default, faithful=False)
    session = Session(on_stage=lambda stage: None)
    session.handle(LoadCommand(engine="fake-serve", options=EngineOptions(), setup=setup))
    sent, due_s = workload.draw("search", 50), (0.0,) * 50
    command = ServeCommand(
        live=Config({}), requests=sent, due_s=due_s, cut_after_s=1, arrivals="concurrency:1", n_different=50
    )
    reply = session.handle(command)
    assert isinstance(reply, ServedReply) and reply.window.service
    assert 2 < reply.window.n_requests < 20 and reply.window.prompt_tokens == 64 * reply.window.n_requests
    assert reply.window.service.n_failed <= 1, "those that were never sent have not failed"


def test_the_deadline_of_a_load_begins_when_its_prompts_are_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is asked for the token ids of each text, which may take longer than the load."""
    engine = FakeServeEngine(EngineOptions())
    default = engine.space(None, cpu(), parse_workload("synthetic:in=64,out=4")).default
    setup = Setup(model=None, device=cpu(), config=default, defaults=default, faithful=False)
    happened: list[str] = []

    class Noting(LoadedFakeServe):
        def tokenize(self, text: str) -> list[int]:
            happened.append("tokens")
            return super().tokenize(text)

    monkeypatch.setattr(serving, "LoadedFakeServe", Noting)
    session = Session(on_stage=happened.append)
    session.handle(LoadCommand(engine="fake-serve", options=EngineOptions(), setup=setup))
    texts = (Request(prompt_tokens=4, output_tokens=4, seed=1, text="a text"),)
    for warmup in (True, False):
        command = ServeCommand(live=Config({}), requests=texts, due_s=(0.0,), cut_after_s=9, arrivals="poisson",
                               n_different=1, rate_per_s=None, promise=Promise(), warmup=warmup)  # fmt: skip
        assert isinstance(session.handle(command), ServedReply)
    assert happened == ["load", "warmup", "tokens", "warmup", "tokens", "run"]
