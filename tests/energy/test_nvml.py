"""The NVML meter against boards whose energy is known exactly, on simulated time."""

import inspect
import math
import os
import re
import threading
import time
from collections.abc import Callable, Sequence

import pynvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infertune.domain.device import Device
from infertune.energy import nvml
from infertune.energy.base import Reading, reasons_of
from infertune.energy.nvml import NvmlMeter, nvml_status
from tests.energy.scripted_nvml import (
    Curve,
    ScriptedGpu,
    ScriptedNvml,
    SimulatedTime,
    constant,
    load,
    ramp,
    square_wave,
)

A, B = "GPU-aaaa", "GPU-bbbb"
IDLE_W, LOAD_W = 70.0, 500.0
Shape = Callable[[float, float], Curve]  # from a window's begin and end to power


def gpu_device(*uuids: str) -> Device:
    return Device(kind="gpu", name="Test GPU", count=len(uuids), uuids=uuids, memory_bytes=80 * 1024**3, cores=4)


def idle_gpu(uuid: str = A, **settings: object) -> ScriptedGpu:
    return ScriptedGpu(uuid, constant(IDLE_W), **settings)  # type: ignore[arg-type]


def at_work(began_s: float, ended_s: float) -> Curve:
    """What a job does: idle, load from the window's begin to its end, idle."""
    return load(IDLE_W, LOAD_W, began_s, ended_s)


class Bench:
    """A meter on scripted boards."""

    def __init__(
        self, *gpus: ScriptedGpu, uuids: Sequence[str] = (), start_s: float = 1.0, init_error: int = 0
    ) -> None:
        self.gpus, self.time = gpus, SimulatedTime(start_s)
        self.nvml = ScriptedNvml(gpus, self.time, init_error=init_error)
        device = gpu_device(*(uuids or [gpu.uuid for gpu in gpus]))
        self.meter = NvmlMeter(device, self.nvml, self.time, self.time.sleep, self.time.every)
        self.true_j = 0.0

    def window(self, seconds: float, shape: Shape | None = at_work) -> Reading:
        """A window in which the boards' power takes a shape; `true_j` is then the energy between its ends."""
        self.meter.begin()
        began_s = self.time.now_s
        for gpu in self.gpus:
            gpu.power_w = shape(began_s, began_s + seconds) if shape else gpu.power_w
        self.time.sleep(seconds)
        self.true_j = sum(gpu.power_w.joules(began_s, self.time.now_s) for gpu in self.gpus)
        return self.meter.end()

    def error(self, reading: Reading) -> float:
        assert reading.energy.gpu_j is not None, reading.energy.reason
        return abs(reading.energy.gpu_j / self.true_j - 1)


def after(began_s: float, curve: Curve, seconds: float) -> Curve:
    """A curve of which time 0 is a window's begin, idle before, sampled finely and straight between."""
    steps = [(began_s + i * 0.01, curve(i * 0.01)) for i in range(math.ceil(seconds / 0.01) + 100)]
    return Curve([(-10, IDLE_W), (began_s, IDLE_W), *steps])


