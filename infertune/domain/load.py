"""Requests sent to a server at set times, and what became of each: the raw material of every serving figure.

All times are seconds from the start of the load. Latencies count from when a request was *due*, not from when it was
sent: a generator that falls behind must not hide the server's queue (coordinated omission).
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from infertune.domain.frozen import Frozen

CUT = "cut"  # an error that begins so is the load's own end, no failure of the server


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of a load.

    Attributes:
        due_s: When it was to be sent.
        sent_s: When it was sent.
        end_s: When its last token came, or its failure was known.
        first_s: When its first token came; None if none did.
        output_tokens: Tokens that came.
        gaps_s: Times between successive tokens, in seconds, 0 between those of one event whose number is known. Where
            it is not, the times between events: the longest is the same, but there are fewer than between tokens.
        error: One line; empty if it came back whole.
    """

    due_s: float
    sent_s: float
    end_s: float
    first_s: float | None = None
    output_tokens: Annotated[int, Field(ge=0)] = 0
    gaps_s: tuple[float, ...] = ()
    error: str = ""

    @property
    def failed_by_server(self) -> bool:
        """Whether the server failed it; one that was cut was only too slow."""
        return bool(self.error) and not self.error.startswith(CUT)

    @property
    def late_s(self) -> float:
        """How much later than due it was sent."""
        return self.sent_s - self.due_s

    @property
    def ttft_s(self) -> float | None:
        """Time to first token, from when it was due."""
        return None if self.first_s is None else self.first_s - self.due_s

    @property
    def latency_s(self) -> float:
        """To its last token, from when it was due."""
        return self.end_s - self.due_s

    @property
    def token_gaps_s(self) -> tuple[float, ...]:
        """The times between all of its tokens; empty where only those between events are known."""
        return self.gaps_s if len(self.gaps_s) == self.output_tokens - 1 else ()

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None for one token or none."""
        if self.first_s is None or self.output_tokens < 2:
            return None
        return (self.end_s - self.first_s) / (self.output_tokens - 1)


class Gauges(Frozen):
    """What a server says of itself at one moment; None for what it does not say.

    Attributes:
        at_s: The moment.
        running: Requests in its batch.
        waiting: Requests in its queue.
        kv_cache_share: Share of the KV cache in use, 0 to 1.
        preemptions: Since its start.
        prefix_hit_tokens: Prompt tokens found in the prefix cache, since its start.
        prefix_query_tokens: Prompt tokens looked up there, since its start.
    """

    at_s: float
    running: int | None = None
    waiting: int | None = None
    kv_cache_share: float | None = None
    preemptions: int | None = None
    prefix_hit_tokens: int | None = None
    prefix_query_tokens: int | None = None


class Load(Frozen):
    """A load from its first request to the last.

    Attributes:
        sent: One entry a request, in the order of their due times.
        gauges: The server's own figures at about one look a second; empty where it gives none.
        generator_cpu_s: Processor seconds of whatever sent the requests; None where nothing real did.
    """

    sent: tuple[Sent, ...]
    gauges: tuple[Gauges, ...] = ()
    generator_cpu_s: float | None = None
