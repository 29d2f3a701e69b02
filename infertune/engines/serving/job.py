"""What the worker and the load generator's process say to each other, over pipes.

To the generator: a `Job` on a line, then a line for each request, which says when it is due in seconds, how many
tokens it asks for, and its body. Back: a `Took` on a line, then a line of JSON for each request (`Request.record`).
"""

from collections.abc import Sequence

from pydantic import Field

from infertune.domain.measurement import Frozen


class Job(Frozen):
    """A load.

    Attributes:
        host: Where the server listens.
        port: TCP port.
        tls: Whether it is spoken to over TLS.
        head: Head of every request, `%d` in place of its body's length.
        secrets: What no error may show: keys that the server may repeat.
        gauges_head: The request for the server's own figures; empty where it gives none.
        gauge_names: Names of those that are kept.
        cut_after_s: Seconds after the last due time at which what is unfinished is cut.
        concurrency: At most so many requests at once; None for as many as are due.
        n: How many requests follow.
    """

    host: str
    port: int
    tls: bool
    head: str
    secrets: tuple[str, ...] = ()
    gauges_head: str = ""
    gauge_names: tuple[str, ...] = ()
    cut_after_s: float
    concurrency: int | None = Field(default=None, ge=1)
    n: int = Field(ge=0)


class Took(Frozen):
    """What a load took; the requests follow.

    Attributes:
        n: How many requests follow: a closed loop that was cut has not sent all of them.
        cpu_s: Processor seconds of the generator.
        gauges: Seconds from the start, and the lines of the server's figures at that moment.
    """

    n: int
    cpu_s: float
    gauges: tuple[tuple[float, str], ...] = ()


def hidden(text: str, secrets: Sequence[str]) -> str:
    """A text of the server, which may repeat what was sent, without secrets."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
