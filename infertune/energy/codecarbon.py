"""Energy of processors and memory through codecarbon, and the CO₂ of a window's energy.

codecarbon measures processors where it can read a counter (RAPL) and models them elsewhere; it always models memory.
Its GPU figures come from the NVML counter, which `infertune.energy` reads itself, so its GPU part stays off. It is
imported only here, on first use: import and first start take 1.5 s, which must stay outside measured time.
"""

import difflib
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from infertune.domain.device import Device
from infertune.domain.measurement import Energy, EnergySource
from infertune.energy.base import CarbonOptions, Reading, SourceStatus
from infertune.errors import UsageError

if TYPE_CHECKING:
    from codecarbon import OfflineEmissionsTracker

_J_PER_KWH = 3.6e6
_SHORTEST_LOAD_S = 0.1  # of a window: Linux counts the load in ticks of 10 ms, so that it is good to a tenth
_LONGEST_COUNTER_S = 120.0  # of a window: codecarbon reads RAPL at its edges only, and some counters wrap at 65 kJ
_POWERCAP = Path("/sys/class/powercap")


class _Part(NamedTuple):
    """How codecarbon obtains the energy of the processors or the memory."""

    source: EnergySource
    method: str


class _Country(NamedTuple):
    """The mean carbon intensity of a country's electricity in one year."""

    name: str
    g_per_kwh: float
    year: int | None


class CodeCarbonMeter:
    """Processors and memory of the whole machine, other programs included.

    `begin` and `end` take under 1 ms each (tests/energy/test_codecarbon.py prints it). Within a window a thread of
    codecarbon reads the load once a second; between windows nothing runs. The arguments do not change what is read:
    CO₂ covers the GPU's energy too, so `with_co2` computes it.
    """

    def __init__(self, device: Device, carbon: CarbonOptions) -> None:
        self._tracker: OfflineEmissionsTracker | None = None
        self._failure = "CPU and memory energy unknown: no window is open"
        self._began_s: float | None = None
        try:
            self._tracker = _open_tracker()
            self._cpu, self._ram = _parts(self._tracker)
            self._tracker.start_task()  # a first task, so that no window pays for what codecarbon loads once
            self._tracker.stop_task()
        except Exception as error:  # here and below: no meter raises, so that no trial is lost
            self._fail(error)

    def measure_idle(self) -> None:
        """Nothing to do: idle power is read by the GPU's meter."""

    def begin(self) -> None:
        """Start a window; one that never ended, because its engine failed, is dropped."""
        if self._tracker is None:
            return
        try:
            if self._began_s is not None:
                self._tracker.stop_task()
            self._tracker.start_task()
            self._began_s = time.perf_counter()
        except Exception as error:
            self._fail(error)

    def end(self) -> Reading:
        """End the window."""
        if self._tracker is None or self._began_s is None:
            return Reading(Energy(reason=self._failure))
        duration_s, self._began_s = time.perf_counter() - self._began_s, None
        try:
            task = self._tracker.stop_task()
            return Reading(self._energy(task.cpu_energy * _J_PER_KWH, task.ram_energy * _J_PER_KWH, duration_s))
        except Exception as error:
            self._fail(error)
            return Reading(Energy(reason=self._failure))

    def close(self) -> None:
        """Stop codecarbon."""
        tracker, self._tracker, self._began_s = self._tracker, None, None
        if tracker is not None:
            with suppress(Exception):
                tracker.stop()

    def _energy(self, cpu_j: float, ram_j: float, duration_s: float) -> Energy:
        """Joules of a window with their sources. codecarbon reports a failed read as 0 J, which counts as unknown."""
        cpu, ram = self._cpu, self._ram
        cpu_doubt = also = ""
        if cpu.source == "modelled" and duration_s < _SHORTEST_LOAD_S:
            cpu_doubt = f"{duration_s:.3f} s are too short to read the load"
        elif not cpu_j > 0:
            cpu_doubt = f"codecarbon gave {cpu_j:.3g} J"
        elif cpu.source == "measured" and duration_s > _LONGEST_COUNTER_S:
            also = f", and may be low: in {duration_s:.0f} s the counter can wrap unseen"
        ram_doubt = "" if ram_j > 0 else f"codecarbon gave {ram_j:.3g} J"
        cpu_says = f"unknown: {cpu_doubt}" if cpu_doubt else f"{cpu.source} {cpu.method}{also}"
        ram_says = f"unknown: {ram_doubt}" if ram_doubt else f"{ram.source} {ram.method}"
        return Energy(
            cpu_j=None if cpu_doubt else cpu_j,
            cpu_source="none" if cpu_doubt else cpu.source,
            ram_j=None if ram_doubt else ram_j,
            ram_source="none" if ram_doubt else ram.source,
            reason=f"CPU energy {cpu_says}; memory energy {ram_says}",
        )

    def _fail(self, error: Exception) -> None:
        self._failure = f"CPU and memory energy unknown: codecarbon failed: {error!r}"
        self.close()


