"""What a gate found, as one versioned document, and the earlier runs that the stored mode compares with."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from infertune.domain.figures import ENERGY_FIGURES, FIGURES
from infertune.domain.knobs import Config
from infertune.domain.measurement import Frozen, IsoTime
from infertune.domain.quality import Check
from infertune.domain.workload import MOST_REQUESTS
from infertune.errors import EXIT_INCONCLUSIVE, EXIT_OK, EXIT_REGRESSION
from infertune.gating.verdict import Answer, Calibration, Judgement
from infertune.profiles.fingerprint import differences
from infertune.profiles.profile import Fingerprint
from infertune.stats import geometric_mean, paired_ratio
from infertune.writing import write_inside

_EXIT_CODES: dict[Answer, int] = {
    "pass": EXIT_OK,
    "regression": EXIT_REGRESSION,
    "inconclusive": EXIT_INCONCLUSIVE,
}
_SMALLEST = 1e-12  # a stored figure, as in a profile
_LEAST = {"attainment": 1e-6}  # taken for 0 in a gain: none kept the promise, and a logarithm needs more (judgement)


class ArmRecord(Frozen):
    """Base or candidate as it ran.

    Attributes:
        label: For people.
        engine: Name and version, as its interpreter has it.
        versions: Libraries, as the engine named them.
        model: What was loaded, None for engines that need none.
        config: Every knob's value.
        changed: Only the settings that differ from this engine's defaults.
        energy: Where its energy figures come from, measured or modelled; several if its launches differ.
    """

    label: str
    engine: str
    versions: dict[str, str]
    model: str | None
    config: Config
    changed: Config
    energy: tuple[str, ...] = ()


class MetricResult(Frozen):
    """One metric of base and candidate.

    Attributes:
        name: As in `--metric NAME`.
        unit: Of the samples.
        lower_is_better: Whether less is better.
        gated: Whether the verdict depends on it; otherwise it is only reported.
        answer: Of this metric alone; None where it is not gated.
        withheld: Why base and candidate are not compared in it; empty where they are.
        ratio: New over base, geometric mean; None where it is not known.
        ratio_low: Lower end of its two-sided 95% interval; pairs are sampled until the gate decides, so it is a guide.
        ratio_high: Upper end.
        limit: The regression limit: a ratio for pairs, in the metric's unit for stored runs.
        base_samples: One a launch, pair by pair; for stored runs, one an earlier run.
        new_samples: One a launch.
    """

    name: str
    unit: str
    lower_is_better: bool
    gated: bool
    answer: Answer | None = None
    withheld: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    limit: float | None = None
    base_samples: tuple[float, ...]
    new_samples: tuple[float, ...]


class StoredGain(Frozen):
    """Whether the gain over the default that a profile promises is still there.

    Attributes:
        promised: Ratio to the default with its 95% interval, as stored.
        measured: The same, today.
        holds: Whether today's interval reaches up to the promised one.
    """

    promised: tuple[float, float, float]
    measured: tuple[float, float, float]
    holds: bool


class GateResult(Frozen):
    """What a gate found: `gate.json` in its run's folder, and what `--json` prints.

    Attributes:
        schema_version: Of this document.
        answer: The verdict; None for a calibration.
        exit_code: What the program ends with.
        mode: How it was found.
        question: What was asked, in one sentence.
        profile: The profile's file.
        margin: The drop that must not pass, a share; None where none is used.
        pairs: Pairs of launches, or launches in stored mode.
        base: What the candidate was compared with.
        new: The candidate: the profile's configuration.
        metrics: Gated ones first.
        stored_gain: Whether the profile's promise holds; None where the base is not the default.
        calibration: The smallest drop that a gate on this machine detects; None without `--calibrate`.
        quality: The answers of base and candidate; None unless quality is gated on.
        fingerprint: Of the candidate, today.
        n_requests: Requests in every job; 0 where only answers were compared.
        notes: What the user should know, in sentences.
        run: The run's folder.
        created_at: ISO 8601 time in UTC.
    """

    schema_version: Literal[1] = 1
    infertune_version: str
    answer: Answer | None
    exit_code: int
    mode: Literal["paired", "stored", "calibrate"]
    question: str
    profile: str
    margin: float | None
    pairs: int
    base: ArmRecord
    new: ArmRecord
    metrics: tuple[MetricResult, ...]
    stored_gain: StoredGain | None = None
    calibration: Calibration | None = None
    quality: Check | None = None
    fingerprint: Fingerprint
    n_requests: int
    notes: tuple[str, ...] = ()
    run: str
    created_at: str


class StoredRun(Frozen):
    """One run of the stored mode, in its history folder.

    Attributes:
        schema_version: Of this file.
        fingerprint: What it holds for.
        config: What was launched.
        n_requests: Requests in every job, or in a launch's first load.
        window_s: The `--window` that the job's size comes from, in seconds; None where none was given.
        load: How long a server's loads are and at which rates they come; empty for jobs, and for runs of servers before
            it was kept, which are not compared.
        launches: Launches that its samples are means of.
        samples: Metric → mean over its launches, of every figure that is known; geometric where none is 0.
        energy: Where its energy figures come from; empty if unknown or if its launches differ.
        answer: The gate's verdict on it; later gates leave a regression out.
        run: The run's folder.
        created_at: ISO 8601 time in UTC.
    """

    schema_version: Literal[1] = 1
    fingerprint: Fingerprint
    config: Config
    n_requests: int = Field(ge=1, le=MOST_REQUESTS)
    window_s: float | None = Field(default=None, gt=0, le=1e9)
    load: Annotated[str, Field(max_length=200)] = ""
    launches: int = Field(ge=1, le=10_000)
    samples: dict[str, Annotated[float, Field(ge=0, le=1e12)]]
    energy: str = ""
    answer: Answer
    run: str
    created_at: IsoTime

    @field_validator("samples")
    @classmethod
    def _each_has_a_logarithm(cls, samples: dict[str, float]) -> dict[str, float]:
        if tiny := [name for name, value in samples.items() if value < _SMALLEST and not is_judged(name, 0.0)]:
            raise ValueError(f"{tiny[0]} is not above 0")
        return samples

    def compares(self, metric: str, energy: str) -> bool:
        """Whether its figure compares with today's: energy needs the same source, other metrics always compare."""
        return metric in self.samples and (metric not in ENERGY_FIGURES or (self.energy == energy != ""))


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


