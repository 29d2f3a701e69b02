"""A launch of an engine as the bench holds it, and the one that runs in the parent: a simulated engine."""

from typing import Protocol

from infertune.bench.channel import (
    AnswerCommand,
    Command,
    FailureReply,
    LoadCommand,
    MeasureCommand,
    Reply,
    ScoreCommand,
    ServeCommand,
)
from infertune.bench.isolation import Deadlines
from infertune.bench.measure import Session
from infertune.domain.measurement import Crashed, TimedOut


class EngineHandle(Protocol):
    """A launch of an engine, in a child process or inline."""

    elapsed_s: float
    alive: bool

    def load(self, command: LoadCommand, deadlines: Deadlines) -> Reply | TimedOut | Crashed:
        """Load the engine."""

    def measure(self, command: MeasureCommand, deadlines: Deadlines) -> Reply | TimedOut | Crashed:
        """Measure a configuration on it."""

    def serve(self, command: ServeCommand, deadlines: Deadlines) -> Reply | TimedOut | Crashed:
        """Send it a load."""

    def ask(self, command: AnswerCommand | ScoreCommand, deadlines: Deadlines) -> Reply | TimedOut | Crashed:
        """Let it answer or score."""

    def close(self) -> None:
        """Close it and leave nothing behind."""

    def kill(self) -> None:
        """End it at once."""

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of its log."""


class InlineEngine:
    """A simulated engine in the parent's own process, on its own clock."""

    def __init__(self) -> None:
        self._session = Session(on_stage=lambda stage: None)
        self.elapsed_s = 0.0
        self.alive = True

    def load(self, command: LoadCommand, deadlines: Deadlines) -> Reply:
        """Load the simulation."""
        return self._handled(command)

    def measure(self, command: MeasureCommand, deadlines: Deadlines) -> Reply:
        """Measure on it."""
        return self._handled(command)

    def serve(self, command: ServeCommand, deadlines: Deadlines) -> Reply:
        """Send it a load."""
        return self._handled(command)

    def ask(self, command: AnswerCommand | ScoreCommand, deadlines: Deadlines) -> Reply:
        """Answer or score with it."""
        return self._handled(command)

    def close(self) -> None:
        """Close it."""
        self._session.close()
        self.alive = False

    kill = close

    def log_tail(self, lines: int = 40) -> str:
        """A simulated engine has no log."""
        return ""

    def _handled(self, command: Command) -> Reply:
        reply = self._session.handle(command)
        if isinstance(reply, FailureReply):
            self.elapsed_s = reply.failure.elapsed_s
            self.alive = reply.failure.survivable
        else:
            self.elapsed_s = reply.elapsed_s
        return reply
