"""How the requests of one load were served, and the highest rate at which a promise is kept, from several loads."""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from infertune.domain.frozen import Amount, Frozen, Rate, Seconds, Share
from infertune.domain.promise import Promise
from infertune.units import format_rate

LEVELS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
_CLIP = math.log(2)  # strains beyond half or twice a limit say that it is far, not how far; judgement

Count = Annotated[int, Field(ge=0, le=10**9)]


class Sketch(Frozen):
    """The distribution of a figure over requests, by its quantiles.

    Attributes:
        mean: Arithmetic mean in seconds.
        quantiles: At `LEVELS`, in seconds, by nearest rank.
    """

    mean: Seconds
    quantiles: tuple[Seconds, ...] = Field(min_length=len(LEVELS), max_length=len(LEVELS))

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sketch | None":
        """The sketch of some values; None of none."""
        if not values:
            return None
        ordered = sorted(values)
        ranks = (max(0, math.ceil(level * len(ordered)) - 1) for level in LEVELS)
        mean = math.fsum(ordered) / len(ordered)
        return cls(mean=_short(mean), quantiles=tuple(_short(max(0.0, ordered[rank])) for rank in ranks))

    def at(self, level: float) -> float:
        """The quantile of a level, one of `LEVELS`."""
        return self.quantiles[LEVELS.index(level)]


def _short(seconds: float) -> float:
    """Five digits, and no more than microseconds: a ledger has many of them."""
    return round(float(f"{seconds:.5g}"), 6)


class Service(Frozen):
    """How the requests of one load were served.

    Counted are the requests after the ramp and before the last few: those that met the server as it is at this rate.

    Attributes:
        arrivals: As `--arrivals` has it.
        rate_per_s: Requests a second that were due; None in a closed loop.
        promise: What the requests were held against.
        n_counted: Requests that the figures are of.
        n_failed: Of all requests, those that failed, were cut or came back short.
        failures: What went wrong, a line each with how often, the most frequent first.
        late_p99_s: How late the generator sent, 99th percentile.
        late: Whether it was too late for the load to be evidence, or busy all the time of a load that has no rate.
        attainment: Share of the counted requests that kept every limit; None without limits on requests.
        attainment_low: Lower end of its 95% interval, which allows for successive requests being alike.
        attainment_high: Upper end.
        n_worth: As many independent requests as the attainment is worth; None without limits on requests.
        strain: How much of the tightest limit is used at the promised share: over 1, it is broken; None without limits.
        broken: The limits that are broken, each looked at alone; all may be kept alone, and the promise be broken.
        growth: Share of the arrivals by which the requests in the server grew; None in a closed loop.
        growing: Whether they surely grew: then the rate cannot be kept up.
        completed_per_s: Requests that ended well, a second, while counted ones were due.
        ttft_s: Time to first token, from when a request was due.
        tpot_s: Mean time of an output token after the first, one a request.
        itl_s: Times between successive tokens, of all requests together.
        latency_s: To the last token, from when a request was due.
        queue_s: Mean time in the queue by Little's law from the server's own count; None where it gives none.
        running: Mean requests in the batch; None where the server does not say; likewise the rest.
        waiting: Mean requests in the queue.
        kv_cache_share: Most of the KV cache in use.
        preemptions: While the load ran.
        prefix_hit_share: Share of the prompt tokens that were found in the prefix cache.
        generator_cpu_s: Processor seconds of whatever sent the requests.
    """

    arrivals: str
    rate_per_s: Rate | None = None
    promise: Promise = Promise()
    n_counted: Count
    n_failed: Count = 0
    failures: tuple[str, ...] = ()
    late_p99_s: Seconds = 0.0
    late: bool = False
    attainment: Share | None = None
    attainment_low: Share | None = None
    attainment_high: Share | None = None
    n_worth: Amount | None = None
    strain: Amount | None = None
    broken: tuple[str, ...] = ()
    growth: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None
    growing: bool = False
    completed_per_s: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    ttft_s: Sketch | None = None
    tpot_s: Sketch | None = None
    itl_s: Sketch | None = None
    latency_s: Sketch | None = None
    queue_s: Seconds | None = None
    running: Amount | None = None
    waiting: Amount | None = None
    kv_cache_share: Share | None = None
    preemptions: Count | None = None
    prefix_hit_share: Share | None = None
    generator_cpu_s: Seconds | None = None

    @property
    def kept(self) -> bool:
        """Whether the promise is kept at this rate, and the queue does not grow."""
        return self.strain is not None and self.strain <= 1 and not self.growing

    @property
    def only_queue_grows(self) -> bool:
        """Whether nothing but the growing queue breaks the promise, so far."""
        return self.growing and self.strain is not None and self.strain <= 1

    @property
    def answered(self) -> float:
        """Share of the arrivals by which the requests in the server did not grow, between a half and 1."""
        return min(1.0, max(0.5, 1 - (self.growth or 0.0)))

    @property
    def excess(self) -> float:
        """ln of the strain, between far below and far above the limit; above 0 where the queue grows."""
        assert self.strain is not None
        strain = max(self.strain, 1 / self.answered) if self.growing else self.strain
        return max(-_CLIP, min(_CLIP, math.log(max(strain, 1e-9))))


