"""Energy meters: what one window cost in joules, honestly labelled."""

from infertune.energy.base import CarbonOptions, EnergyMeter, Reading, SourceStatus, open_meter

__all__ = ["CarbonOptions", "EnergyMeter", "Reading", "SourceStatus", "open_meter"]
