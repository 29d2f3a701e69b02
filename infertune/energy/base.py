"""What an energy meter is, and which ones a device gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import Field

from infertune.domain.measurement import Board, Energy, Frozen


class CarbonOptions(Frozen):
    """How CO₂ is figured: by a country's mix, by a factor of the user's own, or not at all.

    Attributes:
        country: ISO 3166-1 alpha-3 code, such as `DEU`.
        intensity_g_per_kwh: Grams of CO₂ equivalent a kilowatt hour; wins over the country.
    """

    country: str | None = None
    intensity_g_per_kwh: float | None = Field(default=None, ge=0)


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


class NoMeter:
    """Reads nothing, and says why."""

    def __init__(self, reason: str = "no energy source") -> None:
        self._reading = Reading(Energy(reason=reason))

    def measure_idle(self) -> None:
        """Nothing to read."""

    def begin(self) -> None:
        """Nothing to start."""

    def end(self) -> Reading:
        """Unknown, with the reason."""
        return self._reading

    def close(self) -> None:
        """Nothing to close."""


class Meters:
    """Several meters as one: each fills the fields that it knows, and CO₂ is figured from all of them.

    Args:
        meters: The first is started first and ended last, so it encloses the others.
        with_co2: Adds CO₂ to what is known.
    """

    def __init__(
        self, meters: Sequence[EnergyMeter], with_co2: Callable[[Energy], Energy] = lambda energy: energy
    ) -> None:
        self._meters = meters
        self._with_co2 = with_co2

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
        return Reading(self._with_co2(Energy.model_validate(known)), boards)

    def close(self) -> None:
        """Close all."""
        for meter in self._meters:
            meter.close()
