"""The energy meters of a device, and their description for `infertune doctor`."""

from functools import partial

from infertune.domain.device import Device
from infertune.energy.base import CarbonOptions, EnergyMeter, Meters, SourceStatus
from infertune.energy.codecarbon import (
    CodeCarbonMeter,
    carbon_factor,
    check_country,
    codecarbon_status,
    with_co2,
)
from infertune.energy.nvml import NvmlMeter, nvml_status

__all__ = ["check_country", "energy_sources", "open_meter"]


def open_meter(device: Device, carbon: CarbonOptions) -> EnergyMeter:
    """All meters of a device as one: of its GPU boards, if it has any, and of processor and memory.

    The boards' meter begins first and ends last, because it waits for ticks of its counter at both edges, and that wait
    must not be part of the other meter's window. The other meter takes less than a millisecond.
    """
    meters: list[EnergyMeter] = [NvmlMeter(device)] if device.kind == "gpu" else []
    meters.append(CodeCarbonMeter(device, carbon))
    factor, description = carbon_factor(carbon)
    return Meters(meters, partial(with_co2, factor_g_per_kwh=factor, description=description))


def energy_sources(device: Device) -> list[SourceStatus]:
    """Every energy source with its kind and resolution."""
    return [*nvml_status(device), *codecarbon_status()]
