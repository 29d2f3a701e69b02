"""The measuring protocol on an engine with a clock of its own, every number worked out by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from infertune.bench import measure
from infertune.bench.channel import FailureReply, LoadCommand, LoadedReply, MeasureCommand, MeasuredReply, Plan, Reply
from infertune.bench.measure import Session, as_prompts, job_size, steady_rate
from infertune.domain.knobs import Config
from infertune.domain.measurement import Measurement, Stage
from infertune.domain.workload import Message, Request
from infertune.engines.base import Completion, EngineOptions, LoadedEngine, Prompt, Setup
from tests.builders import CPU, ScriptedEngine, config


class StubEngine:
    """Loads whatever it is given; fails to if that is an exception."""

    simulated = True

    def __init__(self, loaded: LoadedEngine | Exception) -> None:
        self._loaded = loaded

    def load(self, setup: Setup) -> LoadedEngine:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def requests(n: int, output_tokens: int = 10) -> tuple[Request, ...]:
    return tuple(Request(prompt_tokens=5, output_tokens=output_tokens, seed=seed) for seed in range(n))


def load(session: Session, loaded: LoadedEngine | Exception, monkeypatch: pytest.MonkeyPatch) -> Reply:
    monkeypatch.setattr(measure, "get_engine", lambda spec, options: StubEngine(loaded))
    setup = Setup(model=None, device=CPU, config=config(a=1), defaults=config(a=1), faithful=False)
    return session.handle(LoadCommand(engine="stub", options=EngineOptions(), setup=setup))


def ask(
    engine: LoadedEngine, monkeypatch: pytest.MonkeyPatch, stages: list[Stage] | None = None, **plan: object
) -> Reply:
    session = Session(on_stage=(stages if stages is not None else []).append)
    assert isinstance(load(session, engine, monkeypatch), LoadedReply)
    fields = {"warmup": requests(8), "requests": requests(8), **plan}
    return session.handle(MeasureCommand(live=Config({}), plan=Plan.model_validate(fields)))


def measurement(engine: LoadedEngine, monkeypatch: pytest.MonkeyPatch, **plan: object) -> Measurement:
    reply = ask(engine, monkeypatch, **plan)
    assert isinstance(reply, MeasuredReply), reply
    return reply.measurement


def test_throughput_is_output_tokens_over_the_whole_jobs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine(seconds=lambda job, prompts: 2.0)
    found = measurement(engine, monkeypatch, windows=2)
    assert [w.output_tokens_per_s for w in found.windows] == [40, 40]  # 8 requests of 10 tokens in 2 s
    assert (found.windows[0].n_requests, found.windows[0].prompt_tokens) == (8, 40)
    assert found.windows[0].latency_s == (2.0,) * 8


def shorten(completions: list[Completion]) -> list[Completion]:
    return [*completions[:-1], replace(completions[-1], output_tokens=completions[-1].output_tokens - 1)]


def lengthen(completions: list[Completion]) -> list[Completion]:
    return [replace(completions[0], output_tokens=99), *completions[1:]]


def with_latency(value: float) -> object:
    return lambda completions: [replace(completions[0], latency_s=value), *completions[1:]]


def with_ttft(value: float) -> object:
    return lambda completions: [replace(completions[0], ttft_s=value), *completions[1:]]


@pytest.mark.parametrize("spoiled_job", [0, 3], ids=["in warm-up", "in the window"])
@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (shorten, "the first: 9 of 10"),
        (lengthen, "the first: 99 of 10"),
        (lambda completions: completions[1:], "completions came back for"),
        (lambda completions: [*completions, completions[0]], "completions came back for"),
        (with_latency(math.nan), "a latency of nan s"),
        (with_latency(0.0), "a latency of 0.0 s"),
        (with_latency(-1.0), "a latency of -1.0 s"),
        (with_ttft(math.inf), "a latency of inf s"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_never_a_measurement(
    monkeypatch: pytest.MonkeyPatch, spoil: object, what: str, spoiled_job: int
) -> None:
    engine = ScriptedEngine(spoil=lambda job, answer: spoil(answer) if job == spoiled_job else answer)  # type: ignore[operator]
    reply = ask(engine, monkeypatch, windows=3)
    assert isinstance(reply, FailureReply)
    assert reply.failure.error_type == "BadAnswerError"
    assert what in reply.failure.message
    assert reply.failure.stage == ("warmup" if spoiled_job == 0 else "run")


def test_a_spoiled_later_window_spoils_the_whole_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine(spoil=lambda job, answer: shorten(answer) if job == 4 else answer)
    assert isinstance(ask(engine, monkeypatch, windows=3), FailureReply)


def test_warming_up_ends_when_two_rates_in_a_row_agree_within_3_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [4.0, 2.0, 1.96, 2.0]
    engine = ScriptedEngine(seconds=lambda job, prompts: times[min(job, 3)])
    found = measurement(engine, monkeypatch)
    assert found.warmed_up
    assert found.warmup_s == pytest.approx(4.0 + 2.0 + 1.96)
    assert len(engine.jobs) == 4


def test_warming_up_ends_at_its_cap_and_says_that_rates_never_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine(seconds=lambda job, prompts: 1.0 + job % 2)
    found = measurement(engine, monkeypatch)
    assert not found.warmed_up
    assert len(engine.jobs) == 5 + 1
    assert found.warmup_s == 1 + 2 + 1 + 2 + 1


@pytest.mark.parametrize(("slots", "job", "size"), [(4, 8, 4), (1, 40, 10), (64, 8, 30)])
def test_warming_up_fills_every_slot_and_a_quarter_of_the_job(
    monkeypatch: pytest.MonkeyPatch, slots: int, job: int, size: int
) -> None:
    engine = ScriptedEngine(slots=slots)
    measurement(engine, monkeypatch, warmup=requests(30), requests=requests(job))
    assert len(engine.jobs[0]) == size


def test_warming_up_uses_other_prompts_than_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine()
    other = tuple(replace(r, seed=1000 + r.seed) for r in requests(8))
    measurement(engine, monkeypatch, warmup=other)
    warm, window = ({tuple(p.token_ids) for p in engine.jobs[job]} for job in (0, -1))
    assert not warm & window


def test_a_window_is_filled_with_as_many_requests_as_its_length_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    per_request_s = 0.1
    engine = ScriptedEngine(seconds=lambda job, prompts: per_request_s * len(prompts))
    found = measurement(engine, monkeypatch, requests=requests(500), window_s=5.0)
    assert found.windows[0].n_requests == pytest.approx(50, abs=1)


@pytest.mark.parametrize(
    ("rate", "window_s", "n", "fewest", "size"),
    [
        (100.0, 10.0, 500, 1, 100),  # 10 requests of 10 tokens a second
        (100.0, 10.0, 60, 1, 60),  # no more than there are
        (100.0, 1.0, 500, 32, 32),  # at least as many as asked for
        (1.0, 1.0, 500, 32, 2),  # unless those take over 12 windows: 1.2 requests, rounded up
        (0.001, 1.0, 500, 32, 1),  # one request is a job
    ],
)
def test_the_size_of_a_job(rate: float, window_s: float, n: int, fewest: int, size: int) -> None:
    assert job_size(rate, window_s, [Prompt([1], 10)] * n, fewest) == size


def test_racing_ends_a_measurement_after_a_first_window_below_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = measurement(ScriptedEngine(), monkeypatch, windows=3, floor_output_tokens_per_s=81.0)
    fast = measurement(ScriptedEngine(), monkeypatch, windows=3, floor_output_tokens_per_s=79.0)
    assert (len(slow.windows), len(fast.windows)) == (1, 3)  # 80 tokens in 1 s


def test_requests_beyond_the_context_are_cut_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine(context_tokens=100)
    wanted = (
        Request(prompt_tokens=200, output_tokens=30),  # the prompt gives way
        Request(prompt_tokens=10, output_tokens=500),  # an output takes half the context at most
        Request(prompt_tokens=50, output_tokens=50),  # fits
    )
    prompts, notes = as_prompts(engine, wanted, 100)
    assert [(len(p.token_ids), p.output_tokens) for p in prompts] == [(70, 30), (10, 50), (50, 50)]
    assert notes == ["2 of 3 requests were cut to the context of 100 tokens"]
    found = measurement(engine, monkeypatch, requests=wanted)
    assert found.facts.notes == tuple(notes)


class SpecialTokens(ScriptedEngine):
    """Sets a first token before every text, as many tokenizers do; has a template unless the first turn is a tool's."""

    def tokenize(self, text: str) -> list[int]:
        return [1, *text.encode()]

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int] | None:
        return None if messages[0].role == "tool" else [2] * sum(len(message.content) for message in messages)


