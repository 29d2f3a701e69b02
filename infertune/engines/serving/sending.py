"""The load generator: a process that sends each request when it is due and notes when every token came back.

It has a process of its own (`python -m infertune.engines.serving.sending`), so that it shares neither interpreter lock
nor garbage collector with whatever computes beside it. Why not one of the known generators: see the table in
docs/serving.md. All times are seconds from the start of the load.
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
from collections import deque
from typing import BinaryIO

from infertune.domain.load import CUT
from infertune.engines.serving.connection import Connection, Request, said
from infertune.engines.serving.job import Job, Took

_IDLE_S = 1.0  # a kept connection is not used again after this: servers close idle ones, uvicorn's after 5 s
_GAUGES_EVERY_S = 1.0
_MOST_GAUGES_BYTES = 4 * 1024**2
_NICE = -10  # of the process, where no better place is allowed


class Load:
    """One job: every request at its time, and the server's own figures about once a second."""

    def __init__(self, job: Job, requests: list[Request]) -> None:
        self._job = job
        self._requests = requests
        self._head = job.head.encode("latin-1")
        # One for all connections: making it reads every certificate of the machine, tens of milliseconds.
        self._tls = ssl.create_default_context() if job.tls else None
        self._loop = asyncio.get_running_loop()
        self._start = 0.0
        self._next = 0
        self._free_since = deque([0.0] * (job.concurrency or 0))  # of a closed loop: every place that is free
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._left = len(requests)
        self._all_ended = asyncio.Event()
        self._opening: set[asyncio.Task[None]] = set()
        self.gauges: list[tuple[float, str]] = []

    async def run(self) -> None:
        """Send everything, and wait until all of it has ended or is cut."""
        self._start = self._loop.time()
        looking = asyncio.ensure_future(self._look()) if self._job.gauges_head else None
        self._pump()
        last_due = self._requests[-1].due if self._requests else 0.0
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
        requests = self._requests
        while self._next < len(requests):
            request = requests[self._next]
            if self._job.concurrency is not None:
                if not self._free_since:
                    return  # the end of another one comes back here
                request.due = self._free_since.popleft()
            at = self._start + request.due
            if self._loop.time() < at:
                self._loop.call_at(at, self._pump)
                return
            self._next += 1
            request.sent = self._loop.time()
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
            request.error = f"no connection: {said(str(error) or type(error).__name__)}"
            self.finished(request, None, self._loop.time())
            return
        if request.end is None:
            connection.send(request)

    async def _connect(self) -> Connection:
        job = self._job
        _, connection = await self._loop.create_connection(
            lambda: Connection(self, self._head, job.secrets), job.host, job.port, ssl=self._tls
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
        if connection is not None:
            if connection.closed:
                self._open.discard(connection)
            else:
                self._idle.append(connection)
        if self._left == 0:
            self._all_ended.set()
        elif self._job.concurrency is not None:
            self._free_since.append(now - self._start)
            self._loop.call_soon(self._pump)

    def _cut(self) -> None:
        now = self._loop.time()
        for request in self._requests:
            if request.end is None:
                request.end = now
                if request.sent is None and self._job.concurrency is not None:
                    continue  # of a closed loop: it was never due
                request.sent = request.sent or now
                request.error = (
                    f"{CUT} {self._job.cut_after_s:g} s after the last one was due: "
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
                text = await asyncio.wait_for(_fetch(job, self._tls), 5.0)
                lines = [line for line in text.splitlines() if line.startswith(job.gauge_names)]
                self.gauges.append((at, "\n".join(lines)))
            await asyncio.sleep(max(0.05, at + _GAUGES_EVERY_S - (self._loop.time() - self._start)))


async def _fetch(job: Job, tls: ssl.SSLContext | None) -> str:
    """The body of the page with the server's figures."""
    reader, writer = await asyncio.open_connection(job.host, job.port, ssl=tls, limit=_MOST_GAUGES_BYTES)
    try:
        writer.write(job.gauges_head.encode("latin-1"))
        return (await reader.read(-1)).decode(errors="replace")
    finally:
        writer.transport.abort()


def _prefer_this_process() -> None:
    """Ask for more open files than a shell gives, and to be run before everything else, where that is allowed.

    On two cores under a load of 17, the real-time class brought the p99 of lateness from 12 ms (nice −10) to 2 ms. It
    takes half a millisecond a request, so it starves nobody.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(os.sched_get_priority_min(os.SCHED_RR)))
    except (OSError, AttributeError):  # not allowed, or another system
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def _read_requests(lines: BinaryIO, n: int) -> list[Request]:
    found = []
    for _ in range(n):
        due, tokens, body = lines.readline().rstrip(b"\n").split(b" ", 2)
        found.append(Request(float(due), int(tokens), body))
    return found


async def _run(job: Job, requests: list[Request]) -> Load:
    load = Load(job, requests)
    await load.run()
    return load


def main() -> None:
    """Do jobs until there are no more."""
    _prefer_this_process()
    jobs, output = sys.stdin.buffer, sys.stdout.buffer
    while line := jobs.readline():
        job = Job.model_validate_json(line)
        requests = _read_requests(jobs, job.n)
        gc.collect()
        gc.freeze()
        gc.disable()
        cpu = time.process_time()
        load = asyncio.run(_run(job, requests))
        sent = [request for request in requests if request.sent is not None]
        took = Took(cpu_s=time.process_time() - cpu, gauges=tuple(load.gauges), n=len(sent))
        output.write(took.model_dump_json().encode() + b"\n")
        for request in sent:
            output.write(json.dumps(request.record(load.start_s)).encode() + b"\n")
        output.flush()
        gc.enable()
        gc.unfreeze()


if __name__ == "__main__":
    main()
