"""Figures of a measurement: throughput, energy, carbon, cost, latency. One launch gives one value of each, or None.

Energy is gross. On a GPU it is the boards' own; without one it is processor and memory, which are modelled where the
machine has no counter: `energy_basis` says which.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from infertune.domain.measurement import Energy, Frozen, Measurement, Window
from infertune.domain.promise import REQUEST_FIGURES, RequestFigure
from infertune.domain.service import Service
from infertune.stats import geometric_mean

_J_PER_KWH = 3.6e6
_OFFLINE = ("ttft_s", "latency_s")  # times that offline jobs have as well
ENERGY_FIGURES = ("j_per_output_token", "power_w")  # comparable only if both sides measured energy in the same way


class Prices(Frozen):
    """Prices of the machine and its electricity; None if unknown.

    Attributes:
        per_hour: Rent of the whole machine an hour, in the user's currency.
        per_kwh: Price of electricity a kilowatt hour.
    """

    per_hour: float | None = Field(default=None, ge=0, le=1e12)
    per_kwh: float | None = Field(default=None, ge=0, le=1e12)


@dataclass(frozen=True)
class Figure:
    """A named figure of a launch.

    Attributes:
        name: With its unit, as in `--slo NAME<VALUE`.
        unit: For people.
        of: The figure, None where it is not known.
        higher_is_better: Latencies, energy, power and memory should be low.
        of_loads: Only a load of a server has it, no offline job.
        level: Of a quantile over the requests that came back: the share of them that it is not exceeded by.
    """

    name: str
    unit: str
    of: Callable[[Measurement], float | None]
    higher_is_better: bool = False
    of_loads: bool = False
    level: float | None = None


def window_j(window: Window) -> float | None:
    """Gross energy of a window in joules: the GPU's, or the processor's and memory's if there is no GPU."""
    return window.energy.gpu_j if window.energy.gpu_j is not None else window.energy.total_j


def total_j(measurement: Measurement) -> float | None:
    """Gross energy of all windows in joules, None if one of them is unknown."""
    joules = [window_j(window) for window in measurement.judged]
    known = [value for value in joules if value is not None]
    return sum(known) if len(known) == len(joules) else None


def energy_basis(measurement: Measurement) -> str:
    """Where the energy comes from: `GPU, measured`, `CPU and memory, modelled`, or why there is none."""
    energy = measurement.windows[0].energy
    if energy.gpu_j is not None:
        return f"GPU, {energy.gpu_source}" + (", shared board" if energy.gpu_shared else "")
    if energy.total_j is not None:
        return f"CPU and memory, {energy.cpu_source}"
    return energy.reason or "no energy source"


def energy_origins(launches: Iterable[Measurement]) -> tuple[str, ...]:
    """The sources of the launches' energy (`GPU, measured by its counter`); figures of two sources do not compare."""
    found = [_origin(window.energy) for launch in launches for window in launch.windows]
    return tuple(dict.fromkeys(found))


def _origin(energy: Energy) -> str:
    if energy.gpu_j is not None:
        how = {"counter": " by its counter", "sampled": " by sampling", "": ""}[energy.gpu_method]
        return f"GPU, {energy.gpu_source}{how}" + (", shared board" if energy.gpu_shared else "")
    parts = (("CPU", energy.cpu_j, energy.cpu_source), ("memory", energy.ram_j, energy.ram_source))
    return " and ".join(f"{name}, {source}" for name, joules, source in parts if joules is not None) or "nothing known"


def j_per_output_token(measurement: Measurement) -> float | None:
    """Gross joules per output token."""
    joules = total_j(measurement)
    return None if joules is None or joules <= 0 else joules / _tokens(measurement)


def net_j_per_output_token(measurement: Measurement) -> float | None:
    """GPU joules per output token, minus the energy of the loaded, idle boards over the same time."""
    net = 0.0
    for window in measurement.judged:
        if window.energy.gpu_j is None or window.energy.gpu_idle_w is None:
            return None
        net += window.energy.gpu_j - window.energy.gpu_idle_w * window.duration_s
    return net / _tokens(measurement) if net > 0 else None


def power_w(measurement: Measurement) -> float | None:
    """Mean power over the windows in watts."""
    joules = total_j(measurement)
    return None if joules is None or joules <= 0 else joules / _seconds(measurement)


def co2e_g_per_million_tokens(measurement: Measurement) -> float | None:
    """Grams of CO₂ equivalent a million output tokens."""
    grams = [window.energy.co2e_g for window in measurement.judged]
    known = [value for value in grams if value is not None]
    return sum(known) / _tokens(measurement) * 1e6 if len(known) == len(grams) else None


