"""NVML as a script: boards whose power is a known curve, on simulated time, with everything that can go wrong."""

import bisect
import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml


class Curve:
    """Power over time, straight between points; two points at one time make a step. Its integral is exact."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        self._times = [time_s for time_s, _ in points]
        self._watts = [watts for _, watts in points]
        areas = [(b - a) * (v + w) / 2 for (a, v), (b, w) in itertools.pairwise(points)]
        self._areas = [0.0, *itertools.accumulate(areas)]

    def __call__(self, time_s: float) -> float:
        i = bisect.bisect_right(self._times, time_s)
        if i in (0, len(self._times)):
            return self._watts[max(0, i - 1)]
        share = (time_s - self._times[i - 1]) / (self._times[i] - self._times[i - 1])
        return self._watts[i - 1] + share * (self._watts[i] - self._watts[i - 1])

    def joules(self, from_s: float, to_s: float) -> float:
        return self._area(to_s) - self._area(from_s)

    def _area(self, time_s: float) -> float:
        i = max(0, bisect.bisect_right(self._times, time_s) - 1)
        return self._areas[i] + (time_s - self._times[i]) * (self._watts[i] + self(time_s)) / 2


def constant(watts: float) -> Curve:
    return Curve([(-10.0, watts), (1e4, watts)])


def load(idle_w: float, load_w: float, from_s: float, to_s: float) -> Curve:
    """Idle, then load, then idle."""
    return Curve([(-10, idle_w), (from_s, idle_w), (from_s, load_w), (to_s, load_w), (to_s, idle_w), (1e4, idle_w)])


def ramp(from_w: float, to_w: float, seconds: float) -> Curve:
    return Curve([(-10, from_w), (0, from_w), (seconds, to_w), (1e4, to_w)])


def square_wave(low_w: float, high_w: float, period_s: float, seconds: float) -> Curve:
    points = [(-10.0, low_w)]
    for i in range(math.ceil(seconds / period_s)):
        start, middle, end = i * period_s, (i + 0.5) * period_s, (i + 1) * period_s
        points += [(start, low_w), (start, high_w), (middle, high_w), (middle, low_w), (end, low_w)]
    return Curve([*points, (1e4, low_w)])


class SimulatedTime:
    """A clock that moves only by sleeping and by the cost of calls; what is due in a sleep is called in it."""

    def __init__(self, now_s: float = 1.0) -> None:
        self.now_s = now_s
        self._due: dict[object, tuple[float, float, Callable[[], None]]] = {}

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self._due:
            key, (due_s, interval_s, call) = min(self._due.items(), key=lambda item: item[1][0])
            if due_s > until_s:
                break
            self.now_s = max(self.now_s, due_s)
            call()
            self._due[key] = (self.now_s + interval_s, interval_s, call)
        self.now_s = max(self.now_s, until_s)

    def every(self, interval_s: float, call: Callable[[], None]) -> Callable[[], None]:
        key = object()
        self._due[key] = (self.now_s + interval_s, interval_s, call)

        def stop() -> None:
            del self._due[key]

        return stop

    @property
    def running(self) -> int:
        """How many calls are scheduled."""
        return len(self._due)


@dataclass(eq=False)
class ScriptedGpu:
    """One board.

    Attributes:
        tick_s: Seconds between moves of the counter, the first at `phase_s`.
        lag_s: How old the counter's value is when it appears.
        power_scale: Readings of power are wrong by this factor, the counter is not.
        reload_at_s: When the driver is loaded anew: the counter starts from 0.
        lost_from_s: From when on every call for this board fails, until `lost_to_s`.
        clocks_mhz: SM clock over time, the same class as power.
        mig: Identifiers of its parts, if it is split.
    """

    uuid: str
    power_w: Curve
    tick_s: float = 0.1
    lag_s: float = 0.0
    phase_s: float = 0.0
    has_counter: bool = True
    has_instant: bool = True
    has_power: bool = True
    power_scale: float = 1.0
    earlier_j: float = 5000.0
    reload_at_s: float = math.inf
    lost_from_s: float = math.inf
    lost_to_s: float = math.inf
    lost_error: int = pynvml.NVML_ERROR_GPU_IS_LOST
    pids: list[int] = field(default_factory=lambda: [os.getpid()])
    mig: tuple[str, ...] = ()
    throttle: int = pynvml.nvmlClocksEventReasonGpuIdle
    clocks_mhz: Curve = field(default_factory=lambda: constant(1980))
    temperature_c: Curve = field(default_factory=lambda: constant(60))
    used_bytes: Curve = field(default_factory=lambda: constant(2.0**30))

    def counter_mj(self, now_s: float) -> int:
        tick_at_s = math.floor((now_s - self.phase_s) / self.tick_s) * self.tick_s + self.phase_s
        if now_s >= self.reload_at_s:
            joules = self.power_w.joules(self.reload_at_s, max(self.reload_at_s, tick_at_s - self.lag_s))
        else:
            joules = self.earlier_j + self.power_w.joules(0.0, tick_at_s - self.lag_s)
        return int(joules * 1000)


class ScriptedNvml:
    """Stands where pynvml stands: its constants and errors, and of its functions those written here.

    Args:
        gpus: In NVML's order.
        clock: The time; a simulated one advances by `call_s` with each call.
        init_error: What nvmlInit answers, if not success.
    """

    def __init__(
        self, gpus: Sequence[ScriptedGpu], clock: Callable[[], float], call_s: float = 2e-4, init_error: int = 0
    ) -> None:
        self._gpus, self._clock, self._call_s, self._init_error = gpus, clock, call_s, init_error
        self.initialized = 0
        self.on_call: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("NVML", "nvmlClocks")):
            return getattr(pynvml, name)
        raise AssertionError(f"{name} is not scripted")

    def __dir__(self) -> list[str]:
        return [name for name in dir(pynvml) if name.startswith("nvmlClocks")]

    def _at(self, gpu: ScriptedGpu, has: bool = True) -> float:
        """Moves the time on, fails where the board does, and says what time it is."""
        self.on_call()
        if isinstance(self._clock, SimulatedTime):
            self._clock.now_s += self._call_s
        now_s = self._clock()
        if not self.initialized:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        if gpu.lost_from_s <= now_s < gpu.lost_to_s:
            raise pynvml.NVMLError(gpu.lost_error)
        if not has:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return now_s

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names, here and below
        if self._init_error:
            raise pynvml.NVMLError(self._init_error)
        self.initialized += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        assert self.initialized > 0, "shut down more often than initialized"
        self.initialized -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> tuple[ScriptedGpu, bool]:  # noqa: N802
        for gpu in self._gpus:
            if uuid == gpu.uuid or uuid in gpu.mig:
                self._at(gpu)
                return gpu, uuid in gpu.mig
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, part: tuple[ScriptedGpu, bool]) -> tuple[ScriptedGpu, bool]:  # noqa: N802
        assert part[1], "not a part of a board"
        return part[0], False

    def nvmlDeviceGetUUID(self, handle: tuple[ScriptedGpu, bool]) -> str:  # noqa: N802
        return handle[0].uuid

    def nvmlDeviceGetMigMode(self, handle: tuple[ScriptedGpu, bool]) -> list[int]:  # noqa: N802
        self._at(handle[0], bool(handle[0].mig))
        return [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: tuple[ScriptedGpu, bool]) -> int:  # noqa: N802
        gpu, part = handle
        assert not part, "the parts of a board have no counter"
        return gpu.counter_mj(self._at(gpu, gpu.has_counter))

    def nvmlDeviceGetFieldValues(self, handle: tuple[ScriptedGpu, bool], ids: Sequence[int]) -> Any:  # noqa: N802
        gpu, values = handle[0], (pynvml.c_nvmlFieldValue_t * len(ids))()
        assert list(ids) == [pynvml.NVML_FI_DEV_POWER_INSTANT]
        try:
            values[0].value.uiVal = round(gpu.power_w(self._at(gpu, gpu.has_instant)) * gpu.power_scale * 1000)
        except pynvml.NVMLError as error:
            values[0].nvmlReturn = error.value  # NVML's call succeeds, the field does not
        return values

    def nvmlDeviceGetPowerUsage(self, handle: tuple[ScriptedGpu, bool]) -> int:  # noqa: N802
        gpu = handle[0]
        now_s = self._at(gpu, gpu.has_power)
        return round(gpu.power_w.joules(now_s - 1, now_s) * gpu.power_scale * 1000)  # a mean over one second

    def nvmlDeviceGetTemperature(self, handle: tuple[ScriptedGpu, bool], sensor: int) -> int:  # noqa: N802
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return round(handle[0].temperature_c(self._at(handle[0])))

    def nvmlDeviceGetClockInfo(self, handle: tuple[ScriptedGpu, bool], kind: int) -> int:  # noqa: N802
        assert kind == pynvml.NVML_CLOCK_SM
        return round(handle[0].clocks_mhz(self._at(handle[0])))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: tuple[ScriptedGpu, bool]) -> int:  # noqa: N802
        self._at(handle[0], handle[0].has_instant)  # both came with newer drivers
        return handle[0].throttle

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: tuple[ScriptedGpu, bool]) -> int:  # noqa: N802
        self._at(handle[0])
        return handle[0].throttle

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: tuple[ScriptedGpu, bool]) -> int:  # noqa: N802
        self._at(handle[0])
        return 700_000

    def nvmlDeviceGetMemoryInfo(self, handle: tuple[ScriptedGpu, bool]) -> Any:  # noqa: N802
        return SimpleNamespace(used=round(handle[0].used_bytes(self._at(handle[0]))))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: tuple[ScriptedGpu, bool]) -> list[Any]:  # noqa: N802
        self._at(handle[0])
        return [SimpleNamespace(pid=pid) for pid in handle[0].pids]
