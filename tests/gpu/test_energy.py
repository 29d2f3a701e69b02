"""The NVML meter on a real board."""

import time

import pytest

from infertune.domain.device import Device
from infertune.energy.nvml import NvmlMeter, nvml_status

pytestmark = pytest.mark.gpu


def test_counter_and_integrated_power_agree_on_a_matrix_load(gpu: Device) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)

    def work(seconds: float) -> float:
        started_s = time.perf_counter()
        while time.perf_counter() - started_s < seconds:
            for _ in range(10):
                a @ a
            torch.cuda.synchronize()
        return time.perf_counter() - started_s

    meter = NvmlMeter(gpu.model_copy(update={"count": 1, "uuids": gpu.uuids[:1]}))
    try:
        work(2.0)
        torch.cuda.synchronize()
        meter.measure_idle()
        meter.begin()
        duration_s = work(5.0)
        reading = meter.end()
    finally:
        meter.close()
    energy, [board] = reading.energy, reading.boards
    print(energy, board, duration_s)
    assert energy.gpu_method == "counter", energy.reason
    assert energy.gpu_sampled_to_counter == pytest.approx(1.0, abs=0.05)
    assert energy.gpu_j is not None and energy.gpu_idle_w is not None
    assert energy.gpu_j / duration_s > 1.5 * energy.gpu_idle_w
    assert board.temperature_c is not None and 10 < board.temperature_c < 110
    assert board.sm_clock_mhz and board.power_limit_w and board.peak_memory_bytes


def test_the_boards_that_device_detects_are_found_by_uuid(gpu: Device) -> None:
    lines = nvml_status(gpu)
    assert [line.name.split()[-1] for line in lines] == list(gpu.uuids)
    assert all(line.kind in ("counter", "sampled") for line in lines)
