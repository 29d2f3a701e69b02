"""Messages between the parent and its worker: JSON lines over a private socket, one schema for both ends."""

import selectors
import socket
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from infertune.domain.judging import RequestRows
from infertune.domain.knobs import Config
from infertune.domain.measurement import EngineFacts, Frozen, Measurement, Stage, Window
from infertune.domain.promise import Promise
from infertune.domain.quality import TOP, Answered, Scores
from infertune.domain.workload import Request
from infertune.energy import Reading
from infertune.engines.base import EngineOptions, Failure, Setup


class Plan(Frozen):
    """How to measure one configuration on a loaded engine.

    Attributes:
        warmup: Requests to warm up with, disjoint from the measured ones.
        requests: The job of one window; a longer list than needed where `window_s` decides.
        windows: How many windows to run at most.
        window_s: If set, the worker takes as many of `requests` as fill this many seconds, `fewest` at least.
        fewest: Fewest requests of a job where `window_s` decides.
        floor_output_tokens_per_s: After the first window, a rate below it ends the measurement (racing).
    """

    warmup: tuple[Request, ...]
    requests: tuple[Request, ...]
    windows: int = Field(default=1, ge=1)
    window_s: float | None = None
    fewest: int = 1
    floor_output_tokens_per_s: float | None = None


class LoadCommand(Frozen):
    """Load an engine; answered by `LoadedReply` or `FailureReply`."""

    kind: Literal["load"] = "load"
    engine: str
    options: EngineOptions
    setup: Setup


class MeasureCommand(Frozen):
    """Apply live knobs and measure; answered by `MeasuredReply` or `FailureReply`."""

    kind: Literal["measure"] = "measure"
    live: Config
    plan: Plan


class AnswerCommand(Frozen):
    """Apply live knobs and answer requests greedily; answered by `AnsweredReply` or `FailureReply`.

    Attributes:
        live: All live knobs.
        requests: What to answer.
        most_prompt_tokens: Longer prompts are cut.
        most_answer_tokens: Longest answer.
    """

    kind: Literal["answer"] = "answer"
    live: Config
    requests: tuple[Request, ...]
    most_prompt_tokens: int = Field(ge=1)
    most_answer_tokens: int = Field(ge=1)


class ScoreCommand(Frozen):
    """Apply live knobs and score sequences; answered by `ScoredReply` or `FailureReply`.

    Attributes:
        live: All live knobs.
        sequences: What to score, in the order of submission.
        batch: How many are submitted together; None submits all.
        top: How many of the likeliest tokens a position.
        vocabulary: Of whoever answered: another one's scores would be of other tokens.
    """

    kind: Literal["score"] = "score"
    live: Config
    sequences: tuple[Answered, ...]
    batch: int | None = None
    top: int = TOP
    vocabulary: str


class ServeCommand(Frozen):
    """Apply live knobs and send requests when they are due; answered by `ServedReply` or `FailureReply`.

    Attributes:
        live: All live knobs.
        requests: What to send.
        due_s: When, in seconds from the start; ascending, one a request.
        cut_after_s: Seconds after the last due time at which what is unfinished is cut.
        arrivals: As `--arrivals` has it; a closed loop sends a request when another ends.
        n_different: After so many requests, the same ones come again.
        rate_per_s: Requests a second that are due; None in a closed loop.
        promise: What the requests are held against.
        warmup: Whether it only warms the server up.
    """

    kind: Literal["serve"] = "serve"
    live: Config
    requests: tuple[Request, ...] = Field(min_length=1)
    due_s: tuple[float, ...]
    cut_after_s: float
    arrivals: str
    n_different: int = Field(gt=0)
    rate_per_s: float | None = None
    promise: Promise = Promise()
    warmup: bool = False


class CloseCommand(Frozen):
    """Close the engine and exit; not answered."""

    kind: Literal["close"] = "close"


class StageEvent(Frozen):
    """The worker enters a stage: its deadline starts now."""

    kind: Literal["stage"] = "stage"
    stage: Stage


