"""The GPUs that nvidia-smi lists, or why it cannot list them.

The NVML library is used in `energy/` only; here nvidia-smi runs as a child process.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

_FIELDS = "index,uuid,name,memory.total,power.limit,driver_version"
_UUID = re.compile(r"GPU-[\w-]+")
_BOARD_LINE = re.compile(r"GPU \d+: .*\(UUID: (?P<uuid>GPU-[^)]+)\)")
_SLICE_LINE = re.compile(r"\s*MIG (?P<profile>\S*?(?P<gb>\d+)gb\S*)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[^)]+)\)")
_TIMEOUT_S = 30.0  # judgement: eight boards without persistence mode answer in about 10 s
_MOST_OUTPUT_BYTES = 256 * 1024  # of each stream; a line has about 100 bytes (judgement)
_MOST_QUOTED = 240  # characters of its words in a message; judgement

# The driver runs and has no board for this process: a container without GPUs, or all boards passed to virtual machines.
_NO_DEVICE = "No devices were found"
# Installed tools without a driver: normal on a machine without a board, a fault on one that has a board.
_NO_DRIVER = ("couldn't communicate with the NVIDIA driver", "couldn't find libnvidia-ml")
_CODE_INFOROM = 14  # `nvidia-smi --help`: "infoROM is corrupted"; the boards are listed and work
_NVIDIA_VENDOR = "0x10de"  # PCI vendor id
_DISPLAY_CLASS = "0x03"  # PCI class of VGA and 3D controllers


@dataclass(frozen=True)
class Gpu:
    """One GPU, or a MIG slice of one.

    Attributes:
        index: In PCI order, as nvidia-smi counts.
        uuid: `GPU-…`, or `MIG-…` for a slice.
        name: The board's, with the profile behind it for a slice.
        memory_mib: Its own memory; None where it shares the processor's.
        power_limit_w: The limit in force; None if unknown.
        driver: The driver's version.
    """

    index: str
    uuid: str
    name: str
    memory_mib: float | None
    power_limit_w: float | None
    driver: str


@dataclass(frozen=True)
class Answer:
    """The answer of nvidia-smi.

    Attributes:
        gpus: Every GPU, in PCI order.
        fault: Why GPUs of this machine cannot be used, with nvidia-smi's message; empty if nothing is wrong.
        remark: Another message of nvidia-smi; empty if there is none.
    """

    gpus: tuple[Gpu, ...] = ()
    fault: str = ""
    remark: str = ""


@dataclass(frozen=True)
class _Said:
    """How nvidia-smi ended and what it wrote; `code` is None if it did not start or did not end."""

    code: int | None
    lines: tuple[str, ...] = ()
    errors: str = ""

    @property
    def words(self) -> str:
        """Everything, in one line for a message."""
        text = " ".join(" ".join((*self.lines, self.errors)).split())
        return f'"{text[:_MOST_QUOTED]}{"…" if len(text) > _MOST_QUOTED else ""}"' if text else "nothing"


def ask(timeout_s: float | None = None) -> Answer:
    """Ask nvidia-smi for every GPU; without one on PATH there is none.

    Args:
        timeout_s: How long to wait for it, in seconds; None for the usual time.
    """
    said = _run([f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"], timeout_s or _TIMEOUT_S)
    if said is None:
        return Answer()
    if said.code is None:
        return Answer(fault=f"nvidia-smi {said.errors}")
    gpus = tuple(gpu for line in said.lines if (gpu := _gpu(line)))
    others = replace(said, lines=tuple(line for line in said.lines if _gpu(line) is None))
    if said.code not in (0, _CODE_INFOROM) or not gpus:
        return _without_gpus(said)
    return Answer(gpus, remark=f"nvidia-smi also says {others.words}" if others.lines or others.errors.strip() else "")


def _without_gpus(said: _Said) -> Answer:
    """Tell a machine without GPUs from one whose GPUs cannot be used."""
    if _NO_DEVICE in said.words:
        return Answer(remark=f"nvidia-smi says {said.words}")
    if any(phrase in said.words for phrase in _NO_DRIVER) and not has_board():
        return Answer(remark=f"nvidia-smi says {said.words}, and the PCI bus has no NVIDIA GPU")
    if said.code == 0:
        return Answer(fault=f"nvidia-smi lists no GPU and says {said.words}")
    return Answer(fault=f"nvidia-smi ends with code {said.code} and says {said.words}")


def has_board(devices: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether an NVIDIA GPU is on the PCI bus, driver or not; also True where the bus cannot be read."""
    try:
        folders = list(devices.iterdir())
    except OSError:
        return True
    return not folders or any(
        _read(folder / "vendor") == _NVIDIA_VENDOR and _read(folder / "class").startswith(_DISPLAY_CLASS)
        for folder in folders
    )


