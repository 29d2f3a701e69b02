"""Energy of NVIDIA boards through NVML. The only module that imports pynvml.

How the energy of a window is read. The board's counter advances about every 100 ms (a tick), so a plain difference is
wrong by up to two ticks. `begin` therefore waits for a tick before the window starts, and `end` for one after it ended;
both waits are outside measured time. Each waits for the second tick, because a value may be up to one tick old when it
appears; the age is idle time at both ends and cancels. The counter's difference then covers the window and two idle
margins around it, of 100 to 200 ms at the end. The energy of the margins is subtracted: their power is sampled every
few milliseconds during the waits. (Scaling the difference by time instead would count the idle margins as load and lose
2 to 4% of a 5 s window.) The remaining error is that of the margins' power: within 0.1% for windows of 5 s and more
(`tests/energy/test_nvml.py`).

Inside a window a daemon thread samples power 10 times a second. Its integral is the cross-check of the counter, or the
figure itself on boards without a counter. It does not affect throughput: a sample is a few ctypes calls to NVML, which
release the GIL, and some microseconds of Python; between samples the thread sleeps, between windows it does not exist.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import psutil
import pynvml

from infertune.domain.device import Device
from infertune.domain.measurement import Board, Energy
from infertune.energy.base import Reading, SourceStatus, reasons_of

_SAMPLE_S = 0.1  # between power samples within a window; NVML refreshes power about as often
_POLL_S = 0.0015  # between readings while waiting for a tick; judgement
_TICKS = 2  # to wait for at each edge (see above)
_TICKS_WAIT_S = 0.3  # longest wait at an edge: two ticks of 100 ms and a margin
_LONGEST_GAP_S = 0.5  # between power samples: with a longer gap their integral is unknown; judgement
_FEWEST_TO_COMPARE = 10  # power samples for the cross-check of the counter; judgement
_AGREEMENT = 0.05  # relative difference of integral and counter above which a window is flagged; judgement
_IDLE_S = 1.0  # of measuring idle power; judgement
_NO_THROTTLING = {"GpuIdle", "None", "All", "UserDefinedClocks"}  # the last is an older name of another reason
_NO_COUNTER = "the board has no energy counter"
_SHARED = "MIG: the energy is the whole board's"

_Samples = list[tuple[float, float]]  # seconds, watts
_Every = Callable[[float, Callable[[], None]], Callable[[], None]]


def _in_thread(interval_s: float, call: Callable[[], None]) -> Callable[[], None]:
    stopped = threading.Event()

    def loop() -> None:
        while not stopped.wait(interval_s):
            call()

    thread = threading.Thread(target=loop, name="infertune-nvml", daemon=True)
    thread.start()

    def stop() -> None:
        stopped.set()
        thread.join(timeout=1.0)  # a lost board may keep NVML busy: the thread then ends on its own

    return stop


class NvmlMeter:
    """The boards of a device, summed.

    Args:
        device: Of kind gpu. Boards are found by UUID, because NVML and CUDA number them in different orders.
        nvml: The NVML binding.
        clock: Seconds from some start.
        sleep: Waits for seconds.
        every: Calls a function at an interval in seconds, until the function that it returned is called.
    """

    def __init__(
        self,
        device: Device,
        nvml: Any = pynvml,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        every: _Every = _in_thread,
    ) -> None:
        self._nvml, self._clock, self._sleep, self._every = nvml, clock, sleep, every
        self._gpus: list[_Gpu] = []
        self._began_s: float | None = None
        self._stop: Callable[[], None] | None = None
        self._initialized = False
        self._failure = "no NVIDIA GPU is used"
        try:
            if device.uuids:
                nvml.nvmlInit()
                self._initialized = True
            found = [_Gpu(nvml, uuid) for uuid in device.uuids]
            self._gpus = list({gpu.uuid: gpu for gpu in found}.values())  # two MIG parts may be of one board
        except Exception as error:  # no meter raises, so that no trial is lost
            self._failure = _describe(error)

    def measure_idle(self) -> None:
        """Read the power of the boards for a second, with the engine loaded and idle."""
        if not self._gpus:
            return
        self.begin()
        self._sleep(_IDLE_S)
        began_s, ended_s, figures = self._finish()
        for gpu, figure in zip(self._gpus, figures, strict=True):
            first, last = gpu.first, gpu.last
            gpu.idle_w = None if figure.joules is None else figure.joules / (ended_s - began_s)
            if figure.by_counter and first.counter_j is not None and last.counter_j is not None:
                gpu.idle_w = (last.counter_j - first.counter_j) / (
                    last.at_s - first.at_s
                )  # the whole time between the ticks was idle

    def begin(self) -> None:
        """Start a window at a tick of the counter; one that never ended, because its engine failed, is dropped."""
        self._stop_sampling()
        for gpu in self._gpus:
            gpu.restart()
        for gpu, edge in zip(self._gpus, self._read_ticks(), strict=True):
            gpu.first = edge
        if self._gpus:
            with suppress(RuntimeError):  # no thread can be started: the counter works without
                self._stop = self._every(_SAMPLE_S, self._sample)
        self._began_s = self._clock()

    def end(self) -> Reading:
        """End the window: its energy up to this call, without the wait for the next tick."""
        if self._began_s is None or not self._gpus:
            why = "no window was begun" if self._gpus else self._failure
            return Reading(Energy(reason=f"GPU energy unknown: {why}"))
        _, _, figures = self._finish()
        reasons = reasons_of([gpu.uuid for gpu in self._gpus], [figure.reasons for figure in figures])
        idle_w = _sum([gpu.idle_w for gpu in self._gpus])
        if idle_w is None:
            reasons.append("GPU idle power unknown: it was not measured or could not be read")
        joules, sampled_j = _sum([figure.joules for figure in figures]), _sum([figure.sampled_j for figure in figures])
        by_counter = joules is not None and all(figure.by_counter for figure in figures)
        energy = Energy(
            gpu_j=joules,
            gpu_idle_w=idle_w,
            gpu_source="none" if joules is None else "measured",
            gpu_method="counter" if by_counter else "" if joules is None else "sampled",
            gpu_sampled_to_counter=round(sampled_j / joules, 4) if by_counter and sampled_j and joules else None,
            gpu_shared=any(gpu.shared for gpu in self._gpus),
            reason="; ".join(reasons),
        )
        return Reading(energy, tuple(gpu.board() for gpu in self._gpus))

    def close(self) -> None:
        """Release NVML."""
        self._stop_sampling()
        if self._gpus:
            self._gpus, self._failure = [], "the meter is closed"
        if self._initialized:
            self._initialized = False
            with suppress(Exception):
                self._nvml.nvmlShutdown()

    def _finish(self) -> "tuple[float, float, list[_Figure]]":
        """End the window: its begin and end in seconds, and each board's energy."""
        began_s, ended_s = self._began_s or 0.0, self._clock()
        self._stop_sampling()
        for gpu in self._gpus:
            if not gpu.samples:
                gpu.look()  # the window ended before the first sample
        for gpu, edge in zip(self._gpus, self._read_ticks(), strict=True):
            gpu.last = edge
            gpu.note_other_processes()
        return began_s, ended_s, [gpu.figure(began_s, ended_s) for gpu in self._gpus]

    def _sample(self) -> None:
        for gpu in self._gpus:
            gpu.note_power(gpu.samples, self._clock)
            gpu.look()

    def _stop_sampling(self) -> None:
        if self._stop:
            self._stop()
        self._stop = self._began_s = None

    def _read_ticks(self) -> "list[_Edge]":
        """Wait until every board's counter has advanced by two ticks; sample power meanwhile."""
        edges = [_Edge() for _ in self._gpus]
        deadline_s = self._clock() + _TICKS_WAIT_S
        while True:
            for gpu, edge in zip(self._gpus, edges, strict=True):
                gpu.poll(edge, self._clock)
            if all(edge.done for edge in edges) or self._clock() > deadline_s:
                return edges
            self._sleep(_POLL_S)


