"""The lock of a device: two runs on one machine never measure each other.

On Linux it is a name in the kernel's abstract socket namespace. There is no file: nobody can plant, replace or delete
it, TMPDIR does not matter, it holds between all users, the kernel says whose it is, and releases it when its owner
ends, however it ends. For a whole NVIDIA GPU the device node is locked too (flock), which containers that share the
node share as well.

What it does not guard: containers with a network namespace of their own that share a processor, a MIG slice, or a GPU
whose device node was made anew for each; programs other than infertune; a user of the machine who holds the name on
purpose, which keeps others from measuring and is reported with the process.

Elsewhere (macOS) it is an flock on a file in /tmp, whatever TMPDIR says. Only the file's owner and root can delete it;
after that a second run could start.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import pwd
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from infertune.errors import BenchmarkError

NAMESPACE = "infertune"  # tests take one of their own
_MOST_ADDRESS_BYTES = 100  # the kernel takes 107
_WAITERS = 128  # connections of waiting runs that the kernel keeps; further ones look again and again
_LOOK_AGAIN_S = 0.05
_MOST_SILENT_LOOKS = 5
_GPUS = Path("/proc/driver/nvidia/gpus")
_NODES = Path("/dev")
_SHARED = Path("/tmp")


@contextlib.contextmanager
def device_lock(
    names: tuple[str, ...], *, wait: bool, on_note: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Hold a device while the context lasts.

    Args:
        names: What to hold: UUIDs of GPUs and MIG slices, or `cpu`.
        wait: Wait until it is free instead of refusing.
        on_note: Is told which process it waits for.

    Raises:
        BenchmarkError: Another run holds it, or it cannot be locked here.
    """
    with contextlib.ExitStack() as held:
        for name in sorted(set(names)):  # in one order, so that two runs that wait for each other's cannot exist
            busy = _Busy(name, wait, on_note)
            if sys.platform == "linux":
                held.enter_context(_named(name, busy))
                if node := _node(name):
                    held.enter_context(_locked(node, busy))
            else:
                held.enter_context(_locked(_shared_file(name), busy))
        yield


class _Busy:
    """What happens where a device is in use: an error, or one note and waiting."""

    def __init__(self, name: str, wait: bool, on_note: Callable[[str], None]) -> None:
        self._name = name
        self._wait = wait
        self._on_note = on_note
        self._said = ""

    def __call__(self, owner: str) -> None:
        """Say who has it.

        Raises:
            BenchmarkError: The user does not want to wait.
        """
        busy = f"{self._name} is in use by another infertune run, {owner}"
        if not self._wait:
            raise BenchmarkError(f"{busy}; wait for it with --wait")
        if busy != self._said:
            self._on_note(f"{busy}; waiting until it ends")
        self._said = busy


@contextlib.contextmanager
def _named(name: str, busy: _Busy) -> Iterator[None]:
    """Hold a name in the abstract socket namespace."""
    address = _address(name)
    silent = 0
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ours:
            try:
                ours.bind(address)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise BenchmarkError(f"cannot lock {name}: {error.strerror}") from None
            else:
                ours.listen(_WAITERS)
                yield
                return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as theirs:
            if not _connected(theirs, address):
                silent += 1  # an owner that has not listened yet, or has just gone, answers at the next look
                if silent > _MOST_SILENT_LOOKS:
                    busy("process unknown")
                time.sleep(_LOOK_AGAIN_S)
                continue
            silent = 0
            pid, uid, _ = struct.unpack("3i", theirs.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            busy(_owner(pid, uid))
            theirs.settimeout(None)
            with contextlib.suppress(ConnectionError):
                theirs.recv(1)  # returns when the owner closes its end, or ends


def _connected(theirs: socket.socket, address: bytes) -> bool:
    """Whether the owner of a name answers: not where it does not listen or too many are waiting for it."""
    theirs.settimeout(0)
    try:
        theirs.connect(address)
    except OSError:
        return False
    return True


def _address(name: str) -> bytes:
    text = f"{NAMESPACE}/device/{name}".encode()
    if len(text) > _MOST_ADDRESS_BYTES:
        text = text[: _MOST_ADDRESS_BYTES - 33] + b"/" + hashlib.sha256(text).hexdigest()[:32].encode()
    return b"\0" + text


def _owner(pid: int, uid: int) -> str:
    if pid <= 0:
        return "a process in another container"
    if uid == os.getuid():
        return f"process {pid}"
    with contextlib.suppress(KeyError):
        return f"process {pid} of {pwd.getpwuid(uid).pw_name}"
    return f"process {pid} of user {uid}"


def _node(name: str) -> int | None:
    """A descriptor of a whole GPU's device node; None for anything else, and where the driver lists none."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        for listed in _GPUS.glob("*/information"):
            fields = dict(line.split(":", 1) for line in listed.read_text().splitlines() if ":" in line)
            if fields.get("GPU UUID", "").strip() == name:
                node = _NODES / f"nvidia{int(fields['Device Minor'])}"
                return os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    return None


def _shared_file(name: str) -> int:
    """A descriptor of a lock's file in a folder that all users share and in which nobody can replace another's file.

    Raises:
        BenchmarkError: There is no such folder, or something that is no lock has the file's name.
    """
    folder = os.stat(_SHARED)
    if folder.st_uid not in (0, os.getuid()) or (folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX):
        cure = f"as root: chmod 1777 {_SHARED}"
        raise BenchmarkError(f"cannot lock {name}: others may replace files in {_SHARED}; {cure}")
    digest = hashlib.sha256(f"{NAMESPACE}/{name}".encode()).hexdigest()[:16]
    path = _SHARED / f"infertune-{digest}.lock"
    safely = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
    try:
        with contextlib.suppress(FileExistsError):
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | safely, 0o666)
            os.fchmod(made, 0o644)  # every user has to open it, whatever our umask
            return made
        found = os.open(path, os.O_RDONLY | safely)
    except OSError as error:
        raise BenchmarkError(f"cannot lock {name}: {path}: {error.strerror}; remove it") from None
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise BenchmarkError(f"cannot lock {name}: {path} is no regular file; remove it")
    return found


@contextlib.contextmanager
def _locked(descriptor: int, busy: _Busy) -> Iterator[None]:
    """Hold the flock of an open file; of one that does not take a lock, nothing."""
    with open(descriptor, "rb", buffering=0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy(flock_owner(descriptor) or "a process in another container")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass
        yield


def flock_owner(descriptor: int) -> str:
    """Who holds the flock of a file, as Linux lists it: "process 123"; empty where it is not listed."""
    inode = str(os.fstat(descriptor).st_ino)
    with contextlib.suppress(OSError, IndexError), open("/proc/locks", encoding="ascii", errors="replace") as listed:
        rows = [line.split() for line in listed]  # 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF
        owners = {row[4] for row in rows if row[1] == "FLOCK" and row[5].rpartition(":")[2] == inode}
        if len(owners) == 1 and (owner := owners.pop()).isdecimal() and owner != "0":
            return f"process {owner}"
    return ""
