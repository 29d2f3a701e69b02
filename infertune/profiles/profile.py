"""A profile: a configuration, what it was measured on, and its figures. A YAML file that may come from a stranger."""

import hashlib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from infertune.documents import check_schema, plain_yaml, read_document
from infertune.domain.command import Command
from infertune.domain.device import Device
from infertune.domain.figures import Economy, economy
from infertune.domain.knobs import Config, Effect, check_scalars, format_scalar
from infertune.domain.measurement import Frozen, IsoTime
from infertune.domain.models import Model
from infertune.domain.objective import NAMES as OBJECTIVES
from infertune.domain.objective import Objective, get_objective
from infertune.domain.record import Header
from infertune.domain.workload import WorkloadRecord
from infertune.engines.base import first_line
from infertune.errors import UsageError
from infertune.profiles.answers import CheckedAnswers, checked_answers
from infertune.profiles.promised import Promised, promised_of
from infertune.runs.ledger import Ledger
from infertune.runs.summary import Answer, Summary, default_config, figures
from infertune.units import format_percent, slugify
from infertune.writing import write_inside, write_named

SCHEMA_VERSION = 1
Sample = Annotated[float, Field(ge=1e-12, le=1e12)]
Ratio = Annotated[float, Field(ge=1e-24, le=1e24)]


class Fingerprint(Frozen):
    """The conditions under which a profile's figures were measured.

    Attributes:
        device: The GPUs with memory, driver and power limit, or the processor.
        engine: The engine's name.
        engine_version: Its version.
        model: The model with the hash of its config.json, weights real or dummy, dtype.
        workload: The requests, by hash.
        infertune_version: What measured it.
        held: The arguments that were held for the whole run.
    """

    device: Device
    engine: str
    engine_version: str | None
    model: Model | None
    workload: WorkloadRecord
    infertune_version: str
    held: Config = Config({})


