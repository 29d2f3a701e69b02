"""Whether a profile is valid on this machine: the differences between its fingerprint and today's.

A profile may come from strangers: `check_device` looks at nothing but the machine, and comes before a model is looked
up or an engine is asked anything.
"""

from collections.abc import Set

from infertune.domain.device import Device
from infertune.domain.measurement import Frozen
from infertune.domain.models import Model
from infertune.domain.workload import WorkloadRecord
from infertune.errors import MismatchError
from infertune.profiles.profile import Fingerprint
from infertune.runs.job import Job
from infertune.units import format_bytes
from infertune.version import __version__

HELD = "held arguments"
_SAME_MEMORY = 0.02  # relative: drivers and kernels reserve different amounts (judgement)
_SAME_POWER_W = 1.0


class Difference(Frozen):
    """A field in which two fingerprints differ.

    Attributes:
        field: Its name: `device`, `memory`, `driver`, `power limit`, `engine version`, `model`, `workload`, …
        before: As the profile has it.
        now: As it is here.
    """

    field: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.field} was {_brief(self.before)} and is now {_brief(self.now)}"


def fingerprint_of(job: Job) -> Fingerprint:
    """The fingerprint that a profile of this job would have."""
    return Fingerprint(
        device=job.device,
        engine=job.engine.name,
        engine_version=job.availability.version,
        model=job.model,
        workload=job.workload.record(),
        infertune_version=__version__,
        held=job.held,
    )


def differences(then: Fingerprint, now: Fingerprint, compared: Set[str] = frozenset()) -> list[Difference]:
    """The differences between two fingerprints that change what would be measured.

    Not looked at: which board of a kind it is, where a model or a workload's file lies, how many requests a job has,
    and infertune's own version.

    Args:
        then: The profile's.
        now: Today's.
        compared: Fields that may differ because they are what is compared, such as `engine version`.
    """
    found = [
        *device_differences(then.device, now.device),
        *_differing("engine", then.engine, now.engine),
        *_differing("engine version", then.engine_version, now.engine_version),
        *_model_differences(then.model, now.model),
        *_workload_differences(then.workload, now.workload),
        *_differing(HELD, str(then.held) or "none", str(now.held) or "none"),
    ]
    return [difference for difference in found if difference.field not in compared]


def device_differences(then: Device, now: Device) -> list[Difference]:
    """The differences between two devices that change what would be measured."""
    found = [*_differing("device", then.name, now.name), *_differing("device kind", then.kind, now.kind)]
    found += _differing("number of GPUs", then.count, now.count)
    if abs(then.memory_bytes - now.memory_bytes) > _SAME_MEMORY * max(then.memory_bytes, now.memory_bytes):
        found += _differing("memory", format_bytes(then.memory_bytes), format_bytes(now.memory_bytes))
    if then.kind == now.kind == "cpu":
        found += _differing("number of cores", then.cores, now.cores)
    found += _differing("driver", then.driver, now.driver)
    limits = then.power_limit_w, now.power_limit_w
    if None in limits or abs((limits[0] or 0) - (limits[1] or 0)) > _SAME_POWER_W:
        found += _differing("power limit", *(None if watts is None else f"{watts:g} W" for watts in limits))
    return found


def check_device(then: Device, now: Device, name: str) -> None:
    """Refuse a profile of another device.

    Args:
        then: The profile's.
        now: Today's.
        name: The profile, for people.

    Raises:
        MismatchError: They differ.
    """
    cure = "tune on this machine for a profile of its own"
    if (then.kind, now.kind) == ("cpu", "gpu"):
        cure = f"measure the processor with --device cpu, or {cure}"
    _refuse(device_differences(then, now), name, cure)


def check_fingerprint(then: Fingerprint, now: Fingerprint, name: str, compared: Set[str] = frozenset()) -> None:
    """Refuse a profile that does not hold here.

    Raises:
        MismatchError: It does not; the message has every difference in one line.
    """
    found = differences(then, now, compared)
    cure = "tune again for a profile of what is here now"
    if {difference.field for difference in found} == {"engine version"}:
        cure = "compare the two with --baseline-python, or tune again"
    _refuse(found, name, cure)


def _refuse(found: list[Difference], name: str, cure: str) -> None:
    if found:
        raise MismatchError(f"{name} does not hold here: {'; '.join(map(str, found))}; {cure}")


def _model_differences(then: Model | None, now: Model | None) -> list[Difference]:
    if then is None or now is None:
        return _differing("model", then and then.spec, now and now.spec)
    found = []
    if then.config_hash != now.config_hash:
        found += _differing("model", f"{then.spec} ({then.config_hash})", f"{now.spec} ({now.config_hash})")
    found += _differing("weights", then.weights, now.weights)
    found += _differing("dtype", then.dtype, now.dtype)
    if then.revision and now.revision:  # an unknown revision is no difference: the user could do nothing about it
        found += _differing("revision", then.revision, now.revision)
    return found


def _workload_differences(then: WorkloadRecord, now: WorkloadRecord) -> list[Difference]:
    if then.content_hash != now.content_hash:
        return _differing("workload", f"{then.spec} ({then.content_hash})", f"{now.spec} ({now.content_hash})")
    return _differing("workload's seed", then.seed, now.seed)


def _differing(field: str, before: object, now: object) -> list[Difference]:
    if before == now:
        return []
    return [Difference(field=field, before=_shown(before), now=_shown(now))]


def _shown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _brief(text: str) -> str:
    """A text of a profile on one line, cut to fit a message."""
    line = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    return line if len(line) <= 60 else line[:59] + "…"
