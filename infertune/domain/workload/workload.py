"""A workload, cut into parts that share nothing: warm-up, search, confirmation, the final comparison and quality.

The search part is the same job for every configuration; confirmation rounds are fresh draws.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field

from infertune.domain.measurement import Frozen
from infertune.domain.workload.lengths import Lengths
from infertune.domain.workload.requests import Request
from infertune.units import slugify

Part = Literal["warmup", "search", "confirm", "final", "quality"]
_PART_ENDS: dict[Part, float] = {"warmup": 0.1, "search": 0.5, "confirm": 0.7, "final": 0.85, "quality": 1.0}
FEWEST_CONVERSATIONS = 10  # with fewer, the tenth that is the warm-up part is less than one
LONG_DRAW = 2048  # requests of the search's one draw, of which a job takes the first
MOST_REQUESTS = 1_000_000


class WorkloadRecord(Frozen):
    """A workload as the ledger's header and a profile's fingerprint name it."""

    name: str
    spec: str
    content_hash: str
    n_requests: int | None = Field(ge=1, le=MOST_REQUESTS)
    seed: int = Field(ge=-(2**63), lt=2**63)


@dataclass(frozen=True)
class Workload:
    """Requests, all submitted at the start of a job (the offline objective).

    Attributes:
        spec: What the user wrote.
        content_hash: Changes when the requests would.
        seed: Seeds every draw.
        n_requests: Requests in a job as the user asked; None lets the default configuration's rate decide.
        pool: The requests of a file, in its order; empty for a synthetic workload.
        prompt_lengths: Prompt lengths of a synthetic workload.
        output_lengths: Output lengths of a synthetic workload.
        prefix_tokens: Tokens that all prompts of a synthetic workload share.
        format: The form that reads the file, such as `sharegpt`; empty for a synthetic workload.
        notes: What the user should know of how the file was read, in sentences.
    """

    spec: str
    content_hash: str
    seed: int = 0
    n_requests: int | None = None
    pool: tuple[Request, ...] = ()
    prompt_lengths: Lengths | None = None
    output_lengths: Lengths | None = None
    prefix_tokens: int = 0
    format: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A short name for folders."""
        kind, _, rest = self.spec.partition(":")
        tail = rest if kind == "synthetic" else Path(rest.split(",")[0]).name.partition(".")[0]
        return slugify(f"{self.format or kind} {tail}")

    @cached_property
    def recorded_s(self) -> tuple[float, ...]:
        """When the requests of a trace were sent, ascending, in seconds; empty where the file does not say."""
        return tuple(sorted(r.arrival_s for r in self.pool if r.arrival_s is not None))

    @property
    def largest_output_tokens(self) -> int:
        """The longest output that any request asks for."""
        if self.output_lengths:
            return self.output_lengths.largest
        return max(request.output_tokens for request in self.pool)

    def record(self) -> WorkloadRecord:
        """What is written to disk about it."""
        return WorkloadRecord(
            name=self.name,
            spec=self.spec,
            content_hash=self.content_hash,
            n_requests=self.n_requests,
            seed=self.seed,
        )

    def draw(self, part: Part, n: int, round_number: int = 0) -> tuple[Request, ...]:
        """n requests of a part; every round of a part is another draw, the same each time it is asked for.

        A file's part may hold fewer than n: then lengths are drawn again with other token ids, and of texts there
        are only as many as the part has (see `most`). Of conversations whole ones are drawn, their turns in order; only
        the last may be cut short. Requests that share blocks share them within one draw; no two draws share any.
        """
        rng = random.Random(f"{self.seed}/{part}/{round_number}")
        if not self.pool:
            assert self.prompt_lengths and self.output_lengths
            return tuple(
                Request(
                    prompt_tokens=max(self.prompt_lengths.draw(rng), self.prefix_tokens + 1),
                    output_tokens=self.output_lengths.draw(rng),
                    seed=rng.getrandbits(48),
                    prefix_tokens=self.prefix_tokens,
                )
                for _ in range(n)
            )
        held = self._part_of_pool(part)
        repeats = self.pool[0].prompt_tokens is not None
        if any(len(conversation) > 1 for conversation in held):
            chosen: list[Request] = []
            while len(chosen) < n and (repeats or not chosen):
                chosen += [request for conversation in rng.sample(held, len(held)) for request in conversation]
            del chosen[n:]
        else:
            chosen = [request for (request,) in rng.sample(held, min(n, len(held)))]
            if repeats:
                chosen += [request for (request,) in rng.choices(held, k=n - len(chosen))]
        return self._with_seeds(chosen, rng, f"{part}/{round_number}")

    def most(self, part: Part) -> int | None:
        """How many different requests a part has; None without limit."""
        if not self.pool or self.pool[0].prompt_tokens is not None:
            return None
        return sum(map(len, self._part_of_pool(part)))

    def _with_seeds(self, chosen: Sequence[Request], rng: random.Random, of: str) -> tuple[Request, ...]:
        """Other token ids for every request; the same blocks for the same ids, but others in a request's repeat."""
        first = random.Random(f"{self.seed}/{of}/blocks").getrandbits(48)
        taken: Counter[int] = Counter()
        seeded = []
        for request in chosen:
            block_seed = first + taken[id(request)] if request.block_ids else 0
            taken[id(request)] += 1
            seeded.append(replace(request, seed=rng.getrandbits(48), block_seed=block_seed))
        return tuple(seeded)

    def _part_of_pool(self, part: Part) -> Sequence[tuple[Request, ...]]:
        order = self._conversations
        names = list(_PART_ENDS)
        start = _PART_ENDS[names[names.index(part) - 1]] if names.index(part) else 0.0
        return order[round(start * len(order)) : round(_PART_ENDS[part] * len(order))]

    @cached_property
    def _conversations(self) -> list[tuple[Request, ...]]:
        """The pool by conversation, shuffled: whole ones go into a part. A request without one stands alone."""
        if all(request.conversation is None for request in self.pool):
            order: list[tuple[Request, ...]] = [(request,) for request in self.pool]
        else:
            found: dict[object, list[Request]] = {}
            for number, request in enumerate(self.pool):
                found.setdefault(number if request.conversation is None else request.conversation, []).append(request)
            order = [tuple(sorted(turns, key=lambda request: request.turn)) for turns in found.values()]
        random.Random(f"{self.seed}/split").shuffle(order)
        return order