def test_an_answers_length_is_its_tokens_without_the_special_ones() -> None:
    asked = (
        Request(text="question", answer="seven b", output_tokens=100),
        Request(text="question", answer="", output_tokens=100),
        Request(text="question", output_tokens=100),
    )
    prompts, notes = as_prompts(SpecialTokens(), asked, None)
    assert [(len(p.token_ids), p.output_tokens) for p in prompts] == [(9, 7), (9, 1), (9, 100)]
    assert notes == []


def test_a_conversation_without_a_template_is_joined_and_counted() -> None:
    told = (Message("user", "Why?"), Message("assistant", "So."), Message("user", "Ah"))
    refused = (Message("tool", "{}"), Message("user", "Go"))
    asked = tuple(Request(messages=messages, output_tokens=3) for messages in (told, refused))
    prompts, notes = as_prompts(SpecialTokens(), asked, None)
    assert prompts[0].token_ids == [2] * 9
    assert bytes(prompts[1].token_ids[1:]) == b"tool: {}\nuser: Go\nassistant:"
    assert notes == ["1 of 2 requests are conversations joined as plain text: the model has no chat template for them"]
    plain, notes = as_prompts(ScriptedEngine(), asked, None)
    assert bytes(plain[0].token_ids) == b"user: Why?\nassistant: So.\nuser: Ah\nassistant:"
    assert notes[0].startswith("2 of 2 requests are conversations joined")