def codecarbon_status() -> list[SourceStatus]:
    """The sources that codecarbon has on this machine; takes 1.5 s the first time."""
    try:
        cpu, ram = _parts(_open_tracker())
    except Exception as error:
        return [SourceStatus("CPU and memory (codecarbon)", "none", reason=f"codecarbon failed: {error!r}")]
    counter, model = ("counter", "1 ms"), ("modelled", f"load each second, windows over {_SHORTEST_LOAD_S} s")
    return [
        SourceStatus(
            "CPU (codecarbon)", *(counter if cpu.source == "measured" else model), f"{cpu.source} {cpu.method}"
        ),
        SourceStatus("memory (codecarbon)", "modelled", "constant power", f"{ram.source} {ram.method}"),
    ]


def country_names() -> dict[str, str]:
    """ISO 3166-1 alpha-3 code → name, of every country whose carbon intensity codecarbon has."""
    return {code: country.name for code, country in _countries().items()}


def check_country(code: str) -> str:
    """A country's code in capitals; an unknown one is refused, for which codecarbon uses the world's average.

    Raises:
        UsageError: Its carbon intensity is unknown; the message names similar codes.
    """
    names, asked = country_names(), code.strip().upper()
    if asked in names:
        return asked
    by_name = {name.upper(): known for known, name in names.items()}
    near = [known for name, known in by_name.items() if len(asked) > 2 and name.startswith(asked)]
    near += [by_name.get(match, match) for match in difflib.get_close_matches(asked, [*by_name, *names])]
    choice = ", ".join(f"{known} ({names[known]})" for known in list(dict.fromkeys(near or names))[:4])
    raise UsageError(
        f"no carbon intensity is known of country {code!r}: --country takes one of {len(names)} three-letter codes "
        f"(ISO 3166-1 alpha-3), such as {choice}; or give the factor itself with --carbon-intensity G_PER_KWH"
    )


def carbon_factor(carbon: CarbonOptions) -> tuple[float | None, str]:
    """Grams of CO₂ equivalent per kilowatt hour with the source; or None with the reason."""
    if carbon.intensity_g_per_kwh is not None:
        return carbon.intensity_g_per_kwh, f"{carbon.intensity_g_per_kwh:g} g/kWh, given"
    if carbon.country is None:
        return None, "no --country or --carbon-intensity given"
    code = carbon.country.strip().upper()
    country = _countries().get(code)
    if not country:
        return None, f"codecarbon has no carbon intensity of country {carbon.country!r}"
    place = f"{code} {country.year}" if country.year is not None else code
    return country.g_per_kwh, f"{country.g_per_kwh:.0f} g/kWh, {place}, codecarbon {version('codecarbon')}"


def with_co2(energy: Energy, factor_g_per_kwh: float | None, description: str) -> Energy:
    """A window's energy from all meters, with the CO₂ of its known parts; the factor is that of `carbon_factor`."""
    if factor_g_per_kwh is None or energy.total_j is None:
        why = f"CO₂ unknown: {description if factor_g_per_kwh is None else 'no energy is known'}"
        return energy.model_copy(update={"reason": "; ".join(filter(None, (energy.reason, why)))})
    sources = {energy.gpu_source, energy.cpu_source, energy.ram_source} - {"none"}
    source = "measured" if sources == {"measured"} else "modelled"
    co2e_g = energy.total_j / _J_PER_KWH * factor_g_per_kwh
    return energy.model_copy(update={"co2e_g": co2e_g, "co2e_source": source, "co2e_factor": description})


