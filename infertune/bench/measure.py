"""How a configuration is measured on a loaded engine: warm-up, windows, checks. Runs in the worker.

The rules: one launch is one sample, its windows are sub-samples; throughput is output tokens over the whole job's
wall time; a job with missing tokens is discarded; nothing is printed and little is allocated in a window.
"""

import gc
import math
import traceback
from collections.abc import Callable, Sequence

from infertune.bench.channel import (
    AnswerCommand,
    AnsweredReply,
    Command,
    FailureReply,
    LoadCommand,
    LoadedReply,
    MeasureCommand,
    MeasuredReply,
    Plan,
    Reply,
    ScoreCommand,
    ScoredReply,
    ServeCommand,
)
from infertune.bench.loading import BadAnswerError, served_reply
from infertune.bench.others import LoadOfOthers
from infertune.bench.scoring import answered, scored, vocabulary_of
from infertune.domain.measurement import Measurement, Stage, Window
from infertune.domain.workload import Request, plain_chat, token_ids
from infertune.energy import EnergyMeter, NoMeter
from infertune.engines import get_engine
from infertune.engines.base import Completion, Failure, LoadedEngine, Prompt

_WARMUP_AGREEMENT = 0.03  # relative difference of two rates; launches differ by 1 to 6% on a CPU
_WARMUP_ROUNDS = 5  # cap (judgement)
_LONGEST_JOB_WINDOWS = 12  # `fewest` may lengthen a job to this many windows (judgement)
_TRACE_LINES = 12  # of a traceback, kept for the ledger (judgement)


class Session:
    """An engine from load to close, driven by commands; the same in a worker and, for simulated engines, inline."""

    def __init__(self, on_stage: Callable[[Stage], None], meter: EnergyMeter | None = None) -> None:
        self._on_stage = on_stage
        self._meter: EnergyMeter = meter or NoMeter()
        self._stage: Stage = "load"
        self._engine: LoadedEngine | None = None
        self._others: LoadOfOthers | None = None
        self._load_s = 0.0

    def handle(self, command: Command) -> Reply:
        """Carry out a command; an error comes back as a `FailureReply`."""
        clock = self._clock(command)
        started = clock()
        try:
            if isinstance(command, LoadCommand):
                self._load(command)
                return LoadedReply(elapsed_s=self._load_s)
            if isinstance(command, AnswerCommand | ScoreCommand):
                return self._answer_or_score(command, started)
            if isinstance(command, ServeCommand):
                return self._serve(command, started)
            measurement = self._measure(command)
            return MeasuredReply(measurement=measurement, elapsed_s=clock() - started)
        except Exception as error:  # an engine may raise anything; the parent classifies it
            survivable = self._engine is not None and self._recover(error)
            tail = traceback.format_exc().splitlines()[-_TRACE_LINES:]
            return FailureReply(
                failure=Failure(
                    stage=self._stage,
                    error_type=type(error).__name__,
                    message=_words(error).encode("utf-8", "replace").decode(),
                    trace_tail="\n".join(tail),
                    survivable=survivable,
                    elapsed_s=max(0.0, clock() - started),
                )
            )

    def _clock(self, command: Command) -> Callable[[], float]:
        """The loaded engine's clock. A simulated engine that fails to load takes 0 s: equal seeds, equal runs."""
        if self._engine:
            return self._engine.clock
        simulated = isinstance(command, LoadCommand) and get_engine(command.engine, command.options).simulated
        return (lambda: 0.0) if simulated else LoadedEngine.clock

    def close(self) -> None:
        """Close the engine, if one is loaded."""
        if self._engine:
            self._engine.close()
        self._engine = None

    def _enter(self, stage: Stage) -> None:
        self._stage = stage
        self._on_stage(stage)

    def _load(self, command: LoadCommand) -> None:
        self._enter("load")
        started = LoadedEngine.clock()
        engine = get_engine(f"{command.engine}:{command.options.variant}", command.options)
        self._engine = engine.load(command.setup)
        if engine.simulated:
            self._load_s = self._engine.clock()
        else:
            self._load_s = LoadedEngine.clock() - started
        self._meter = self._engine.meter() or self._meter
        self._meter.measure_idle()
        self._others = LoadOfOthers()

    def _measure(self, command: MeasureCommand) -> Measurement:
        assert self._engine, "measure comes after load"
        self._enter("warmup")
        engine, plan = self._engine, command.plan
        engine.apply(command.live)
        facts = engine.facts()
        context = facts.context_tokens
        warmup, _ = as_prompts(engine, plan.warmup, context)
        prompts, notes = as_prompts(engine, plan.requests, context)
        started = engine.clock()
        rate, warmed_up = _warm_up(engine, warmup, len(prompts) if plan.window_s is None else 1)
        warmup_s = engine.clock() - started
        if plan.window_s is not None:
            prompts = prompts[: job_size(rate, plan.window_s, prompts, plan.fewest)]
        self._enter("run")
        windows = self._run_windows(engine, prompts, plan)
        facts = engine.facts()
        return Measurement(
            load_s=self._load_s,
            warmup_s=warmup_s,
            warmed_up=warmed_up,
            windows=tuple(windows),
            peak_memory_bytes=engine.peak_memory_bytes(),
            facts=facts.model_copy(update={"notes": (*facts.notes, *notes)}),
        )

    def _serve(self, command: ServeCommand, started: float) -> Reply:
        assert self._engine and self._others, "serving comes after load"
        self._enter("warmup")
        engine = self._engine
        engine.apply(command.live)
        prompts, notes = as_prompts(engine, command.requests, engine.facts().context_tokens)
        engine.reset()
        if not command.warmup:
            self._enter("run")  # not before: a server may take longer for the token ids than the load lasts
        reply = served_reply(engine, self._meter, self._others, prompts, command)
        facts = reply.facts.model_copy(update={"notes": (*reply.facts.notes, *notes)})
        return reply.model_copy(update={"facts": facts, "load_s": self._load_s, "elapsed_s": engine.clock() - started})

    def _answer_or_score(self, command: AnswerCommand | ScoreCommand, started: float) -> Reply:
        assert self._engine, "answering and scoring come after load"
        self._enter("score")
        engine = self._engine
        engine.apply(command.live)
        engine.reset()
        if isinstance(command, ScoreCommand):
            found = scored(engine, command)
            return ScoredReply(scores=found, elapsed_s=engine.clock() - started)
        prompts, _ = as_prompts(engine, command.requests, engine.facts().context_tokens)
        answers = answered(engine, command, prompts)
        return AnsweredReply(answered=answers, vocabulary=vocabulary_of(engine), elapsed_s=engine.clock() - started)

    def _run_windows(self, engine: LoadedEngine, prompts: Sequence[Prompt], plan: Plan) -> list[Window]:
        assert self._others
        windows: list[Window] = []
        for _ in range(plan.windows):
            windows.append(_run_window(engine, self._meter, self._others, prompts))
            floor = plan.floor_output_tokens_per_s
            if floor is not None and windows[0].output_tokens_per_s < floor:
                break
        return windows

    def _recover(self, error: Exception) -> bool:
        assert self._engine
        try:
            return self._engine.recover(error)
        except Exception:  # an engine that cannot even recover is not usable
            return False