def nvml_status(device: Device, nvml: Any = pynvml) -> list[SourceStatus]:
    """The energy sources of the GPUs for `infertune doctor`, one for each board."""
    meter = NvmlMeter(device, nvml)
    lines = []
    for gpu in meter._gpus:
        power = "power of the moment" if gpu.instant else "power as a mean of up to 1 s"
        ticks = f"1 mJ, a tick about every 100 ms; checked against {power}" if gpu.has_counter else power
        reasons = [gpu.fault, "" if gpu.has_counter else _NO_COUNTER, _SHARED if gpu.shared else ""]
        kind = "counter" if gpu.has_counter else "sampled" if gpu.has_power else "none"
        resolution = "" if kind == "none" else f"{ticks}, 10 times a second"
        lines.append(SourceStatus(f"GPU (NVML) {gpu.uuid}", kind, resolution, "; ".join(filter(None, reasons))))
    meter.close()
    return lines or [SourceStatus("GPU (NVML)", "none", reason=f"GPU energy unknown: {meter._failure}")]


class _Figure(NamedTuple):
    joules: float | None
    by_counter: bool
    sampled_j: float | None
    reasons: list[str]


@dataclass
class _Edge:
    """The counter at a tick near one end of a window, and the power samples around it."""

    counter_j: float | None = None
    at_s: float = 0.0
    ticks: int = 0
    done: bool = False
    power: _Samples = field(default_factory=list)


