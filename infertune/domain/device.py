"""The machine in front of us: its NVIDIA GPUs as CUDA would use them, or else its processor."""

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Literal

import psutil
from pydantic import Field

from infertune.domain.measurement import Frozen
from infertune.units import format_bytes, slugify

_NVIDIA_SMI_FIELDS = "index,uuid,name,memory.total,power.limit,driver_version"
_BOARD_LINE = re.compile(r"GPU \d+: .*\(UUID: (?P<uuid>GPU-[^)]+)\)")
_SLICE_LINE = re.compile(r"\s*MIG (?P<profile>\S*?(?P<gb>\d+)gb\S*)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[^)]+)\)")

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # what /proc/cpuinfo calls them


class Device(Frozen):
    """What configurations are measured on; profiles are filed under its slug.

    Attributes:
        kind: `gpu`, or `cpu` where no NVIDIA GPU is visible.
        name: The board's or the processor's name; a slice of a board has its MIG profile behind it.
        count: How many GPUs are visible, 1 for a CPU.
        uuids: The GPUs' UUIDs in CUDA's order; empty for a CPU.
        memory_bytes: Memory of one GPU, or the memory this process may use on a CPU.
        cores: Cores this process may run on.
        power_limit_w: The first GPU's power limit; None if unknown.
        driver: The GPU driver's version; None for a CPU.
        has_bfloat16: Whether a CPU has instructions for bfloat16; True for a GPU and where nobody says.
    """

    kind: Literal["gpu", "cpu"]
    name: str
    count: int = Field(default=1, ge=0, le=10_000)
    uuids: tuple[str, ...] = ()
    memory_bytes: int = Field(ge=0, le=2**60)
    cores: int = Field(ge=1, le=1_000_000)
    power_limit_w: float | None = None
    driver: str | None = None
    has_bfloat16: bool = True

    @property
    def slug(self) -> str:
        """Folder name of the device: `nvidia-h100-80gb-hbm3`, `2x-nvidia-…`, `cpu-amd-epyc-2-cores`."""
        if self.kind == "cpu":
            return slugify(f"cpu {self.name} {self.cores} cores")
        return slugify(self.name if self.count == 1 else f"{self.count}x {self.name}")

    @property
    def lock_names(self) -> tuple[str, ...]:
        """What two runs must not share: every GPU by UUID, or the processor."""
        return self.uuids or ("cpu",)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it before tuning."""
        if self.has_bfloat16:
            return ()
        return (
            "this processor has no instructions for bfloat16 and emulates them, often many times slower: "
            "compare --set dtype=float32",
        )

    def __str__(self) -> str:
        if self.kind == "cpu":
            return f"{self.name}, {self.cores} cores, {format_bytes(self.memory_bytes)} memory, no GPU"
        return f"{self.count} × {self.name}, {format_bytes(self.memory_bytes)}, driver {self.driver}"


def detect() -> Device:
    """The GPUs that CUDA would see here, or the processor if there are none."""
    gpus = _visible(_query_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not gpus:
        return cpu()
    first = gpus[0]
    alike = [gpu for gpu in gpus if gpu["name"] == first["name"]]
    limit, memory = first["power.limit"], first["memory.total"]
    return Device(
        kind="gpu",
        name=first["name"],
        count=len(alike),
        uuids=tuple(gpu["uuid"] for gpu in alike),
        # A board that shares the processor's memory reports [N/A].
        memory_bytes=int(float(memory)) * 1024**2 if _is_number(memory) else _usable_memory_bytes(),
        cores=_usable_cores(),
        power_limit_w=float(limit) if _is_number(limit) else None,
        driver=first["driver_version"],
    )


def cpu() -> Device:
    """The processor as a device."""
    facts = _cpu_facts()
    instructions = (facts.get("flags") or facts.get("Features") or "").split()  # of x86, of Arm
    return Device(
        kind="cpu",
        name=facts.get("model name") or platform.processor() or platform.machine(),
        memory_bytes=_usable_memory_bytes(),
        cores=_usable_cores(),
        has_bfloat16=not instructions or bool(_BFLOAT16.intersection(instructions)),
    )


def memory_used_bytes(device: Device) -> int | None:
    """Memory in use on a device's GPUs by anyone, in bytes; None for a CPU or where it cannot be read."""
    if device.kind != "gpu":
        return None
    command = ["nvidia-smi", "--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits"]
    rows = [line.split(",") for line in _ask_nvidia_smi(command)]
    used = [row[1].strip() for row in rows if len(row) == 2 and row[0].strip() in device.uuids]
    return int(sum(float(mib) for mib in used) * 1024**2) if used and all(map(_is_number, used)) else None


def _ask_nvidia_smi(command: list[str]) -> list[str]:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line for line in answer.stdout.splitlines() if line.strip()]


def _query_gpus() -> list[dict[str, str]]:
    """Every NVIDIA GPU by nvidia-smi, in PCI order; empty where there is no driver.

    NVML itself is read in `energy/` only; one subprocess at start keeps the two apart.
    """
    names = _NVIDIA_SMI_FIELDS.split(",")
    command = ["nvidia-smi", f"--query-gpu={_NVIDIA_SMI_FIELDS}", "--format=csv,noheader,nounits"]
    rows = [[cell.strip() for cell in line.split(",")] for line in _ask_nvidia_smi(command)]
    return [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]


def _visible(gpus: list[dict[str, str]], cuda_visible_devices: str | None) -> list[dict[str, str]]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order.

    Like CUDA, it stops at the first unknown entry, sees nothing where a GPU is named twice, and takes one MIG slice.
    """
    if cuda_visible_devices is None:
        return gpus
    chosen: list[dict[str, str]] = []
    for entry in (part.strip() for part in cuda_visible_devices.split(",")):
        if entry.startswith("MIG-"):
            slices = [] if chosen else _slices(gpus, entry)
            return slices if len(slices) == 1 else chosen
        match = [g for g in gpus if entry and (g["index"] == entry or g["uuid"].startswith(entry))]
        if len(match) != 1:
            break
        if match[0] in chosen:
            return []
        chosen.append(match[0])
    return chosen


def _slices(gpus: list[dict[str, str]], entry: str) -> list[dict[str, str]]:
    """The MIG slices whose UUID begins so: their board, by the slice's name, UUID and memory; see `nvidia-smi -L`."""
    found: list[dict[str, str]] = []
    board: dict[str, str] = {}
    for line in _ask_nvidia_smi(["nvidia-smi", "-L"]):
        if match := _BOARD_LINE.match(line):
            board = next((gpu for gpu in gpus if gpu["uuid"] == match["uuid"]), {})
        elif board and (match := _SLICE_LINE.match(line)) and match["uuid"].startswith(entry):
            # A profile's name rounds down: 3g.40gb has 40,448 MiB on an H100, 40 GB are 38,146.
            memory = str(int(match["gb"]) * 10**9 // 1024**2)
            name = f"{board['name']} MIG {match['profile']}"
            found.append({**board, "name": name, "uuid": match["uuid"], "memory.total": memory})
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _usable_memory_bytes() -> int:
    """Physical memory, or the control group's limit where that is lower."""
    total = int(psutil.virtual_memory().total)
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            return min(total, int(limit.read_text()))
        except (OSError, ValueError):
            continue
    return total


def _cpu_facts() -> dict[str, str]:
    """What /proc/cpuinfo says of the first processor; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): text.strip() for name, _, text in pairs}