def _open_tracker() -> "OfflineEmissionsTracker":
    """A tracker that has detected its hardware and runs nothing: no network, file, GPU, or settings of the user's.

    Two functions of codecarbon are replaced while it is built. The reader of settings, because a malformed settings
    file would be an error although every argument is given. The set-up of GPUs, because even `gpu_ids=[]` polls NVML.
    """
    logger = logging.getLogger("codecarbon")
    logger.disabled = True  # until its level is set: the import sets it to CODECARBON_LOG_LEVEL
    with _no_gpus():
        from codecarbon import OfflineEmissionsTracker, emissions_tracker  # noqa: PLC0415 - slow, see the module
        from codecarbon.core.resource_tracker import ResourceTracker  # noqa: PLC0415

    logger.setLevel(logging.ERROR)
    logger.disabled = False
    swapped = emissions_tracker.get_hierarchical_config, ResourceTracker.set_GPU_tracking
    emissions_tracker.get_hierarchical_config, ResourceTracker.set_GPU_tracking = dict, lambda self: None
    try:
        tracker = OfflineEmissionsTracker(
            tracking_mode="machine",
            output_methods=[],
            output_dir=tempfile.gettempdir(),  # must exist; nothing is written
            log_level="error",
            force_carbon_intensity_g_co2e_kwh=0.0,  # `with_co2` computes CO₂: the location is never looked up
        )
        tracker.get_detected_hardware()
    finally:
        emissions_tracker.get_hierarchical_config, ResourceTracker.set_GPU_tracking = swapped
    return tracker


@contextmanager
def _no_gpus() -> Iterator[None]:
    """Hide NVML and nvidia-smi while codecarbon is imported: its import calls both, and has no end where they hang."""

    def missing(*arguments: object, **options: object) -> NoReturn:
        raise FileNotFoundError

    before = {name: module for name, module in sys.modules.items() if name == "pynvml"}
    check_output = subprocess.check_output
    sys.modules["pynvml"] = None  # type: ignore[assignment]  # then its import fails
    subprocess.check_output = missing
    try:
        yield
    finally:
        subprocess.check_output = check_output
        del sys.modules["pynvml"]
        sys.modules.update(before)


def _parts(tracker: "OfflineEmissionsTracker") -> tuple[_Part, _Part]:
    """How a tracker obtains the energy of processors and memory; measured only through RAPL."""
    by = f"by codecarbon {version('codecarbon')}"
    hardware = {type(part).__name__: part for part in tracker._hardware}
    memory = _Part("modelled", f"as a constant {hardware['RAM'].total_power().W:.0f} W {by}")
    cpu = hardware["CPU"]
    if cpu._mode == "intel_rapl":
        return _Part("measured", f"through RAPL {by}"), memory
    model = f"TDP ({cpu._tdp:g} W) × load³" if cpu._mode == "cpu_load" else f"TDP ({cpu._tdp:g} W), {cpu._mode}"
    unreadable = any(_POWERCAP.glob("intel-rapl*/energy_uj"))
    why = "RAPL is not readable (sudo chmod a+r /sys/class/powercap/*/energy_uj)" if unreadable else "no RAPL"
    return _Part("modelled", f"from {model} {by}, {why}"), memory


@cache
def _countries() -> dict[str, _Country]:
    """codecarbon's own table by country code, read without importing it; empty if it cannot be read."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        folder = Path(find_spec("codecarbon").origin).parent  # type: ignore[union-attr,arg-type]
        rows = json.loads((folder / "data/private_infra/global_energy_mix.json").read_text(encoding="utf-8"))
        return {
            code: _Country(row["country_name"], float(row["carbon_intensity"]), row.get("year"))
            for code, row in rows.items()
            if row.get("carbon_intensity") is not None
        }
    return {}
