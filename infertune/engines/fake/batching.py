"""Continuous batching as discrete events: a server that takes a step at a time, without a model or a real clock.

Each step gives every running request one token and spends what is left of the token budget on the prompts that wait,
in their order, in chunks. A request is admitted while there is a free slot and room for all its tokens in the cache.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

from infertune.domain.load import CUT, Gauges, Load, Sent
from infertune.engines.base import Prompt

_GAUGE_EVERY_S = 1.0
_CUT = f"{CUT}: not answered in time"


@dataclass(frozen=True)
class Speed:
    """What a step of the server takes.

    Attributes:
        step_s: Of an empty step, in seconds.
        sequence_s: More for each running request.
        prompt_token_s: More for each prompt token.
        kv_token_s: More for each token in the cache.
        slots: Most requests that run at once.
        step_tokens: Most tokens of a step.
        kv_tokens: Room of the cache.
    """

    step_s: float
    sequence_s: float
    prompt_token_s: float
    kv_token_s: float
    slots: int
    step_tokens: int
    kv_tokens: int


def served(
    speed: Speed,
    prompts: Sequence[Prompt],
    due_s: Sequence[float],
    cut_after_s: float = float("inf"),
    concurrency: int | None = None,
) -> Load:
    """The load of some prompts.

    Args:
        speed: What a step takes.
        prompts: What is sent.
        due_s: When, ascending; of no meaning in a closed loop.
        cut_after_s: Seconds after the last due time at which what is unfinished is cut.
        concurrency: Most requests under way at once; None sends each when it is due.
    """
    return _Server(speed, prompts, due_s, cut_after_s, concurrency).run()


class _Server:
    def __init__(
        self,
        speed: Speed,
        prompts: Sequence[Prompt],
        due_s: Sequence[float],
        cut_after_s: float,
        concurrency: int | None,
    ) -> None:
        self._speed = speed
        self._prompts = prompts
        self._due = list(due_s)
        self._cut_s = due_s[-1] + cut_after_s
        self._closed = concurrency is not None
        self._n_sent = min(concurrency or len(prompts), len(prompts)) if self._closed else 0
        self._now = 0.0
        self._ends: list[float] = []  # of every step
        self._waiting: deque[int] = deque(range(self._n_sent))
        self._filling: deque[tuple[int, int]] = deque()  # request, prompt tokens that are left
        self._running: list[tuple[int, int]] = []  # step of its last token, request
        self._first_step: dict[int, int] = {}
        self._end: dict[int, float] = {}
        self._kv_tokens = self._reserved = 0
        self._gauges: list[Gauges] = []

    def run(self) -> Load:
        while len(self._end) < len(self._prompts) and self._now < self._cut_s:
            self._arrive()
            self._admit()
            if not self._running and not self._filling:
                self._now = self._due[self._n_sent]  # idle until the next request
                continue
            self._step()
        n = self._n_sent if self._closed else len(self._prompts)  # of a closed loop, the others were never due
        return Load(sent=tuple(map(self._sent, range(n))), gauges=tuple(self._gauges))

    def _arrive(self) -> None:
        while not self._closed and self._n_sent < len(self._due) and self._due[self._n_sent] <= self._now:
            self._waiting.append(self._n_sent)
            self._n_sent += 1

    def _admit(self) -> None:
        while self._waiting and len(self._running) + len(self._filling) < self._speed.slots:
            prompt = self._prompts[self._waiting[0]]
            size = len(prompt.token_ids) + prompt.output_tokens
            busy = self._running or self._filling
            if busy and self._reserved + size > self._speed.kv_tokens:
                break
            self._reserved += size
            self._filling.append((self._waiting.popleft(), len(prompt.token_ids)))

    def _step(self) -> None:
        speed, step = self._speed, len(self._ends)
        room = max(1, speed.step_tokens - len(self._running)) if self._filling else 0
        filled, finished_prompts = 0, []
        while self._filling and filled < room:
            request, left = self._filling.popleft()
            chunk = min(left, room - filled)
            filled += chunk
            if chunk < left:
                self._filling.appendleft((request, left - chunk))
            else:
                finished_prompts.append(request)
        self._now += speed.step_s + speed.sequence_s * len(self._running)
        self._now += speed.prompt_token_s * filled + speed.kv_token_s * self._kv_tokens
        self._ends.append(self._now)
        self._kv_tokens += filled + len(self._running)
        for request in finished_prompts:
            self._first_step[request] = step
            heappush(self._running, (step + self._prompts[request].output_tokens - 1, request))
        while self._running and self._running[0][0] <= step:
            self._finish(heappop(self._running)[1])
        if self._now >= len(self._gauges) * _GAUGE_EVERY_S:
            self._look()

    def _finish(self, request: int) -> None:
        prompt = self._prompts[request]
        self._end[request] = self._now
        size = len(prompt.token_ids) + prompt.output_tokens
        self._kv_tokens -= size - 1  # its last token was never put into the cache
        self._reserved -= size
        if self._closed and self._n_sent < len(self._prompts):
            self._due[self._n_sent] = self._now
            self._waiting.append(self._n_sent)
            self._n_sent += 1

    def _look(self) -> None:
        running = len(self._running) + len(self._filling)
        share = min(1.0, max(0.0, self._kv_tokens / self._speed.kv_tokens))
        self._gauges.append(
            Gauges(at_s=self._now, running=running, waiting=len(self._waiting), kv_cache_share=share, preemptions=0)
        )

    def _sent(self, request: int) -> Sent:
        due_s, step = self._due[request], self._first_step.get(request)
        if step is None:
            return Sent(due_s, due_s, max(self._now, due_s), error=_CUT)
        last = step + self._prompts[request].output_tokens
        times = self._ends[step:last]
        gaps = tuple(b - a for a, b in pairwise(times))
        error = "" if request in self._end else _CUT
        return Sent(due_s, due_s, times[-1] if not error else self._now, times[0], len(times), gaps, error)
