"""Processes and memory on a GPU as nvidia-smi reports them, and a process that holds memory there."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from infertune.domain.device import Device, memory_used_bytes

MIB = 1024**2
_SLACK_BYTES = 64 * MIB
_BACK_WITHIN_S = 30.0

_HOLD = """
import sys, torch
held = torch.empty(int(sys.argv[1]), dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("held", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Board:
    """The GPUs of a device at one moment.

    Attributes:
        device: The device.
        used_bytes: Memory in use by all processes.
        processes: Ids of the processes with a CUDA context there, as the driver reports them.
    """

    device: Device
    used_bytes: int
    processes: frozenset[int]

    @classmethod
    def now(cls, device: Device) -> "Board":
        """Ask nvidia-smi."""
        used = memory_used_bytes(device)
        assert used is not None
        command = ["nvidia-smi", "--query-compute-apps=gpu_uuid,pid", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        rows = [line.split(",") for line in answer.stdout.splitlines() if "," in line]
        return cls(device, used, frozenset(int(pid) for uuid, pid in rows if uuid.strip() in device.uuids))

    def assert_is_back(self) -> None:
        """Wait until memory and processes are as they were; fail after 30 s."""
        deadline = time.monotonic() + _BACK_WITHIN_S
        while True:
            now = Board.now(self.device)
            if now.used_bytes <= self.used_bytes + _SLACK_BYTES and now.processes <= self.processes:
                return
            assert time.monotonic() < deadline, (self, now)
            time.sleep(0.2)

    def wait_until_used(self, more_bytes: int, within_s: float) -> None:
        """Wait until so many bytes more are in use than when this was taken."""
        deadline = time.monotonic() + within_s
        while (now := Board.now(self.device)).used_bytes < self.used_bytes + more_bytes:
            assert time.monotonic() < deadline, (self, now)
            time.sleep(0.2)


@contextlib.contextmanager
def held_by_another(n_bytes: int) -> Iterator[int]:
    """Another process that holds so many bytes of the first GPU; its id."""
    command = [sys.executable, "-c", _HOLD, str(n_bytes)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout and other.stdout.readline() == "held\n"
        yield other.pid
    finally:
        other.kill()
        other.communicate()
