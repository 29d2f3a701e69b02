"""The seam between infertune and an inference engine.

To add one: a module with an `Engine`, a line in the registry (or an entry point in the group `infertune.engines`), and
a line in `tests/contracts/test_engines.py`.

An `Engine` is light and lives in the parent: it knows the knobs, reads this engine's error messages and writes its
commands, without importing the engine's library. Its `load` runs in a worker process and returns a `LoadedEngine`. No
adapter times, repeats or averages anything: `measure.py` does.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from infertune.domain.command import Command
from infertune.domain.device import Device
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.load import Load
from infertune.domain.measurement import EngineFacts, Frozen, Infeasible, Stage
from infertune.domain.models import Model
from infertune.domain.workload import Message, Workload
from infertune.energy import EnergyMeter
from infertune.units import shortened


class EngineOptions(Frozen):
    """How the user wants an engine to be found; the same for the parent and its worker.

    Attributes:
        variant: What stands behind the colon of `--engine NAME:VARIANT`.
        table: A recorded table, for an engine that answers from one.
        ignore: Columns of the table that are not knobs.
        python: Interpreter of the worker; None for the parent's own.
        binary: The engine's own program; None looks for it. For engines with `takes_binary` only.
    """

    variant: str = ""
    table: Path | None = None
    ignore: tuple[str, ...] = ()
    python: Path | None = None
    binary: Path | None = None


class Availability(Frozen):
    """Whether an engine can be used here.

    Attributes:
        version: The installed version, None if it is not installed.
        reason: What is missing and what to install, empty if nothing is.
    """

    version: str | None
    reason: str = ""


class Setup(Frozen):
    """What a worker needs to load an engine.

    Attributes:
        model: The model; None for engines that need none.
        device: Where to load it.
        config: Every knob, the launched ceiling in place of knobs that can only be lowered live.
        defaults: What the engine does when told nothing: equal settings are not passed to it.
        faithful: Launch as the engine's users do; otherwise as suits changing live knobs best.
        launch_seed: Differs between launches; seeds the noise of simulated engines.
    """

    model: Model | None
    device: Device
    config: Config
    defaults: Config
    faithful: bool
    launch_seed: int = 0

    @property
    def changed(self) -> Config:
        """The settings that differ from the engine's defaults."""
        return Config({n: v for n, v in self.config.root.items() if v != self.defaults.root.get(n, "unset")})


class Served(Frozen):
    """A configuration as an engine's users run it: what `Engine.export` writes down in the engine's own forms.

    It may come from a stranger's profile: every name and value is data, and an engine writes out only what it knows.

    Attributes:
        model: The model that it was measured with.
        device: What it was measured on.
        engine_version: The version that it was measured with; None if unknown.
        config: Every knob's value.
        changed: Those that differ from the engine's defaults.
        answer: What the tune said of it, for people.
        held: The arguments that were held for the whole run.
        current: Every knob's value as it ran before the tune; None where nobody said.
        running: The command that ran before the tune, without its secrets; None where nobody said.
        allowed: Names of arguments that the user allows although they can load code or reach out.
    """

    model: Model
    device: Device
    engine_version: str | None
    config: Config
    changed: Config
    answer: str = "unconfirmed"
    held: Config = Config({})
    current: Config | None = None
    running: Command | None = None
    allowed: frozenset[str] = frozenset()


class Failure(Frozen):
    """An exception in a worker, or its death, as the parent learns of it.

    Attributes:
        stage: Where it happened.
        error_type: Name of the exception's class; empty if the process died.
        message: The exception's text.
        trace_tail: Last lines of the traceback and of what the engine wrote to standard error.
        survivable: The engine is still usable.
        elapsed_s: Seconds since the command was received, by the engine's clock.
    """

    stage: Stage
    error_type: str
    message: str
    trace_tail: str = ""
    survivable: bool = False
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Prompt:
    """A request as an engine gets it: token ids, and exactly how many tokens to generate.

    Attributes:
        token_ids: Of the prompt.
        output_tokens: How many to generate.
        repeat: How often the load had this prompt before, for want of others: nothing of those is to be reused for it.
        drawn: Its token ids were drawn at random, and others would do as well.
    """

    token_ids: list[int]
    output_tokens: int
    repeat: int = 0
    drawn: bool = False


@dataclass(frozen=True)
class Completion:
    """What came back for one prompt, in the order of the prompts.

    Attributes:
        output_tokens: Tokens generated for the user; padding and overrun do not count.
        latency_s: From the job's start to the last token, None if the engine does not say.
        ttft_s: From the job's start to the first token, None if the engine does not say.
    """

    output_tokens: int
    latency_s: float | None = None
    ttft_s: float | None = None


@dataclass(frozen=True)
class TokenScores:
    """How an engine scores one sequence: an entry for every token from one on, never for the very first.

    Attributes:
        logprobs: ln of the probability of the token that is there, given those before it.
        top: The likeliest tokens with ln of their probabilities, the likeliest first.
        first: Position of the first token that has an entry.
    """

    logprobs: list[float]
    top: list[dict[int, float]]
    first: int = 1


class NotOfferedError(Exception):
    """The engine cannot do what is asked of it; the message says what."""