def cost_per_million_tokens(measurement: Measurement, prices: Prices) -> float | None:
    """Rent and electricity a million output tokens, in the currency of the prices."""
    cost = 0.0
    if prices.per_hour is not None:
        cost += prices.per_hour * _seconds(measurement) / 3600
    if prices.per_kwh is not None:
        joules = total_j(measurement)
        if joules is None:
            return None
        cost += prices.per_kwh * joules / _J_PER_KWH
    return cost / _tokens(measurement) * 1e6 if cost > 0 else None


class Economy(Frozen):
    """What a configuration costs: geometric means over its launches, None where unknown.

    Attributes:
        j_per_output_token: Gross joules per output token.
        net_j_per_output_token: GPU joules per output token above the idle power of the loaded engine.
        power_w: Mean power in watts.
        co2e_g_per_million_tokens: Grams of CO₂ equivalent a million output tokens.
        cost_per_million_tokens: In the currency of the prices.
        basis: Where the energy comes from, or why there is none.
        carbon: The carbon factor with its source, or why there is none.
    """

    j_per_output_token: float | None = None
    net_j_per_output_token: float | None = None
    power_w: float | None = None
    co2e_g_per_million_tokens: float | None = None
    cost_per_million_tokens: float | None = None
    basis: str = ""
    carbon: str = ""


def economy(launches: Sequence[Measurement], prices: Prices) -> Economy:
    """What a configuration costs, from its launches."""
    if not launches:
        return Economy(basis="not measured")
    energy = launches[0].windows[0].energy
    return Economy(
        j_per_output_token=_mean(map(j_per_output_token, launches)),
        net_j_per_output_token=_mean(map(net_j_per_output_token, launches)),
        power_w=_mean(map(power_w, launches)),
        co2e_g_per_million_tokens=_mean(map(co2e_g_per_million_tokens, launches)),
        cost_per_million_tokens=_mean(cost_per_million_tokens(launch, prices) for launch in launches),
        basis=energy_basis(launches[0]),
        carbon=energy.co2e_factor or energy.reason.rpartition("CO₂ unknown: ")[2] or "unknown",
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """Geometric mean of positive values, None if one is unknown."""
    found = list(values)
    known = [value for value in found if value is not None and value > 0]
    return geometric_mean(known) if known and len(known) == len(found) else None


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that a share of the values does not exceed (nearest rank)."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _time(name: RequestFigure, level: float) -> Callable[[Measurement], float | None]:
    """A quantile over the requests of a launch: of a server's loads, those that its figures are of."""

    def of(measurement: Measurement) -> float | None:
        services = [window.service for window in measurement.judged if window.service]
        sketches = [sketch for service in services if (sketch := getattr(service, name)) is not None]
        if services:
            return sum(sketch.at(level) for sketch in sketches) / len(sketches) if sketches else None
        if name == "latency_s":
            return percentile([s for window in measurement.windows for s in window.latency_s], level)
        if name == "ttft_s":
            return percentile([s for window in measurement.windows for s in window.ttft_s or ()], level)
        return None

    return of


def _times() -> Iterator[Figure]:
    for name in REQUEST_FIGURES:
        for level in (0.5, 0.9, 0.99):
            title, of_loads = f"{name[:-2]}_p{100 * level:g}_s", name not in _OFFLINE
            yield Figure(title, "s", _time(name, level), of_loads=of_loads, level=level)


def _of_loads(value: Callable[[Service], float | None]) -> Callable[[Measurement], float | None]:
    """The mean over the loads that a launch's figures are of."""

    def of(measurement: Measurement) -> float | None:
        found = [value(window.service) for window in measurement.judged if window.service]
        known = [one for one in found if one is not None]
        return sum(known) / len(known) if known and len(known) == len(found) else None

    return of


def _goodput_per_s(measurement: Measurement) -> float | None:
    found = measurement.sustained
    return None if found is None else found.goodput_per_s


def _memory(measurement: Measurement) -> float | None:
    return None if measurement.peak_memory_bytes is None else measurement.peak_memory_bytes / 1024**3


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("output_tokens_per_s", "tok/s", lambda m: m.output_tokens_per_s, higher_is_better=True),
        Figure("j_per_output_token", "J/token", j_per_output_token),
        Figure("power_w", "W", power_w),
        *_times(),
        Figure("peak_memory_gib", "GiB", _memory),
        Figure("goodput_per_s", "req/s", _goodput_per_s, higher_is_better=True, of_loads=True),
        Figure("attainment", "share", _of_loads(lambda load: load.attainment), higher_is_better=True, of_loads=True),
        Figure(
            "completed_per_s",
            "req/s",
            _of_loads(lambda load: load.completed_per_s),
            higher_is_better=True,
            of_loads=True,
        ),
    )
}


def _tokens(measurement: Measurement) -> int:
    return sum(window.output_tokens for window in measurement.judged)


def _seconds(measurement: Measurement) -> float:
    return sum(window.duration_s for window in measurement.judged)
