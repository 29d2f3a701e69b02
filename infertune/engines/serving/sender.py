"""The worker's end of the load generator: see `sending.py`, which sends in a process of its own."""

import contextlib
import json
import math
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from infertune.domain.load import Gauges, Load, Sent
from infertune.engines.base import first_line
from infertune.engines.serving.job import Job, Took, hidden

_LOOK_EVERY_S = 0.5  # how often a running load is checked for a server that is gone (judgement)


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: Name or number.
        port: TCP port.
        tls: Whether it is spoken to over TLS.
        prefix: Of every path, such as `/tenant`; empty for most.
        headers: Sent with every request; may hold a key, so they are never written anywhere.
    """

    host: str
    port: int
    tls: bool = False
    prefix: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def head(self, method: str, path: str, *more: str) -> str:
        """The head of an HTTP/1.1 request, its last lines given."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [
            f"{method} {self.prefix}{path} HTTP/1.1",
            f"Host: {host}:{self.port}",
            *(f"{name}: {value}" for name, value in self.headers),
            *more,
        ]
        return "\r\n".join(lines) + "\r\n\r\n"

    def hidden(self, text: str) -> str:
        """A text of the server, which may repeat what was sent, without the key."""
        return hidden(text, self.secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown: the headers' values, and each without its scheme (`Bearer`)."""
        found = (secret for _, value in self.headers for secret in (value, value.rpartition(" ")[2]))
        return tuple(filter(None, found))


@dataclass(frozen=True)
class GaugeNames:
    """Names of a server's own figures in its Prometheus text; empty for what it does not give.

    Attributes:
        path: Where the text is.
        running: Requests in its batch.
        waiting: Requests in its queue.
        kv_cache_share: Share of the KV cache in use.
        preemptions: Since its start.
        prefix_hit_tokens: Prompt tokens found in the prefix cache, since its start.
        prefix_query_tokens: Prompt tokens looked up there, since its start.
    """

    path: str = ""
    running: str = ""
    waiting: str = ""
    kv_cache_share: str = ""
    preemptions: str = ""
    prefix_hit_tokens: str = ""
    prefix_query_tokens: str = ""

    @property
    def names(self) -> dict[str, str]:
        """Field of `Gauges` → name in the text."""
        return {field: name for field, name in vars(self).items() if field != "path" and name}


@dataclass(frozen=True)
class Outgoing:
    """A request to send: when, how many tokens it asks for, and its body as JSON on one line."""

    due_s: float
    output_tokens: int
    body: str


class GeneratorEndedError(Exception):
    """The load generator's process is gone; the message says how."""


class Sender:
    """Keeps the generator's process and gives it jobs; it belongs to the worker's process group."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the generator's process now, so that the first job need not wait for it."""
        self._started()

    def run(
        self,
        address: Address,
        path: str,
        requests: Sequence[Outgoing],
        *,
        cut_after_s: float,
        concurrency: int | None = None,
        gauges: GaugeNames | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Load:
        """Send requests when they are due and wait for all of them.

        Args:
            address: The server.
            path: Of the requests.
            requests: In the order of their due times.
            cut_after_s: Seconds after the last due time at which what is unfinished is cut.
            concurrency: At most so many at once; a request is then due when a place is free.
            gauges: The server's own figures to read every second.
            check: Called while waiting; an exception of it ends the load.

        Raises:
            GeneratorEndedError: The generator's process ended.
        """
        process = self._started()
        assert process.stdin and process.stdout
        gauges = gauges or GaugeNames()
        names = gauges.names
        head = address.head("POST", path, "Content-Type: application/json").removesuffix("\r\n").replace("%", "%%")
        job = Job(
            host=address.host,
            port=address.port,
            tls=address.tls,
            head=f"{head}Content-Length: %d\r\n\r\n",
            secrets=address.secrets,
            # HTTP/1.0: the end of the connection is the end of the answer.
            gauges_head=address.head("GET", gauges.path).replace(" HTTP/1.1", " HTTP/1.0", 1) if names else "",
            gauge_names=tuple(names.values()),
            cut_after_s=cut_after_s,
            concurrency=concurrency,
            n=len(requests),
        )
        try:
            process.stdin.write(job.model_dump_json().encode() + b"\n")
            for request in requests:
                process.stdin.write(f"{request.due_s:.6f} {request.output_tokens} {request.body}\n".encode())
            process.stdin.flush()
            while not select.select([process.stdout], [], [], _LOOK_EVERY_S)[0]:
                check()
            took = Took.model_validate_json(process.stdout.readline())
            sent = tuple(_sent(json.loads(process.stdout.readline()), address) for _ in range(took.n))
        except (OSError, ValueError) as error:
            code = process.poll()
            self.close()
            said = first_line(str(error))
            raise GeneratorEndedError(f"the load generator ended (code {code}): {said}") from None
        except BaseException:
            self.close()
            raise
        looks = tuple(read_gauges(at, text, names) for at, text in took.gauges)
        return Load(sent=sent, gauges=looks, generator_cpu_s=took.cpu_s)

    def close(self) -> None:
        """End the generator's process."""
        if self._process:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            command = [sys.executable, "-m", "infertune.engines.serving.sending"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process


def read_gauges(at_s: float, text: str, names: Mapping[str, str]) -> Gauges:
    """Figures in Prometheus text: the sum over a name's labels, for the KV cache the largest, 1 at most.

    What is no amount (NaN, infinite, negative) is left out.

    Args:
        at_s: The moment.
        text: Lines such as `name{label="x"} 3.0`.
        names: Field of `Gauges` → name in the text.
    """
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        try:
            value = float(line.rpartition("}")[2].split()[0] if "{" in line else line.split()[1])
        except (ValueError, IndexError):
            continue
        if 0 <= value < math.inf:
            found.setdefault(name, []).append(value)
    values = {field: found[name] for field, name in names.items() if name in found}
    shares = {field: min(1.0, max(given)) for field, given in values.items() if field == "kv_cache_share"}
    counts = {field: round(sum(given)) for field, given in values.items() if field != "kv_cache_share"}
    return Gauges.model_validate({"at_s": at_s, **counts, **shares})


def _sent(record: object, address: Address) -> Sent:
    assert isinstance(record, list)
    due, sent, end, first, tokens, gaps, error = record
    return Sent(due, sent, end, first, tokens, tuple(gaps), address.hidden(error))
