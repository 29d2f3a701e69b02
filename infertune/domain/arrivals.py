"""Arrivals: when each request of a load is due.

A Poisson process is drawn under the condition that its number of requests is known: their times are then independent
and uniform (Ross, Introduction to Probability Models, chapter 5). Gaps of the other kinds are scaled to the same end.
So the rate of a load is exactly the rate that was asked for, while bursts stay as they are.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from infertune.units import parse_number

Kind = Literal["all-at-once", "poisson", "gamma", "constant", "trace", "concurrency"]
FORMS = "all-at-once, poisson, gamma:CV, constant, trace[:SPEEDUP] or concurrency:N"
_MOST_CV = 20.0  # a load of a thousand requests then still has fifty bursts in the mean; judgement
_MOST_AT_ONCE = 100_000
_LEAST_SPEEDUP, _MOST_SPEEDUP = 0.001, 1000.0  # a trace of an hour then lasts six weeks or four seconds; judgement


def fault_of_times(recorded_s: Sequence[float]) -> str:
    """Why the times of a trace, ascending, cannot be replayed; empty where they can."""
    if len(recorded_s) < 2:
        return "this workload has no times; take a trace with timestamps, or poisson"
    if recorded_s[0] == recorded_s[-1]:
        return "all times of this trace are the same; take one that lasts, or poisson"
    return ""


@dataclass(frozen=True)
class Arrivals:
    """When requests come.

    Attributes:
        kind: `all-at-once` is the offline job; `concurrency` is a closed loop, which sends a request when one ends.
        value: Coefficient of variation of the gaps for `gamma`, speed-up for `trace`, clients for `concurrency`.
    """

    kind: Kind
    value: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Arrivals":
        """Arrivals as `--arrivals` has them.

        Raises:
            ValueError: It is none of `FORMS`, or a number is out of range.
        """
        name, colon, number = text.partition(":")
        value = parse_number(number) if colon else None
        match name:
            case "all-at-once" | "poisson" | "constant" if value is None:
                return cls(name)
            case "gamma" if value is not None:
                if not 0 < value <= _MOST_CV:
                    raise ValueError(f"the coefficient of variation must be over 0 and at most {_MOST_CV:g}")
                return cls(name, value)
            case "trace":
                if value is not None and not _LEAST_SPEEDUP <= value <= _MOST_SPEEDUP:
                    raise ValueError(f"the speed-up must be from {_LEAST_SPEEDUP:g} to {_MOST_SPEEDUP:,g}")
                return cls(name, value or 1.0)
            case "concurrency" if value is not None:
                if not (value == int(value) and 1 <= value <= _MOST_AT_ONCE):
                    raise ValueError(f"the clients must be a whole number from 1 to {_MOST_AT_ONCE:,}")
                return cls(name, value)
        raise ValueError(f"{text!r} is no arrival; there are {FORMS}")

    def __str__(self) -> str:
        return self.kind if self.kind in ("all-at-once", "poisson", "constant") else f"{self.kind}:{self.value:g}"

    @property
    def open_loop(self) -> bool:
        """Whether requests come at a rate, however slow the answers are."""
        return self.kind not in ("all-at-once", "concurrency")

    @property
    def clients(self) -> int | None:
        """Requests under way at once in a closed loop; None in an open one."""
        return int(self.value) if self.kind == "concurrency" else None

    def due_s(self, n: int, rate_per_s: float | None, seed: str, recorded_s: Sequence[float] = ()) -> tuple[float, ...]:
        """When n requests are due, in seconds from the start, ascending.

        Args:
            n: How many.
            rate_per_s: Requests a second over the whole load; None keeps a trace's own times.
            seed: Of the draw.
            recorded_s: A trace's own times, ascending; of which a stretch of n without a gap is taken.

        Raises:
            ValueError: An open loop has no rate, or a trace has no two times that differ.
        """
        if not self.open_loop:
            return (0.0,) * n
        rng = random.Random(f"{seed}/arrivals")
        if self.kind == "trace":
            times = self._stretch(n, recorded_s, rng)
            if rate_per_s is None:
                return tuple(time / self.value for time in times)
            length = times[-1] or 1.0  # a single request has no length
            return tuple(time / length * (n - 1) / rate_per_s for time in times)
        if rate_per_s is None:
            raise ValueError(f"arrivals {self} need a rate")
        length = n / rate_per_s
        if self.kind == "poisson":
            return tuple(sorted(rng.random() * length for _ in range(n)))
        if self.kind == "constant":
            return tuple(number / rate_per_s for number in range(n))
        shape = 1 / self.value**2
        gaps = list(accumulate(rng.gammavariate(shape, 1.0) for _ in range(n + 1)))
        return tuple(time / gaps[-1] * length for time in gaps[:-1])

    def longest_s(self, n: int, rate_per_s: float | None, recorded_s: Sequence[float] = ()) -> float:
        """The most seconds after which the last of n requests can be due, whatever is drawn; see `due_s`."""
        if not self.open_loop:
            return 0.0
        if rate_per_s is not None:
            return n / rate_per_s
        starts = range(len(recorded_s) - n + 1)
        if not starts:  # the whole trace is taken, more than once
            return self.due_s(n, None, "", recorded_s)[-1]
        return max(recorded_s[at + n - 1] - recorded_s[at] for at in starts) / self.value

    def n_within(self, duration_s: float, recorded_s: Sequence[float]) -> int:
        """How many times of a trace are due within some seconds in the mean over it: 1 at least, at most all."""
        share = duration_s * self.value / (recorded_s[-1] - recorded_s[0])
        return max(1, round(len(recorded_s) * min(1.0, share)))

    @staticmethod
    def _stretch(n: int, recorded_s: Sequence[float], rng: random.Random) -> list[float]:
        """n successive times of a trace from a drawn place on; after its end it begins again.

        Where all n are the same, the next place is taken where they are not: a load without a length has no rate.
        """
        if fault := fault_of_times(recorded_s):
            raise ValueError(fault)
        starts = max(1, len(recorded_s) - n + 1)
        at = rng.randrange(starts)
        while 1 < n <= len(recorded_s) and recorded_s[at + n - 1] == recorded_s[at]:
            at = (at + 1) % starts
        mean_gap = (recorded_s[-1] - recorded_s[0]) / (len(recorded_s) - 1)
        times, last, now = [0.0], recorded_s[at], 0.0
        for number in range(at + 1, at + n):
            time = recorded_s[number % len(recorded_s)]
            now += time - last if time >= last else mean_gap
            last = time
            times.append(now)
        return times
