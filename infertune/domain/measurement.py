"""A measurement, and every other outcome of a trial. One schema, for the worker's channel and for files."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from infertune.domain.frozen import Amount as Amount
from infertune.domain.frozen import Frozen as Frozen
from infertune.domain.frozen import Seconds as Seconds
from infertune.domain.service import Service, Sustained, sustained
from infertune.units import parse_time

Stage = Literal["load", "warmup", "run", "score"]
Tokens = Annotated[int, Field(ge=0, le=10**15)]
Bytes = Annotated[int, Field(ge=0, le=2**60)]
EnergySource = Literal["measured", "modelled", "none"]


def _check_time(text: str) -> str:
    parse_time(text)
    return text


IsoTime = Annotated[str, AfterValidator(_check_time)]


class Energy(Frozen):
    """Energy of one window; unknown is None and `reason` says why.

    Attributes:
        gpu_j: Energy of the GPU boards used, in joules, other processes on them included.
        gpu_idle_w: Power of the same boards with the engine loaded and idle, in watts.
        cpu_j: Energy of the processors, in joules.
        ram_j: Energy of the memory, in joules.
        co2e_g: Grams of CO₂ equivalent of all the energy that is known.
        gpu_source: Whether `gpu_j` was measured, modelled or is unknown; likewise the others.
        gpu_method: `counter` for the board's energy counter, `sampled` for integrated power, empty if unknown.
        gpu_sampled_to_counter: Integrated power over the counter's energy, where both were read: near 1 if they agree.
        gpu_shared: The figure is the whole board's while only a part of it (MIG) was used.
        co2e_factor: Grams per kWh with its source, such as `381 g/kWh, DEU, codecarbon 3.3.2`; empty if unknown.
        reason: Why a field is unknown, and what casts doubt on one that is known.
    """

    gpu_j: Amount | None = None
    gpu_idle_w: Amount | None = None
    cpu_j: Amount | None = None
    ram_j: Amount | None = None
    co2e_g: Amount | None = None
    gpu_source: EnergySource = "none"
    cpu_source: EnergySource = "none"
    ram_source: EnergySource = "none"
    co2e_source: EnergySource = "none"
    gpu_method: Literal["counter", "sampled", ""] = ""
    gpu_sampled_to_counter: Amount | None = None
    gpu_shared: bool = False
    co2e_factor: str = ""
    reason: str = ""

    @property
    def total_j(self) -> float | None:
        """Everything that is known, in joules; None if nothing is."""
        known = [joules for joules in (self.gpu_j, self.cpu_j, self.ram_j) if joules is not None]
        return sum(known) if known else None


class Board(Frozen):
    """The state of one GPU board during a window.

    Attributes:
        uuid: Which board.
        temperature_c: Highest temperature seen, in degrees Celsius.
        sm_clock_mhz: Lowest clock of the multiprocessors seen, in MHz.
        power_limit_w: The limit in force, in watts.
        throttle_reasons: Why clocks were held back, in NVML's words; empty if they were not.
        peak_memory_bytes: Most memory in use on the board, by anyone.
        other_processes: Processes on the board that are not the engine's.
        mig: Whether the board is split.
    """

    uuid: str
    temperature_c: float | None = Field(default=None, ge=-273.15, le=10_000)
    sm_clock_mhz: Amount | None = None
    power_limit_w: Amount | None = None
    throttle_reasons: tuple[str, ...] = ()
    peak_memory_bytes: Bytes | None = None
    other_processes: int | None = Field(default=None, ge=0, lt=2**31)
    mig: bool = False


def over_windows(windows: Sequence[Sequence[Board]]) -> tuple[Board, ...]:
    """The state of each board over several windows."""
    found: dict[str, list[Board]] = {}
    for board in chain.from_iterable(windows):
        found.setdefault(board.uuid, []).append(board)
    return tuple(map(_over_one, found.values()))


def _over_one(seen: Sequence[Board]) -> Board:
    def known(name: str) -> list[float]:
        return [value for board in seen if (value := getattr(board, name)) is not None]

    highest = ("temperature_c", "peak_memory_bytes", "other_processes")
    return seen[-1].model_copy(
        update={
            **{name: max(known(name), default=None) for name in highest},
            "sm_clock_mhz": min(known("sm_clock_mhz"), default=None),
            "throttle_reasons": tuple(sorted({reason for board in seen for reason in board.throttle_reasons})),
        }
    )


class OtherLoad(Frozen):
    """What else the machine did during a window; recorded, never used to delete a sample.

    Attributes:
        cpu_by_others: Share of all cores used by processes outside the engine's group, 0 to 1; None if unknown.
    """

    cpu_by_others: float | None = Field(default=None, ge=0, le=1)


class Window(Frozen):
    """One job of requests run from first to last, or one load of a server, and what it took.

    Attributes:
        duration_s: Wall time of the whole job (makespan), in seconds.
        n_requests: How many requests were in it, all submitted at the start, or each when it was due.
        prompt_tokens: Input tokens over all requests.
        output_tokens: Generated tokens over all requests; of a job as many as were asked for.
        steady_output_tokens_per_s: Rate while every running slot was busy; None if it never was.
        latency_s: One latency a request, from the job's start, in seconds; empty if the engine gives none.
        ttft_s: Times to first token from the job's start, in seconds; None if the engine gives none.
        energy: Energy of the window.
        boards: State of the GPU boards; empty without any, and for loads of a server (see `Measurement`).
        other_load: What else ran.
        service: How the requests of a load were served; None for a job.
    """

    duration_s: float = Field(ge=1e-9, le=1e9)
    n_requests: int = Field(gt=0, le=10**9)
    prompt_tokens: Tokens
    output_tokens: Tokens = Field(gt=0)
    steady_output_tokens_per_s: Amount | None = None
    latency_s: tuple[Seconds, ...] = ()
    ttft_s: tuple[Seconds, ...] | None = None
    energy: Energy = Energy()
    boards: tuple[Board, ...] = ()
    other_load: OtherLoad = OtherLoad()
    service: Service | None = None

    @model_validator(mode="after")
    def _check_times(self) -> "Window":
        """An engine may know the times of fewer requests than there were, never of more."""
        for name, times in (("latency_s", self.latency_s), ("ttft_s", self.ttft_s or ())):
            if len(times) > self.n_requests:
                raise ValueError(f"{name} has {len(times)} values for {self.n_requests} requests")
        return self

    @property
    def output_tokens_per_s(self) -> float:
        """Output tokens over makespan."""
        return self.output_tokens / self.duration_s


class EngineFacts(Frozen):
    """What the engine really ran: versions and effective settings.

    Attributes:
        versions: Library → version (torch, transformers, vllm, …).
        effective: Settings read back from the engine, which may differ from what was asked.
        notes: What the adapter changed or could not do, in sentences.
        context_tokens: The longest prompt plus output that the engine takes.
    """

    versions: dict[str, str] = {}
    effective: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    context_tokens: Tokens | None = None


class Measurement(Frozen):
    """A configuration measured on one loaded engine.

    Attributes:
        load_s: Seconds to load the engine; 0 for a live change on one already loaded.
        warmup_s: Seconds of warming up before the windows.
        warmed_up: Whether consecutive warm-up rates agreed before the cap.
        windows: Sub-samples of one launch: never treat them as independent.
        boards: State of the GPU boards over all loads of a server; of jobs each window has its own.
        peak_memory_bytes: The engine's own peak; device memory on a GPU, resident memory on a CPU.
        facts: What really ran.
    """

    kind: Literal["measured"] = "measured"
    load_s: Seconds
    warmup_s: Seconds
    warmed_up: bool
    windows: tuple[Window, ...] = Field(min_length=1)
    boards: tuple[Board, ...] = ()
    peak_memory_bytes: Bytes | None = None
    facts: EngineFacts = EngineFacts()

    @property
    def output_tokens_per_s(self) -> float:
        """Geometric mean of the windows' rates: this launch's single sample."""
        logs = [math.log(window.output_tokens_per_s) for window in self.judged]
        return math.exp(sum(logs) / len(logs))

    @property
    def n_requests(self) -> int:
        """Requests of the job that a window ran."""
        return self.windows[0].n_requests

    @property
    def sustained(self) -> Sustained | None:
        """The highest rate at which the promise is kept; None if none was, or for jobs."""
        return sustained([window.service for window in self.windows if window.service])

    @property
    def judged(self) -> tuple[Window, ...]:
        """The windows that figures are of: of loads at several rates, those at the highest that keeps the promise.

        Where none does, or nothing was promised, those at the first rate; late loads only where there are no others.
        """
        loads = [window for window in self.windows if window.service]
        if not loads:
            return self.windows
        loads = [window for window in loads if window.service and not window.service.late] or loads
        kept = [window for window in loads if window.service and window.service.kept]
        rate = max(map(_rate_of, kept)) if kept else _rate_of(loads[0])
        return tuple(window for window in loads if _rate_of(window) == rate)


def _rate_of(window: Window) -> float:
    return (window.service and window.service.rate_per_s) or 0.0


class Infeasible(Frozen):
    """The engine cannot run this configuration here: a fact about the configuration, learned by the search.

    Attributes:
        reason: Out of memory, or refused by the engine.
        stage: Where it happened.
        detail: One line in the engine's words.
        stderr_tail: Last lines of what the engine said; empty where that was not kept.
    """

    kind: Literal["infeasible"] = "infeasible"
    reason: Literal["oom", "rejected"]
    stage: Stage
    detail: str
    stderr_tail: str = ""


class TimedOut(Frozen):
    """A stage took longer than its deadline and the engine was killed.

    Attributes:
        stage: Which.
        after_s: Its deadline in seconds.
        stderr_tail: Last lines of what the engine said.
    """

    kind: Literal["timed_out"] = "timed_out"
    stage: Stage
    after_s: Seconds
    stderr_tail: str = ""


class Crashed(Frozen):
    """The engine's process ended, or its answer was invalid.

    Attributes:
        stage: Where it happened.
        detail: One line: the exception, the signal, or what was wrong with the answer.
        exit_code: The worker's exit code, if it exited.
        signal: The signal's name, if one ended it.
        stderr_tail: Last lines of the worker's standard error.
    """

    kind: Literal["crashed"] = "crashed"
    stage: Stage
    detail: str
    exit_code: int | None = Field(default=None, ge=-(2**31), lt=2**32)
    signal: str | None = None
    stderr_tail: str = ""


Outcome = Annotated[Measurement | Infeasible | TimedOut | Crashed, Field(discriminator="kind")]


def describe(outcome: Measurement | Infeasible | TimedOut | Crashed) -> str:
    """The outcome of a trial in one line."""
    match outcome:
        case Measurement(sustained=Sustained() as found):
            return f"{found.goodput_per_s:,.2f} req/s within the limits"
        case Measurement():
            return f"{outcome.output_tokens_per_s:,.1f} tok/s"
        case Infeasible(reason="oom"):
            return f"out of memory in {outcome.stage}: {outcome.detail}"
        case Infeasible():
            return f"rejected in {outcome.stage}: {outcome.detail}"
        case TimedOut():
            return f"no end of {outcome.stage} after {outcome.after_s:.0f} s"
        case Crashed():
            return f"crashed in {outcome.stage}: {outcome.detail}"