SHAPES: dict[str, Shape] = {
    "load between idling": at_work,
    "constant": lambda began_s, ended_s: constant(IDLE_W),
    "ramp that goes on": lambda began_s, ended_s: after(began_s, ramp(100, 600, ended_s - began_s), ended_s - began_s),
    "square wave that goes on": lambda began_s, ended_s: after(
        began_s, square_wave(100, 600, 0.73, ended_s - began_s + 1), ended_s - began_s
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=40, deadline=None)
@given(seconds=st.floats(5.0, 30.0), phase_s=st.floats(0.0, 0.1))
def test_energy_is_exact_to_a_thousandth_wherever_the_tick_falls(shape: str, seconds: float, phase_s: float) -> None:
    bench = Bench(idle_gpu(phase_s=phase_s))
    reading = bench.window(seconds, SHAPES[shape])
    assert bench.error(reading) < 0.001
    assert (reading.energy.gpu_source, reading.energy.gpu_method) == ("measured", "counter")


@settings(max_examples=40, deadline=None)
@given(seconds=st.floats(5.0, 20.0), phase_s=st.floats(0.0, 0.1), lag_s=st.floats(0.0, 0.1))
def test_energy_is_exact_with_a_counter_that_lags_by_up_to_a_tick(seconds: float, phase_s: float, lag_s: float) -> None:
    bench = Bench(idle_gpu(phase_s=phase_s, lag_s=lag_s))
    warm_up = load(IDLE_W, LOAD_W, bench.time.now_s, bench.time.now_s + 3)
    bench.gpus[0].power_w = warm_up
    bench.time.sleep(3.0)
    bench.meter.begin()
    began_s = bench.time.now_s
    bench.gpus[0].power_w = Curve(
        [(-10, IDLE_W), (1, IDLE_W), (1, LOAD_W), (4, LOAD_W), (4, IDLE_W)]
        + [
            (began_s, IDLE_W),
            (began_s, LOAD_W),
            (began_s + seconds, LOAD_W),
            (began_s + seconds, IDLE_W),
            (1e4, IDLE_W),
        ]
    )
    bench.time.sleep(seconds)
    bench.true_j = bench.gpus[0].power_w.joules(began_s, bench.time.now_s)
    assert bench.error(bench.meter.end()) < 0.001


@settings(max_examples=40, deadline=None)
@given(seconds=st.floats(0.3, 5.0), phase_s=st.floats(0.0, 0.1), tick_s=st.floats(0.02, 0.12))
def test_shorter_windows_and_other_ticks_stay_within_a_hundredth(seconds: float, phase_s: float, tick_s: float) -> None:
    bench = Bench(idle_gpu(phase_s=phase_s, tick_s=tick_s))
    assert bench.error(bench.window(seconds)) < 0.01


@settings(max_examples=20, deadline=None)
@given(seconds=st.floats(5.0, 20.0), phases=st.tuples(st.floats(0.0, 0.1), st.floats(0.0, 0.1)))
def test_boards_with_their_own_ticks_are_summed(seconds: float, phases: tuple[float, float]) -> None:
    bench = Bench(idle_gpu(B, phase_s=phases[0]), idle_gpu(A, phase_s=phases[1]), uuids=[A, B])
    assert bench.error(bench.window(seconds)) < 0.001


def test_boards_are_found_by_uuid_whatever_nvmls_order() -> None:
    first, second, third = idle_gpu("GPU-0"), idle_gpu("GPU-1"), idle_gpu("GPU-2")
    first.power_w = constant(1000)
    bench = Bench(first, second, third, uuids=["GPU-2", "GPU-1"])
    reading = bench.window(5.0, None)
    assert reading.energy.gpu_j == pytest.approx(2 * 5 * IDLE_W, rel=0.001)
    assert [board.uuid for board in reading.boards] == ["GPU-2", "GPU-1"]


def test_on_a_board_without_instantaneous_power_the_margins_count_at_idle_power() -> None:
    bench = Bench(idle_gpu(has_instant=False))
    bench.meter.measure_idle()
    reading = bench.window(5.0)
    assert bench.error(reading) < 0.001
    assert reading.energy.gpu_method == "counter"
    assert reading.energy.gpu_idle_w == pytest.approx(IDLE_W, rel=0.01)


def test_energy_of_a_board_that_reports_no_power_is_exact_to_a_hundredth() -> None:
    bench = Bench(idle_gpu(has_instant=False, has_power=False))
    reading = bench.window(5.0)
    assert bench.error(reading) < 0.01
    assert reading.energy.gpu_sampled_to_counter is None


@pytest.mark.parametrize("has_counter", [True, False])
def test_idle_power_is_read_once_and_stated_with_every_window(has_counter: bool) -> None:
    bench = Bench(idle_gpu(A, has_counter=has_counter), idle_gpu(B))
    bench.meter.measure_idle()
    for _ in range(2):
        energy = bench.window(5.0).energy
        assert energy.gpu_idle_w == pytest.approx(2 * IDLE_W, rel=0.01)
        assert "idle" not in energy.reason


def test_idle_power_is_not_guessed() -> None:
    energy = Bench(idle_gpu()).window(5.0).energy
    assert energy.gpu_idle_w is None
    assert "idle power unknown" in energy.reason


def test_integrated_power_agrees_with_the_counter() -> None:
    energy = Bench(idle_gpu()).window(5.0).energy
    assert energy.gpu_sampled_to_counter == pytest.approx(1.0, abs=0.002)
    assert "off the energy counter" not in energy.reason


@pytest.mark.parametrize(("scale", "said"), [(0.9, "-10% off the energy counter"), (1.04, ""), (1.2, "+20% off")])
def test_a_difference_over_five_percent_is_flagged(scale: float, said: str) -> None:
    energy = Bench(idle_gpu(power_scale=scale)).window(5.0).energy
    assert energy.gpu_sampled_to_counter == pytest.approx(scale, abs=0.01)
    assert said in energy.reason
    assert ("off the energy counter" in energy.reason) == bool(said)


def test_without_a_counter_power_is_integrated_and_labelled() -> None:
    bench = Bench(idle_gpu(has_counter=False))
    reading = bench.window(10.0)
    assert bench.error(reading) < 0.01
    assert (reading.energy.gpu_source, reading.energy.gpu_method) == ("measured", "sampled")
    assert "no energy counter" in reading.energy.reason
    assert reading.energy.gpu_sampled_to_counter is None


def test_a_sum_that_includes_a_sampled_board_is_labelled_sampled() -> None:
    bench = Bench(idle_gpu(A), idle_gpu(B, has_counter=False))
    reading = bench.window(10.0)
    assert bench.error(reading) < 0.01
    assert reading.energy.gpu_method == "sampled"
    assert f"{B}: the board has no energy counter" in reading.energy.reason


@pytest.mark.parametrize("earlier_j", [10.0, 1e6])
def test_a_driver_reloaded_in_mid_run_leaves_the_sampled_figure(earlier_j: float) -> None:
    bench = Bench(idle_gpu(earlier_j=earlier_j, reload_at_s=2.0))
    reading = bench.window(10.0)
    assert bench.error(reading) < 0.01
    assert reading.energy.gpu_method == "sampled"
    assert "fell or stood still" in reading.energy.reason


def test_a_counter_that_stands_still_is_not_zero_joules() -> None:
    bench = Bench(idle_gpu(tick_s=1e6))
    reading = bench.window(10.0)
    assert bench.error(reading) < 0.01
    assert reading.energy.gpu_method == "sampled"


def test_a_slow_counter_is_named() -> None:
    reading = Bench(idle_gpu(tick_s=1.5)).window(10.0)
    assert "did not tick near an end" in reading.energy.reason


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, "NVMLError_GpuIsLost"),
        (pynvml.NVML_ERROR_UNKNOWN, "NVMLError_Unknown"),
        (pynvml.NVML_ERROR_UNINITIALIZED, "NVMLError_Uninitialized"),
    ],
)
def test_a_board_lost_in_mid_run_leaves_unknown_energy_and_a_reason(code: int, name: str) -> None:
    bench = Bench(idle_gpu(A), idle_gpu(B, lost_from_s=4.0, lost_error=code))
    reading = bench.window(10.0)
    assert reading.energy.gpu_j is None
    assert (reading.energy.gpu_source, reading.energy.gpu_method) == ("none", "")
    assert f"{B}: the energy counter could not be read" in reading.energy.reason
    assert name in reading.energy.reason
    assert A not in reading.energy.reason
    bench.meter.measure_idle()
    assert bench.window(5.0).energy.gpu_idle_w is None
    bench.meter.close()