def _words(error: Exception) -> str:
    """What an error says; of one without a word, such as a bare `assert`, the statement that failed."""
    frames = traceback.extract_tb(error.__traceback__)
    return str(error) or (frames[-1].line if frames else None) or ""


def as_prompts(
    engine: LoadedEngine, requests: Sequence[Request], context_tokens: int | None
) -> tuple[list[Prompt], list[str]]:
    """Requests as token ids, cut to the model's context, and notes on what was done to them.

    A prompt that is too long loses its last tokens, and an output over half of the context is cut to that half.
    """
    prompts, n_cut, n_joined = [], 0, 0
    vocab_size = engine.vocab_size()
    n_special = len(engine.tokenize("")) if any(request.answer is not None for request in requests) else 0
    for request in requests:
        if request.messages:
            found = engine.tokenize_chat(request.messages)
            n_joined += found is None
            ids = engine.tokenize(plain_chat(request.messages)) if found is None else found
        else:
            ids = token_ids(request, vocab_size) if request.text is None else engine.tokenize(request.text)
        output = request.output_tokens
        if request.answer is not None:
            output = max(1, len(engine.tokenize(request.answer)) - n_special)
        if context_tokens is not None and len(ids) + output > context_tokens:
            n_cut += 1
            output = min(output, context_tokens // 2)
            ids = ids[: context_tokens - output]
        prompts.append(Prompt(ids, output, drawn=request.prompt_text is None))
    notes = []
    if n_cut:
        notes.append(f"{n_cut} of {len(prompts)} requests were cut to the context of {context_tokens} tokens")
    if n_joined:
        notes.append(
            f"{n_joined} of {len(prompts)} requests are conversations joined as plain text: the model has no chat "
            "template for them"
        )
    return prompts, notes


def job_size(rate: float, window_s: float, prompts: Sequence[Prompt], fewest: int) -> int:
    """How many prompts make a job at a rate of output tokens per second.

    As many as fill the window, and at least `fewest`, unless those would take several windows' time.
    """
    per_second = rate * len(prompts) / sum(prompt.output_tokens for prompt in prompts)
    wanted = max(per_second * window_s, min(fewest, per_second * window_s * _LONGEST_JOB_WINDOWS))
    return min(len(prompts), max(1, math.ceil(wanted)))


def _warm_up(engine: LoadedEngine, prompts: Sequence[Prompt], n_job: int) -> tuple[float, bool]:
    """Run warm-up jobs of at least one full batch until two consecutive rates agree.

    Returns:
        The last rate in output tokens per second, and whether two rates agreed.
    """
    size = min(len(prompts), max(engine.slots(), n_job // 4, 1))
    previous = rate = 0.0
    for _ in range(_WARMUP_ROUNDS):
        started = engine.clock()
        completions = engine.generate(prompts[:size])
        rate = _checked_output_tokens(prompts[:size], completions) / (engine.clock() - started)
        if abs(rate - previous) <= _WARMUP_AGREEMENT * rate:
            return rate, True
        previous = rate
    return rate, False


def _run_window(engine: LoadedEngine, meter: EnergyMeter, others: LoadOfOthers, prompts: Sequence[Prompt]) -> Window:
    engine.reset()
    gc.collect(0)  # young objects only: what was alive after loading is frozen by the worker
    others.begin()
    meter.begin()
    started = engine.clock()
    completions = engine.generate(prompts)
    duration_s = engine.clock() - started
    reading = meter.end()
    output_tokens = _checked_output_tokens(prompts, completions)
    latencies = [c.latency_s for c in completions if c.latency_s is not None]
    first_tokens = [c.ttft_s for c in completions if c.ttft_s is not None]
    return Window(
        duration_s=duration_s,
        n_requests=len(prompts),
        prompt_tokens=sum(len(prompt.token_ids) for prompt in prompts),
        output_tokens=output_tokens,
        steady_output_tokens_per_s=steady_rate(completions, engine.slots()),
        latency_s=tuple(round(value, 6) for value in latencies),
        ttft_s=tuple(round(value, 6) for value in first_tokens) if first_tokens else None,
        energy=reading.energy,
        boards=reading.boards,
        other_load=others.end(),
    )


def _checked_output_tokens(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> int:
    """Output tokens of a job.

    Raises:
        BadAnswerError: A completion is missing, short or long, or a time in it is not a positive number.
    """
    if len(completions) != len(prompts):
        raise BadAnswerError(f"{len(completions)} completions came back for {len(prompts)} prompts")
    wrong = [(p, c) for p, c in zip(prompts, completions, strict=True) if c.output_tokens != p.output_tokens]
    if wrong:
        prompt, completion = wrong[0]
        raise BadAnswerError(
            f"{len(wrong)} of {len(prompts)} requests came back with another number of tokens than asked "
            f"(the first: {completion.output_tokens} of {prompt.output_tokens}); a partial result is no measurement"
        )
    for completion in completions:
        for value in (completion.latency_s, completion.ttft_s):
            if value is not None and not 0 < value < math.inf:
                raise BadAnswerError(f"a latency of {value} s came back")
    return sum(completion.output_tokens for completion in completions)


def steady_rate(completions: Sequence[Completion], slots: int) -> float | None:
    """Output tokens per second while every slot was busy.

    From the moment when all slots have produced a first token to the moment when fewer requests remain than slots;
    within a request tokens are taken as evenly spread from its first to its last.

    Args:
        completions: Of one job, all submitted at its start.
        slots: Requests that run at once.

    Returns:
        The rate, or None if times are missing or the slots were never all busy.
    """
    spans = [
        (c.ttft_s, c.latency_s, c.output_tokens)
        for c in completions
        if c.ttft_s is not None and c.latency_s is not None
    ]
    if len(spans) < len(completions) or len(spans) < slots or slots < 1:
        return None
    begin = sorted(first for first, _, _ in spans)[slots - 1]
    end = sorted(last for _, last, _ in spans)[len(spans) - slots]
    if end <= begin:
        return None
    tokens = 0.0
    for first, last, n in spans:
        if last > first:
            overlap = min(last, end) - max(first, begin)
            tokens += n * max(0.0, overlap) / (last - first)
        elif begin < last <= end:
            tokens += n
    return tokens / (end - begin)
