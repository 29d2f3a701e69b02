"""An engine in a process of its own, that can hang, crash or be killed without harm to the run.

The worker leads a process group. Its parent holds one end of a private socket; a guardian in the group holds a pipe
from the parent and kills the group the moment the parent is gone, however that came about.
"""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import psutil

import infertune
from infertune.channel import (
    Channel,
    CloseCommand,
    FailureReply,
    LoadCommand,
    MeasureCommand,
    Reply,
    StageEvent,
)
from infertune.engines.base import Failure
from infertune.errors import BenchmarkError
from infertune.measurement import Crashed, Frozen, Stage, TimedOut

_GRACE_S = 15.0
_TAIL_LINES = 40


class Deadlines(Frozen):
    """How long each stage may take, in seconds."""

    load_s: float = 1200.0
    warmup_s: float = 600.0
    run_s: float = 600.0

    def of(self, stage: Stage) -> float:
        """The deadline of one stage."""
        return {"load": self.load_s, "warmup": self.warmup_s, "run": self.run_s}[stage]


class EngineProcess:
    """A worker process with at most one loaded engine.

    Attributes:
        log_path: Where the worker's output goes.
        elapsed_s: Seconds that the last command took.
        alive: Whether further commands can be sent.
    """

    def __init__(self, log_path: Path, python: Path | None = None, environment: dict[str, str] | None = None) -> None:
        self.log_path = log_path
        self.elapsed_s = 0.0
        ours, theirs = socket.socketpair()
        life_read, self._life_write = os.pipe()
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self._package_link = package_link() if python else None
        try:
            with log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        str(python or sys.executable),
                        "-m",
                        "infertune.worker",
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

    def close(self) -> None:
        """Let the engine close itself, then make sure that nothing of its group is left."""
        if self.alive:
            with contextlib.suppress(OSError):
                self._channel.send(CloseCommand())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        self._end()

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
        with contextlib.suppress(OSError):
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _ask(
        self, command: LoadCommand | MeasureCommand, stage: Stage, deadlines: Deadlines
    ) -> Reply | TimedOut | Crashed:
        started = stage_started = time.perf_counter()
        try:
            self._channel.send(command)
            while True:
                left_s = deadlines.of(stage) - (time.perf_counter() - stage_started)
                message = self._channel.receive(max(left_s, 0.0))
                if isinstance(message, StageEvent):
                    stage, stage_started = message.stage, time.perf_counter()
                    continue
                assert not isinstance(message, LoadCommand | MeasureCommand | CloseCommand)
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

    def _death(self, stage: Stage) -> Crashed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        code = self._process.poll()
        self._end()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = " (perhaps by the kernel, out of host memory)" if name == "SIGKILL" else ""
            return Crashed(stage=stage, detail=f"killed by {name}{hint}", signal=name, stderr_tail=self.log_tail())
        return Crashed(stage=stage, detail=f"exited with code {code}", exit_code=code, stderr_tail=self.log_tail())

    def _end(self) -> None:
        if not self.alive:
            return
        self.alive = False
        stragglers = _descendants(self._process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for process in stragglers:  # those that left the group
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(stragglers, timeout=_GRACE_S)
        os.close(self._life_write)
        self._channel.close()
        if self._package_link:
            self._package_link.cleanup()

    def _environment(self, extra: dict[str, str]) -> dict[str, str]:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **extra}
        if self._package_link:
            environment["PYTHONPATH"] = self._package_link.name
        return environment


def package_link() -> tempfile.TemporaryDirectory[str]:
    """A folder that holds nothing but this package, for another interpreter's path: none of our libraries leak in."""
    folder = tempfile.TemporaryDirectory(prefix="infertune-")
    (Path(folder.name) / "infertune").symlink_to(Path(infertune.__file__).parent, target_is_directory=True)
    return folder


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@contextlib.contextmanager
def device_lock(names: tuple[str, ...], *, wait: bool) -> Iterator[None]:
    """Hold a device, so that two runs on one machine never measure each other.

    The kernel lets go of the lock when its owner dies, so a file left by a dead run holds nobody up.

    Args:
        names: What to hold: GPU UUIDs, or `cpu`.
        wait: Wait until it is free instead of refusing.

    Raises:
        BenchmarkError: Another run holds it.
    """
    folder = Path(tempfile.gettempdir()) / "infertune-locks"
    folder.mkdir(mode=0o1777, exist_ok=True)
    with contextlib.ExitStack() as held:
        for name in sorted(names):
            file = held.enter_context(open(os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o666), "r+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
                owner = file.read().strip() or "unknown"
                raise BenchmarkError(
                    f"{name} is in use by another infertune run, process {owner}; wait for it with --wait"
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def failure_of(outcome: Crashed) -> Failure:
    """A worker's death in the form in which engines classify failures."""
    return Failure(stage=outcome.stage, error_type="", message=outcome.detail, trace_tail=outcome.stderr_tail)