def test_nothing_is_cut_where_everything_fits_or_the_context_is_unknown() -> None:
    engine = ScriptedEngine()
    for context in (None, 15):
        prompts, notes = as_prompts(engine, requests(3), context)
        assert ([(len(p.token_ids), p.output_tokens) for p in prompts], notes) == ([(5, 10)] * 3, [])


def test_texts_are_tokenized_by_the_engine() -> None:
    prompts, _ = as_prompts(ScriptedEngine(), [Request(text="abc", output_tokens=1)], None)
    assert prompts[0].token_ids == [97, 98, 99]


def test_the_steady_rate_is_that_of_full_slots() -> None:
    # Two slots. A and B run from 1 to 5 s and 1 to 3 s, C from 3 to 7 s. Both slots have begun at 1 s; from 5 s on only
    # one request is left. In 1..5 s: all 8 of A, all 4 of B, half of C's 8.
    job = [
        Completion(8, latency_s=5, ttft_s=1),
        Completion(4, latency_s=3, ttft_s=1),
        Completion(8, latency_s=7, ttft_s=3),
    ]
    assert steady_rate(job, slots=2) == pytest.approx((8 + 4 + 4) / 4)


def test_a_request_whose_tokens_come_at_once_counts_where_it_ends() -> None:
    job = [
        Completion(6, latency_s=2, ttft_s=2),
        Completion(4, latency_s=4, ttft_s=1),
        Completion(4, latency_s=4, ttft_s=1),
    ]
    assert steady_rate(job, slots=1) == pytest.approx((6 + 4 + 4) / 3)