class Profile(Frozen):
    """A saved configuration.

    Attributes:
        schema_version: Of the file; a newer one is refused, and so is a file without.
        fingerprint: What it holds for.
        objective: What was tuned for.
        slo: The limits that it keeps, as `--slo` has them.
        serving: The load under which it keeps them; None for offline jobs.
        unit: Of the samples.
        answer: What the final comparison said.
        config: Every knob's value.
        changed: Only the settings that differ from the engine's defaults: what to type.
        effects: What each of those does to answers: exact, numeric or lossy.
        answers: What the check of its answers found; None where there was none and nothing may spoil them.
        samples: The objective's figure of the configuration, one a launch.
        default_samples: The same of the engine's default, paired.
        gain: Ratio to the default with its 95% interval, low and high; None while unconfirmed.
        economy: What the configuration costs in energy, carbon and money.
        default_economy: The same of the default.
        current: Every knob's value as it ran before the tune, for a tune of what runs today.
        running: The command that ran before the tune, without its secrets.
        run: The folder of the run that it came from.
        created_at: ISO 8601 time in UTC.
    """

    schema_version: Literal[1] = 1
    fingerprint: Fingerprint
    objective: str
    slo: tuple[str, ...] = ()
    serving: Promised | None = None
    unit: str
    answer: Answer
    config: Config
    changed: Config
    effects: dict[str, Effect] = {}
    answers: CheckedAnswers | None = None
    samples: tuple[Sample, ...]
    default_samples: tuple[Sample, ...]
    gain: tuple[Ratio, Ratio, Ratio] | None
    economy: Economy
    default_economy: Economy
    current: Config | None = None
    running: Command | None = None
    run: str
    created_at: IsoTime

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, given: str) -> str:
        if given not in OBJECTIVES:
            raise ValueError(f"{given[:40]!r} is none of {', '.join(OBJECTIVES)}")
        return given

    @field_validator("slo")
    @classmethod
    def _parsed_limits(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        try:
            get_objective("goodput", given)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return given

    @field_validator("config", "changed")
    @classmethod
    def _plain_values(cls, given: Config) -> Config:
        check_scalars(given.root)
        return given

    @field_validator("gain")
    @classmethod
    def _interval(cls, given: tuple[Ratio, Ratio, Ratio] | None) -> tuple[Ratio, Ratio, Ratio] | None:
        if given and not given[1] <= given[0] <= given[2]:
            raise ValueError("the ratio does not lie in its interval")
        return given

    @field_validator("changed")
    @classmethod
    def _as_in_config(cls, given: Config, info: ValidationInfo) -> Config:
        """`changed` must agree with `config`: an export writes the first, a gate launches the second."""
        config = info.data.get("config")
        if isinstance(config, Config):
            for name, value in given.root.items():
                if name not in config or Config({name: value}) != config.subset({name}):
                    here = first_line(format_scalar(value), 40)
                    there = first_line(format_scalar(config[name]), 40) if name in config else "nothing"
                    raise ValueError(f"{name[:40]!r} is {here} here and {there} in config: make the two the same")
        return given

    @property
    def proven(self) -> bool:
        """Whether a final comparison stands behind its answer."""
        return self.gain is not None

    @property
    def asked(self) -> tuple[str, ...]:
        """The limits that were asked for, and of a goodput the load."""
        return (*self.slo, *(self.serving.asked if self.serving else ()))

    @property
    def case(self) -> dict[str, object]:
        """What it answers; see `case_of`."""
        return case_of(self.fingerprint, self.asked)

    def verdict(self) -> str:
        """Its answer, with the gain where there is one: `better (+34.2%)`."""
        return (
            f"{self.answer} ({format_percent(self.gain[0])})" if self.gain and self.answer == "better" else self.answer
        )

    def sentence(self) -> str:
        """Its answer and settings in one line."""
        return f"{self.verdict()}, {self.changed if self.changed.root else 'the default settings'}"

    def text(self) -> str:
        """The profile as YAML, for people and for `load_profile`."""
        return plain_yaml(self.model_dump(mode="json"))

    def save(self, path: Path, within: Path | None = None) -> Path:
        """Write it as YAML, whole or not at all.

        Args:
            path: The file.
            within: A folder of infertune's own that the file lies in: below it no link is followed.

        Raises:
            UsageError: The path cannot be written.
        """
        if within is None:
            return write_named(path, self.text(), "profile")
        return write_inside(within, str(path.relative_to(within)), self.text(), "profile")


def load_profile(path: str | Path, within: Path | None = None) -> Profile:
    """A saved profile.

    Args:
        path: Its file.
        within: No link may lead out of this folder; the `profiles` in which the file lies, else the file's own folder.

    Raises:
        UsageError: The file is missing, is a link that leads out, or is no profile that this version reads; the
            message names the line.
    """
    path = Path(path)
    _refuse_link_out(path, within or _own_folder(path))
    document = read_document(path, "profile")
    check_schema(document.value, path, "profile", SCHEMA_VERSION)
    try:
        return Profile.model_validate(document.value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = first_line(".".join(map(str, fault["loc"])), 80) or "top"
        reason = fault["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{path} is no profile that this version of infertune reads: {where}: {reason} "
            f"(line {document.line_of(fault['loc'])})"
        ) from None


def _own_folder(path: Path) -> Path:
    parents = Path(os.path.abspath(path)).parents
    return next((folder for folder in parents if folder.name == "profiles"), parents[0])


def _refuse_link_out(path: Path, folder: Path) -> None:
    """Refuse a link that leads out of the folder: it would show a file that nobody meant to share.

    Raises:
        UsageError: The file lies outside of the folder once links are followed.
    """
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    except ValueError:  # a NUL character in the name: reading it gives the message
        return
    if not inside:
        raise UsageError(f"{path} is a link out of {folder}: name the file itself that is meant")


def fingerprint(header: Header) -> Fingerprint:
    """The fingerprint of a run."""
    return Fingerprint(
        device=header.device,
        engine=header.engine,
        engine_version=header.engine_version,
        model=header.model,
        workload=header.workload,
        infertune_version=header.infertune_version,
        held=header.held,
    )


def profile_of(ledger: Ledger, summary: Summary, objective: str) -> Profile:
    """The profile that a run recommends."""
    recommends_default = summary.best_config == summary.default_config
    gain = summary.gain
    return Profile(
        fingerprint=fingerprint(ledger.header),
        objective=objective,
        slo=_limits(ledger),
        serving=promised_of(ledger, summary.best_config),
        unit=summary.unit,
        answer=summary.answer,
        config=summary.best_config,
        changed=changed_settings(summary.best_config, ledger.header.engine_defaults),
        effects=_effects(ledger, summary.best_config),
        answers=checked_answers(ledger, summary.best_config),
        samples=summary.default_samples if recommends_default else summary.candidate_samples,
        default_samples=summary.default_samples,
        gain=None if gain is None or gain.low is None or gain.high is None else (gain.mean, gain.low, gain.high),
        economy=summary.default_economy if recommends_default else summary.candidate_economy,
        default_economy=summary.default_economy,
        current=summary.default_config if ledger.header.stock is not None else None,
        running=ledger.header.running,
        run=ledger.folder.name,
        created_at=ledger.header.created_at,
    )


def profile_at(ledger: Ledger, config: Config, objective: Objective) -> Profile:
    """An unconfirmed profile of a configuration of the search, with the figures that the search measured."""
    default = default_config(ledger)
    phases = ("search", "grid")
    launches = {
        key: [t.measurement for t in ledger.trials if t.config == key and t.phase in phases and t.measurement]
        for key in (config, default)
    }
    return Profile(
        fingerprint=fingerprint(ledger.header),
        objective=objective.name,
        slo=_limits(ledger),
        serving=promised_of(ledger, config),
        unit=objective.unit,
        answer="unconfirmed",
        config=config,
        changed=changed_settings(config, ledger.header.engine_defaults),
        effects=_effects(ledger, config),
        answers=checked_answers(ledger, config),
        samples=tuple(figures(ledger.trials, config, objective)),
        default_samples=tuple(figures(ledger.trials, default, objective)),
        gain=None,
        economy=economy(launches[config], objective.prices),
        default_economy=economy(launches[default], objective.prices),
        current=default if ledger.header.stock is not None else None,
        running=ledger.header.running,
        run=ledger.folder.name,
        created_at=ledger.header.created_at,
    )


def _effects(ledger: Ledger, config: Config) -> dict[str, Effect]:
    """What the changed settings do to answers."""
    changed = changed_settings(config, ledger.header.engine_defaults)
    return {knob.name: knob.effect for knob in ledger.header.space.knobs if knob.name in changed}


def _limits(ledger: Ledger) -> tuple[str, ...]:
    """The `--slo` limits of a run."""
    given = ledger.header.request.get("slo")
    return tuple(map(str, given)) if isinstance(given, list) else ()


def changed_settings(config: Config, default: Config) -> Config:
    """The settings in which a configuration differs from the default."""
    return Config({name: value for name, value in config.root.items() if value != default.root.get(name)})


def case_of(found: Fingerprint, asked: Collection[str] = ()) -> dict[str, object]:
    """Part of a file's name → all that it stands for: two cases may share a name and differ in this.

    Args:
        found: What it holds for.
        asked: As `Profile.asked` has it.
    """
    model = found.model
    return {
        # An engine that loads no model answers from itself: the version says from what, such as a recorded table.
        "model": (model.config_hash, model.weights, model.dtype) if model else found.engine_version,
        "workload": found.workload.content_hash,
        "asked": (sorted(asked), str(found.held)),
    }


def profile_path(
    folder: Path,
    found: Fingerprint,
    objective: str = "throughput",
    asked: Collection[str] = (),
    apart: Collection[str] = (),
) -> Path:
    """A name for a profile: `FOLDER/<gpu-slug>/<engine>/<model>--<workload>.yaml`.

    One that was tuned for something else than throughput has its objective in the name: `…--energy.yaml`.

    Args:
        folder: The folder of profiles.
        found: What it holds for.
        objective: What it was tuned for.
        asked: As of `case_of`.
        apart: Parts of its case (keys of `case_of`) by whose content the name is told from another case's.
    """
    marks = {part: f"-{_mark(value)}" if part in apart else "" for part, value in case_of(found, asked).items()}
    model = f"{slugify(found.model.name) if found.model else 'no-model'}{marks['model']}"
    workload = f"{slugify(found.workload.name)}{marks['workload']}"
    tail = "" if objective == "throughput" else f"--{slugify(objective)}"
    tail += f"-{marks['asked']}" if marks["asked"] else ""
    return folder / found.device.slug / slugify(found.engine) / f"{model}--{workload}{tail}.yaml"


def _mark(value: object) -> str:
    """The first 8 hex digits of a hash, or of the hash of something else."""
    is_hash = isinstance(value, str) and re.fullmatch("[0-9a-f]{8,}", value)
    return (str(value) if is_hash else hashlib.sha256(repr(value).encode()).hexdigest())[:8]
