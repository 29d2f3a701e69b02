"""The loads of one configuration on a server: how long they last, and what is sent again."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infertune.bench.bench import Bench
from infertune.bench.channel import LoadCommand, ServeCommand, ServedReply
from infertune.bench.isolation import Deadlines
from infertune.bench.measure import Session
from infertune.bench.rates import MOST_MORE
from infertune.bench.serving import MOST_LOADS, Looks
from infertune.domain.arrivals import Arrivals
from infertune.domain.device import cpu
from infertune.domain.judging import RequestRows, service_of
from infertune.domain.knobs import Config
from infertune.domain.load import Gauges, Load, Sent
from infertune.domain.measurement import Board, Energy, EngineFacts, Measurement, Window, over_windows
from infertune.domain.promise import REQUEST_FIGURES, Promise, RequestLimit
from infertune.domain.workload import Request, parse_workload
from infertune.engines.base import EngineOptions, Prompt, Setup
from infertune.engines.fake import serving
from infertune.engines.fake.serving import FakeServeEngine, LoadedFakeServe
from infertune.runs.serving import Serving
from tests.builders import trial


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


BOARDS = tuple(
    Board(
        uuid=f"GPU-{number:08x}-1111-2222-3333-444455556666", temperature_c=70.0 + number, sm_clock_mhz=1980.0,
        power_limit_w=700.0, throttle_reasons=("HwThermalSlowdown", "SwPowerCap"), peak_memory_bytes=76 * 10**9,
        other_processes=0,
    )
    for number in range(8)
)  # fmt: skip


def looked(*, windows: int, late: bool) -> Measurement:
    """Loads at a rate of a server on eight GPUs that fails in three ways, three quarters of its requests."""
    rng = random.Random(1)
    sent = [
        Sent(
            due_s=due, sent_s=due + (9.0 if late else 0.0), end_s=due + 30 + rng.random(),
            first_s=due + 10 + rng.random(), output_tokens=10, gaps_s=tuple(rng.random() for _ in range(9)),
            error=f"HTTP 50{number % 4}: " + "words of a server " * 20 if number % 4 else "",
        )
        for number, due in enumerate(at / 7 for at in range(300))
    ]  # fmt: skip
    promise = Promise(
        limits=tuple(RequestLimit(figure=name, most_s=0.1234, share=0.99) for name in REQUEST_FIGURES), attain=0.99
    )
    gauges = tuple(
        Gauges(at_s=at / 3, running=99, waiting=at, kv_cache_share=1 / 3, preemptions=at) for at in range(99)
    )
    energy = Energy(
        gpu_j=12345.678, gpu_idle_w=987.654, cpu_j=1234.5678, ram_j=123.45678, co2e_g=12.3456789, gpu_source="measured",
        cpu_source="modelled", ram_source="modelled", co2e_source="modelled", gpu_method="counter",
        gpu_sampled_to_counter=1.0012, co2e_factor="381 g/kWh, DEU, codecarbon 3.3.2",
        reason="every board: other processes on the board: 1; the processor's energy is modelled",
    )  # fmt: skip
    window = Window(
        duration_s=123.45678901234567, n_requests=20_000, prompt_tokens=10**7, output_tokens=10**7, energy=energy,
        boards=BOARDS, service=service_of(Load(sent=tuple(sent), gauges=gauges), promise, "poisson", 7.0),
    )  # fmt: skip
    command = "vllm serve org/some-model " + " ".join(f"--some-argument-{number}=123" for number in range(40))
    facts = EngineFacts(versions={"vllm": "0.32.0", "torch": "2.9.0"}, effective={"command": command})

    def send(command: ServeCommand, deadlines: Deadlines) -> ServedReply:
        rows = RequestRows.of(sent)
        return ServedReply(window=window, rows=rows, load_s=90.0, peak_memory_bytes=10**10, facts=facts, elapsed_s=1.0)

    load = Serving(Arrivals("poisson"), promise, window_s=1.0, proof_window_s=1.0, rates_per_s=(7.0,), searches=False)
    plan = load.plan(parse_workload("synthetic:in=64,out=64"), "search", 0, windows)
    assert plan.aim.most_looks + MOST_MORE == MOST_LOADS, "of a search for the highest rate"
    found = Looks(plan, Config({}), send, Deadlines(), lambda: 1.0).run().found
    assert isinstance(found, Measurement)
    return found


def test_the_longest_line_of_a_ledger_is_short() -> None:
    found = looked(windows=MOST_LOADS, late=False)
    config = Config({f"some_knob_{number}": 12345 for number in range(20)})
    assert len(found.windows) == MOST_LOADS
    service = found.windows[0].service
    assert service and [len(text) <= 90 for text in service.failures] == [True] * 3
    assert len(trial(123, config, found).model_dump_json().encode()) < 20_000


def test_loads_that_were_late_are_sent_again_while_the_launch_has_room() -> None:
    assert [len(looked(windows=n, late=True).windows) for n in (1, 2, 4, 7)] == [2, 4, 7, 7]


def test_what_boards_say_stands_once_for_all_loads() -> None:
    found = looked(windows=2, late=False)
    assert found.boards == BOARDS and not any(window.boards for window in found.windows)
    cool = Board(uuid="A", temperature_c=50, sm_clock_mhz=1900, throttle_reasons=("SwPowerCap",), other_processes=0)
    hot = Board(uuid="A", temperature_c=80, sm_clock_mhz=1200, throttle_reasons=("HwSlowdown",), peak_memory_bytes=5)
    assert over_windows([[hot, Board(uuid="B")], [cool]]) == (
        Board(
            uuid="A", temperature_c=80, sm_clock_mhz=1200, throttle_reasons=("HwSlowdown", "SwPowerCap"),
            peak_memory_bytes=5, other_processes=0,
        ),
        Board(uuid="B"),
    )  # fmt: skip
