"""What an energy meter is, and which one a device gets."""

from typing import Protocol

from infertune.device import Device
from infertune.measurement import Energy


class EnergyMeter(Protocol):
    """Reads the energy of one window at a time. Reading must not show in the throughput."""

    def begin(self) -> None:
        """Start a window."""

    def end(self) -> Energy:
        """End the window; what could not be read is None with the reason."""

    def close(self) -> None:
        """Let go of the source."""


class NoMeter:
    """A meter for machines on which nothing can be read."""

    def __init__(self, reason: str) -> None:
        self._energy = Energy(reason=reason)

    def begin(self) -> None:
        """Nothing to start."""

    def end(self) -> Energy:
        """Unknown, with the reason."""
        return self._energy

    def close(self) -> None:
        """Nothing to close."""


def open_meter(device: Device) -> EnergyMeter:
    """The best meter for a device."""
    return NoMeter(f"no energy source for {device.name} yet")
