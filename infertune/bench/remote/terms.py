"""What driver and workers tell each other. The driver owns the run; a worker owns a bench on its node."""

from dataclasses import dataclass, replace

from infertune.bench.bench import Asked
from infertune.domain.device import Device, DeviceChoice
from infertune.domain.knobs import Config, Knob
from infertune.domain.measurement import Frozen
from infertune.domain.models import Model
from infertune.domain.trial import Attempt
from infertune.energy import CarbonOptions
from infertune.engines.base import EngineOptions
from infertune.errors import InfertuneError


class LostError(InfertuneError):
    """A worker did not answer: its process or its node is gone, or Ray restarts it or has done so."""


class Offer(Frozen):
    """What a worker is asked for before anything is measured: it crosses versions of infertune, as JSON.

    Attributes:
        engine: As `--engine` takes it.
        options: How the engine is found.
        device: As `--device` takes it.
        rank: Number of the worker, from 0.
    """

    engine: str
    options: EngineOptions = EngineOptions()
    device: DeviceChoice = "auto"
    rank: int = 0


class Hello(Frozen):
    """Who a worker is.

    Attributes:
        host: Name of its machine.
        python: Version of its interpreter.
        engine_version: Of the engine that is installed there; None if it is not.
        fault: Why nothing can be measured there, in words; empty if it can.
        device: Its device; None where it has a fault.
        device_id: Tells its device from others of the cluster.
    """

    host: str
    python: str
    engine_version: str | None = None
    fault: str = ""
    device: Device | None = None
    device_id: str = ""


@dataclass(frozen=True)
class Blueprint:
    """What a worker opens its bench with; the worker adds its own device.

    Attributes:
        model: The model; None for engines that need none.
        knobs: Of the space; its rules stay with the driver.
        options: How the engine is found.
        engine_defaults: What the engine does when it is told nothing.
        seed: Seeds every launch.
        carbon: How CO₂ is computed.
        wait: Wait for a busy device instead of refusing.
        lock_namespace: Runs of one namespace exclude each other from a device.
    """

    model: Model | None
    knobs: tuple[Knob, ...]
    options: EngineOptions
    engine_defaults: Config
    seed: int
    carbon: CarbonOptions
    wait: bool
    lock_namespace: str

    def with_knobs(self, knobs: tuple[Knob, ...]) -> "Blueprint":
        """The same with longer ladders."""
        return replace(self, knobs=knobs)


@dataclass(frozen=True)
class Report:
    """What a worker sends back.

    Attributes:
        found: What came of an order, or of answering or scoring.
        launched: What its loaded engine was launched with; None if none is loaded.
        faithful: Whether that launch was for exactly this configuration and takes no other.
        notes: For the user, in sentences.
        logs: Name and end of each log that it wrote to.
    """

    found: Attempt | Asked
    launched: Config | None
    faithful: bool
    notes: tuple[str, ...] = ()
    logs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Node:
    """A node of a cluster.

    Attributes:
        address: Its address.
        gpus: GPUs that Ray counts there.
        workers: Workers without a GPU that it declares room for.
        said: What was asked of it; None if it did not answer.
        fault: Why not, in words.
    """

    address: str
    gpus: int
    workers: int
    said: str | None
    fault: str = ""