@pytest.mark.parametrize(
    ("job", "slots"),
    [
        ([Completion(8, latency_s=5)], 1),  # no time to first token
        ([Completion(8, latency_s=5, ttft_s=1), Completion(8, latency_s=5)], 1),
        ([Completion(8, latency_s=5, ttft_s=1)], 2),  # fewer requests than slots
        ([Completion(8, latency_s=2, ttft_s=1), Completion(8, latency_s=4, ttft_s=3)], 2),  # never busy together
        ([Completion(8, latency_s=5, ttft_s=1)], 0),
        ([], 1),
    ],
)
def test_there_is_no_steady_rate_without_times_or_full_slots(job: Sequence[Completion], slots: int) -> None:
    assert steady_rate(job, slots) is None


def test_a_failing_load_is_a_reply_of_the_load_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[Stage] = []
    reply = load(Session(stages.append), RuntimeError("no such weights"), monkeypatch)
    assert isinstance(reply, FailureReply)
    assert (reply.failure.stage, reply.failure.error_type) == ("load", "RuntimeError")
    assert reply.failure.message == "no such weights"
    assert "no such weights" in reply.failure.trace_tail
    assert not reply.failure.survivable
    assert stages == ["load"]


def test_an_error_without_a_word_is_told_by_the_statement_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asserting(ScriptedEngine):
        def apply(self, live: Config) -> None:
            raise AssertionError

    reply = ask(Asserting(), monkeypatch)
    assert isinstance(reply, FailureReply)
    assert reply.failure.message == "raise AssertionError"


class Failing(ScriptedEngine):
    """Raises in `apply`, or in its n-th job, and recovers or fails at that as well."""

    def __init__(self, at: int | str, recovery: bool | Exception = True) -> None:
        super().__init__()
        self._at = at
        self._recovery = recovery

    def apply(self, live: Config) -> None:
        if self._at == "apply":
            raise KeyError("setting")

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion]:
        if self._at == len(self.jobs):
            raise MemoryError("out of memory")
        return super().generate(prompts)

    def recover(self, error: Exception) -> bool:
        if isinstance(self._recovery, Exception):
            raise self._recovery
        return self._recovery


@pytest.mark.parametrize(
    ("at", "stage", "error"),
    [("apply", "warmup", "KeyError"), (0, "warmup", "MemoryError"), (2, "run", "MemoryError")],
)
def test_a_failure_is_a_reply_with_the_stage_in_which_it_happened(
    monkeypatch: pytest.MonkeyPatch, at: int | str, stage: str, error: str
) -> None:
    stages: list[Stage] = []
    reply = ask(Failing(at), monkeypatch, stages)
    assert isinstance(reply, FailureReply)
    assert (reply.failure.stage, reply.failure.error_type, reply.failure.survivable) == (stage, error, True)
    assert stages == ["load", "warmup", "run"][: ["load", "warmup", "run"].index(stage) + 1]


@pytest.mark.parametrize("recovery", [False, RuntimeError("worse")])
def test_an_engine_that_does_not_recover_does_not_survive(
    monkeypatch: pytest.MonkeyPatch, recovery: bool | Exception
) -> None:
    reply = ask(Failing(2, recovery), monkeypatch)
    assert isinstance(reply, FailureReply)
    assert not reply.failure.survivable
    assert reply.failure.error_type == "MemoryError"


def test_a_failure_costs_the_seconds_until_it_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = ask(Failing(2), monkeypatch)
    assert isinstance(reply, FailureReply)
    assert reply.failure.elapsed_s == 2.0


def test_live_settings_are_applied_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine()
    session = Session(on_stage=lambda stage: None)
    load(session, engine, monkeypatch)
    plan = Plan(warmup=requests(2), requests=requests(2))
    session.handle(MeasureCommand(live=config(slots=2), plan=plan))
    session.handle(MeasureCommand(live=config(slots=4), plan=plan))
    assert engine.applied == [config(slots=2), config(slots=4)]


def test_measuring_before_loading_is_a_reply_too() -> None:
    session = Session(on_stage=lambda stage: None)
    command = MeasureCommand(live=Config({}), plan=Plan(warmup=requests(1), requests=requests(1)))
    assert isinstance(session.handle(command), FailureReply)