class LoadedEngine(ABC):
    """An engine with a model loaded; lives in a worker only.

    Attributes:
        clock: Seconds; the one clock for everything measured on this engine. Only a simulated engine has its own.
    """

    clock: Callable[[], float] = staticmethod(time.perf_counter)

    @abstractmethod
    def apply(self, live: Config) -> None:
        """Change live knobs, all of them given, without a relaunch."""

    @abstractmethod
    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion]:
        """Run all prompts, submitted together, each to its exact output length; one completion a prompt."""

    @abstractmethod
    def slots(self) -> int:
        """How many requests run at once under the settings in force."""

    @abstractmethod
    def facts(self) -> EngineFacts:
        """Versions, and the settings as the engine really runs them."""

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Token ids of a prompt."""

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int] | None:
        """Token ids of a conversation by the model's chat template, up to where its next answer begins.

        None if the model has no template, or its template refuses this conversation: it is then joined as plain text.
        """
        return None

    @abstractmethod
    def vocab_size(self) -> int:
        """Token ids are below it."""

    def text(self, token_ids: Sequence[int]) -> str:
        """Token ids as text, for people; empty if the engine cannot say."""
        return ""

    def answer(self, prompts: Sequence[Prompt]) -> Sequence[list[int]]:
        """The greedy answer to each prompt: at most as many tokens as it asks for, fewer where the model ends earlier.

        Raises:
            NotOfferedError: The engine gives no token ids.
        """
        raise NotOfferedError("this engine gives no answers")

    def score(self, sequences: Sequence[Sequence[int]], top: int, firsts: Sequence[int]) -> Sequence[TokenScores]:
        """Log probabilities of the tokens of each sequence, given those before them.

        The sequences are submitted together and are scored under the settings in force, nothing of them taken from an
        earlier job's prefix cache.

        Args:
            sequences: Token ids, two or more each.
            top: How many of the likeliest tokens to give a position.
            firsts: Of each sequence, the position from which on scores are needed, 1 or more; earlier ones may come
                too.

        Raises:
            NotOfferedError: The engine gives no log probabilities.
        """
        raise NotOfferedError("this engine gives no log probabilities")

    def serve(
        self, prompts: Sequence[Prompt], due_s: Sequence[float], *, cut_after_s: float, concurrency: int | None = None
    ) -> Load:
        """Send every prompt when it is due, however slow the answers are, and wait for all of them (open loop).

        A failed, cut or short answer is an entry with an error, never an exception: only a server that is gone raises.

        Args:
            prompts: What to send, each to its exact output length.
            due_s: When, in seconds from the start of the load; ascending, one a prompt.
            cut_after_s: Seconds after the last due time at which what is unfinished is cut.
            concurrency: At most so many at once (closed loop): a request is then due when a place is free, and one that
                was not sent before the cut has no entry.

        Raises:
            NotOfferedError: It is no server.
        """
        raise NotOfferedError("this engine is no server")

    def meter(self) -> EnergyMeter | None:
        """A simulated engine's own energy meter; None takes the device's."""
        return None

    def reset(self) -> None:  # noqa: B027 - most engines keep nothing between jobs
        """Forget earlier requests (prefix caches), so that equal jobs are equal work."""

    def peak_memory_bytes(self) -> int | None:
        """Peak memory since loading: of the device on a GPU, resident on a CPU; None if unknown."""
        return None

    def recover(self, error: Exception) -> bool:
        """After an error in `apply` or `generate`: make the engine usable again if it can be, and say whether it is."""
        return False

    def close(self) -> None:  # noqa: B027 - the end of the process is enough for some
        """Give everything back."""


class Engine(Protocol):
    """What infertune knows of an engine without loading it.

    It may also have `explain(failure) -> str`: the error behind a failure in one line, empty if that is its own; and
    `unseen(name) -> bool`: whether a setting changes answers only while they are written, so that scores do not see it.

    Attributes:
        name: As in `--engine NAME`.
        needs_model: Whether MODEL must be given or chosen.
        simulated: Runs inside the parent on a simulated clock; takes no device.
        scores: Whether its `LoadedEngine` answers and scores, so that what a setting does to answers can be checked.
        serves: Whether its `LoadedEngine` is a server, to which requests are sent when they are due.
        forms: What `profile export --as` takes for this engine; empty if there is nothing to write but the profile.
    """

    name: ClassVar[str]
    needs_model: ClassVar[bool]
    forms: ClassVar[tuple[str, ...]]
    simulated: bool
    scores: ClassVar[bool]

    def available(self) -> Availability:
        """The installed version, or what to install, without importing the library."""

    def space(self, model: Model | None, device: Device, workload: Workload) -> SearchSpace:
        """The knobs for this model on this device, from the installed version's own arguments."""

    def classify(self, failure: Failure) -> Infeasible | None:
        """Whether a failure is this engine's way to say out-of-memory or no; None if it is a fault."""

    def export(self, served: Served, form: str) -> str:
        """A configuration in one of `forms`, ready to be used: a command, a file, a snippet. Called for those only.

        Raises:
            UsageError: It cannot be written so; the message says why.
        """

    def load(self, setup: Setup) -> LoadedEngine:
        """Load the model; called in a worker, and the only place that imports the library."""


def first_line(text: str, limit: int = 300) -> str:
    """The first line that says something, cut to a length that fits a table."""
    return shortened(next((line.strip() for line in text.splitlines() if line.strip()), ""), limit)


def last_statement(lines: Sequence[str]) -> str:
    """The last line of code of a trace, such as `assert x == "y"`: what an error without a word fell over."""
    return next((line.strip() for line in reversed(lines) if line.strip("^~ \t")), "")
