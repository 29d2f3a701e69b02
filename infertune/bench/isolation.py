"""An engine in a process of its own, which can hang, crash or be killed without harm to the run.

The worker leads a process group. Parent and worker talk over a private socket. A guardian process in the group holds a
pipe from the parent and kills the group when the parent ends, even by SIGKILL.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil

from infertune.bench.channel import (
    AnswerCommand,
    Channel,
    CloseCommand,
    Command,
    FailureReply,
    LoadCommand,
    MeasureCommand,
    MeasuredReply,
    MeterDone,
    MeterEvent,
    Reply,
    ScoreCommand,
    ServeCommand,
    ServedReply,
    StageEvent,
)
from infertune.bench.interrupts import held_back
from infertune.domain.measurement import Crashed, Frozen, Stage, TimedOut
from infertune.energy import EnergyMeter, NoMeter, Reading
from infertune.engines.base import Failure, first_line
from infertune.engines.interpreter import package_link
from infertune.errors import BenchmarkError
from infertune.writing import open_to_append

_GRACE_S = 15.0  # for an engine to close itself, and for killed processes to disappear (judgement)
_TAIL_LINES = 40  # of a log, kept for the ledger (judgement)
_TAIL_BYTES = 1024**2  # most of a log that is read for it (judgement)
_LOOK_EVERY_S = 1.0  # how often a silent worker is checked for being alive (judgement)


class Deadlines(Frozen):
    """How long each stage may take, in seconds."""

    load_s: float = 1200.0
    warmup_s: float = 600.0
    run_s: float = 600.0
    score_s: float = 600.0

    def of(self, stage: Stage) -> float:
        """The deadline of one stage."""
        return {"load": self.load_s, "warmup": self.warmup_s, "run": self.run_s, "score": self.score_s}[stage]


class EngineProcess:
    """A worker process with at most one loaded engine.

    Attributes:
        log_path: Where the worker's output goes.
        elapsed_s: Seconds that the last command took.
        alive: Whether further commands can be sent.
    """

    def __init__(
        self,
        log_path: Path,
        python: Path | None = None,
        environment: dict[str, str] | None = None,
        meter: EnergyMeter | None = None,
    ) -> None:
        self._meter = meter or NoMeter()
        self._readings: list[Reading] = []
        self.log_path = log_path
        self.elapsed_s = 0.0
        ours, theirs = socket.socketpair()
        life_read, self._life_write = os.pipe()
        self._package_link = package_link() if python else None
        try:
            folder = log_path.parent
            with open(open_to_append(folder.parent, f"{folder.name}/{log_path.name}", "log", make=True), "ab") as log:
                self._process = subprocess.Popen(
                    [
                        str(python or sys.executable),
                        "-m",
                        "infertune.bench.worker",
                        str(theirs.fileno()),
                        str(life_read),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs.fileno(), life_read),
                    start_new_session=True,
                    env=self._environment(environment or {}),
                )
        except OSError as error:
            raise BenchmarkError(f"cannot start {python or sys.executable}: {error.strerror}") from None
        finally:
            theirs.close()
            os.close(life_read)
        self._channel = Channel(ours)
        self.alive = True

    def load(self, command: LoadCommand, deadlines: Deadlines) -> Reply | TimedOut | Crashed:
        """Load the engine; on anything but a reply the process group is gone when this returns."""
        return self._ask(command, "load", deadlines)

    def measure(self, command: MeasureCommand, deadlines: Deadlines) -> Reply | TimedOut | Crashed:
        """Measure a configuration; on anything but a reply the process group is gone when this returns."""
        return self._ask(command, "warmup", deadlines)

    def serve(self, command: ServeCommand, deadlines: Deadlines) -> Reply | TimedOut | Crashed:
        """Send it a load; on anything but a reply the process group is gone when this returns."""
        return self._ask(command, "warmup", deadlines)

    def ask(self, command: AnswerCommand | ScoreCommand, deadlines: Deadlines) -> Reply | TimedOut | Crashed:
        """Let it answer or score; on anything but a reply the process group is gone when this returns."""
        return self._ask(command, "score", deadlines)

    def close(self) -> None:
        """Let the engine close itself, then make sure that nothing of its group is left."""
        if not self.alive:
            return
        # Listed before the worker ends: afterwards its children have another parent and cannot be found.
        family = _descendants(self._process.pid)
        try:
            with contextlib.suppress(OSError):
                self._channel.send(CloseCommand())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        finally:
            self._end(family)

    def kill(self) -> None:
        """End the group at once."""
        self._end()

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.kill()

    @property
    def pid(self) -> int:
        """The worker's process id, which is also its group's."""
        return self._process.pid

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines that the worker and its engine wrote."""
        with contextlib.suppress(OSError), self.log_path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return "\n".join(file.read(_TAIL_BYTES).decode(errors="replace").splitlines()[-lines:])
        return ""

    def _ask(self, command: Command, stage: Stage, deadlines: Deadlines) -> Reply | TimedOut | Crashed:
        started = stage_started = time.perf_counter()
        self._readings = []
        try:
            self._channel.send(command)
            while True:
                left_s = deadlines.of(stage) - (time.perf_counter() - stage_started)
                try:
                    message = self._channel.receive(max(min(left_s, _LOOK_EVERY_S), 0.0))
                except TimeoutError:
                    # A process that the engine forked may hold the channel open after the worker's death.
                    if self._process.poll() is not None:
                        return self._death(stage)
                    if left_s <= _LOOK_EVERY_S:
                        raise
                    continue
                if isinstance(message, StageEvent):
                    stage, stage_started = message.stage, time.perf_counter()
                    continue
                if isinstance(message, MeterEvent):
                    self._read_meter(message.edge)
                    self._channel.send(MeterDone())
                    continue
                assert isinstance(message, Reply)
                if isinstance(message, MeasuredReply | ServedReply):
                    message = self._with_readings(message)
                if isinstance(message, FailureReply) and not message.failure.survivable:
                    self._end()
                return message
        except TimeoutError:
            self._end()
            return TimedOut(stage=stage, after_s=deadlines.of(stage))
        except (EOFError, OSError):
            return self._death(stage)
        finally:
            self.elapsed_s = time.perf_counter() - started

    def _read_meter(self, edge: Literal["idle", "begin", "end"]) -> None:
        if edge == "idle":
            self._meter.measure_idle()
        elif edge == "begin":
            self._meter.begin()
        else:
            self._readings.append(self._meter.end())

    def _with_readings(self, reply: MeasuredReply | ServedReply) -> MeasuredReply | ServedReply:
        """The reply with the energy that the parent read for its windows; an engine's own meter reads elsewhere."""
        before = (reply.window,) if isinstance(reply, ServedReply) else reply.measurement.windows
        if len(self._readings) != len(before):
            return reply
        windows = tuple(
            window.model_copy(update={"energy": reading.energy, "boards": reading.boards})
            for window, reading in zip(before, self._readings, strict=True)
        )
        if isinstance(reply, ServedReply):
            return reply.model_copy(update={"window": windows[0]})
        measurement = reply.measurement
        return reply.model_copy(update={"measurement": measurement.model_copy(update={"windows": windows})})

    def _death(self, stage: Stage) -> Crashed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        code = self._process.poll()
        self._end()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = " (perhaps by the kernel, out of host memory)" if name == "SIGKILL" else ""
            return Crashed(stage=stage, detail=f"killed by {name}{hint}", signal=name, stderr_tail=self.log_tail())
        tail = self.log_tail()
        last = first_line("\n".join(reversed(tail.splitlines())))
        detail = f"exited with code {code}" + (f": {last}" if last else "")
        return Crashed(stage=stage, detail=detail, exit_code=code, stderr_tail=tail)

    def _end(self, family: Sequence[psutil.Process] = ()) -> None:
        """Kill the group, and those of the worker's family that left it, and wait until all are gone."""
        with held_back():
            self._end_at_once(family)

    def _end_at_once(self, family: Sequence[psutil.Process]) -> None:
        if not self.alive:
            return
        self.alive = False
        stragglers = [*family, *_descendants(self._process.pid)]
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for process in stragglers:  # those that left the group
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        _wait_until_dead(stragglers)
        os.close(self._life_write)
        self._channel.close()
        if self._package_link:
            self._package_link.cleanup()

    def _environment(self, extra: dict[str, str]) -> dict[str, str]:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **extra}
        if self._package_link:
            environment["PYTHONPATH"] = self._package_link.name
        return environment


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _wait_until_dead(processes: list[psutil.Process]) -> None:
    """Wait for killed processes that are not our children; a zombie, which pid 1 may never reap, holds nothing."""
    deadline = time.perf_counter() + _GRACE_S
    while any(map(_is_alive, processes)) and time.perf_counter() < deadline:
        time.sleep(0.005)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def failure_of(outcome: Crashed) -> Failure:
    """A worker's death in the form in which engines classify failures."""
    return Failure(stage=outcome.stage, error_type="", message=outcome.detail, trace_tail=outcome.stderr_tail)
