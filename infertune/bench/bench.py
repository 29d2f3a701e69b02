"""A bench holds one engine at a time and measures configurations on it: the parent's half of `measure.py`.

Launching is expensive: a loaded engine measures every configuration that differs from its own in live knobs only.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from infertune.bench.channel import (
    AnswerCommand,
    AnsweredReply,
    FailureReply,
    LoadCommand,
    LoadedReply,
    MeasureCommand,
    MeasuredReply,
    Plan,
    Reply,
    ScoreCommand,
    ScoredReply,
)
from infertune.bench.handle import EngineHandle, InlineEngine
from infertune.bench.interrupts import held_back
from infertune.bench.isolation import Deadlines, EngineProcess, failure_of
from infertune.bench.scoring import NotNumbersError, OtherVocabularyError
from infertune.bench.serving import Looks, ServePlan
from infertune.domain.device import Device, engine_environment, memory_used_bytes
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.measurement import Crashed, Infeasible, Measurement, Outcome, TimedOut, describe
from infertune.domain.models import Model
from infertune.domain.quality import Answered, NotScored
from infertune.domain.trial import Attempt
from infertune.domain.workload import Request
from infertune.energy import CarbonOptions, EnergyMeter
from infertune.energy.sources import open_meter
from infertune.engines.base import Engine, EngineOptions, Failure, NotOfferedError, Setup, first_line

MOST_PROMPT_TOKENS, MOST_ANSWER_TOKENS = 512, 64  # of what is scored (judgement)
_KINDS = {
    NotOfferedError.__name__: "not offered",
    NotNumbersError.__name__: "not numbers",
    OtherVocabularyError.__name__: "other vocabulary",
}
_LINES_TO_CLASSIFY = 300
_MEMORY_BACK_WITHIN_S = 30.0
_MEMORY_SLACK_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Asked:
    """What came of letting a configuration answer or score.

    Attributes:
        found: The reply, or why there is none.
        launch_s: Seconds of a launch that was made for it.
        score_s: Seconds of answering or scoring.
    """

    found: AnsweredReply | ScoredReply | NotScored
    launch_s: float
    score_s: float


@dataclass(frozen=True)
class _Ahead:
    """Launches ahead of which no measurement has told.

    Attributes:
        launch_s: Seconds of all of them.
        launch_number: Of the last one, which the loaded engine is of while no other is made; None without any.
    """

    launch_s: float = 0.0
    launch_number: int | None = None


class Bench:
    """Measures configurations, one engine at a time.

    Attributes:
        deadlines: Of each stage; may be changed between measurements.
        next_launch: Number of the next launch; may be raised between measurements where several benches share a run.
    """

    # `space` may be restricted by the user and then has other defaults; `engine_defaults` are the engine's own.
    def __init__(
        self,
        engine: Engine,
        options: EngineOptions,
        model: Model | None,
        device: Device,
        space: SearchSpace,
        log_folder: Path,
        deadlines: Deadlines,
        seed: int = 0,
        carbon: CarbonOptions | None = None,
        first_launch: int = 0,
        engine_defaults: Config | None = None,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.deadlines = deadlines
        self._engine = engine
        self._options = options
        self._model = model
        self._device = device
        self._space = space
        self._log_folder = log_folder
        self._seed = seed
        self._carbon = carbon or CarbonOptions()
        self._meter: EnergyMeter | None = None
        self.next_launch = first_launch
        self._defaults = engine_defaults or space.default
        self._on_note = on_note
        self._idle_memory_bytes = None if engine.simulated else memory_used_bytes(device)
        self._environment = {} if engine.simulated else engine_environment(device)
        self._handle: EngineHandle | None = None
        self._launched: Config | None = None
        self._launch_number = first_launch
        self._faithful = False
        self._ahead = _Ahead()

    def measure(self, config: Config, plan: Plan | ServePlan, *, fresh: bool = False) -> Attempt:
        """Measure a configuration.

        Args:
            config: All knobs.
            plan: What to run.
            fresh: Launch an engine for exactly this configuration, as its users would; otherwise one that is loaded
                is used if it can take the configuration, and a new one is launched so that live knobs have room.
        """
        attempt = self._measure_once(config, plan, fresh)
        if _is_transient(attempt.outcome):
            self._on_note(f"{first_line(str(attempt.outcome))}; trying once more")
            again = self._measure_once(config, plan, fresh)
            return Attempt(
                again.outcome,
                attempt.launch_s + again.launch_s,
                attempt.run_s + again.run_s,
                again.launch_number,
                again.live,
                again.rows,
            )
        return attempt

    def launch_ahead(self, config: Config) -> None:
        """Launch an engine for a configuration that will soon be measured; the seconds are told with that measurement.

        A failure is forgotten: measuring launches again, and finds it.

        Args:
            config: All knobs.
        """
        if not self.takes(config):
            failed, seconds = self._launch(config, fresh=False)
            if failed is None:
                self._ahead = _Ahead(self._ahead.launch_s + seconds, self._launch_number)

    def answer(self, config: Config, requests: Sequence[Request]) -> Asked:
        """Greedy answers of a configuration, with their prompts, to be scored.

        Args:
            config: All knobs.
            requests: What to answer.
        """
        command = AnswerCommand(
            live=self._live(config),
            requests=tuple(requests),
            most_prompt_tokens=MOST_PROMPT_TOKENS,
            most_answer_tokens=MOST_ANSWER_TOKENS,
        )
        return self._ask(config, command)

    def score(self, config: Config, sequences: Sequence[Answered], vocabulary: str, batch: int | None = None) -> Asked:
        """How likely a configuration finds sequences.

        Args:
            config: All knobs.
            sequences: Prompts with the reference's answers.
            vocabulary: Of the reference.
            batch: How many are submitted together; None submits all.
        """
        command = ScoreCommand(live=self._live(config), sequences=tuple(sequences), batch=batch, vocabulary=vocabulary)
        return self._ask(config, command)

    def widen(self, space: SearchSpace) -> None:
        """Take a space with longer ladders: launches then leave room for their ends."""
        self._space = space

    @property
    def launched(self) -> Config | None:
        """The configuration that the loaded engine was launched with, None if none is loaded."""
        return self._launched if self._handle and self._handle.alive else None

    @property
    def faithful(self) -> bool:
        """Whether the loaded engine was launched for exactly one configuration and takes no other."""
        return self._faithful

    def takes(self, config: Config) -> bool:
        """Whether the loaded engine can run a configuration without a relaunch."""
        launched = self.launched
        if launched is None or self._faithful:
            return False
        if self._space.launch_key(launched) != self._space.launch_key(config):
            return False
        return all(_number(config, name) <= _number(launched, name) for name in self._ceilings())

    def close(self) -> None:
        """Close the engine; nothing of it is left when this returns."""
        if self._handle:
            self._handle.close()
            self._wait_for_memory()
        self._handle = self._launched = None

    def __enter__(self) -> "Bench":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None and self._handle:
                self._handle.kill()
            self.close()
        finally:
            if self._meter:
                self._meter.close()

    def _ask(self, config: Config, command: AnswerCommand | ScoreCommand) -> Asked:
        """Answer or score on the loaded engine if it runs this very configuration, else on a fresh launch."""
        launch_s = 0.0
        if not (self.launched == config or self.takes(config)):
            failed, launch_s = self._launch(config, fresh=True)
            if failed is not None:
                return Asked(NotScored(kind="failed", detail=first_line(describe(failed))), launch_s, 0.0)
        assert self._handle
        reply = self._handle.ask(command, self.deadlines)
        found = reply if isinstance(reply, AnsweredReply | ScoredReply) else self._not_scored(reply)
        return Asked(found, launch_s, self._handle.elapsed_s)

    def _not_scored(self, reply: Reply | TimedOut | Crashed) -> NotScored:
        if isinstance(reply, FailureReply) and (kind := _KINDS.get(reply.failure.error_type)):
            return NotScored.model_validate({"kind": kind, "detail": first_line(reply.failure.message)})
        return NotScored(kind="failed", detail=first_line(describe(self._outcome(reply))))

    def _live(self, config: Config) -> Config:
        """The live settings of a configuration."""
        return config.subset(frozenset(self._space.names) - self._space.launch_names)

    def _measure_once(self, config: Config, plan: Plan | ServePlan, fresh: bool) -> Attempt:
        ahead, self._ahead = self._ahead, _Ahead()
        launch_s, launched_here = ahead.launch_s, ahead.launch_number == self._launch_number
        if fresh or not self.takes(config):
            launched_here = True
            failed, seconds = self._launch(config, fresh)
            launch_s += seconds
            if failed is not None:
                return Attempt(failed, launch_s, 0.0, self._launch_number, live=False)
        assert self._handle and self._launched
        if isinstance(plan, ServePlan):
            return self._serve(config, plan, launch_s, live=not launched_here)
        reply = self._handle.measure(MeasureCommand(live=self._live(config), plan=plan), self.deadlines)
        outcome = self._outcome(reply)
        return Attempt(outcome, launch_s, self._handle.elapsed_s, self._launch_number, live=not launched_here)

    def _serve(self, config: Config, plan: ServePlan, launch_s: float, *, live: bool) -> Attempt:
        """Measure a configuration on the server that is loaded."""
        handle = self._handle
        assert handle
        looked = Looks(plan, self._live(config), handle.serve, self.deadlines, lambda: handle.elapsed_s).run()
        found = looked.found
        outcome = found if isinstance(found, Measurement) else self._outcome(found)
        return Attempt(outcome, launch_s, looked.run_s, self._launch_number, live, looked.rows)

    def _wait_for_memory(self) -> None:
        """Wait until the driver has freed the ended engine's memory: a launch before that may run out of it."""
        if self._idle_memory_bytes is None:
            return
        deadline = time.perf_counter() + _MEMORY_BACK_WITHIN_S
        while (used := memory_used_bytes(self._device)) is not None and time.perf_counter() < deadline:
            if used <= self._idle_memory_bytes + _MEMORY_SLACK_BYTES:
                return
            time.sleep(0.2)
        self._on_note("the engine is gone, but its device memory is not back; another process may have taken it")

    def _launch(self, config: Config, fresh: bool) -> tuple[Outcome | None, float]:
        """Launch an engine; returns the failure or None, and the seconds spent."""
        roomy = config if fresh else config.updated(self._ceilings())
        failed, seconds = self._load(roomy, faithful=fresh)
        if isinstance(failed, Infeasible) and roomy != config:
            self._on_note(f"no room to launch with {roomy}; launching with {config}")
            failed, more = self._load(config, faithful=fresh)
            seconds += more
        return failed, seconds

    def _load(self, config: Config, *, faithful: bool) -> tuple[Outcome | None, float]:
        self.close()
        self._launch_number = number = self.next_launch
        self.next_launch += 1
        log_path = self._log_folder / f"launch-{number:04d}.log"
        if self._meter is None and not self._engine.simulated:  # takes a second or two, once a run
            self._meter = open_meter(self._device, self._carbon)
        with held_back():  # until the handle is known here, nobody could end its process
            self._handle = self._start(log_path)
        setup = Setup(
            model=self._model,
            device=self._device,
            config=config,
            defaults=self._defaults,
            faithful=faithful,
            launch_seed=self._seed * 1_000_003 + number,
        )
        command = LoadCommand(engine=self._engine.name, options=self._options, setup=setup)
        reply = self._handle.load(command, self.deadlines)
        self._launched, self._faithful = config, faithful
        if isinstance(reply, LoadedReply):
            return None, self._handle.elapsed_s
        elapsed_s = self._handle.elapsed_s
        outcome = self._outcome(reply)
        self.close()
        return outcome, elapsed_s

    def _start(self, log_path: Path) -> EngineHandle:
        if self._engine.simulated:
            return InlineEngine()
        return EngineProcess(log_path, self._options.python, self._environment, self._meter)

    def _outcome(self, reply: Reply | TimedOut | Crashed) -> Outcome:
        if isinstance(reply, MeasuredReply):
            return reply.measurement
        if isinstance(reply, TimedOut):
            return reply.model_copy(update={"stderr_tail": self._handle.log_tail() if self._handle else ""})
        if isinstance(reply, Crashed):
            return _with_log(self._engine.classify(failure_of(reply)), reply.stderr_tail) or reply
        assert isinstance(reply, FailureReply) and self._handle
        failure = reply.failure
        if failure.error_type == TimeoutError.__name__:
            return TimedOut(stage=failure.stage, after_s=failure.elapsed_s)
        # An engine's own subprocess may have logged the cause long before the traceback that came back.
        log = self._handle.log_tail(_LINES_TO_CLASSIFY)
        whole = failure.model_copy(update={"trace_tail": f"{log}\n{failure.trace_tail}"})
        tail = f"{self._handle.log_tail()}\n{failure.trace_tail}".strip()
        crashed = Crashed(stage=failure.stage, detail=self._cause(whole), stderr_tail=tail)
        return _with_log(self._engine.classify(whole), tail) or crashed

    def _cause(self, failure: Failure) -> str:
        """A failure in one line: the error behind it, where the engine can tell, else its own."""
        explain: Callable[[Failure], str] | None = getattr(self._engine, "explain", None)
        return (explain(failure) if explain else "") or _one_line(failure)

    def _ceilings(self) -> dict[str, int | float]:
        """The largest values of those live knobs that a loaded engine can only lower below its launch value."""
        knobs = (knob for knob in self._space.knobs if knob.live_at_most_launched)
        return {knob.name: top for knob in knobs if isinstance(top := knob.values[-1], int | float)}


def _with_log(infeasible: Infeasible | None, tail: str) -> Infeasible | None:
    """An infeasible outcome with the end of the engine's log."""
    return infeasible.model_copy(update={"stderr_tail": tail}) if infeasible else None


def _is_transient(outcome: Outcome) -> bool:
    """Whether a failure may be transient (killed process, load timeout): it is retried once."""
    if isinstance(outcome, TimedOut):
        return outcome.stage == "load"
    return isinstance(outcome, Crashed) and outcome.signal == "SIGKILL"


def _one_line(failure: Failure) -> str:
    message = first_line(failure.message)
    return f"{failure.error_type}: {message}" if failure.error_type else message


def _number(config: Config, name: str) -> float:
    value = config[name]
    assert isinstance(value, int | float)
    return float(value)