class LoadCounts(Frozen):
    """How many loads kept what was promised.

    Attributes:
        n_loads: That are evidence.
        n_late: Others, that were sent late.
        n_kept: Of `n_loads`, those that kept the promise.
        n_growing: Of `n_loads`, those in which the queue grew.
        broken: Limit → of `n_loads`, those that broke it, each looked at alone.
    """

    n_loads: Count
    n_late: Count
    n_kept: Count
    n_growing: Count
    broken: dict[str, Count]

    @classmethod
    def of(cls, looks: Sequence[Service]) -> "LoadCounts":
        """Counted over some loads."""
        usable = [look for look in looks if not look.late]
        limits = [str(limit) for limit in looks[0].promise.limits] if looks else []
        return cls(
            n_loads=len(usable),
            n_late=len(looks) - len(usable),
            n_kept=sum(look.kept for look in usable),
            n_growing=sum(look.growing for look in usable),
            broken={limit: sum(limit in look.broken for look in usable) for limit in limits},
        )


class Sustained(Frozen):
    """The highest rate at which a promise is kept.

    Attributes:
        rate_per_s: Requests a second that may come.
        goodput_per_s: Requests a second that keep every limit at that rate.
        low_per_s: The highest rate looked at that kept the promise.
        high_per_s: The lowest that broke it; None where none did, and the rate is a lower bound.
    """

    rate_per_s: Rate
    goodput_per_s: Rate
    low_per_s: Rate
    high_per_s: Rate | None


def sustained(looks: Sequence[Service]) -> Sustained | None:
    """The highest rate at which the promise is kept, from looks at several rates.

    Where ln(strain) over ln(rate) crosses 0, interpolated between neighbouring looks after isotonic regression: more
    load never strains less, so looks that say otherwise are averaged (Barlow et al., 1972, pool adjacent violators).

    Returns:
        None if no look kept the promise, if none is evidence, or if nothing but late ones bounds the rate from above.
    """
    usable = sorted(
        (look for look in looks if look.rate_per_s and look.strain is not None and not look.late),
        key=lambda look: look.rate_per_s or 0.0,
    )
    if not usable:
        return None
    usable, values, weights = _one_a_rate(usable)
    rates = [math.log(look.rate_per_s or 1.0) for look in usable]
    excess = isotonic(values, weights)
    below = [number for number, value in enumerate(excess) if value <= 0]
    if not below:
        return None
    last = below[-1]
    low = usable[last].rate_per_s or 1.0
    if last + 1 == len(excess):
        if any(look.late and (look.rate_per_s or 0.0) > low for look in looks):
            return None  # a lower bound, which is as high as the sender got
        share = usable[last].attainment
        return Sustained(rate_per_s=low, goodput_per_s=low * (share or 1.0), low_per_s=low, high_per_s=None)
    gap = excess[last + 1] - excess[last]
    at = rates[last] + (rates[last + 1] - rates[last]) * -excess[last] / gap
    if usable[last + 1].only_queue_grows:  # then it answered as many as it can, and the strain says nothing of that
        at = min(at, rates[last + 1] + math.log(usable[last + 1].answered))
        at = max(at, rates[last] + math.log(usable[last].answered))
    rate = math.exp(at)
    return Sustained(
        rate_per_s=rate,
        goodput_per_s=rate * usable[last].promise.attain,
        low_per_s=low,
        high_per_s=usable[last + 1].rate_per_s,
    )


def why_none_sustained(looks: Sequence[Service], cure: str) -> str:
    """Why `sustained` finds no rate, in one sentence; empty where no look was at a rate and under limits.

    Args:
        looks: Those in which no rate was found.
        cure: What to do where limits are broken.
    """
    held = [look for look in looks if look.rate_per_s and look.strain is not None]
    usable = [look for look in held if not look.late]
    if not held:
        return ""
    if not usable:
        return (
            f"every load was sent late, requests up to {max(look.late_p99_s for look in held):.3g} s after they were "
            "due: this machine is too busy to judge a server at such a rate"
        )
    if all(look.kept for look in usable) and len(usable) < len(held):
        kept_per_s = max(look.rate_per_s or 0.0 for look in usable)
        return (
            f"the promise is kept up to {kept_per_s:.3g} requests/s, and loads above that were sent late: this machine "
            "is too slow or too busy to find the highest rate"
        )
    least = min(usable, key=lambda look: (look.rate_per_s or 0.0, -look.excess))
    none = f"the promise is kept at no rate that was looked at: at {least.rate_per_s:.3g} requests/s"
    if least.only_queue_grows:
        return f"{none} the limits were kept so far, but the queue grew, and no lower rate was looked at"
    return f"{none} {format_rate(least.strain or 0.0)} times the limit is used; {cure}"


def _one_a_rate(looks: Sequence[Service]) -> tuple[list[Service], list[float], list[float]]:
    """One look a rate, with the mean of ln(strain) of all at that rate, and their requests."""
    rates = list(dict.fromkeys(look.rate_per_s for look in looks))
    grouped = [[look for look in looks if look.rate_per_s == rate] for rate in rates]
    weights = [float(sum(look.n_counted or 1 for look in group)) for group in grouped]
    sums = [sum(look.excess * (look.n_counted or 1) for look in group) for group in grouped]
    return [group[0] for group in grouped], [total / n for total, n in zip(sums, weights, strict=True)], weights


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The ascending sequence nearest to some values in weighted least squares."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m, i), (b, n, j) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n, i + j)]
    return [value for value, _, number in pools for _ in range(number)]
