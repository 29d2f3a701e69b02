"""A profile: a configuration, what it was measured on and what came out. YAML, safe to load from strangers."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from infertune.device import Device
from infertune.engines.base import first_line
from infertune.errors import UsageError
from infertune.figures import Economy, economy
from infertune.knobs import Config
from infertune.ledger import Header, Ledger
from infertune.measurement import Frozen
from infertune.models import Model
from infertune.objective import Objective
from infertune.summary import Answer, Summary, default_config, figures
from infertune.units import slugify
from infertune.workload import WorkloadRecord

_MAX_FILE_BYTES = 1024**2


class Fingerprint(Frozen):
    """What a profile's figures hold for.

    Attributes:
        device: The GPUs with memory, driver and power limit, or the processor.
        engine: The engine's name.
        engine_version: Its version.
        model: The model with the hash of its config.json, weights real or dummy, dtype.
        workload: The requests, by hash.
        infertune_version: What measured it.
    """

    device: Device
    engine: str
    engine_version: str | None
    model: Model | None
    workload: WorkloadRecord
    infertune_version: str


class Profile(Frozen):
    """A saved configuration.

    Attributes:
        schema_version: Of the file; a newer one is refused.
        fingerprint: What it holds for.
        objective: What was tuned for.
        unit: Of the samples.
        answer: What the final comparison said.
        config: Every knob's value.
        changed: Only the settings that differ from the engine's defaults: what to type.
        samples: The objective's figure of the configuration, one a launch.
        default_samples: The same of the engine's default, paired.
        gain: Ratio to the default with its 95% interval, low and high; None while unconfirmed.
        economy: What the configuration costs in energy, carbon and money.
        default_economy: The same of the default.
        run: The folder of the run that it came from.
        created_at: ISO 8601 time in UTC.
    """

    schema_version: Literal[1] = 1
    fingerprint: Fingerprint
    objective: str
    unit: str
    answer: Answer
    config: Config
    changed: Config
    samples: tuple[float, ...]
    default_samples: tuple[float, ...]
    gain: tuple[float, float, float] | None
    economy: Economy
    default_economy: Economy
    run: str
    created_at: str

    def save(self, path: Path) -> Path:
        """Write it as YAML, whole or not at all.

        Raises:
            UsageError: The path cannot be written.
        """
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=100)  # ASCII: PyYAML loses U+0085
        draft = path.with_name(f".{path.name}.draft")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
        except OSError as error:
            raise UsageError(f"cannot write profile {path}: {error.strerror}") from None
        return path


def load_profile(path: str | Path) -> Profile:
    """A saved profile.

    Raises:
        UsageError: The file is missing, or is no profile that this version reads.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise UsageError(f"{path} is too large to be a profile")
        return Profile.model_validate(_safe_yaml(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read profile {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {first_line(str(error))}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = first_line(".".join(map(str, fault["loc"])), 80) or "top"
        raise UsageError(
            f"{path} is no profile that this version of infertune reads: {where}: {fault['msg']}"
        ) from None


def _safe_yaml(text: str) -> object:
    """What a YAML text holds: plain values only.

    Raises:
        YAMLError: It is no YAML, or its tags do not fit its values, for which PyYAML raises whatever it met.
    """
    try:
        return yaml.safe_load(text)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None


def fingerprint(header: Header) -> Fingerprint:
    """What a run's figures hold for."""
    return Fingerprint(
        device=header.device,
        engine=header.engine,
        engine_version=header.engine_version,
        model=header.model,
        workload=header.workload,
        infertune_version=header.infertune_version,
    )


def profile_of(ledger: Ledger, summary: Summary, objective: str) -> Profile:
    """The profile that a run recommends."""
    recommends_default = summary.best_config == summary.default_config
    gain = summary.gain
    return Profile(
        fingerprint=fingerprint(ledger.header),
        objective=objective,
        unit=summary.unit,
        answer=summary.answer,
        config=summary.best_config,
        changed=changed_settings(summary.best_config, ledger.header.engine_defaults),
        samples=summary.default_samples if recommends_default else summary.candidate_samples,
        default_samples=summary.default_samples,
        gain=None if gain is None or gain.low is None or gain.high is None else (gain.mean, gain.low, gain.high),
        economy=summary.default_economy if recommends_default else summary.candidate_economy,
        default_economy=summary.default_economy,
        run=ledger.folder.name,
        created_at=ledger.header.created_at,
    )


def profile_at(ledger: Ledger, config: Config, objective: Objective) -> Profile:
    """A profile of any configuration that a run's search measured; its figures are the search's own, unconfirmed."""
    default = default_config(ledger)
    phases = ("search", "grid")
    launches = {
        key: [t.measurement for t in ledger.trials if t.config == key and t.phase in phases and t.measurement]
        for key in (config, default)
    }
    return Profile(
        fingerprint=fingerprint(ledger.header),
        objective=objective.name,
        unit=objective.unit,
        answer="unconfirmed",
        config=config,
        changed=changed_settings(config, ledger.header.engine_defaults),
        samples=tuple(figures(ledger.trials, config, objective)),
        default_samples=tuple(figures(ledger.trials, default, objective)),
        gain=None,
        economy=economy(launches[config], objective.prices),
        default_economy=economy(launches[default], objective.prices),
        run=ledger.folder.name,
        created_at=ledger.header.created_at,
    )


def changed_settings(config: Config, default: Config) -> Config:
    """The settings in which a configuration differs from the default."""
    return Config({name: value for name, value in config.root.items() if value != default.root.get(name)})


def profile_path(folder: Path, found: Fingerprint) -> Path:
    """Where a profile is filed: `FOLDER/<gpu-slug>/<engine>/<model>--<workload>.yaml`."""
    model = found.model.name if found.model else "no-model"
    return folder / found.device.slug / slugify(found.engine) / f"{model}--{found.workload.name}.yaml"