def visible(gpus: tuple[Gpu, ...], cuda_visible_devices: str | None) -> tuple[Gpu, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order.

    Like CUDA, it stops at the first unknown entry, sees nothing where a GPU is named twice, and takes one MIG slice.
    """
    if cuda_visible_devices is None:
        return gpus
    chosen: tuple[Gpu, ...] = ()
    for entry in (part.strip() for part in cuda_visible_devices.split(",")):
        if entry.startswith("MIG-"):
            slices = () if chosen else _slices(gpus, entry)
            return slices if len(slices) == 1 else chosen
        match = [gpu for gpu in gpus if entry and (gpu.index == entry or gpu.uuid.startswith(entry))]
        if len(match) != 1:
            break
        if match[0] in chosen:
            return ()
        chosen += (match[0],)
    return chosen


def memory_used_mib(uuids: tuple[str, ...]) -> float | None:
    """Memory in use on these GPUs by anyone, in MiB; None if it cannot be read."""
    said = _run(["--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits"], _TIMEOUT_S)
    if said is None or said.code != 0:
        return None
    rows = [[cell.strip() for cell in line.split(",")] for line in said.lines]
    used = [_number(row[1]) for row in rows if len(row) == 2 and row[0] in uuids]
    known = [mib for mib in used if mib is not None]
    return sum(known) if known and len(known) == len(used) else None


def _slices(gpus: tuple[Gpu, ...], entry: str) -> tuple[Gpu, ...]:
    """The MIG slices whose UUID begins so: their board, by the slice's name, UUID and memory; see `nvidia-smi -L`."""
    said = _run(["-L"], _TIMEOUT_S)
    found: tuple[Gpu, ...] = ()
    board: Gpu | None = None
    for line in said.lines if said and said.code == 0 else ():
        if match := _BOARD_LINE.match(line):
            board = next((gpu for gpu in gpus if gpu.uuid == match["uuid"]), None)
        elif board and (match := _SLICE_LINE.match(line)) and match["uuid"].startswith(entry):
            # A profile's name rounds down: 3g.40gb has 40,448 MiB on an H100, 40 GB are 38,146.
            memory_mib = float(int(match["gb"]) * 10**9 // 1024**2)
            name = f"{board.name} MIG {match['profile']}"
            found += (replace(board, name=name, uuid=match["uuid"], memory_mib=memory_mib),)
    return found


def _run(arguments: list[str], timeout_s: float) -> _Said | None:
    """Run nvidia-smi; None where there is none.

    A process that hangs in the kernel cannot be ended: it is killed and not waited for.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return _Said(None, errors=f"cannot be started: {error.strerror}")
    assert process.stdout and process.stderr
    readers = _Beginning(process.stdout), _Beginning(process.stderr)
    until = time.perf_counter() + timeout_s
    try:
        for reader in readers:
            reader.join(max(0.0, until - time.perf_counter()))
        if any(reader.is_alive() for reader in readers):
            raise subprocess.TimeoutExpired(program, timeout_s)
        process.wait(max(0.0, until - time.perf_counter()))
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.poll()
        return _Said(None, errors=f"does not answer within {timeout_s:g} s")
    output, errors = (reader.text for reader in readers)
    return _Said(process.returncode, tuple(line for line in output.splitlines() if line.strip()), errors)


class _Beginning(threading.Thread):
    """Reads the beginning of a pipe and closes it: a program that writes without end ends, and fills no memory."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self.text = ""
        self.start()

    def run(self) -> None:
        """Read until the pipe's end or the bound."""
        with self._pipe:
            self.text = self._pipe.read(_MOST_OUTPUT_BYTES).decode("utf-8", "replace")


def _gpu(line: str) -> Gpu | None:
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(_FIELDS.split(",")) or not _UUID.fullmatch(cells[1]) or not cells[2]:
        return None
    index, uuid, name, memory, limit, driver = cells
    return Gpu(index, uuid, name, _number(memory), _number(limit), driver)


def _number(text: str) -> float | None:
    """A number of nvidia-smi; None for `[N/A]` and for what no board has."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < 10**9 else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
