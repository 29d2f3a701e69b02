"""The device as infertune finds it against what CUDA and the driver say."""

import json
import subprocess
import sys

import pytest

from infertune.domain import device
from infertune.domain.device import Device
from tests.gpu.board import MIB, Board, held_by_another

pytestmark = pytest.mark.gpu

# The driver's own interface, in a process that is gone afterwards: a tenth of the time that importing torch takes.
_ASK_CUDA = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
number, device, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
name, uuid = ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()

def ask(function, *arguments):
    code = getattr(cuda, function)(*arguments)
    assert code == 0, (function, code)

boards = []
if (code := cuda.cuInit(0)) not in (100, 101):  # CUDA_ERROR_NO_DEVICE, CUDA_ERROR_INVALID_DEVICE
    assert code == 0, ("cuInit", code)
    ask("cuDeviceGetCount", ctypes.byref(number))
    for index in range(number.value):
        ask("cuDeviceGet", ctypes.byref(device), index)
        ask("cuDeviceGetName", name, 256, device)
        ask("cuDeviceGetUuid", ctypes.byref(uuid), device)
        ask("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
        digits = bytes(uuid).hex()
        parts = digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]
        boards.append(["GPU-" + "-".join(parts), name.value.decode(), memory.value])
print(json.dumps(boards))
"""


def cuda_boards() -> list[tuple[str, str, int]]:
    """UUID, name and memory in bytes of every board, in CUDA's order."""
    answer = subprocess.run([sys.executable, "-c", _ASK_CUDA], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return [(uuid, name, memory) for uuid, name, memory in json.loads(answer.stdout.splitlines()[-1])]


def test_the_boards_found_are_those_that_cuda_sees_by_uuid_name_and_memory(gpu: Device) -> None:
    alike = [board for board in cuda_boards() if board[1] == gpu.name]
    assert sorted(uuid for uuid, _, _ in alike) == sorted(gpu.uuids)
    assert gpu.count == len(alike)
    # CUDA keeps some hundred MiB of what the driver lists.
    assert all(0.95 * gpu.memory_bytes < memory <= gpu.memory_bytes for _, _, memory in alike)
    assert gpu.driver and gpu.power_limit_w and gpu.power_limit_w > 10


def test_a_board_chosen_by_uuid_is_the_one_that_cuda_uses(gpu: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    for visible in (gpu.uuids[-1], gpu.uuids[-1][:12]):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert device.detect().uuids == gpu.uuids[-1:]
        assert [uuid for uuid, _, _ in cuda_boards()] == [gpu.uuids[-1]]


@pytest.mark.parametrize("visible", ["", "-1", "0,0"])
def test_where_cuda_sees_no_board_the_device_is_the_processor(
    gpu: Device, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cuda_boards() == []
    assert device.detect() == device.cpu()


def test_memory_in_use_rises_by_what_another_process_takes_and_falls_when_it_ends(one_gpu: Device) -> None:
    before = Board.now(one_gpu)
    with held_by_another(1024 * MIB):
        during = Board.now(one_gpu)
        assert during.used_bytes >= before.used_bytes + 1024 * MIB
        assert len(during.processes - before.processes) == 1
    before.assert_is_back()
