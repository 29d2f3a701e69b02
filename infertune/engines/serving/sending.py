"""The load generator's process: sends each request when it is due and notes when every token came back.

A program of its own (`python -I -S sending.py`), on the standard library alone: it starts in 50 ms, shares neither
interpreter lock nor garbage collector with whatever computes beside it, and runs under any interpreter. Why not one of
the known generators: see the table in docs/serving.md (`python -m tests.benchmarks.load`).

Standard input has jobs, one after another: a line of JSON (see `sender.py`), then a line a request: when it is due in
seconds, how many tokens it asks for, and its body. Standard output has for each job a line of JSON with what the job
took, then a line a request. All times are seconds from the start of the load.
"""

import asyncio
import contextlib
import gc
import json
import os
import resource
import ssl
import sys
import time
from typing import BinaryIO

_IDLE_S = 1.0  # a kept connection is not used again after this: servers close idle ones, uvicorn's after 5 s
_GAUGES_EVERY_S = 1.0
_MOST_ERROR_BYTES = 2000  # of an answer that is an error
_MOST_GAUGES_BYTES = 4 * 1024**2
_PRIORITY = -10  # of the process, where that is allowed: it uses little, and what it does is urgent


class Request:
    """One request and what became of it; times on the loop's clock, in seconds."""

    __slots__ = (
        "asked", "body", "counted", "due", "end", "error", "first", "gaps", "last", "sent", "tried", "usage",
    )  # fmt: skip

    def __init__(self, due: float, asked: int, body: bytes) -> None:
        self.due = due
        self.asked = asked
        self.body = body
        self.sent: float | None = None
        self.first: float | None = None
        self.last: float | None = None
        self.end: float | None = None
        self.counted = 0
        self.usage: int | None = None
        self.gaps: list[float] = []
        self.error = ""
        self.tried = 0

    def tokens(self, number: int, now: float) -> None:
        """Some tokens came at once."""
        if self.last is None:
            self.first = now
        else:
            self.gaps.append(now - self.last)
        self.gaps += [0.0] * (number - 1)
        self.counted += number
        self.last = now

    def record(self, start: float) -> list[object]:
        """What is known of it, as `sender.py` reads it."""
        output = self.counted if self.usage is None else self.usage
        error = self.error
        if not error and output != self.asked:
            error = f"{output} of {self.asked} tokens came"
        singly = self.counted == output
        end = self.last if self.last is not None and not error else self.end
        return [
            round(self.due, 6),
            *(None if at is None else round(at - start, 6) for at in (self.sent, end, self.first)),
            output,
            [round(gap, 6) for gap in self.gaps] if singly else [],
            error,
        ]


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: a request at a time, the body's events as they come."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.request: Request | None = None
        self.idle_since = 0.0
        self.used = False
        self.closed = False
        self._clear()

    def _clear(self) -> None:
        self._raw = bytearray()
        self._text = bytearray()
        self._status = 0
        self._chunked = self._close = self._done = False
        self._left: int | None = None
        self._in_body = False

    def send(self, request: Request) -> None:
        """Send a request; the connection is open and idle."""
        assert self.transport
        self._clear()
        self.request = request
        self.transport.write(self._load.head % len(request.body) + request.body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        now = self._loop.time()
        self._raw += data
        try:
            if not self._in_body and not self._read_head():
                return
            if self._read_body(now):
                self._finished(now)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            self._failed(f"an answer that is no completion: {type(error).__name__}: {error}", now)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed by the other side, or by ours."""
        self.closed = True
        request, now = self.request, self._loop.time()
        if request is None:
            return
        if self.used and not self._in_body and not self._raw and request.tried < 2:
            self.request = None
            self._load.start(request)  # a kept connection that the server had just closed: nothing was answered on it
            return
        if self._in_body and self._left is None and not self._chunked and self._done:
            self._finished(now)
            return
        what = "closed the connection without an answer"
        if request.counted:
            what = f"closed the stream early, after {request.counted} of {request.asked} tokens"
        elif self._in_body:
            what = "closed the stream before the first token"
        self._failed(f"the server {what}", now)

    def _read_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = bytes(self._raw[:end]).decode("latin-1").split("\r\n")
        del self._raw[: end + 4]
        self._status = int(lines[0].split(" ", 2)[1])
        if 100 <= self._status < 200:
            return self._read_head()
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip().lower()
            if name == "transfer-encoding":
                self._chunked = "chunked" in value
            elif name == "content-length":
                self._left = int(value)
            elif name == "connection":
                self._close = value == "close"
        self._in_body = True
        return True

    def _read_body(self, now: float) -> bool:
        """Take in what came of the body; whether that was all of it."""
        complete = False
        if self._chunked:
            while (line := self._raw.find(b"\r\n")) >= 0:
                size = int(bytes(self._raw[:line]).partition(b";")[0], 16)
                if len(self._raw) < line + 2 + size + 2:
                    break
                self._text += self._raw[line + 2 : line + 2 + size]
                del self._raw[: line + 2 + size + 2]
                if size == 0:
                    complete = True
                    break
        else:
            self._text += self._raw
            if self._left is not None:
                self._left -= len(self._raw)
                complete = self._left <= 0
            self._raw.clear()
        if self._status == 200:
            self._read_events(now)
        return complete

    def _read_events(self, now: float) -> None:
        request = self.request
        if request is None:
            return
        while (end := self._text.find(b"\n")) >= 0:
            line = bytes(self._text[:end]).strip()
            del self._text[: end + 1]
            if not line.startswith(b"data:"):
                continue
            content = line[5:].strip()
            if content == b"[DONE]":
                self._done = True
                continue
            event = json.loads(content)
            if event.get("error"):
                request.error = request.error or f"the server answered an error: {_said(event)}"
                continue
            usage = event.get("usage")
            if usage:
                request.usage = int(usage["completion_tokens"])
            for choice in event.get("choices") or ():
                ids = choice.get("token_ids")  # where the server says; else an event is taken for a token
                number = len(ids) if ids is not None else int(bool(choice.get("text") or not choice["finish_reason"]))
                if number:
                    request.tokens(number, now)

    def _finished(self, now: float) -> None:
        request = self.request
        if request is None:
            return
        self.request = None
        if self._status != 200:
            request.error = f"HTTP {self._status}{_reason(self._text)}"
        elif not self._done and not request.error:
            request.error = f"the stream ended early, after {request.counted} of {request.asked} tokens"
        self.used = True
        self.idle_since = now
        if self._close or request.error:
            self._abort()
        self._load.finished(request, self, now)

    def _failed(self, what: str, now: float) -> None:
        request = self.request
        self.request = None
        self._abort()
        if request is not None:
            request.error = request.error or what
            self._load.finished(request, self, now)

    def _abort(self) -> None:
        self.closed = True
        if self.transport:
            self.transport.abort()


class Load:
    """One job: every request at its time, and the server's own figures about once a second."""

    def __init__(self, job: "Job") -> None:
        self._job = job
        self.head = job.head
        self._loop = asyncio.get_running_loop()
        self._start = 0.0
        self._next = 0
        self._running = 0
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._left = len(job.requests)
        self._all_ended = asyncio.Event()
        self._opening: set[asyncio.Task[None]] = set()
        self.gauges: list[tuple[float, str]] = []

    async def run(self) -> None:
        """Send everything, and wait until all of it has ended or is cut."""
        self._start = self._loop.time()
        looking = asyncio.ensure_future(self._look()) if self._job.gauges_head else None
        self._pump()
        last_due = self._job.requests[-1].due if self._job.requests else 0.0
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_ended.wait(), last_due + self._job.cut_after_s)
        if looking:
            looking.cancel()
        self._cut()

    @property
    def start_s(self) -> float:
        """The loop's time at which the load started."""
        return self._start

    def _pump(self) -> None:
        """Send what is due, and come back when the next is."""
        requests = self._job.requests
        while self._next < len(requests):
            request = requests[self._next]
            if self._job.concurrency is not None and self._running >= self._job.concurrency:
                return  # the end of another one comes back here
            at = self._start + request.due
            if self._loop.time() < at:
                self._loop.call_at(at, self._pump)
                return
            self._next += 1
            self._running += 1
            request.sent = self._loop.time()
            if self._job.concurrency is not None:
                request.due = request.sent - self._start
            self.start(request)

    def start(self, request: Request) -> None:
        """Send a request on a connection that is idle, or on a new one."""
        request.tried += 1
        now = self._loop.time()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and now - connection.idle_since < _IDLE_S and request.tried == 1:
                connection.send(request)
                return
            self._drop(connection)
        task = self._loop.create_task(self._send_on_new(request))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _send_on_new(self, request: Request) -> None:
        try:
            connection = await self._connect()
        except OSError as error:
            request.error = f"no connection: {_said(str(error) or type(error).__name__)}"
            self.finished(request, None, self._loop.time())
            return
        if request.end is None:
            connection.send(request)

    async def _connect(self) -> Connection:
        job = self._job
        _, connection = await self._loop.create_connection(
            lambda: Connection(self), job.host, job.port, ssl=ssl.create_default_context() if job.tls else None
        )
        self._open.add(connection)
        return connection

    def _drop(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection.transport:
            connection.transport.abort()

    def finished(self, request: Request, connection: Connection | None, now: float) -> None:
        """A request has ended, well or not."""
        if request.end is not None:
            return
        request.end = now
        self._left -= 1
        self._running -= 1
        if connection is not None:
            if connection.closed:
                self._open.discard(connection)
            else:
                self._idle.append(connection)
        if self._left == 0:
            self._all_ended.set()
        elif self._job.concurrency is not None:
            self._loop.call_soon(self._pump)

    def _cut(self) -> None:
        now = self._loop.time()
        for request in self._job.requests:
            if request.end is None:
                request.end = now
                request.sent = request.sent if request.sent is not None else now
                request.error = (
                    f"cut {self._job.cut_after_s:g} s after the last one was due: "
                    f"{request.counted} of {request.asked} tokens had come"
                )
        for connection in list(self._open):
            connection.request = None
            self._drop(connection)
        for task in self._opening:
            task.cancel()

    async def _look(self) -> None:
        """Read the server's figures every second; one that does not answer is left out."""
        job = self._job
        while True:
            at = self._loop.time() - self._start
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                text = await asyncio.wait_for(_fetch(job), 5.0)
                lines = [line for line in text.splitlines() if line.startswith(job.gauge_names)]
                self.gauges.append((at, "\n".join(lines)))
            await asyncio.sleep(max(0.05, at + _GAUGES_EVERY_S - (self._loop.time() - self._start)))


async def _fetch(job: "Job") -> str:
    """The body of the page with the server's figures."""
    context = ssl.create_default_context() if job.tls else None
    reader, writer = await asyncio.open_connection(job.host, job.port, ssl=context, limit=_MOST_GAUGES_BYTES)
    try:
        writer.write(job.gauges_head)
        return (await reader.read(-1)).decode(errors="replace")
    finally:
        writer.transport.abort()


class Job:
    """What to send, and where."""

    def __init__(self, asked: dict[str, object], requests: list[Request]) -> None:
        self.requests = requests
        self.host = str(asked["host"])
        self.port = int(str(asked["port"]))
        self.tls = bool(asked["tls"])
        self.head = str(asked["head"]).encode("latin-1")
        self.gauges_head = str(asked["gauges_head"]).encode("latin-1")
        names = asked["gauge_names"]
        self.gauge_names = tuple(map(str, names)) if isinstance(names, list) else ()
        self.cut_after_s = float(str(asked["cut_after_s"]))
        self.concurrency = int(str(asked["concurrency"])) if asked["concurrency"] is not None else None


def _said(content: object) -> str:
    """What an error in an answer says, in one line."""
    error = content.get("error", content) if isinstance(content, dict) else content
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())[:300]


