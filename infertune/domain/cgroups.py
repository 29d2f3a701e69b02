"""The limits of a container: CPU quota and memory limit of the control groups (cgroups) of this process."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DEFAULT_PERIOD_US = 100_000  # the kernel's own, where `cpu.max` holds a quota alone


@dataclass(frozen=True)
class Limits:
    """The lowest limits among the groups of this process and their ancestors.

    Attributes:
        cores: CPU quota, in cores; None if there is none.
        memory_bytes: Memory limit in bytes; None if there is none.
    """

    cores: float | None = None
    memory_bytes: int | None = None


def limits(root: Path = Path("/")) -> Limits:
    """Read the limits from cgroups of version 1, version 2 or both.

    Source: the kernel's documentation, admin-guide/cgroup-v2.rst, scheduler/sched-bwc.rst, filesystems/proc.rst.

    Args:
        root: Where `/proc` and the mount points are looked up.
    """
    cores: list[float] = []
    memory: list[int] = []
    for version, controllers, folder in list(_groups(root)) or _usual_places(root):
        if version == 2:
            cores += _quota(_words(folder / "cpu.max"))
            memory += _whole(_words(folder / "memory.max"))
        if version == 1 and "cpu" in controllers:
            cores += _quota(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))
        if version == 1 and "memory" in controllers:
            memory += _whole(_words(folder / "memory.limit_in_bytes"))
    return Limits(min(cores, default=None), min(memory, default=None))


def _groups(root: Path) -> Iterator[tuple[int, set[str], Path]]:
    """Version, controllers and folder of every group that this process is in, directly or through its own group."""
    paths: dict[str, str] = {}  # controller → group; the group of version 2 under an empty name
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        paths |= dict.fromkeys(controllers.split(","), group)
    for line in _lines(root / "proc/self/mountinfo"):
        place, _, kind = line.partition(" - ")
        fields, (file_system, *_, options) = place.split(" "), (kind.split(" ") if kind else ["", ""])
        if file_system not in ("cgroup", "cgroup2") or len(fields) < 5:
            continue
        version = 2 if file_system == "cgroup2" else 1
        names = set(options.split(",")) if version == 1 else {""}
        own = [group for name, group in paths.items() if name in names]
        if not own:
            continue
        mount = root / _unescaped(fields[4]).lstrip("/")
        inner = _within(_unescaped(fields[3]), own[0])
        for folder in (mount / inner, *(mount / outer for outer in inner.parents)):
            yield version, names, folder


def _usual_places(root: Path) -> list[tuple[int, set[str], Path]]:
    """The usual mount points, for a container in which /proc does not show them."""
    folder = root / "sys/fs/cgroup"
    return [(2, {""}, folder), (1, {"cpu"}, folder / "cpu"), (1, {"memory"}, folder / "memory")]


def _within(mounted: str, group: str) -> Path:
    """A group's folder below its mount point, which shows the tree from `mounted` on; `.` if the group lies outside."""
    inside = group == mounted or group.startswith(mounted.rstrip("/") + "/")
    inner = Path(group[len(mounted.rstrip("/")) :].lstrip("/")) if inside else Path()
    return Path() if ".." in inner.parts else inner


def _quota(words: list[str]) -> list[float]:
    """Quota over period, in cores; nothing for `max`, `-1` and what is no number."""
    try:
        quota_us = int(words[0])
        period_us = int(words[1]) if len(words) > 1 else _DEFAULT_PERIOD_US
    except (IndexError, ValueError):
        return []
    return [quota_us / period_us] if quota_us > 0 and period_us > 0 else []


def _whole(words: list[str]) -> list[int]:
    return [int(word) for word in words[:1] if word.isascii() and word.isdigit() and len(word) < 20 and int(word) > 0]


def _words(file: Path) -> list[str]:
    return [word for line in _lines(file) for word in line.split()]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except UnicodeDecodeError:
        return file.read_bytes().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _unescaped(path: str) -> str:
    """A path of mountinfo: blanks and backslashes stand there as octal numbers."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path
