"""Real Ray clusters on this machine: nodes of one core each, on the loopback address, ended by their handles."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from infertune.runs.ledger import Ledger
from tests import apart
from tests.bench.test_faults import until

LOOPBACK = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # nothing listens elsewhere
_NODE = {"num_cpus": 1, "object_store_memory": 80 * 1024**2, "node_ip_address": "127.0.0.1", "include_dashboard": False}
FAULTY = ["--engine", "fake:faults", "--device", "cpu", "--requests", "8", "--set", "speed=1"]
SHORT = ["--sampler", "grid", "--finalists", "1", "--confirm-launches", "1", "--final-launches", "2", "2"]
# Eight points, a launch each: six of them fail, which takes no less time.
EIGHT = [*FAULTY, *SHORT, "--knob", "fault=no fault,rejected,oom at load,exception"]
# Twice as many, where the first worker must not be through before the second one is there.
SIXTEEN = [*FAULTY, *SHORT, "--knob", f"{EIGHT[-1]},oom in run,exit,short answer,segfault"]


class Nodes:
    """A cluster whose nodes are pinned to a core each."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address: str = cluster.address

    def add(self, core: int | None, workers: int = 1, **more: Any) -> Any:
        """A further node with room for workers."""
        with _on(core):
            return self._cluster.add_node(**_NODE, resources={"infertune": workers}, **more)

    def remove(self, node: Any) -> None:
        """Take a node away, without a word."""
        self._cluster.remove_node(node, allow_graceful=False)

    def behead(self) -> None:
        """Kill the head: its control store and its node."""
        self._cluster.head_node.kill_gcs_server()
        self._cluster.head_node.kill_raylet()


@contextmanager
def _on(core: int | None) -> Iterator[None]:
    """What is started meanwhile runs on one core."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def nodes(*cores: int | None, workers: int = 1) -> Iterator[Nodes]:
    """A cluster: a head that holds no worker, and a node for each core; None for one that may use all."""
    from ray.cluster_utils import Cluster

    # A folder of its own, with a short name: a socket's path may have 107 characters.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    before = os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = folder
    cluster = Cluster()
    try:
        cluster.add_node(**_NODE | {"num_cpus": 0})  # the head
        made = Nodes(cluster)
        for core in cores:
            made.add(core, workers)
        yield made
    finally:
        cluster.shutdown()
        os.environ.pop("RAY_TMPDIR")
        if before is not None:
            os.environ["RAY_TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


class Driver:
    """`infertune` in a process of its own, with workers."""

    def __init__(self, folder: Path, address: str, *arguments: str, command: str = "tune", out: str = "run") -> None:
        self.out = folder / out
        self._errors = open(folder / "errors", "a+b")  # noqa: SIM115
        workers = ["--workers", address] if address else []
        files = [] if "--resume" in arguments else ["--out", str(self.out)]
        if command == "tune" and "--resume" not in arguments:
            files += ["--profiles", str(folder / "profiles")]
        self.process = subprocess.Popen(
            [*apart.command(folder), command, *arguments, *workers, *files, "--json"],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=folder,
        )

    def end(self, within_s: float = 240) -> tuple[int, str]:
        """Wait for its end: exit code, and what it wrote to stderr."""
        self.stdout = self.process.communicate(timeout=within_s)[0].decode()
        return self.process.returncode, self.errors

    @property
    def errors(self) -> str:
        self._errors.flush()
        return Path(self._errors.name).read_text()

    @property
    def answer(self) -> Any:
        """What it printed: one JSON document."""
        return json.loads(self.stdout)

    @property
    def ledger(self) -> Ledger:
        return Ledger.open(self.out)

    def reaches(self, trials: int, within_s: float = 120) -> None:
        """Wait until so many trials are in the ledger."""

        def there() -> bool:
            assert self.process.poll() is None, self.errors
            path = self.out / "trials.jsonl"
            return path.exists() and len(path.read_bytes().splitlines()) > trials

        until(there, within_s, f"{trials} trials")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def engines(folder: Path) -> list[psutil.Process]:
    """Engines' processes that a test's clusters have started, with their helpers."""
    from tests.bench.test_faults import ours

    found = []
    for process in ours(folder):
        try:
            line = " ".join(process.cmdline())
            if "infertune.bench.worker" in line or "time.sleep(600)" in line:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def actors(folder: Path) -> list[psutil.Process]:
    """Workers' processes."""
    from tests.bench.test_faults import ours

    found = []
    for process in ours(folder):
        try:
            if any(part.startswith("ray::_Actor") for part in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
