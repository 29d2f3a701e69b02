"""The lock of a device: it cannot be planted, deleted or missed, and whoever waits is told for whom."""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infertune.bench import locks
from infertune.bench.isolation import EngineProcess
from infertune.bench.locks import device_lock
from infertune.errors import BenchmarkError
from tests.bench.test_isolation import DEADLINES, load_command

HOLD = """
import sys
from pathlib import Path
from infertune.bench import locks
locks.NAMESPACE, locks.sys.platform, locks._SHARED = sys.argv[1], sys.argv[2], Path(sys.argv[3])
with locks.device_lock(tuple(sys.argv[4:]), wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["linux", "darwin"])
def system(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Linux's lock, and that of a system without abstract sockets, in a scratch folder like /tmp."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setattr(locks, "_SHARED", folder)
    monkeypatch.setattr(locks.sys, "platform", request.param)
    return str(request.param)


@contextlib.contextmanager
def held_by_another(system: str, *names: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, locks.NAMESPACE, system, str(locks._SHARED), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert other.stdin and other.stdout and other.stdout.readline() == "held\n"
    try:
        yield other
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_a_held_device_refuses_others_and_names_who_holds_it(system: str) -> None:
    with held_by_another(system, "GPU-1", "GPU-2") as other:
        with pytest.raises(BenchmarkError, match=f"GPU-2 is in use .*process {other.pid}; wait for it with --wait"):
            device_lock(("GPU-3", "GPU-2"), wait=False).__enter__()
        with device_lock(("GPU-3",), wait=False):
            pass
    with device_lock(("GPU-1", "GPU-2"), wait=False):  # the kernel released it when its owner was killed
        pass


def test_it_does_not_depend_on_the_folder_for_temporary_files(system: str, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with held_by_another(system, "cpu", TMPDIR=str(tmp_path / "tmp")), pytest.raises(BenchmarkError, match="in use"):
        device_lock(("cpu",), wait=False).__enter__()
    assert not list((tmp_path / "tmp").iterdir())


def test_waiting_says_for_whom_and_goes_on_when_the_device_is_free(system: str) -> None:
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        assert other.stdin
        other.stdin.close()  # its owner ends while we wait

    with held_by_another(system, "cpu") as other, device_lock(("cpu",), wait=True, on_note=note):
        assert notes == [f"cpu is in use by another infertune run, process {other.pid}; waiting until it ends"]


def test_a_device_named_twice_does_not_wait_for_itself(system: str) -> None:
    with device_lock(("GPU-1", "GPU-1"), wait=False):
        pass


def test_no_device_needs_no_lock(system: str) -> None:
    with device_lock((), wait=False), held_by_another(system, "cpu"):
        pass


def test_the_worker_does_not_inherit_the_lock(system: str, tmp_path: Path) -> None:
    with device_lock(("cpu",), wait=False):
        process = EngineProcess(tmp_path / "log")
        process.load(load_command(), DEADLINES)
    with process, held_by_another(system, "cpu"):
        pass


def test_there_is_no_file_to_delete_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_SHARED", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with device_lock(("cpu",), wait=False):
        assert not list(tmp_path.iterdir())


def test_many_who_ask_in_vain_still_learn_of_the_owner_or_are_refused_all_the_same() -> None:
    with held_by_another("linux", "cpu"):
        for _ in range(locks._WAITERS + 3):
            with pytest.raises(BenchmarkError, match="cpu is in use by another infertune run, process"):
                device_lock(("cpu",), wait=False).__enter__()


def test_a_name_that_is_taken_and_never_answers_is_in_use() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.bind(locks._address("cpu"))
        with pytest.raises(BenchmarkError, match="cpu is in use by another infertune run, process unknown"):
            device_lock(("cpu",), wait=False).__enter__()
    with device_lock(("cpu",), wait=False):
        pass


def test_long_names_are_different_locks() -> None:
    long = "GPU-" + "1" * 200
    with device_lock((long + "a",), wait=False), device_lock((long + "b",), wait=False), pytest.raises(BenchmarkError):
        device_lock((long + "a",), wait=False).__enter__()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GPU as the driver lists it, with an ordinary file for its device node."""
    listed = tmp_path / "gpus" / "0000:01:00.0"
    listed.mkdir(parents=True)
    (listed / "information").write_text("Model: \t\t NVIDIA H100\nGPU UUID: \t GPU-1\nDevice Minor: \t 3\n")
    (tmp_path / "nvidia3").write_text("")
    monkeypatch.setattr(locks, "_GPUS", tmp_path / "gpus")
    monkeypatch.setattr(locks, "_NODES", tmp_path)
    return tmp_path / "nvidia3"


def test_a_gpu_that_a_container_with_its_own_network_uses_is_in_use(node: Path) -> None:
    with node.open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(BenchmarkError, match=f"GPU-1 is in use by another infertune run, process {os.getpid()}"):
            device_lock(("GPU-1",), wait=False).__enter__()
        with device_lock(("GPU-2", "MIG-1"), wait=False):
            pass
    with device_lock(("GPU-1",), wait=False), node.open() as theirs, pytest.raises(BlockingIOError):
        fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("information", ["", "GPU UUID: GPU-1\nDevice Minor: x\n", "GPU UUID: GPU-1\n"])
def test_a_driver_that_lists_something_else_leaves_the_other_lock(node: Path, information: str) -> None:
    (locks._GPUS / "0000:01:00.0" / "information").write_text(information)
    with device_lock(("GPU-1",), wait=False), pytest.raises(BenchmarkError):
        device_lock(("GPU-1",), wait=False).__enter__()


class TestWithoutAbstractSockets:
    """Where the lock is a file."""

    @pytest.fixture(autouse=True)
    def shared(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "shared"
        folder.mkdir()
        folder.chmod(0o1777)
        monkeypatch.setattr(locks, "_SHARED", folder)
        monkeypatch.setattr(locks.sys, "platform", "darwin")
        return folder

    def path(self, shared: Path) -> Path:
        with device_lock(("cpu",), wait=False):
            pass
        (path,) = shared.iterdir()
        return path

    @pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
    def test_something_planted_in_its_place_is_refused_and_left_alone(self, shared: Path, kind: str) -> None:
        path = self.path(shared)
        path.unlink()
        precious = shared.parent / "precious"
        if kind == "link":
            precious.write_text("kept")
        if kind in ("link", "dangling"):
            path.symlink_to(precious)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
        with pytest.raises(BenchmarkError, match=f"cannot lock cpu: {path}.*; remove it"):
            device_lock(("cpu",), wait=False).__enter__()
        assert precious.exists() == (kind == "link") and (kind != "link" or precious.read_text() == "kept")

    def test_a_file_of_another_user_is_locked_and_not_written_to(self, shared: Path) -> None:
        path = self.path(shared)
        path.write_text("theirs, and far more than a process number " * 1000)
        path.chmod(0o444)
        with device_lock(("cpu",), wait=False):
            assert path.read_text().startswith("theirs")

    def test_every_user_can_open_it(self, shared: Path) -> None:
        before = os.umask(0o077)
        try:
            assert self.path(shared).stat().st_mode & 0o777 == 0o644
        finally:
            os.umask(before)

    def test_a_folder_in_which_others_could_replace_it_is_refused(self, shared: Path) -> None:
        shared.chmod(0o777)
        with pytest.raises(BenchmarkError, match="others may replace files in .*chmod 1777"):
            device_lock(("cpu",), wait=False).__enter__()