def test_a_board_lost_before_the_next_window_leaves_that_unknown() -> None:
    bench = Bench(idle_gpu(lost_from_s=10.0))
    assert bench.window(5.0).energy.gpu_j is not None
    assert bench.window(5.0).energy.gpu_j is None


def test_a_short_failure_between_the_ends_costs_the_cross_check_only() -> None:
    bench = Bench(idle_gpu(lost_from_s=3.0, lost_to_s=4.0, lost_error=pynvml.NVML_ERROR_UNKNOWN))
    reading = bench.window(10.0)
    assert bench.error(reading) < 0.001
    assert reading.energy.gpu_sampled_to_counter is None
    assert "NVMLError_Unknown" in reading.energy.reason


def test_with_a_counter_unreadable_at_the_end_the_sampled_figure_is_used() -> None:
    bench = Bench(idle_gpu(lost_from_s=11.1))
    bench.meter.begin()
    bench.gpus[0].lost_from_s = bench.time.now_s + 10.0
    bench.time.sleep(10.0)
    energy = bench.meter.end().energy
    assert energy.gpu_j == pytest.approx(10 * IDLE_W, rel=0.001)
    assert energy.gpu_method == "sampled"
    assert "NVMLError_GpuIsLost" in energy.reason


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "NVMLError_LibraryNotFound"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "NVMLError_DriverNotLoaded"),
    ],
)
def test_without_a_driver_every_window_says_so(code: int, said: str) -> None:
    bench = Bench(idle_gpu(), init_error=code)
    bench.meter.measure_idle()
    reading = bench.window(5.0)
    bench.meter.close()
    assert reading.energy.gpu_j is None
    assert said in reading.energy.reason
    assert reading.boards == ()


