"""From the requests of a load to how they were served: what counts, shares with intervals, growth of the queue."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from scipy.special import betaincinv, stdtrit

from infertune.domain.frozen import Frozen
from infertune.domain.load import Gauges, Load, Sent
from infertune.domain.promise import REQUEST_FIGURES, Promise, request_figure
from infertune.domain.service import Service, Sketch
from infertune.units import shortened

_RAMP, _TAIL = 0.2, 0.1  # of the requests: the server fills, and later falls idle; judgement
_BLOCKS = 10  # of successive requests, for the intervals; judgement
_GROWS_BY = 0.05  # of the arrivals must pile up for the queue to be called growing; judgement
_CHANCE = 3.0  # standard deviations of the number in the server that it must grow by; judgement
_GROWTH_LEVEL = 0.01  # one-sided, of the slope's t test; judgement
_LATE_S, _LATE_SHARE = 0.005, 0.05  # most lateness, and as a share of the tightest limit if that is more; judgement
_BUSY = 0.9  # of a load without a rate: with so much of a core in use, the generator sets the pace; judgement
_FAR = 2.0  # a strain beyond it says that the limit is far, not how far; judgement
_SHOWN_FAILURES, _SHOWN_LETTERS = 3, 70  # of each without how often
_DECIMALS = 6  # of what a ledger keeps


class RequestRows(Frozen):
    """Every request of a load, column by column, in the order of their due times; what the side file keeps.

    Attributes:
        due_s: When it was due, from the start of the load.
        late_s: How much later it was sent.
        ttft_s: Time to first token; None if none came.
        latency_s: To its end.
        output_tokens: Tokens that came.
        longest_gap_s: Longest time between two of its tokens; None if unknown.
        error: One line; empty if it came back whole.
    """

    due_s: tuple[float, ...]
    late_s: tuple[float, ...]
    ttft_s: tuple[float | None, ...]
    latency_s: tuple[float, ...]
    output_tokens: tuple[int, ...]
    longest_gap_s: tuple[float | None, ...]
    error: tuple[str, ...]

    @classmethod
    def of(cls, sent: Sequence[Sent]) -> "RequestRows":
        """The rows of some requests, times to a tenth of a millisecond."""
        return cls(
            due_s=tuple(round(one.due_s, 4) for one in sent),
            late_s=tuple(round(one.late_s, 4) for one in sent),
            ttft_s=tuple(None if one.ttft_s is None else round(one.ttft_s, 4) for one in sent),
            latency_s=tuple(round(one.latency_s, 4) for one in sent),
            output_tokens=tuple(one.output_tokens for one in sent),
            longest_gap_s=tuple(round(max(one.gaps_s), 4) if one.gaps_s else None for one in sent),
            error=tuple(one.error for one in sent),
        )


def service_of(load: Load, promise: Promise, arrivals: str, rate_per_s: float | None) -> Service:
    """How the requests of a load were served.

    Args:
        load: What was sent.
        promise: What the requests are held against.
        arrivals: As `--arrivals` has it.
        rate_per_s: Requests a second that were due; None in a closed loop.
    """
    counted = _counted(load.sent) if rate_per_s is not None else load.sent
    late_s = _quantile([one.late_s for one in load.sent], 0.99)
    growth, growing = _growth(load.sent, counted, rate_per_s)
    kept = [promise.strain(one) <= 1 for one in counted]
    share, low, high = (round(one, _DECIMALS) for one in attained(kept))
    failed = Counter(one.error for one in load.sent if one.error)
    whole = [one for one in counted if not one.error]
    begin, end = counted[0].due_s, max(counted[-1].due_s, counted[0].due_s + 1e-9)
    ended = [one.end_s for one in load.sent if not one.error]
    if rate_per_s is None:
        begin, end = 0.0, max(one.end_s for one in load.sent)
    completed = round(sum(begin <= moment <= end for moment in ended) / max(end - begin, 1e-9), _DECIMALS)
    waiting = _mean_of([look.waiting for look in _during(load.gauges, begin, end)])
    sketches = {}
    for name in REQUEST_FIGURES:
        found = [request_figure(name, one) for one in whole]
        sketches[name] = Sketch.of([value for value in found if value is not None])
    sketches["itl_s"] = Sketch.of([gap for one in whole for gap in one.token_gaps_s])
    return Service(
        arrivals=arrivals,
        rate_per_s=rate_per_s,
        promise=promise,
        n_counted=len(counted),
        n_failed=sum(failed.values()),
        failures=tuple(f"{shortened(error, _SHOWN_LETTERS)} ({n})" for error, n in failed.most_common(_SHOWN_FAILURES)),
        late_p99_s=max(0.0, late_s),
        late=late_s > _most_late_s(load, promise, rate_per_s) or (rate_per_s is None and _generator_busy(load)),
        attainment=share if promise.limits else None,
        attainment_low=low if promise.limits else None,
        attainment_high=high if promise.limits else None,
        n_worth=n_worth(kept) if promise.limits else None,
        strain=_strain(promise, counted) if promise.limits else None,
        broken=tuple(str(limit) for limit in promise.limits if _strain(promise.alone(limit), counted) > 1),
        growth=None if growth is None else round(growth, _DECIMALS),
        growing=growing,
        completed_per_s=completed,
        queue_s=round(waiting / completed, _DECIMALS) if waiting is not None and completed > 0 else None,
        running=_mean_of([look.running for look in _during(load.gauges, begin, end)]),
        waiting=waiting,
        kv_cache_share=max((g.kv_cache_share for g in load.gauges if g.kv_cache_share is not None), default=None),
        preemptions=_increase([g.preemptions for g in load.gauges]),
        prefix_hit_share=_hit_share(load.gauges),
        generator_cpu_s=load.generator_cpu_s,
        **sketches,
    )


def _most_late_s(load: Load, promise: Promise, rate_per_s: float | None) -> float:
    """How late requests may be sent: by little of the tightest limit, and of what one takes where no rate is kept."""
    takes_s = 0.0 if rate_per_s is not None else math.fsum(one.latency_s for one in load.sent) / len(load.sent)
    return max(_LATE_S, _LATE_SHARE * (promise.tightest_s or takes_s))


def _generator_busy(load: Load) -> bool:
    cpu_s = load.generator_cpu_s
    return cpu_s is not None and cpu_s >= _BUSY * max(one.end_s for one in load.sent)


def attained(kept: Sequence[bool]) -> tuple[float, float, float]:
    """The share that kept the promise, with a 95% interval; successive requests are not independent.

    Clopper and Pearson's interval (Biometrika 26, 1934) on as many requests as would be worth the same if they were.
    """
    n = n_worth(kept)
    share = sum(kept) / len(kept)
    good = share * n
    low = float(betaincinv(good, n - good + 1, 0.025)) if good > 0 else 0.0
    high = float(betaincinv(good + 1, n - good, 0.975)) if good < n else 1.0
    return share, low, high


def n_worth(kept: Sequence[bool]) -> float:
    """As many independent requests as successive ones are worth.

    It is their number over the design effect, which is the variance between blocks of successive requests over that of
    independent ones (Kish, Survey Sampling, 1965).
    """
    return len(kept) / _design_effect(kept)


def _design_effect(values: Sequence[float]) -> float:
    """The variance between blocks of successive values over that of independent ones, 1 at least."""
    n, mean = len(values), sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / n
    if n < 2 * _BLOCKS or variance == 0:
        return 1.0
    between = sum((one - mean) ** 2 for one in _block_means(values)) / (_BLOCKS - 1)
    return max(1.0, between / (variance / (n / _BLOCKS)))


def _strain(promise: Promise, counted: Sequence[Sent]) -> float:
    """The strain at a share of the requests, the largest of several, right on average although a load is short.

    The k-th smallest of m independent values is exceeded by a share 1 - k / (m + 1) of all values on average, so shares
    are raised by one in m. A queue is seldom long and then much longer than usual, and a short load sees few of those
    moments: for limits that a queue breaks, m is as many requests as the load is worth (their number over the design
    effect). Time per token goes with the requests in the batch, whose number varies around its mean; there it would
    only find too much.
    """
    found = [_at(values, share, len(values)) for share, values in promise.with_share_strains(counted).items()]
    for share, values in promise.of_waiting.with_share_strains(counted).items():
        effect = _design_effect([min(strain, _FAR) for strain in values])
        found.append(_at(values, share, len(values) / effect))
    return max(found)


def _at(strains: Sequence[float], share: float, n_worth: float) -> float:
    return _quantile(strains, min(1.0, share * (1 + 1 / n_worth)))


def _block_means(values: Sequence[float]) -> list[float]:
    """Means of successive parts of equal length."""
    edges = [len(values) * block // _BLOCKS for block in range(_BLOCKS + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def _growth(sent: Sequence[Sent], counted: Sequence[Sent], rate_per_s: float | None) -> tuple[float | None, bool]:
    """By which share of the arrivals the requests in the server grew while counted ones were due, and whether surely.

    The slope of the number in the server over its means in blocks, by least squares, with a one-sided t test. The
    number also varies where it does not grow: by its square root for Poisson arrivals (M/G/∞), by more for bursts.
    """
    begin, end = counted[0].due_s, counted[-1].due_s
    if rate_per_s is None or end <= begin or len(counted) < 2 * _BLOCKS:
        return None, False
    width = (end - begin) / _BLOCKS
    means = []
    for block in range(_BLOCKS):
        a, b = begin + block * width, begin + (block + 1) * width
        means.append(sum(max(0.0, min(one.end_s, b) - max(one.due_s, a)) for one in sent) / width)
    middle = (_BLOCKS - 1) / 2
    spread = sum((block - middle) ** 2 for block in range(_BLOCKS))
    mean = sum(means) / _BLOCKS
    slope = sum((block - middle) * value for block, value in enumerate(means)) / spread
    rest = sum((value - mean - slope * (block - middle)) ** 2 for block, value in enumerate(means))
    error = math.sqrt(rest / (_BLOCKS - 2) / spread)
    growth = slope / width / rate_per_s
    surely = slope > float(stdtrit(_BLOCKS - 2, 1 - _GROWTH_LEVEL)) * error
    chance = _CHANCE * math.sqrt(2 * max(1.0, _dispersion(sent)) * max(mean, 1.0))
    return growth, surely and growth > _GROWS_BY and slope * _BLOCKS > chance


def _dispersion(sent: Sequence[Sent]) -> float:
    """Squared coefficient of variation of the gaps between due times: 1 for Poisson arrivals."""
    gaps = [b.due_s - a.due_s for a, b in pairwise(sent)]
    mean = sum(gaps) / len(gaps)
    return sum((gap - mean) ** 2 for gap in gaps) / len(gaps) / mean**2 if mean > 0 else 1.0


def _counted(sent: Sequence[Sent]) -> Sequence[Sent]:
    n = len(sent)
    return sent[int(n * _RAMP) : max(int(n * _RAMP) + 1, n - int(n * _TAIL))]


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]


def _during(gauges: Sequence[Gauges], begin_s: float, end_s: float) -> list[Gauges]:
    return [look for look in gauges if begin_s <= look.at_s <= end_s]


def _mean_of(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), _DECIMALS) if known else None


def _increase(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return max(0, known[-1] - known[0]) if known else None


def _hit_share(gauges: Sequence[Gauges]) -> float | None:
    hits = _increase([look.prefix_hit_tokens for look in gauges])
    asked = _increase([look.prefix_query_tokens for look in gauges])
    return min(1.0, round(hits / asked, _DECIMALS)) if hits is not None and asked else None
