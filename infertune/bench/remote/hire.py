"""`--workers`: hire a crew on a cluster, for as long as a run lasts."""

import contextlib
import importlib.util
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infertune.bench.remote.crew import RemoteCrew
from infertune.bench.remote.terms import Node, Offer
from infertune.errors import UsageError

_ADDRESS_VARIABLE = "RAY_ADDRESS"  # Ray's own; set for what `ray job submit` starts
_LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: a cluster of this machine alone listens on 127.0.0.1
_MOST_WORKERS = 1024  # judgement: one driver takes in the results of all
_ANSWER_S = 120.0  # for a node to say what it has: imports, nvidia-smi, engines' interpreters (judgement)


@dataclass(frozen=True)
class Wanted:
    """What `--workers` asks for.

    Attributes:
        text: As it was given: `auto`, a number, or the address of a cluster.
        offer: What every worker is asked for.
        engine_version: The driver's.
        simulated: Whether the engine has a simulated clock.
        gpus: GPUs that one trial needs.

    Raises:
        UsageError: It is a number, but none of workers.
    """

    text: str
    offer: Offer
    engine_version: str | None
    simulated: bool
    gpus: int

    def __post_init__(self) -> None:
        try:
            number = float(self.text)
        except ValueError:
            return
        if not (self.text.isdecimal() and 1 <= number <= _MOST_WORKERS):
            takes = f"auto, a whole number from 1 to {_MOST_WORKERS}, or the address of a cluster"
            raise UsageError(f"--workers {self.text}: it takes {takes}")

    @property
    def most(self) -> int | None:
        """Workers at most; None for as many as there is room for."""
        return int(self.text) if self.text.isdecimal() else None

    @property
    def address(self) -> str | None:
        """Of the cluster; None for one of our own."""
        return self.text if self._names_address else os.environ.get(_ADDRESS_VARIABLE) or None

    @property
    def said(self) -> str:
        """Who named the address, or asked for a cluster of our own, for messages."""
        by_variable = self.address is not None and not self._names_address
        return f"{_ADDRESS_VARIABLE}={self.address}" if by_variable else f"--workers {self.text}"

    @property
    def _names_address(self) -> bool:
        return self.text != "auto" and self.most is None


def ask_nodes(text: str, question: Callable[[], str]) -> list[Node]:
    """Ask every node of a cluster.

    Args:
        text: As `--workers` takes it.
        question: A function of a module that every node has.

    Raises:
        UsageError: Ray is not installed, the text is a number of no workers, or nobody answers at the address.
    """
    _check_installed()
    wanted = Wanted(text, Offer(engine=""), None, simulated=True, gpus=1)
    with contextlib.ExitStack() as cluster:
        with _ray_begins(wanted.address):
            from infertune.bench.remote.cluster import connected, on_every_node

            cluster.enter_context(connected(wanted.address, wanted.said, None, "auto", 1, simulated=True))
        return on_every_node(question, _ANSWER_S)


@contextlib.contextmanager
def hired(wanted: Wanted, on_note: Callable[[str], None]) -> Iterator[RemoteCrew]:
    """A crew on a cluster; at the end of the context no engine of it is left on any node.

    Args:
        wanted: What is asked for.
        on_note: Is told what the user should know.

    Raises:
        UsageError: Ray is not installed, nobody answers at the address, or no node has room.
        MismatchError: A worker has another version of infertune or of the engine.
        BenchmarkError: No worker can measure.
    """
    _check_installed()
    with contextlib.ExitStack() as cluster:
        with _ray_begins(wanted.address):
            from infertune.bench.remote.cluster import connected

            device = wanted.offer.device
            of = connected(wanted.address, wanted.said, wanted.most, device, wanted.gpus, wanted.simulated)
            there = cluster.enter_context(of)
        crew = RemoteCrew(
            there,
            wanted.offer,
            wanted.engine_version,
            simulated=wanted.simulated,
            most=wanted.most,
            on_note=on_note,
        )
        try:
            crew.gather()
            yield crew
        finally:
            crew.close()


def _check_installed() -> None:
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--workers needs Ray: pip install infertune[ray]")


@contextlib.contextmanager
def _ray_begins(address: str | None) -> Iterator[None]:
    """Import Ray and connect: it reads a variable, and both take over SIGTERM, whose handler is put back."""
    if address is None:
        os.environ.setdefault(_LOOPBACK_VARIABLE, "0")
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
