"""Energy meters: the joules of one window, each figure labelled measured, modelled or unknown."""

from infertune.energy.base import CarbonOptions, EnergyMeter, NoMeter, Reading, SourceStatus

__all__ = ["CarbonOptions", "EnergyMeter", "NoMeter", "Reading", "SourceStatus"]
