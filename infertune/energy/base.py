"""The interface of energy meters, and a meter that combines several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import Field

from infertune.domain.measurement import Board, Energy, Frozen


class CarbonOptions(Frozen):
    """How CO₂ is computed: from a country's electricity mix, from the user's own factor, or not at all.

    Attributes:
        country: ISO 3166-1 alpha-3 code, such as `DEU`.
        intensity_g_per_kwh: Grams of CO₂ equivalent per kilowatt hour; wins over the country.
    """

    country: str | None = None
    intensity_g_per_kwh: float | None = Field(default=None, ge=0)


@dataclass(frozen=True)
class Reading:
    """The energy of one window, and the state of the GPU boards."""

    energy: Energy = field(default_factory=Energy)
    boards: tuple[Board, ...] = ()


@dataclass(frozen=True)
class SourceStatus:
    """One energy source for `infertune doctor`.

    Attributes:
        name: What is measured and by which library, such as `GPU (NVML)`.
        kind: `counter`, `sampled`, `modelled` or `none`.
        resolution: In time and energy, in words.
        reason: Why there is no figure, or what limits it.
    """

    name: str
    kind: str
    resolution: str = ""
    reason: str = ""


class EnergyMeter(Protocol):
    """Reads the energy of one window at a time, without a measurable effect on throughput.

    No method raises: after an error the energy is None with a reason, so that no trial is lost.
    """

    def measure_idle(self) -> None:
        """Read the power of the loaded, idle engine. Called once a launch, before warm-up."""

    def begin(self) -> None:
        """Start a window."""

    def end(self) -> Reading:
        """End the window; a figure that could not be read is None with the reason."""

    def close(self) -> None:
        """Release the source."""


class NoMeter:
    """A meter without a source: every figure is unknown, with a reason."""

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
    """Several meters as one: each fills the fields that it knows; CO₂ is computed from all of them.

    Args:
        meters: The first begins first and ends last, so its window encloses the others'.
        with_co2: Adds CO₂ to the energy of all meters.
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
        """Start a window on all meters, in order; they end in reverse order."""
        for meter in self._meters:
            meter.begin()

    def end(self) -> Reading:
        """End the window on all meters and merge their readings."""
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


def reasons_of(uuids: Sequence[str], whys: Sequence[Sequence[str]]) -> list[str]:
    """What is to be said of which board, and what is to be said of all of several boards once."""
    of_all = set.intersection(*map(set, whys)) if len(whys) > 1 else set()
    rest = [f"{uuid}: {why}" for uuid, those in zip(uuids, whys, strict=True) for why in those if why not in of_all]
    return [f"every board: {why}" for why in sorted(of_all)] + rest
