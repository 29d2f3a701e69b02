"""In what two fingerprints, and their devices, differ: figures of the one do not compare with those of the other."""

from infertune.domain.device import Device
from infertune.domain.measurement import Frozen
from infertune.units import format_bytes, shortened

_SAME_MEMORY = 0.02  # relative: drivers and kernels reserve different amounts (judgement)
_SAME_POWER_W = 1.0
_LONGEST = 120  # characters of a value that a message shows


class Difference(Frozen):
    """A field in which two fingerprints differ.

    Attributes:
        field: Its name: `device`, `memory`, `driver`, `power limit`, `engine version`, `model`, `workload`, …
        before: As the profile or the run has it.
        now: As it is here.
    """

    field: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.field} was {_brief(self.before)} and is now {_brief(self.now)}"


def device_differences(then: Device, now: Device) -> list[Difference]:
    """The differences between two devices that change what would be measured: not which board of a kind it is.

    The cores beside a GPU are not looked at: nodes of one cluster may have more or fewer.
    """
    found = [*differing("device", then.name, now.name), *differing("device kind", then.kind, now.kind)]
    found += differing("number of GPUs", then.count, now.count)
    if abs(then.memory_bytes - now.memory_bytes) > _SAME_MEMORY * max(then.memory_bytes, now.memory_bytes):
        found += differing("memory", format_bytes(then.memory_bytes), format_bytes(now.memory_bytes))
    if then.kind == now.kind == "cpu":
        found += differing("number of cores", then.cores, now.cores)
    found += differing("driver", then.driver, now.driver)
    limits = then.power_limit_w, now.power_limit_w
    if None in limits or abs((limits[0] or 0) - (limits[1] or 0)) > _SAME_POWER_W:
        found += differing("power limit", *(None if watts is None else f"{watts:g} W" for watts in limits))
    return found


def differing(field: str, before: object, now: object) -> list[Difference]:
    """A field as a difference; empty where it is the same.

    Args:
        field: Its name.
        before: As it was; None for what is unknown.
        now: As it is.
    """
    if before == now:
        return []
    return [Difference(field=field, before=_shown(before), now=_shown(now))]


def _shown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _brief(text: str) -> str:
    """A text of a profile on one line, cut to fit a message."""
    return shortened("".join(c if c.isprintable() else "�" for c in " ".join(text.split())), _LONGEST)