class MeterEvent(Frozen):
    """The worker is at an edge of a window and waits for `MeterDone`: the parent reads the meters.

    Attributes:
        edge: `idle` once after loading, then `begin` and `end` of every window.
    """

    kind: Literal["meter"] = "meter"
    edge: Literal["idle", "begin", "end"]


class MeterDone(Frozen):
    """The meters are read; the worker goes on."""

    kind: Literal["meter_done"] = "meter_done"


class LoadedReply(Frozen):
    """The engine is loaded."""

    kind: Literal["loaded"] = "loaded"
    elapsed_s: float


class MeasuredReply(Frozen):
    """The configuration is measured."""

    kind: Literal["measured"] = "measured"
    measurement: Measurement
    elapsed_s: float


class AnsweredReply(Frozen):
    """The requests are answered; `vocabulary` tells one tokenizer and vocabulary from another."""

    kind: Literal["answered"] = "answered"
    answered: tuple[Answered, ...]
    vocabulary: str
    elapsed_s: float


class ScoredReply(Frozen):
    """The sequences are scored, one entry each, in their order."""

    kind: Literal["scored"] = "scored"
    scores: tuple[Scores, ...]
    elapsed_s: float


class ServedReply(Frozen):
    """The load is over.

    Attributes:
        window: Its figures.
        rows: Its requests.
        load_s: Seconds that the engine took to load.
        peak_memory_bytes: The engine's own peak so far.
        facts: What really ran.
        elapsed_s: Seconds of the command.
    """

    kind: Literal["served"] = "served"
    window: Window
    rows: RequestRows
    load_s: float
    peak_memory_bytes: int | None
    facts: EngineFacts
    elapsed_s: float


class FailureReply(Frozen):
    """The command could not be carried out."""

    kind: Literal["failure"] = "failure"
    failure: Failure


Command = LoadCommand | MeasureCommand | ServeCommand | AnswerCommand | ScoreCommand
Reply = LoadedReply | MeasuredReply | ServedReply | AnsweredReply | ScoredReply | FailureReply
Message = Annotated[
    LoadCommand
    | MeasureCommand
    | ServeCommand
    | AnswerCommand
    | ScoreCommand
    | CloseCommand
    | StageEvent
    | MeterEvent
    | MeterDone
    | LoadedReply
    | MeasuredReply
    | ServedReply
    | AnsweredReply
    | ScoredReply
    | FailureReply,
    Field(discriminator="kind"),
]
_MESSAGES: TypeAdapter[Message] = TypeAdapter(Message)


class Channel:
    """One end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(end, selectors.EVENT_READ)

    def send(self, message: Frozen) -> None:
        """Send one message.

        Raises:
            OSError: The other end is gone.
        """
        self._socket.sendall(message.model_dump_json().encode() + b"\n")

    def receive(self, timeout_s: float | None = None) -> Message:
        """The next message.

        Raises:
            TimeoutError: None came in time.
            EOFError: The other end is gone.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if not self._selector.select(timeout_s):
                raise TimeoutError
            try:
                chunk = self._socket.recv(1 << 20)
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise EOFError
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return _MESSAGES.validate_json(line)

    def close(self) -> None:
        """Close this end."""
        self._selector.close()
        self._socket.close()


class ParentsMeter:
    """Lets the parent read its meters at the edges of a window, and waits until it has.

    Meters live in the parent: opened once a run and not once a launch, and nothing of theirs is in this process.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def measure_idle(self) -> None:
        """After loading, before warm-up."""
        self._at("idle")

    def begin(self) -> None:
        """Before the window's clock starts."""
        self._at("begin")

    def end(self) -> Reading:
        """After the window's clock stopped; the parent fills its reading in."""
        self._at("end")
        return Reading()

    def close(self) -> None:
        """The parent closes its own."""

    def _at(self, edge: Literal["idle", "begin", "end"]) -> None:
        self._channel.send(MeterEvent(edge=edge))
        self._channel.receive()
