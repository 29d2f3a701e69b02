"""Energy meters: what one window cost in joules, honestly labelled."""

from infertune.energy.base import CarbonOptions, EnergyMeter, NoMeter, Reading, SourceStatus

__all__ = ["CarbonOptions", "EnergyMeter", "NoMeter", "Reading", "SourceStatus"]