def _reason(body: bytearray) -> str:
    text = bytes(body[:_MOST_ERROR_BYTES]).decode(errors="replace")
    with contextlib.suppress(ValueError):
        return f": {_said(json.loads(text))}"
    line = " ".join(text.split())[:300]
    return f": {line}" if line else ""


def _read_job(lines: BinaryIO) -> Job | None:
    """The next job; None at the end."""
    first = lines.readline()
    if not first:
        return None
    asked = json.loads(first)
    requests = []
    for _ in range(asked["n"]):
        due, tokens, body = lines.readline().rstrip(b"\n").split(b" ", 2)
        requests.append(Request(float(due), int(tokens), body))
    return Job(asked, requests)


def _prefer_this_process() -> None:
    """Ask for more open files than a shell gives, and to be run before the server, where that is allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)


async def _run(job: Job) -> Load:
    load = Load(job)
    await load.run()
    return load


def main() -> None:
    """Do jobs until there are no more."""
    _prefer_this_process()
    output = sys.stdout.buffer
    while (job := _read_job(sys.stdin.buffer)) is not None:
        gc.collect()
        gc.freeze()
        gc.disable()
        cpu = time.process_time()
        load = asyncio.run(_run(job))
        head = {"cpu_s": time.process_time() - cpu, "n": len(job.requests), "gauges": load.gauges}
        output.write(json.dumps(head).encode() + b"\n")
        for request in job.requests:
            output.write(json.dumps(request.record(load.start_s)).encode() + b"\n")
        output.flush()
        gc.enable()
        gc.unfreeze()


if __name__ == "__main__":
    main()
