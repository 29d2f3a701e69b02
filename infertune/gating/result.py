"""What a gate found, as one versioned document."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from infertune.domain.figures import energy_origins
from infertune.domain.knobs import Config
from infertune.domain.measurement import Frozen, Measurement
from infertune.domain.quality import Check
from infertune.errors import EXIT_INCONCLUSIVE, EXIT_OK, EXIT_REGRESSION
from infertune.gating.comparison import Arm
from infertune.gating.verdict import Answer, Calibration
from infertune.profiles.profile import Fingerprint, changed_settings
from infertune.writing import write_inside

_EXIT_CODES: dict[Answer, int] = {
    "pass": EXIT_OK,
    "regression": EXIT_REGRESSION,
    "inconclusive": EXIT_INCONCLUSIVE,
}


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


def record_of(arm: Arm, launches: Sequence[Measurement] = (), label: str = "") -> ArmRecord:
    """Base or candidate as it ran.

    Args:
        arm: Which of the two.
        launches: Of it; none where no speed was measured.
        label: For people; empty takes the arm's own.
    """
    job = arm.job
    return ArmRecord(
        label=label or arm.label,
        engine=f"{job.engine.name} {job.availability.version}",
        versions=launches[0].facts.versions if launches else {},
        model=job.model.spec if job.model else None,
        config=arm.config,
        changed=changed_settings(arm.config, job.engine_defaults),
        energy=energy_origins(launches),
    )


def exit_code(answer: Answer | None, on_inconclusive: Literal["pass", "fail"] | None) -> int:
    """What the program ends with."""
    if answer is None:
        return EXIT_OK
    if answer == "inconclusive" and on_inconclusive is not None:
        return EXIT_OK if on_inconclusive == "pass" else EXIT_REGRESSION
    return _EXIT_CODES[answer]


def save_json(folder: Path, name: str, document: Frozen) -> Path:
    """Write a document into a run's folder or a history, whole or not at all.

    Raises:
        UsageError: It cannot be written.
    """
    return write_inside(folder, name, document.model_dump_json(indent=1) + "\n", "result")
