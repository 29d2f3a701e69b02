"""Energy meters: what one window cost in joules, honestly labelled."""

from infertune.energy.base import EnergyMeter, NoMeter, open_meter

__all__ = ["EnergyMeter", "NoMeter", "open_meter"]