class _Gpu:
    """One board: its readings, None where it has none, and its state over a window."""

    def __init__(self, nvml: Any, uuid: str) -> None:
        self.nvml, self.uuid = nvml, uuid
        self.idle_w: float | None = None
        self._lacking: set[Callable[..., Any]] = set()
        self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        if uuid.startswith("MIG-"):
            self._handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self._handle)
            self.uuid = nvml.nvmlDeviceGetUUID(self._handle)
        self.restart()
        mode = self.ask(nvml.nvmlDeviceGetMigMode)
        self.shared = uuid.startswith("MIG-") or bool(mode and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE)
        self.instant = bool(self.ask(self._instant_mw))  # otherwise power may be a mean over the last second
        self.has_power = self.instant or self.ask(nvml.nvmlDeviceGetPowerUsage) is not None
        self.has_counter = self.counter_j() is not None or nvml.nvmlDeviceGetTotalEnergyConsumption not in self._lacking
        newer, older = nvml.nvmlDeviceGetCurrentClocksEventReasons, nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        self._looks: list[tuple[Any, ...]] = [
            ("millijoules", nvml.nvmlDeviceGetTotalEnergyConsumption),
            ("temperature", nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            ("clock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            ("reasons", older if self.ask(newer) is None else newer),
            ("memory", nvml.nvmlDeviceGetMemoryInfo),
        ]

    def restart(self) -> None:
        """Forget the last window."""
        self.fault, self.first, self.last = "", _Edge(), _Edge()
        self.samples: _Samples = []
        self.seen: defaultdict[str, list[Any]] = defaultdict(list)
        self.other_pids: set[int] | None = set()
        self.note_other_processes()

    def ask(self, function: Callable[..., Any], *arguments: object) -> Any:
        """The answer of an NVML function for this board; None if it is not supported or fails."""
        if function in self._lacking:
            return None
        try:
            return function(self._handle, *arguments)
        except (self.nvml.NVMLError_NotSupported, self.nvml.NVMLError_FunctionNotFound):
            self._lacking.add(function)
        except Exception as error:
            self.fault = self.fault or _describe(error)
        return None

    def counter_j(self) -> float | None:
        """Joules since the driver was loaded."""
        millijoules = self.ask(self.nvml.nvmlDeviceGetTotalEnergyConsumption)
        return None if millijoules is None else millijoules / 1000

    def _instant_mw(self, handle: Any) -> int:
        value = self.nvml.nvmlDeviceGetFieldValues(handle, [self.nvml.NVML_FI_DEV_POWER_INSTANT])[0]
        if value.nvmlReturn != self.nvml.NVML_SUCCESS:
            raise self.nvml.NVMLError(value.nvmlReturn)
        return int(value.value.uiVal)

    def note_power(self, samples: _Samples, clock: Callable[[], float]) -> None:
        """Add a sample of the current power in watts."""
        at_s = clock()
        milliwatts = self.ask(self._instant_mw if self.instant else self.nvml.nvmlDeviceGetPowerUsage)
        if milliwatts is not None:
            samples.append((at_s, milliwatts / 1000))

    def poll(self, edge: _Edge, clock: Callable[[], float]) -> None:
        """Read the counter, until its two ticks were seen, and the power."""
        if not edge.done:
            counter_j, now_s = self.counter_j(), clock()
            moved = None not in (edge.counter_j, counter_j) and counter_j != edge.counter_j
            edge.ticks += moved
            edge.done = edge.ticks == _TICKS or counter_j is None
            edge.at_s = (edge.at_s + now_s) / 2 if moved else now_s  # the tick was between two readings
            edge.counter_j = counter_j
        if self.instant:  # a mean over a second would include load in the idle margin
            self.note_power(edge.power, clock)

    def look(self) -> None:
        """Read everything but power."""
        for name, function, *arguments in self._looks:
            if (value := self.ask(function, *arguments)) is not None:
                self.seen[name].append(value)

    def note_other_processes(self) -> None:
        """Add the processes on the board that are neither this one nor its descendants."""
        found: set[int] | None = self.ask(self._other_pids)
        self.other_pids = None if found is None or self.other_pids is None else self.other_pids | found

    def _other_pids(self, handle: Any) -> set[int] | None:
        """Other processes' pids; None if ours are not listed either: in a container NVML may use other pids."""
        listed = {process.pid for process in self.nvml.nvmlDeviceGetComputeRunningProcesses(handle)}
        this = psutil.Process()
        own = {this.pid, *(child.pid for child in this.children(recursive=True))}
        return listed - own if listed & own else None

    def figure(self, began_s: float, ended_s: float) -> _Figure:
        """The energy between two moments, from the counter if possible."""
        samples = [sample for sample in self.samples if began_s <= sample[0] <= ended_s]
        times = [began_s, *(at_s for at_s, _ in samples), ended_s]
        gap_s = max(later - earlier for earlier, later in pairwise(times))
        sampled_j = _integral_j(samples, began_s, ended_s) if gap_s <= _LONGEST_GAP_S else None
        counter_j, doubt = self._by_counter(began_s, ended_s)
        reasons = [doubt] if doubt else []
        if counter_j is None:
            replaced = "power sampled 10 times a second was integrated instead"
            reasons.append(f"power was not sampled for {gap_s:.1f} s" if sampled_j is None else replaced)
        elif sampled_j is not None and len(samples) < _FEWEST_TO_COMPARE:
            sampled_j = None
        elif sampled_j is not None and abs(sampled_j / counter_j - 1) > _AGREEMENT:
            reasons.append(f"integrated power is {sampled_j / counter_j - 1:+.0%} off the energy counter")
        if self.fault:
            reasons.append(f"NVML failed in the window: {self.fault}")
        if self.shared:
            reasons.append(_SHARED)
        if self.other_pids:
            reasons.append(f"other processes on the board: {len(self.other_pids)}")
        return _Figure(sampled_j if counter_j is None else counter_j, counter_j is not None, sampled_j, reasons)

    def _by_counter(self, began_s: float, ended_s: float) -> tuple[float | None, str]:
        """Energy from the counter, or None; and what casts doubt on it."""
        first, last = self.first, self.last
        if not self.has_counter:
            return None, _NO_COUNTER
        if first.counter_j is None or last.counter_j is None:
            return None, "the energy counter could not be read"
        readings_j = [first.counter_j, *(value / 1000 for value in self.seen["millijoules"]), last.counter_j]
        if first.counter_j == last.counter_j or readings_j != sorted(readings_j):
            return None, "the energy counter fell or stood still (driver reloaded?)"
        joules = last.counter_j - first.counter_j
        for edge, from_s, to_s in ((first, first.at_s, began_s), (last, ended_s, last.at_s)):
            margin_j = _integral_j([sample for sample in edge.power if from_s <= sample[0] <= to_s], from_s, to_s)
            joules -= (self.idle_w or 0.0) * (to_s - from_s) if margin_j is None else margin_j
        if joules <= 0:
            return None, "the window is too short for the energy counter"
        return joules, "" if first.ticks == last.ticks == _TICKS else "the energy counter did not tick near an end"

    def board(self) -> Board:
        """The board's state over the window."""
        seen, memory = self.seen, [memory.used for memory in self.seen["memory"]]
        limit_mw = self.ask(self.nvml.nvmlDeviceGetEnforcedPowerLimit)
        throttling = {
            name.partition("Reason")[2]
            for name in dir(self.nvml)
            if name.startswith(("nvmlClocksEventReason", "nvmlClocksThrottleReason"))
            if any(bits & getattr(self.nvml, name) for bits in seen["reasons"])
        }
        return Board(
            uuid=self.uuid,
            temperature_c=max(seen["temperature"], default=None),
            sm_clock_mhz=min(seen["clock"], default=None),
            power_limit_w=None if limit_mw is None else limit_mw / 1000,
            throttle_reasons=tuple(sorted(throttling - _NO_THROTTLING)),
            peak_memory_bytes=max(memory, default=None),
            other_processes=None if self.other_pids is None else len(self.other_pids),
            mig=self.shared,
        )


def _integral_j(samples: _Samples, from_s: float, to_s: float) -> float | None:
    """Trapezoidal integral of power samples over an interval, the outermost extended to its ends; None without any."""
    if not samples:
        return None
    points = [(from_s, samples[0][1]), *samples, (to_s, samples[-1][1])]
    return sum((t2 - t1) * (w1 + w2) / 2 for (t1, w1), (t2, w2) in pairwise(points))


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 3) if len(known) == len(values) else None


def _describe(error: Exception) -> str:
    return f"{type(error).__name__} ({error})"
