"""What `infertune doctor` finds: the device, the engines, the energy sources, and what to install."""

import platform
import sys

from pydantic import ValidationError

from infertune.bench.remote.hire import ask_nodes
from infertune.bench.remote.terms import Node
from infertune.domain.device import Device, survey
from infertune.domain.measurement import Frozen
from infertune.energy import SourceStatus
from infertune.energy.sources import energy_sources
from infertune.engines import engine_names, get_engine
from infertune.errors import UsageError
from infertune.version import __version__


class EngineStatus(Frozen):
    """Whether an engine can be used, or what to install."""

    name: str
    version: str | None
    usable: bool
    what: str


class Diagnosis(Frozen):
    """Everything that `infertune doctor` says.

    Attributes:
        infertune_version: Of this package.
        python: Interpreter and version.
        device: The device that a run would use.
        notes: About the device: GPUs that are left out or cannot be used, and messages of nvidia-smi.
        engines: Every engine.
        energy: Each energy source with its kind and resolution.
    """

    infertune_version: str
    python: str
    device: Device
    notes: tuple[str, ...] = ()
    engines: tuple[EngineStatus, ...]
    energy: tuple[SourceStatus, ...]


class NodeStatus(Frozen):
    """A node of a Ray cluster.

    Attributes:
        address: Its address.
        gpus: GPUs that Ray counts there.
        workers: Workers without a GPU that it declares room for.
        found: What `infertune doctor` finds on it; None if it did not answer.
        fault: What is amiss, in words; empty if nothing is.
    """

    address: str
    gpus: int
    workers: int
    found: Diagnosis | None = None
    fault: str = ""


def diagnose_as_text() -> str:
    """`diagnose` as JSON, which another version of infertune can send too."""
    return diagnose().model_dump_json()


def diagnose_nodes(workers: str) -> tuple[NodeStatus, ...]:
    """Look at every node of a Ray cluster.

    Args:
        workers: As `--workers` takes it.

    Raises:
        UsageError: Ray is not installed, or nobody answers at the address.
    """
    return tuple(_node_status(node) for node in ask_nodes(workers, diagnose_as_text))


def _node_status(node: Node) -> NodeStatus:
    found, fault = None, node.fault
    if node.said is not None:
        try:
            found = Diagnosis.model_validate_json(node.said)
        except ValidationError:
            fault = "it has another version of infertune, which answers in another way"
    if found and found.infertune_version != __version__:
        fault = f"it has infertune {found.infertune_version}, here is {__version__}"
    return NodeStatus(address=node.address, gpus=node.gpus, workers=node.workers, found=found, fault=fault)


def diagnose() -> Diagnosis:
    """Look at the machine; change nothing."""
    found = survey()
    return Diagnosis(
        infertune_version=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        device=found.device,
        notes=(*found.notes, *found.device.notes),
        engines=tuple(map(_engine_status, engine_names())),
        energy=tuple(energy_sources(found.device)),
    )


def _engine_status(name: str) -> EngineStatus:
    try:
        found = get_engine(name).available()
    except UsageError as error:  # an engine that needs an option, such as a table
        return EngineStatus(name=name, version=None, usable=True, what=str(error))
    return EngineStatus(name=name, version=found.version, usable=not found.reason, what=found.reason or "usable")
