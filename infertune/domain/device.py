"""The device that is tuned for: the NVIDIA GPUs of this machine as CUDA would use them, or its processor."""

import contextlib
import math
import os
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import psutil
from pydantic import Field

from infertune.domain import cgroups, nvidia
from infertune.domain.measurement import Frozen
from infertune.errors import BenchmarkError, UsageError
from infertune.units import format_bytes, slugify

DeviceChoice = Literal["auto", "cpu", "gpu"]

_ASK_IN_PASSING_S = 5.0  # judgement: how long the processor's user waits for an nvidia-smi that hangs

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # what /proc/cpuinfo calls them


class Device(Frozen):
    """What configurations are measured on. Profiles are stored under its slug.

    Attributes:
        kind: `gpu`, or `cpu` where no NVIDIA GPU is visible.
        name: The board's or the processor's name; a slice of a board has its MIG profile behind it.
        count: How many GPUs are visible, 1 for a CPU.
        uuids: The GPUs' UUIDs in CUDA's order; empty for a CPU.
        memory_bytes: Memory of one GPU, or the memory this process may use on a CPU.
        cores: Cores this process may use: those of its affinity mask, limited by the CPU quota of its control group.
        power_limit_w: The first GPU's power limit; None if unknown.
        driver: The GPU driver's version; None for a CPU.
        has_bfloat16: Whether a CPU has instructions for bfloat16; True for a GPU, and where it is unknown.
    """

    kind: Literal["gpu", "cpu"]
    name: str
    count: int = Field(default=1, ge=0, le=10_000)
    uuids: tuple[str, ...] = ()
    memory_bytes: int = Field(ge=0, le=2**60)
    cores: int = Field(ge=1, le=1_000_000)
    power_limit_w: float | None = Field(default=None, ge=0, le=1e6)
    driver: str | None = None
    has_bfloat16: bool = True

    @property
    def slug(self) -> str:
        """Folder name of the device: `nvidia-h100-80gb-hbm3`, `2x-nvidia-…`, `cpu-amd-epyc-2-cores`."""
        if self.kind == "cpu":
            return slugify(f"cpu {self.name} {self.cores} cores")
        return slugify(self.name if self.count == 1 else f"{self.count}x {self.name}")

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about the device, in sentences."""
        if self.has_bfloat16:
            return ()
        return (
            "this processor has no instructions for bfloat16 and emulates them, often many times slower: "
            "compare --set dtype=float32",
        )

    def __str__(self) -> str:
        if self.kind == "cpu":
            cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
            return f"{self.name}, {cores}, {format_bytes(self.memory_bytes)} memory, no GPU"
        return f"{self.count} × {self.name}, {format_bytes(self.memory_bytes)}, driver {self.driver}"


@dataclass(frozen=True)
class Survey:
    """The device that was found, and what was found beside it.

    Attributes:
        device: The device that a run would use.
        notes: What is left out or cannot be used, and messages of nvidia-smi, in sentences.
        fault: Why GPUs of this machine cannot be used; empty if nothing is wrong.
    """

    device: Device
    notes: tuple[str, ...] = ()
    fault: str = ""


def device_choice(text: str) -> DeviceChoice:
    """A choice of device as it is typed.

    Raises:
        UsageError: There is no such choice.
    """
    found = next((choice for choice in get_args(DeviceChoice) if choice == text), None)
    if found is None:
        raise UsageError(f"--device {text}: there are {', '.join(get_args(DeviceChoice))}")
    return cast("DeviceChoice", found)


def survey(wanted: DeviceChoice = "auto") -> Survey:
    """Find the device: the GPUs that CUDA would see, or the processor if there are none or it is asked for."""
    answer = nvidia.ask(_ASK_IN_PASSING_S if wanted == "cpu" else None)
    notes = _quota_notes()
    said = [f"the GPUs cannot be used: {answer.fault}"] if answer.fault else []
    said += [answer.remark] if answer.remark else []
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = variable is not None and variable.strip() in ("", "-1")
    gpus = nvidia.visible(answer.gpus, variable)
    if wanted == "cpu" or not gpus:
        if wanted != "cpu" and answer.gpus and not hidden:
            said.append(f"CUDA_VISIBLE_DEVICES={variable} names none of the {_counted(answer.gpus)} here")
        return Survey(cpu(), (*said, *notes), "" if hidden or wanted == "cpu" else answer.fault)
    first = gpus[0]
    alike = [gpu for gpu in gpus if gpu.name == first.name]
    if others := tuple(gpu for gpu in gpus if gpu.name != first.name):
        said.append(
            f"left out, because a device is GPUs of one model: {_counted(others)}; choose with CUDA_VISIBLE_DEVICES"
        )
    found = Device(
        kind="gpu",
        name=first.name,
        count=len(alike),
        uuids=tuple(gpu.uuid for gpu in alike),
        # A board that shares the processor's memory reports [N/A].
        memory_bytes=_usable_memory_bytes() if first.memory_mib is None else int(first.memory_mib) * 1024**2,
        cores=cores_of(None),
        power_limit_w=first.power_limit_w,
        driver=first.driver,
    )
    return Survey(found, (*said, *notes))


def survey_to_measure(wanted: DeviceChoice = "auto") -> Survey:
    """Find the device for a run that measures. The processor is never taken in place of GPUs that cannot be used.

    Raises:
        BenchmarkError: The GPUs cannot be used, or `gpu` is asked for and there is none.
    """
    found = survey(wanted)
    cure = "repair the driver (after an update a restart loads the new one), or measure the processor with --device cpu"
    if found.fault:
        raise BenchmarkError(f"the GPUs of this machine cannot be used: {found.fault}; {cure}")
    if wanted == "gpu" and found.device.kind != "gpu":
        why = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise BenchmarkError(f"--device gpu: no NVIDIA GPU is visible here{why}; leave it out to measure the processor")
    return found


def detect() -> Device:
    """The device alone: the GPUs that CUDA would see here, or the processor if there are none that can be used."""
    return survey().device


def cpu() -> Device:
    """The processor as a device."""
    facts = _cpu_facts()
    instructions = (facts.get("flags") or facts.get("Features") or "").split()  # of x86, of Arm
    return Device(
        kind="cpu",
        name=facts.get("model name") or platform.processor() or platform.machine(),
        memory_bytes=_usable_memory_bytes(),
        cores=cores_of(None),
        has_bfloat16=not instructions or bool(_BFLOAT16.intersection(instructions)),
    )


def engine_environment(device: Device) -> dict[str, str]:
    """Environment variables that keep an engine's process on a device.

    For the processor, CUDA is shown no GPU; for GPUs, it counts them as nvidia-smi and this program do, unless the user
    has set another order, and sees no others than the device's. Under a CPU quota, libraries start as many threads as
    the device has cores, unless the user has set OMP_NUM_THREADS.
    """
    environment = {"CUDA_VISIBLE_DEVICES": ""} if device.kind == "cpu" else _shown_gpus(device)
    if device.kind == "gpu" and "CUDA_DEVICE_ORDER" not in os.environ:
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if limited(device) and "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(device.cores)
    return environment


def _shown_gpus(device: Device) -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES with a device's GPUs, where CUDA would see others too; empty where it would not.

    The user's own entries are kept. Else it holds indices, as not every engine reads UUIDs there, or UUIDs where the
    user has set an order of his own, in which nvidia-smi does not count.
    """
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = nvidia.visible(nvidia.ask().gpus, variable)
    kept = [number for number, gpu in enumerate(gpus) if gpu.uuid in device.uuids]
    if len(kept) in (0, len(gpus)):
        return {}
    if variable is not None:
        names = [entry.strip() for entry in variable.split(",")]
    elif os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID") == "PCI_BUS_ID":
        names = [gpu.index for gpu in gpus]
    else:
        names = [gpu.uuid for gpu in gpus]
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[number] for number in kept)}