def exit_code(answer: Answer | None, on_inconclusive: Literal["pass", "fail"] | None) -> int:
    """What the program ends with."""
    if answer is None:
        return EXIT_OK
    if answer == "inconclusive" and on_inconclusive is not None:
        return EXIT_OK if on_inconclusive == "pass" else EXIT_REGRESSION
    return _EXIT_CODES[answer]


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
    history: Sequence[StoredRun], candidate: Mapping[str, Sequence[float]], judgement: Judgement, energy: str = ""
) -> tuple[MetricResult, ...]:
    """Every metric of a run beside its earlier runs; energy only beside runs with the same energy source."""
    found = []
    others = (name for name in FIGURES if name in candidate and name not in judgement.rulings)
    for name in [*judgement.rulings, *others]:
        ruling = judgement.rulings.get(name)
        earlier = tuple(run.samples[name] for run in history if run.compares(name, energy))
        limit = None if ruling is None or ruling.low is None else ruling.low
        some_zero = 0.0 in (*candidate[name], *earlier)
        found.append(
            _metric(
                name,
                answer=ruling.answer if ruling else None,
                ratio=geometric_mean(candidate[name]) / geometric_mean(earlier) if earlier and not some_zero else None,
                limit=1 / limit if limit is not None and lower_is_better(name) else limit,
                base_samples=earlier,
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


def comparable(
    runs: Sequence[StoredRun],
    today: Fingerprint,
    config: Config,
    launches: int,
    metrics: Sequence[str],
    n_requests: int | None = None,
    window_s: float | None = None,
    load: str = "",
) -> tuple[list[StoredRun], list[str]]:
    """The earlier runs that compare with a run of today, and notes on those that do not.

    A run that was a regression is left out too: it would widen what counts as normal.

    Args:
        runs: Every run of the history, oldest first.
        today: The environment of today.
        config: What will be launched.
        launches: How often.
        metrics: What the verdict needs.
        n_requests: The size of a job that was asked for; None takes that of the newest run that is left.
        window_s: The window that was asked for instead.
        load: The loads of a server, which have their size in it; empty for jobs.
    """
    kept: list[StoredRun] = []
    reasons: dict[str, int] = {}
    for run in runs:
        reason = _foreign(run, today, config, launches, metrics)
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            kept.append(run)
    if load:
        alike = [run for run in kept if run.load == load]
        if len(alike) < len(kept):
            reasons["other loads"] = len(kept) - len(alike)
        return alike, _left_out(reasons)
    if window_s and not n_requests:
        asked = [run for run in kept if run.window_s == window_s]
        if len(asked) < len(kept):
            reasons["another --window"] = len(kept) - len(asked)
        kept = asked
    sized = [run for run in kept if run.n_requests == (n_requests or kept[-1].n_requests)]
    if len(sized) < len(kept):
        reasons["another number of requests"] = len(kept) - len(sized)
    return sized, _left_out(reasons)


def _left_out(reasons: Mapping[str, int]) -> list[str]:
    return [f"{n} earlier run{'s' if n > 1 else ''} left out: {reason}" for reason, n in reasons.items()]


def _foreign(run: StoredRun, today: Fingerprint, config: Config, launches: int, metrics: Sequence[str]) -> str:
    found = differences(run.fingerprint, today)
    if found:
        return f"another {found[0].field}"
    if run.config != config:
        return "other settings"
    if run.launches != launches:
        return "another number of launches"
    if any(name not in run.samples for name in metrics):
        return "a metric is missing"
    return "it was a regression" if run.answer == "regression" else ""


def save_json(folder: Path, name: str, document: Frozen) -> Path:
    """Write a document into a run's folder or a history, whole or not at all.

    Raises:
        UsageError: It cannot be written.
    """
    return write_inside(folder, name, document.model_dump_json(indent=1) + "\n", "result")