def test_with_an_unknown_uuid_no_other_board_is_read() -> None:
    bench = Bench(idle_gpu(A), uuids=["GPU-elsewhere"])
    assert "NVMLError_NotFound" in bench.window(5.0).energy.reason
    bench.meter.close()
    assert bench.nvml.initialized == 0


def test_the_real_library_without_a_driver_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    meter = NvmlMeter(gpu_device(A))
    meter.begin()
    assert "NVMLError_LibraryNotFound" in meter.end().energy.reason


def test_a_device_without_gpus_has_a_reason() -> None:
    bench = Bench()
    bench.meter.measure_idle()
    bench.meter.begin()
    assert "no NVIDIA GPU" in bench.meter.end().energy.reason


def test_a_split_board_is_marked_shared() -> None:
    reading = Bench(idle_gpu(mig=("MIG-1", "MIG-2"))).window(5.0)
    assert reading.energy.gpu_shared
    assert reading.boards[0].mig
    assert "whole board" in reading.energy.reason


def test_two_parts_of_a_board_count_the_board_once() -> None:
    bench = Bench(idle_gpu(A, mig=("MIG-1", "MIG-2")), uuids=["MIG-1", "MIG-2"])
    reading = bench.window(5.0)
    assert bench.error(reading) < 0.001
    assert reading.energy.gpu_shared
    assert [(board.uuid, board.mig) for board in reading.boards] == [(A, True)]


def test_other_processes_on_the_board_are_counted() -> None:
    reading = Bench(idle_gpu(pids=[os.getpid(), os.getppid()])).window(5.0)
    assert reading.boards[0].other_processes == 1
    assert "other processes on the board: 1" in reading.energy.reason
    assert Bench(idle_gpu()).window(5.0).boards[0].other_processes == 0


@pytest.mark.parametrize("pids", [[], [99_999_999]])
def test_other_processes_are_unknown_where_our_own_is_not_listed(pids: list[int]) -> None:
    assert Bench(idle_gpu(pids=pids)).window(5.0).boards[0].other_processes is None


def test_a_board_is_recorded_with_highest_temperature_lowest_clock_and_peak_memory() -> None:
    gpu = idle_gpu(
        throttle=pynvml.nvmlClocksEventReasonGpuIdle
        | pynvml.nvmlClocksEventReasonSwPowerCap
        | pynvml.nvmlClocksThrottleReasonBoardLimit,
        temperature_c=load(40, 83, 3, 4),
        clocks_mhz=load(1980, 1200, 5, 6),
        used_bytes=load(2**30, 2**36, 4, 5),
    )
    [board] = Bench(gpu).window(10.0).boards
    assert (board.temperature_c, board.sm_clock_mhz, board.peak_memory_bytes) == (83, 1200, 2**36)
    assert board.power_limit_w == 700
    assert board.throttle_reasons == ("BoardLimit", "SwPowerCap")
    assert not board.mig


def test_throttle_reasons_are_read_from_older_drivers_too() -> None:
    gpu = idle_gpu(has_instant=False, throttle=pynvml.nvmlClocksEventReasonApplicationsClocksSetting)
    assert Bench(gpu).window(5.0).boards[0].throttle_reasons == ("ApplicationsClocksSetting",)


