"""The contract of every energy meter; a new one adds a line to METERS.

What it checks: no method raises, in whatever order they are called; unknown energy has a reason; known energy has a
source and is no less than 0; and nothing is known before a window was begun and after the meter was closed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pynvml
import pytest

from infertune.domain.device import Device, cpu
from infertune.domain.measurement import Energy
from infertune.energy import CarbonOptions, EnergyMeter, NoMeter
from infertune.energy.base import Meters
from infertune.energy.codecarbon import CodeCarbonMeter
from infertune.energy.nvml import NvmlMeter
from tests.energy.scripted_nvml import ScriptedGpu, ScriptedNvml, SimulatedTime, constant

GPU = Device(kind="gpu", name="Test GPU", uuids=("GPU-a",), memory_bytes=80 * 1024**3, cores=4)


@dataclass(frozen=True)
class Case:
    """A meter to make.

    Attributes:
        name: For the test's name.
        make: Makes it.
        knows: The fields of `Energy` that it may fill.
    """

    name: str
    make: Callable[[], EnergyMeter]
    knows: frozenset[str]


def board(init_error: int = 0) -> NvmlMeter:
    """NVML's meter of one scripted board, on simulated time."""
    time = SimulatedTime()
    nvml = ScriptedNvml([ScriptedGpu("GPU-a", constant(300.0))], time, init_error=init_error)
    return NvmlMeter(GPU, nvml, time, time.sleep, time.every)


def codecarbon() -> CodeCarbonMeter:
    return CodeCarbonMeter(cpu(), CarbonOptions())


METERS = [
    Case("none", NoMeter, frozenset()),
    Case("nvml", board, frozenset({"gpu_j"})),
    Case("nvml without a driver", lambda: board(pynvml.NVML_ERROR_DRIVER_NOT_LOADED), frozenset()),
    Case("codecarbon", codecarbon, frozenset({"cpu_j", "ram_j"})),
    Case("several", lambda: Meters([board(), NoMeter()]), frozenset({"gpu_j"})),
]


@pytest.fixture(params=METERS, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def meter(case: Case) -> Iterator[EnergyMeter]:
    made = case.make()
    yield made
    made.close()


def known(energy: Energy) -> dict[str, float]:
    """Field → joules of what a reading states."""
    stated = {name: getattr(energy, name) for name in ("gpu_j", "cpu_j", "ram_j")}
    return {name: joules for name, joules in stated.items() if joules is not None}


def test_a_window_states_joules_with_their_source_or_the_reason_why_not(case: Case, meter: EnergyMeter) -> None:
    meter.measure_idle()
    for _ in range(2):
        meter.begin()
        energy = meter.end().energy
        stated = known(energy)
        assert stated.keys() <= case.knows
        for name, joules in stated.items():
            assert joules >= 0 and getattr(energy, name.replace("_j", "_source")) in ("measured", "modelled")
        for name in {"gpu_j", "cpu_j", "ram_j"} - stated.keys():
            assert getattr(energy, name.replace("_j", "_source")) == "none"
        assert energy.reason or stated.keys() == case.knows != frozenset()


def test_nothing_is_known_before_a_window_was_begun(meter: EnergyMeter) -> None:
    energy = meter.end().energy
    assert known(energy) == {} and energy.reason


def test_a_window_that_never_ended_is_dropped(case: Case, meter: EnergyMeter) -> None:
    meter.begin()
    meter.begin()
    assert known(meter.end().energy).keys() <= case.knows
    second = meter.end().energy
    assert second.reason and (known(second) == {})


def test_a_closed_meter_knows_nothing_and_says_so(meter: EnergyMeter) -> None:
    meter.begin()
    meter.close()
    meter.close()
    meter.measure_idle()
    meter.begin()
    energy = meter.end().energy
    assert known(energy) == {} and energy.reason