def lock_names(device: Device) -> tuple[str, ...]:
    """The names under which this process locks a device: every GPU by UUID, or the processor by its cores.

    A process that may use some cores only locks these, so that two of them can measure beside each other; one that may
    use all locks `cpu` too.
    """
    if device.uuids:
        return device.uuids
    cores = partial_cores()
    every = cores or tuple(range(os.cpu_count() or 1))
    return (*(() if cores else ("cpu",)), *(f"cpu core {core}" for core in every))


def partial_cores() -> tuple[int, ...]:
    """The cores in the affinity mask, if it leaves out some of the machine's; else none."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    cores = tuple(sorted(os.sched_getaffinity(0)))
    return cores if len(cores) < (os.cpu_count() or 1) else ()


def limited(device: Device) -> bool:
    """Whether a CPU quota allows fewer cores than the affinity mask has."""
    return device.cores < _allowed_cores()


@contextlib.contextmanager
def on_cores(count: int | None) -> Iterator[None]:
    """Run on some of this process's cores only: what is started meanwhile has no others, and `cpu()` counts them.

    Args:
        count: How many; None leaves all.

    Raises:
        UsageError: This process may not use as many, or cores cannot be chosen on this system.
    """
    if count is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("cores cannot be chosen on this system; leave `cores` out")
    allowed = os.sched_getaffinity(0)
    if count > len(allowed):
        raise UsageError(f"{count} cores are asked for, and this process may use {len(allowed)}")
    os.sched_setaffinity(0, sorted(allowed)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def cores_of(count: int | None) -> int:
    """Cores that a device has: those of the affinity mask, or the control group's quota of them where that is less.

    A fraction is rounded up: the number is an upper limit of threads, and rounding down would leave quota unused.

    Args:
        count: How many of the mask's cores there are, as of `on_cores`; None means all.
    """
    quota = cgroups.limits().cores
    cores = _allowed_cores() if count is None else count
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def memory_used_bytes(device: Device) -> int | None:
    """Memory in use on a device's GPUs by anyone, in bytes; None for a CPU or where it cannot be read."""
    if device.kind != "gpu":
        return None
    used_mib = nvidia.memory_used_mib(device.uuids)
    return None if used_mib is None else int(used_mib * 1024**2)


def _counted(gpus: tuple[nvidia.Gpu, ...]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in Counter(gpu.name for gpu in gpus).items())


def _allowed_cores() -> int:
    """Cores in the affinity mask."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota_notes() -> list[str]:
    quota, allowed = cgroups.limits().cores, _allowed_cores()
    if quota is None or quota >= allowed:
        return []
    used = max(1, math.ceil(quota))
    counted = "1 core is used" if used == 1 else f"{used} cores are used"
    return [f"the CPU quota here is {quota:.3g} of {allowed} cores: {counted}"]


def _usable_memory_bytes() -> int:
    """Physical memory, or the control group's limit where that is lower."""
    total = int(psutil.virtual_memory().total)
    limit = cgroups.limits().memory_bytes
    return total if limit is None else min(total, limit)


def _cpu_facts() -> dict[str, str]:
    """What /proc/cpuinfo says of the first processor; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): text.strip() for name, _, text in pairs}
