"""Ray: where workers are placed, restarted and talked to. The only importer of ray."""

import contextlib
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO, cast

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: a local one reports nothing home

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from infertune.bench.remote.node import NodeWorker, as_on_the_node
from infertune.bench.remote.terms import LostError, Node
from infertune.domain.device import DeviceChoice
from infertune.errors import BenchmarkError, UsageError

CPU_RESOURCE = "infertune"  # what a node without GPUs declares: how many workers it takes
_AUTH_VARIABLE = "RAY_AUTH_MODE"  # Ray's own
_OBJECT_STORE_BYTES = 80 * 1024**2  # of a cluster of our own: Ray's least is 75 MiB, and reports are small
_REACH_S = 3.0  # for the head to take a connection; judgement
_COUNT_EVERY_S = 2.0  # between two counts of the nodes; judgement


@ray.remote
class _Actor(NodeWorker):
    """A worker's process. Ray restarts it, on another node if it must; only `hello` may be asked again by itself."""

    @ray.method(max_task_retries=-1)  # type: ignore[untyped-decorator]
    def hello(self, offer: str) -> tuple[str, str]:
        """See `NodeWorker`."""
        return super().hello(offer)


class RayCluster:
    """A cluster that is connected to."""

    def __init__(self, address: str | None, device: DeviceChoice, gpus: int, simulated: bool) -> None:
        """Workers of a cluster.

        Args:
            address: What was connected to; None for one of our own.
            device: As `--device` takes it.
            gpus: GPUs of one worker.
            simulated: Whether the engine needs no device.
        """
        context = ray.get_runtime_context()
        through_client = address is not None and address.startswith("ray://")
        self._head = address.removeprefix("ray://") if address and through_client else context.gcs_address
        nodes = self._nodes()
        on_gpus = not simulated and device != "cpu" and (device == "gpu" or any(n.get("GPU") for n in nodes))
        self._resource, self._amount = ("GPU", gpus) if on_gpus else (CPU_RESOURCE, 1)
        self._capacity, self._counted_at = self._count(nodes), time.perf_counter()

    @property
    def needs(self) -> str:
        """What a node must have for a worker, in words."""
        if self._resource == "GPU":
            return f"{self._amount} GPU{'s' if self._amount > 1 else ''}"
        return f"the resource {CPU_RESOURCE} (ray start --resources '{{\"{CPU_RESOURCE}\": 1}}')"

    def capacity(self) -> int:
        """How many workers the nodes that are there can hold, as of the last two seconds."""
        if time.perf_counter() - self._counted_at > _COUNT_EVERY_S:
            self.check_head()
            self._capacity, self._counted_at = self._count(self._nodes()), time.perf_counter()
        return self._capacity

    def hire(self) -> Any:
        """A worker, which comes into being when a node has room for it."""
        room = {"num_gpus": self._amount} if self._resource == "GPU" else {"resources": {CPU_RESOURCE: 1}}
        return _Actor.options(num_cpus=0, max_restarts=-1, **room).remote()  # type: ignore[attr-defined]

    def call(self, worker: Any, method: str, *given: object) -> Any:
        """Ask a worker for something; its answer comes later."""
        return getattr(worker, method).remote(*given)

    def wait(self, answers: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those of some answers that have come, the first of them at the latest after so many seconds."""
        if not answers:
            time.sleep(timeout_s)
            return []
        come, _ = ray.wait(list(answers), num_returns=1, timeout=timeout_s)
        return list(come)

    def result(self, answer: Any) -> Any:
        """An answer that has come.

        Raises:
            LostError: Its worker is lost.
            BenchmarkError: The worker could not be started, or failed in a way that is a fault of infertune.
        """
        try:
            return ray.get(answer)
        except RayActorError as error:
            if getattr(error, "actor_init_failed", False):
                raise BenchmarkError(f"a worker cannot start: {_last_line(error)}") from None
            raise LostError(_last_line(error)) from None
        except RayError as error:
            if isinstance(cause := getattr(error, "cause", None), LostError):  # the worker itself says so
                raise LostError(str(cause)) from None
            raise BenchmarkError(f"a worker failed: {_last_line(error)}") from None

    def dismiss(self, worker: Any) -> None:
        """End a worker's process for good."""
        ray.kill(worker)

    def check_head(self) -> None:
        """See whether the cluster's head is there.

        Raises:
            BenchmarkError: It is not.
        """
        if not _reachable(self._head):
            raise BenchmarkError(
                f"the head of the Ray cluster, {self._head}, is gone; what was measured is in the run's folder: "
                "continue with --resume RUN --workers ADDRESS on another cluster"
            )

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def _count(self, nodes: Sequence[dict[str, float]]) -> int:
        return sum(math.floor(node.get(self._resource, 0) / self._amount) for node in nodes)


def on_every_node(function: Callable[[], str], within_s: float) -> list[Node]:
    """Run a function once on every node that is there.

    Args:
        function: Of a module that every node has.
        within_s: For a node to answer, in seconds.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    task = ray.remote(as_on_the_node)
    answers = [
        task.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False),
        ).remote(function)
        for node in nodes
    ]
    return [_facts_of(node, answer, within_s) for node, answer in zip(nodes, answers, strict=True)]


def _facts_of(node: Any, answer: Any, within_s: float) -> Node:
    said, fault = None, ""
    try:
        said = ray.get(answer, timeout=within_s)
    except GetTimeoutError:
        fault = f"no answer within {within_s:.0f} s"
    except RayError as error:
        fault = _last_line(error)
    room = node["Resources"]
    return Node(node["NodeManagerAddress"], int(room.get("GPU", 0)), int(room.get(CPU_RESOURCE, 0)), said, fault)


@contextlib.contextmanager
def connected(
    address: str | None, said: str, own_workers: int | None, device: DeviceChoice, gpus: int, simulated: bool
) -> Iterator[RayCluster]:
    """A cluster: the one at an address, or one of our own on this machine that ends with the context.

    Args:
        address: Of the cluster; None starts one.
        said: Who named it, for messages: `--workers` as it was given, or a variable.
        own_workers: Of our own cluster: how many simulated workers it takes; one where None.
        device: As `--device` takes it.
        gpus: GPUs of one worker.
        simulated: Whether the engine needs no device.

    Raises:
        UsageError: Nobody answers at the address, or it is a dashboard's.
        BenchmarkError: A cluster of our own cannot start.
    """
    ours = not ray.is_initialized()
    if ours and address is not None:
        _check_address(address, said)
    try:
        if ours:
            _begin(address, said, (own_workers or 1) if simulated else 1)
        with contextlib.redirect_stdout(cast("TextIO", _WithoutRay(sys.stdout))):
            yield RayCluster(address, device, gpus, simulated)
    finally:
        if ours:
            ray.shutdown()


def _check_address(address: str, said: str) -> None:
    """Refuse an address at which no head answers."""
    if address.startswith(("http://", "https://")):
        raise UsageError(f"{said}: this is the address of a dashboard; give the head's instead, as in HOST:6379")
    if address == "auto":
        return
    if not address.rpartition(":")[2].isdecimal():
        raise UsageError(f"{said}: the port is missing; give the head's, as in HOST:6379 or ray://HOST:10001")
    if not _reachable(address.removeprefix("ray://")):
        raise UsageError(f"{said}: no Ray cluster answers there; start one with `ray start --head`")


def _begin(address: str | None, said: str, own_workers: int) -> None:
    """Connect to a cluster, or start one of our own. Ray raises whatever its parts do, a plain `Exception` too."""
    own = {
        "num_cpus": 1,
        "resources": {CPU_RESOURCE: own_workers},
        "object_store_memory": _OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
    }
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    try:
        ray.init(address=address or "local", **quiet, **({} if address else own))
    except Exception as error:
        if address is None:  # its files' path may be too long for a socket's, its folder read-only, its disk full
            cure = "; set RAY_TMPDIR to a short folder that can be written" if isinstance(error, OSError) else ""
            raise BenchmarkError(f"{said}: Ray cannot start here: {_last_line(error)}{cure}") from None
        if address == "auto" and isinstance(error, ConnectionError):
            raise UsageError(f"{said}: no Ray cluster runs here; start one with `ray start --head`") from None
        raise UsageError(f"{said}: {_last_line(error)}{_token_cure()}") from None


class _WithoutRay:
    """Standard output without what Ray's own threads print there: it may have to be one JSON document."""

    def __init__(self, inner: TextIO) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, text: str) -> int:
        """Write, unless one of Ray's threads does."""
        return len(text) if threading.current_thread().name.startswith("ray_") else self._inner.write(text)


def _reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _token_cure() -> str:
    """What helps if the cluster wants a token: Ray sends none to an address unless told so, and does not say so."""
    if os.environ.get(_AUTH_VARIABLE, "").lower() == "token":
        return ""
    return f"; if it asks for a token, set {_AUTH_VARIABLE}=token here and on every node (docs/workers.md)"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
