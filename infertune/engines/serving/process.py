"""A server's processes, from its start until nothing of them is left. They belong to the worker's process group.

The server writes to the worker's own standard error, which is the log of the launch.
"""

import contextlib
import http.client
import math
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from infertune.engines.base import first_line

HOST = "127.0.0.1"
_LOOK_EVERY_S = 0.1
_FAMILY_EVERY_S = 10.0  # how often a server's processes are listed, which takes 10 ms beside it (judgement)
_ANSWER_WITHIN_S = 5.0  # of a question for its health (judgement)
_GRACE_S = 10.0  # to end by itself: vLLM takes 5.4 s; the worker's own end has 15 s
_TAIL_BYTES = 64 * 1024
_PORTS_TRIED = 3
_PORT_TAKEN = re.compile(
    r"address already in use|EADDRINUSE|Errno 98|couldn't bind|Only one usage of each socket", re.I
)
# Lines of a log that name the cause, against those that only follow from it.
_ERROR = re.compile(r"\b\w*(Error|Exception)\b.*:|\berror\b", re.I)


class ServerEndedError(Exception):
    """The server's process ended by itself; the message says how, and its last words."""


class ServerNotReadyError(TimeoutError):
    """The server was not ready in time."""


@dataclass(frozen=True)
class Start:
    """How a server is started.

    Attributes:
        command: The argument list for a port.
        environment: Variables that are set besides the worker's own.
        without: Beginnings of the names of variables of the worker that the server must not see.
        health: Path that answers 200 once the server takes requests.
        ready_within_s: Longest time until then; unless given, the deadline of the stage ends the wait.
    """

    command: Callable[[int], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    health: str = "/health"
    ready_within_s: float = math.inf

    def variables(self, own: Mapping[str, str]) -> dict[str, str]:
        """The server's environment, from the worker's own."""
        kept = {name: value for name, value in own.items() if not name.startswith(self.without)}
        return {**kept, **self.environment}

    def left_out(self, own: Iterable[str]) -> list[str]:
        """The names of the worker's own variables that the server does not see, sorted."""
        return sorted(name for name in own if name.startswith(self.without))


class ServerProcess:
    """A started server.

    Attributes:
        port: Where it listens.
        command: The argument list that it was started with.
    """

    def __init__(self, start: Start) -> None:
        """Start a server and wait until it takes requests.

        Raises:
            ServerEndedError: It ended before that.
            ServerNotReadyError: It took too long.
        """
        for left in reversed(range(_PORTS_TRIED)):
            self._known: dict[psutil.Process, None] = {}
            self._family_at = 0.0
            self.port = free_port()
            self.command = tuple(start.command(self.port))
            self._log_from = _log_size()
            try:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr.fileno(),
                    env=start.variables(os.environ),
                )
            except OSError as error:
                raise ServerEndedError(f"cannot start {self.command[0]}: {error.strerror}") from None
            try:
                self._wait_until_ready(start)
                return
            except ServerEndedError as error:
                self.end()
                if not left or not _PORT_TAKEN.search(f"{error}\n{self.log_tail()}"):
                    raise
            except BaseException:
                self.end()
                raise

    def check(self) -> None:
        """Raise where the server is gone.

        Raises:
            ServerEndedError: It is.
        """
        code = self._process.poll()
        if code is None and time.monotonic() > self._family_at + _FAMILY_EVERY_S:
            self.family()
        if code is not None:
            raise ServerEndedError(f"the server {_ended(code)}{self._last_words()}")

    def family(self) -> list[psutil.Process]:
        """The server's process first, then all that it started, those included that outlive it."""
        self._family_at = time.monotonic()
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self._process.pid)
            self._known |= dict.fromkeys((leader, *leader.children(recursive=True)))
        return [process for process in self._known if process.is_running()]

    def log_tail(self, lines: int = 40) -> str:
        """The last lines that it wrote, where the worker's log can be read."""
        return "\n".join(_log_since(self._log_from).splitlines()[-lines:])

    def log(self) -> str:
        """What it wrote since its start, at most the last 64 KiB; empty where the worker's log cannot be read."""
        return _log_since(self._log_from)

    def end(self) -> None:
        """End the server and all that it started, and wait until they are gone."""
        family = self.family()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        for process in family:  # those that do not listen, and those left behind
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(family, timeout=_GRACE_S)

    def _wait_until_ready(self, start: Start) -> None:
        """Wait until our own server answers.

        Raises:
            ServerEndedError: It ended, or another program answers at its port.
            ServerNotReadyError: It took too long.
        """
        deadline = time.monotonic() + start.ready_within_s
        while True:
            self.check()
            status = _status(self.port, start.health)
            if status == 200:
                self.check()
                if not self._listens():
                    raise ServerEndedError(f"port {self.port} is taken: EADDRINUSE by another program")
                return
            if time.monotonic() > deadline:
                said = f", its last answer was HTTP {status}" if status else ""
                raise ServerNotReadyError(
                    f"the server was not ready after {start.ready_within_s:g} s{said}{self._last_words()}"
                )
            time.sleep(_LOOK_EVERY_S)

    def _listens(self) -> bool:
        """Whether the port is held by the server or something that it started."""
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                found = process.net_connections(kind="tcp")
                if any(c.status == psutil.CONN_LISTEN and c.laddr.port == self.port for c in found):
                    return True
        return False

    def _last_words(self) -> str:
        """The last line of its log that names an error, else the last one."""
        lines = [line for line in self.log_tail().splitlines() if line.strip()]
        words = next((line for line in reversed(lines) if _ERROR.search(line)), lines[-1] if lines else "")
        return f": {first_line(words)}" if words else ""


def free_port() -> int:
    """A port of this machine's loopback that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
    return port


def resident_peak_bytes(processes: Sequence[psutil.Process]) -> int | None:
    """Peak resident memory of processes, each at its own peak; None where the system does not say."""
    peak_kib = 0
    for process in processes:
        with contextlib.suppress(OSError), open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            peak_kib += sum(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    return peak_kib * 1024 or None


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}{' (perhaps by the kernel, out of host memory)' if name == 'SIGKILL' else ''}"


def _status(port: int, path: str) -> int | None:
    """The status that a path answers; None without an answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_ANSWER_WITHIN_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _log_size() -> int:
    """How much stands in the worker's log by now; 0 where its standard error is no file."""
    with contextlib.suppress(OSError, ValueError):
        found = os.fstat(sys.stderr.fileno())
        if stat.S_ISREG(found.st_mode):
            return found.st_size
    return 0


def _log_since(start: int) -> str:
    """What was written to the worker's log since, at most its last part; it is open for reading too."""
    with contextlib.suppress(OSError, ValueError):
        size = _log_size()
        if size:
            begin = max(start, size - _TAIL_BYTES)
            return os.pread(sys.stderr.fileno(), size - begin, begin).decode(errors="replace")
    return ""
