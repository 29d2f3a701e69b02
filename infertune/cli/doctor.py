"""What `infertune doctor` finds: the device, the engines, the energy sources, and what to install."""

import platform
import sys

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
