"""The metrics of a gate: which way each is better, how much better it is, and base and candidate beside each other."""

import math
from collections.abc import Mapping, Sequence

from infertune.domain.figures import FIGURES
from infertune.gating.result import MetricResult, StoredGain
from infertune.gating.verdict import Answer, Judgement
from infertune.stats import geometric_mean, paired_ratio

_LEAST = {"attainment": 1e-6}  # taken for 0 in a gain: none kept the promise, and a logarithm needs more (judgement)


def lower_is_better(metric: str) -> bool:
    """Of most metrics less is better: of latencies, energy, power and memory."""
    return not FIGURES[metric].higher_is_better


def is_judged(metric: str, value: float) -> bool:
    """Whether a figure can be compared: it is positive, or a share that may be 0."""
    return value > 0 or metric in _LEAST


def gain(metric: str, new: float, base: float = 1.0) -> float:
    """ln(how many times better a figure is than another); below 0 it is worse."""
    least = _LEAST.get(metric, 0.0)
    logarithm = math.log(max(new, least) / max(base, least))
    return -logarithm if lower_is_better(metric) else logarithm


def paired_metrics(
    base: Mapping[str, Sequence[float]],
    candidate: Mapping[str, Sequence[float]],
    judgement: Judgement | None,
    margin: float,
    withheld: Mapping[str, str] | None = None,
) -> tuple[MetricResult, ...]:
    """Every metric that base and candidate both have, pair by pair.

    Args:
        base: Metric → one figure a pair.
        candidate: The same of the candidate.
        judgement: The rulings on the gated metrics; None for a calibration.
        margin: The drop that must not pass, a share.
        withheld: Metric → why base and candidate are not compared in it.
    """
    withheld = withheld or {}
    rulings = judgement.rulings if judgement else {}
    found = []
    for name in [*rulings, *(name for name in FIGURES if name not in rulings)]:
        if name not in base or name not in candidate:
            continue
        reason = withheld.get(name, "")
        some_zero = 0.0 in (*candidate[name], *base[name])
        ratio = None if reason or some_zero else paired_ratio(candidate[name], base[name])
        limit = 1 / (1 - margin) if lower_is_better(name) else 1 - margin
        found.append(
            _metric(
                name,
                answer=rulings[name].answer if name in rulings else None,
                withheld=reason,
                ratio=ratio.mean if ratio else None,
                ratio_low=ratio.low if ratio else None,
                ratio_high=ratio.high if ratio else None,
                limit=limit if name in rulings else None,
                base_samples=tuple(base[name]),
                new_samples=tuple(candidate[name]),
            )
        )
    return tuple(found)


def stored_metrics(
    earlier: Mapping[str, Sequence[float]], candidate: Mapping[str, Sequence[float]], judgement: Judgement
) -> tuple[MetricResult, ...]:
    """Every metric of a run beside its earlier runs.

    Args:
        earlier: Metric → one figure an earlier run that compares in it.
        candidate: Metric → one figure a launch.
        judgement: The rulings on the gated metrics.
    """
    found = []
    others = (name for name in FIGURES if name in candidate and name not in judgement.rulings)
    for name in [*judgement.rulings, *others]:
        ruling = judgement.rulings.get(name)
        base = tuple(earlier[name])
        limit = None if ruling is None or ruling.low is None else ruling.low
        some_zero = 0.0 in (*candidate[name], *base)
        found.append(
            _metric(
                name,
                answer=ruling.answer if ruling else None,
                ratio=geometric_mean(candidate[name]) / geometric_mean(base) if base and not some_zero else None,
                limit=1 / limit if limit is not None and lower_is_better(name) else limit,
                base_samples=base,
                new_samples=tuple(candidate[name]),
            )
        )
    return tuple(found)


def _metric(
    name: str,
    answer: Answer | None,
    ratio: float | None,
    base_samples: tuple[float, ...],
    new_samples: tuple[float, ...],
    limit: float | None = None,
    withheld: str = "",
    ratio_low: float | None = None,
    ratio_high: float | None = None,
) -> MetricResult:
    return MetricResult(
        name=name,
        unit=FIGURES[name].unit,
        lower_is_better=lower_is_better(name),
        gated=answer is not None,
        answer=answer,
        withheld=withheld,
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        limit=limit,
        base_samples=base_samples,
        new_samples=new_samples,
    )


def stored_gain(promised: tuple[float, float, float], rate: MetricResult) -> StoredGain | None:
    """Whether a profile's gain over the default is still there; None with too few pairs to say."""
    if rate.ratio is None or rate.ratio_low is None or rate.ratio_high is None:
        return None
    return StoredGain(
        promised=promised,
        measured=(rate.ratio, rate.ratio_low, rate.ratio_high),
        holds=rate.ratio_high >= promised[1],
    )
