"""The worker's side: a bench on a node, with its meters, its isolation and the lock of its device."""

import contextlib
import os
import platform
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from pydantic import ValidationError

from infertune.bench import locks
from infertune.bench.bench import Asked, Bench
from infertune.bench.crew import Order
from infertune.bench.isolation import Deadlines
from infertune.bench.remote.terms import Blueprint, Hello, LostError, Offer, Report
from infertune.domain.device import Device, lock_names, partial_cores, survey_to_measure
from infertune.domain.knobs import Config, Knob, SearchSpace
from infertune.domain.quality import Answered
from infertune.domain.trial import Attempt
from infertune.domain.workload import Request
from infertune.engines import get_engine
from infertune.engines.base import Engine, first_line
from infertune.errors import BenchmarkError, InfertuneError
from infertune.version import __version__

_GIVEN_BACK_WITHIN_S = 5.0  # a device, by the worker of a run that has just ended: Ray ends its process without waiting
_LOOK_EVERY_S = 0.25
_RESTARTED = "its process was restarted"  # by Ray, which does so while nobody asks anything of it
_LOG_BYTES = 256 * 1024  # most of a launch's log that is sent to the driver (judgement)


def as_on_the_node(function: Callable[[], str]) -> str:
    """Call a function with the GPUs of the whole node in sight.

    Args:
        function: What to call.
    """
    _forget("CUDA_VISIBLE_DEVICES")
    return function()


def _forget(variable: str) -> None:
    """Remove an environment variable that Ray has set to what it reserves: the least, where nothing is reserved."""
    if variable not in psutil.Process().environ():  # as this process was started
        os.environ.pop(variable, None)


class NodeWorker:
    """What a worker process holds. The methods of the driver's calls, in their order."""

    def __init__(self) -> None:
        _forget("OMP_NUM_THREADS")
        self._held = contextlib.ExitStack()
        self._notes: list[str] = []
        self._logs = Path()
        self._device: Device | None = None
        self._bench: Bench | None = None
        self._sent: dict[str, int] = {}

    def hello(self, offer: str) -> tuple[str, str]:
        """Say who it is: infertune's version, and a `Hello` as JSON, which other versions may not understand.

        Args:
            offer: An `Offer` as JSON.
        """
        return __version__, self._hello(offer).model_dump_json()

    def _hello(self, text: str) -> Hello:
        host, python = socket.gethostname(), platform.python_version()
        try:
            offer = Offer.model_validate_json(text)
            engine = get_engine(offer.engine, offer.options)
            found = engine.available()
            if found.reason:
                return Hello(host=host, python=python, fault=f"engine {engine.name} cannot be used: {found.reason}")
            self._device = _device(engine, offer)
        except (
            InfertuneError,
            ValidationError,
        ) as error:  # an offer of another version
            return Hello(host=host, python=python, fault=first_line(str(error)))
        return Hello(
            host=host,
            python=python,
            engine_version=found.version,
            device=self._device,
            device_id=_id_of(self._device, host),
        )

    def open(self, engine_spec: str, blueprint: Blueprint) -> str:
        """Take the device and open the bench; why not, in words, empty if it did.

        Args:
            engine_spec: As `--engine` takes it.
            blueprint: What the bench is made of.

        Raises:
            LostError: This process has said no hello.
        """
        if self._device is None:
            raise LostError(_RESTARTED)
        engine = get_engine(engine_spec, blueprint.options)
        locks.NAMESPACE = blueprint.lock_namespace
        names = () if engine.simulated else lock_names(self._device)
        deadline = time.monotonic() + _GIVEN_BACK_WITHIN_S
        while True:
            try:
                self._held.enter_context(locks.device_lock(names, wait=blueprint.wait))
                break
            except BenchmarkError as error:
                if time.monotonic() > deadline:
                    return str(error)
            time.sleep(_LOOK_EVERY_S)
        folder = self._held.enter_context(tempfile.TemporaryDirectory(prefix="infertune-worker-"))
        self._logs = Path(folder) / "logs"
        self._bench = self._held.enter_context(
            Bench(
                engine=engine,
                options=blueprint.options,
                model=blueprint.model,
                device=self._device,
                space=SearchSpace(blueprint.knobs),
                log_folder=self._logs,
                deadlines=Deadlines(),
                seed=blueprint.seed,
                carbon=blueprint.carbon,
                engine_defaults=blueprint.engine_defaults,
                on_note=self._notes.append,
            )
        )
        return ""

    def measure(self, order: Order, deadlines: Deadlines, next_launch: int) -> Report:
        """Measure an order.

        Args:
            order: What to measure.
            deadlines: Of each stage.
            next_launch: Number of the next launch, which no other worker uses.
        """
        bench = self._ready(deadlines, next_launch)
        return self._report(bench.measure(order.config, order.plan, fresh=order.fresh))

    def launch_ahead(self, config: Config, deadlines: Deadlines, next_launch: int) -> None:
        """Launch what will be measured next."""
        self._ready(deadlines, next_launch).launch_ahead(config)

    def answer(self, config: Config, requests: Sequence[Request], deadlines: Deadlines, next_launch: int) -> Report:
        """Let a configuration answer."""
        return self._report(self._ready(deadlines, next_launch).answer(config, requests))

    def score(
        self,
        config: Config,
        sequences: Sequence[Answered],
        vocabulary: str,
        batch: int | None,
        deadlines: Deadlines,
        next_launch: int,
    ) -> Report:
        """Let a configuration score sequences."""
        return self._report(self._ready(deadlines, next_launch).score(config, sequences, vocabulary, batch))

    def widen(self, knobs: tuple[Knob, ...]) -> None:
        """Take longer ladders."""
        assert self._bench
        self._bench.widen(SearchSpace(knobs))

    def rest(self) -> None:
        """Close the engine and keep the bench."""
        assert self._bench
        self._bench.close()

    def close(self) -> None:
        """Close everything; nothing of an engine is left when this returns."""
        self._held.close()

    def _ready(self, deadlines: Deadlines, next_launch: int) -> Bench:
        """The bench; raises LostError if this process has opened none."""
        if self._bench is None:
            raise LostError(_RESTARTED)
        self._bench.deadlines = deadlines
        self._bench.next_launch = next_launch
        return self._bench

    def _report(self, found: Attempt | Asked) -> Report:
        assert self._bench
        notes = tuple(self._notes)
        self._notes.clear()
        return Report(found, self._bench.launched, self._bench.faithful, notes, tuple(self._new_logs()))

    def _new_logs(self) -> list[tuple[str, str]]:
        """Logs that have grown since they were sent."""
        found = []
        for path in sorted(self._logs.glob("launch-*.log")):
            size = path.stat().st_size
            if self._sent.get(path.name) != size:
                self._sent[path.name] = size
                found.append((path.name, _tail(path, size)))
        return found


def _tail(path: Path, size: int) -> str:
    with open(path, "rb") as log:
        log.seek(max(0, size - _LOG_BYTES))
        return log.read(_LOG_BYTES).decode(errors="replace")


def _device(engine: Engine, offer: Offer) -> Device:
    """The device of this process: what Ray lets it see."""
    found = survey_to_measure(offer.device).device
    return found.model_copy(update={"uuids": (f"simulated-{offer.rank}",)}) if engine.simulated else found


def _id_of(device: Device, host: str) -> str:
    if device.uuids:
        return "+".join(device.uuids)
    cores = partial_cores()
    return f"{host} cores {','.join(map(str, cores))}" if cores else host
