"""Compares a profile with this machine, and with another profile, field by field."""

from infertune.domain.device import Device, detect
from infertune.domain.differences import Difference
from infertune.domain.knobs import Config, format_scalar
from infertune.domain.measurement import Frozen
from infertune.engines import installed_version
from infertune.engines.base import EngineOptions
from infertune.engines.models import known_here
from infertune.profiles.fingerprint import differences
from infertune.profiles.profile import Fingerprint, Profile
from infertune.stats import geometric_mean
from infertune.units import format_bytes, format_rate
from infertune.version import __version__

_INFORMATIVE = "infertune version"  # recorded for reference: the figures do not depend on it


class Check(Frozen):
    """One field of a profile compared with this machine.

    Attributes:
        field: Its name, as in `Difference`.
        profile_value: What the profile says.
        here_value: What is here; None where that cannot be told offline.
        breaks: The profile's figures do not hold here because of it.
    """

    field: str
    profile_value: str
    here_value: str | None
    breaks: bool = False

    def __str__(self) -> str:
        if self.here_value is None:
            return f"unknown  {self.field}: {self.profile_value}; cannot be told here"
        if self.breaks:
            stale = " (stale: the engine has changed since)" if self.field == "engine version" else ""
            return f"differs  {self.field}: {self.profile_value}, here {self.here_value}{stale}"
        if self.here_value != self.profile_value:
            return f"near     {self.field}: {self.profile_value}, here {self.here_value}; no matter"
        return f"same     {self.field}: {self.profile_value}"


def verify(of: Fingerprint, options: EngineOptions | None = None, device: Device | None = None) -> list[Check]:
    """Compares every field of a fingerprint that describes a machine with this machine.

    Args:
        of: A profile's.
        options: Where to look for the engine; None looks where a run without options would.
        device: The device of this machine; None looks for it.

    Raises:
        UsageError: There is no such engine.
    """
    version = installed_version(of.engine, options)
    known_hash, known_revision = known_here(of.engine, options, of.model) if of.model else (None, None)
    here = of.model_copy(
        update={
            "device": device or detect(),
            "engine_version": version,
            "model": of.model
            and of.model.model_copy(
                update={"config_hash": known_hash or of.model.config_hash, "revision": known_revision}
            ),
            "infertune_version": __version__,
        }
    )
    broken = {difference.field for difference in differences(of, here)}
    then, now = _table(of), _table(here)
    if of.model and known_hash is None:
        now["model"] = None
    if "revision" in then and known_revision is None:
        now["revision"] = None
    if version is None:
        now["engine version"] = "not installed"
    fields = [*then, *(field for field in now if field not in then)]
    return [
        Check(
            field=field,
            profile_value=then.get(field) or "unknown",
            here_value=now.get(field, "none"),
            breaks=field in broken,
        )
        for field in fields
    ]


def _table(of: Fingerprint) -> dict[str, str | None]:
    """The fields that describe a machine, named as in `Difference`."""
    device, model = of.device, of.model
    table: dict[str, object] = {"device": device.name, "memory": format_bytes(device.memory_bytes)}
    if device.kind == "gpu":
        watts = "unknown" if device.power_limit_w is None else f"{device.power_limit_w:g} W"
        table |= {"number of GPUs": device.count, "driver": device.driver, "power limit": watts}
    else:
        table |= {"number of cores": device.cores}
    table |= {"engine version": f"{of.engine} {of.engine_version}"}
    if model:
        table |= {"model": f"{model.spec} ({model.config_hash})"}
        table |= {"revision": model.revision} if model.revision else {}
    table |= {_INFORMATIVE: of.infertune_version}
    return {field: str(value) for field, value in table.items()}


def profile_differences(one: Profile, other: Profile) -> list[Difference]:
    """Where two profiles differ: fingerprint, settings and figures."""
    return [
        *differences(one.fingerprint, other.fingerprint),
        *_differing({_INFORMATIVE: one.fingerprint.infertune_version},
                    {_INFORMATIVE: other.fingerprint.infertune_version}),
        *_differing(_settings(one.config), _settings(other.config)),
        *_differing(_figures(one), _figures(other)),
    ]  # fmt: skip


def _settings(config: Config) -> dict[str, str]:
    return {name: format_scalar(value) for name, value in config.root.items()}


def _figures(profile: Profile) -> dict[str, str]:
    samples = {profile.unit: profile.samples, f"default's {profile.unit}": profile.default_samples}
    means = {name: format_rate(geometric_mean(figures)) for name, figures in samples.items() if figures}
    limits = " ".join(profile.slo) or "none"
    return {
        "objective": profile.objective,
        "limits": limits,
        "answer": profile.answer,
        "answers": _answers(profile),
        **means,
    }


def _answers(profile: Profile) -> str:
    found = profile.answers
    if found is None or found.figures is None:
        return found.verdict if found else "–"
    return f"{found.verdict} (perplexity {found.figures.perplexity_increase.mean:+.2%})"


def _differing(one: dict[str, str], other: dict[str, str]) -> list[Difference]:
    fields = [*one, *(field for field in other if field not in one)]
    pairs = [(field, one.get(field, "–"), other.get(field, "–")) for field in fields]
    return [Difference(field=field, before=before, now=now) for field, before, now in pairs if before != now]
