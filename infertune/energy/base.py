"""What an energy meter is, and which ones a device gets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from infertune.device import Device
from infertune.measurement import Board, Energy, Frozen


class CarbonOptions(Frozen):
    """How CO₂ is figured: by a country's mix, by a factor of the user's own, or not at all.

    Attributes:
        country: ISO 3166-1 alpha-3 code, such as `DEU`.
        intensity_g_per_kwh: Grams of CO₂ equivalent a kilowatt hour; wins over the country.
    """

    country: str | None = None
    intensity_g_per_kwh: float | None = None


@dataclass(frozen=True)
class Reading:
    """What meters say about one window."""

    energy: Energy = field(default_factory=Energy)
    boards: tuple[Board, ...] = ()


@dataclass(frozen=True)
class SourceStatus:
    """One energy source for `infertune doctor`.

    Attributes:
        name: What it measures and through what, such as `GPU (NVML)`.
        kind: `counter`, `sampled`, `modelled` or `none`.
        resolution: How fine it is in time and energy, in words.
        reason: Why there is nothing, or what to know.
    """

    name: str
    kind: str
    resolution: str = ""
    reason: str = ""


class EnergyMeter(Protocol):
    """Reads the energy of one window at a time. Reading must not show in the throughput.

    No method raises: what goes wrong ends in a None with its reason, never in a lost trial.
    """

    def measure_idle(self) -> None:
        """Read the power of the loaded, idle engine: called once a launch, before warm-up."""

    def begin(self) -> None:
        """Start a window."""

    def end(self) -> Reading:
        """End the window; what could not be read is None with the reason."""

    def close(self) -> None:
        """Let go of the source."""


class Meters:
    """Several meters as one: each fills the fields that it knows."""

    def __init__(self, meters: Sequence[EnergyMeter]) -> None:
        self._meters = meters

    def measure_idle(self) -> None:
        """Let every meter read idle power."""
        for meter in self._meters:
            meter.measure_idle()

    def begin(self) -> None:
        """Start a window on all, the last to start being the first to end."""
        for meter in self._meters:
            meter.begin()

    def end(self) -> Reading:
        """End it on all and merge what they say."""
        readings = [meter.end() for meter in reversed(self._meters)]
        known: dict[str, object] = {}
        for reading in readings:
            stated = reading.energy.model_dump(exclude_defaults=True)
            known.update({name: value for name, value in stated.items() if name != "reason"})
        known["reason"] = "; ".join(reading.energy.reason for reading in readings if reading.energy.reason)
        boards = tuple(board for reading in readings for board in reading.boards)
        return Reading(Energy.model_validate(known), boards)

    def close(self) -> None:
        """Close all."""
        for meter in self._meters:
            meter.close()


def open_meter(device: Device, carbon: CarbonOptions) -> EnergyMeter:
    """The meters that a device has."""
    return Meters([])
