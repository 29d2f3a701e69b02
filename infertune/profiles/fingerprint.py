"""Whether a profile is valid on this machine: the differences between its fingerprint and today's.

A profile may come from strangers: `check_device` looks at nothing but the machine, and comes before a model is looked
up or an engine is asked anything.
"""

from collections.abc import Set

from infertune.domain.device import Device
from infertune.domain.differences import Difference, device_differences, differing
from infertune.domain.models import Model
from infertune.domain.workload import WorkloadRecord
from infertune.errors import MismatchError
from infertune.profiles.profile import Fingerprint
from infertune.runs.job import Job
from infertune.version import __version__

HELD = "held arguments"


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
        *differing("engine", then.engine, now.engine),
        *differing("engine version", then.engine_version, now.engine_version),
        *_model_differences(then.model, now.model),
        *_workload_differences(then.workload, now.workload),
        *differing(HELD, str(then.held) or "none", str(now.held) or "none"),
    ]
    return [difference for difference in found if difference.field not in compared]


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
        return differing("model", then and then.spec, now and now.spec)
    found = []
    if then.config_hash != now.config_hash:
        found += differing("model", f"{then.spec} ({then.config_hash})", f"{now.spec} ({now.config_hash})")
    found += differing("weights", then.weights, now.weights)
    found += differing("dtype", then.dtype, now.dtype)
    if then.revision and now.revision:  # an unknown revision is no difference: the user could do nothing about it
        found += differing("revision", then.revision, now.revision)
    return found


def _workload_differences(then: WorkloadRecord, now: WorkloadRecord) -> list[Difference]:
    if then.content_hash != now.content_hash:
        return differing("workload", f"{then.spec} ({then.content_hash})", f"{now.spec} ({now.content_hash})")
    return differing("workload's seed", then.seed, now.seed)