def test_an_idle_clock_is_no_throttling() -> None:
    assert Bench(idle_gpu()).window(5.0).boards[0].throttle_reasons == ()


def test_a_window_of_a_few_milliseconds_is_labelled() -> None:
    reading = Bench(idle_gpu()).window(0.003)
    assert reading.boards[0].temperature_c == 60
    assert reading.energy.gpu_sampled_to_counter is None


def test_waiting_for_ticks_is_bounded() -> None:
    bench = Bench(idle_gpu(tick_s=1e6))
    started_s = bench.time.now_s
    bench.meter.begin()
    assert bench.time.now_s - started_s < 0.35


def test_nothing_runs_between_windows_and_a_dropped_window_leaves_no_thread() -> None:
    bench = Bench(idle_gpu())
    assert "no window was begun" in bench.meter.end().energy.reason
    bench.meter.begin()
    bench.time.sleep(2.0)
    bench.meter.begin()
    assert bench.time.running == 1
    bench.time.sleep(5.0)
    assert bench.meter.end().energy.gpu_j == pytest.approx(5 * IDLE_W, rel=0.001)
    assert bench.time.running == 0
    bench.meter.begin()
    bench.meter.close()
    bench.meter.close()
    assert (bench.time.running, bench.nvml.initialized) == (0, 0)
    assert "closed" in bench.meter.end().energy.reason


def test_every_name_of_nvml_that_the_meter_uses_is_in_the_real_binding() -> None:
    names = set(re.findall(r"\bnvml\.(\w+)", inspect.getsource(nvml)))
    assert len(names) > 20
    assert [name for name in sorted(names) if not hasattr(pynvml, name)] == []
    scripted = {name for name in vars(ScriptedNvml) if name.startswith("nvml")}
    assert [name for name in sorted(scripted) if not hasattr(pynvml, name)] == []


def test_the_sampling_thread_costs_less_than_a_hundredth_of_a_core_and_ends_with_its_window() -> None:
    """Its processor time over a second of real time, beside a busy main thread, two boards."""
    gpus = [idle_gpu(A), idle_gpu(B)]
    scripted = ScriptedNvml(gpus, time.perf_counter)
    meter = NvmlMeter(gpu_device(A, B), scripted)
    thread_s: list[float] = []

    def note() -> None:
        if threading.current_thread().name == "infertune-nvml":
            thread_s.append(time.thread_time())

    scripted.on_call = note
    meter.begin()
    until_s = time.perf_counter() + 1.0
    while time.perf_counter() < until_s:
        sum(range(1000))
    energy = meter.end().energy
    meter.close()
    assert len(thread_s) >= 5 * 2 * 6, "it did not sample"
    assert thread_s[-1] - thread_s[0] < 0.01
    assert energy.gpu_method == "counter"
    assert "infertune-nvml" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("gpu", "kind", "said"),
    [
        (idle_gpu(), "counter", "100 ms"),
        (idle_gpu(has_counter=False), "sampled", "no energy counter"),
        (idle_gpu(has_counter=False, has_instant=False), "sampled", "mean of up to 1 s"),
        (idle_gpu(has_counter=False, has_instant=False, has_power=False), "none", "no energy counter"),
        (idle_gpu(mig=("MIG-1",)), "counter", "MIG"),
    ],
)
def test_doctor_says_what_each_board_offers(gpu: ScriptedGpu, kind: str, said: str) -> None:
    scripted = ScriptedNvml([gpu], SimulatedTime())
    [status] = nvml_status(gpu_device(A), scripted)
    assert status.kind == kind
    assert A in status.name
    assert said in f"{status.resolution} {status.reason}"
    assert scripted.initialized == 0


def test_doctor_says_why_there_is_no_gpu_energy() -> None:
    scripted = ScriptedNvml([], SimulatedTime(), init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    [status] = nvml_status(gpu_device(A), scripted)
    assert (status.kind, "NVMLError_LibraryNotFound" in status.reason) == ("none", True)


def test_what_is_to_be_said_of_every_board_is_said_once() -> None:
    assert reasons_of([A, B], [["shared", "no counter"], ["shared"]]) == ["every board: shared", f"{A}: no counter"]
    assert reasons_of([A], [["shared"]]) == [f"{A}: shared"], "of a single board by its name"
