"""`vllm serve` under load: the knobs of vLLM, with the server's own defaults, and knobs of the server.

In the search, the server runs with a scheduler whose limits can be lowered while it serves. Where it is launched as its
users do, it is the stock server.
"""

import itertools
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, TypeVar

from infertune.domain.device import Device
from infertune.domain.knobs import Int, Knob, SearchSpace
from infertune.domain.models import Model
from infertune.domain.workload import Workload
from infertune.engines.asking import Asked, Understood, canonical
from infertune.engines.base import LoadedEngine, Setup
from infertune.engines.installed import installed_versions
from infertune.engines.serving.process import HOST, ServerProcess, Start
from infertune.engines.vllm import export as vllm_export
from infertune.engines.vllm.control import VARIABLE, Control
from infertune.engines.vllm.engine import VllmEngine, engine_arguments
from infertune.engines.vllm.environment import KEY, environment_of, metadata_path
from infertune.engines.vllm.live_scheduler import QUALIFIED_NAME
from infertune.engines.vllm.probe import vllm_version
from infertune.engines.vllm.rewriting import flag_of
from infertune.engines.vllm.served import LoadedVllmServer
from infertune.errors import UsageError

_MOST_SERVERS = 64  # judgement
_SERVERS = Int(
    "api_server_count", (1, 2, 4), 1, unit="processes", effect="exact", most=_MOST_SERVERS,
    why="processes that take requests, make tokens of text and stream answers: more where one is busy all the time",
)  # fmt: skip
_SERVERS_ON_CPU = (1, 2)  # they take cores from the engine
_T = TypeVar("_T")


class VllmServeEngine(VllmEngine):
    """vLLM's server, `vllm serve`."""

    name: ClassVar[str] = "vllm-serve"
    forms: ClassVar[tuple[str, ...]] = tuple(form for form in vllm_export.FORMS if form != "python")
    serves: ClassVar[bool] = True

    def space(self, model: Model | None, device: Device, workload: Workload) -> SearchSpace:
        """The knobs of vLLM with the defaults of `vllm serve`, and those of the server.

        Raises:
            UsageError: vLLM is not installed, cannot run the model, or its weights do not fit the device.
        """
        return super().space(model, device, workload).with_new(_servers(device))

    def understand(self, asked: Asked, model: Model | None, device: Device, workload: Workload) -> Understood:
        """The space with any arguments of the installed version in it, and those of the server.

        Raises:
            UsageError: vLLM is not installed, cannot run the model so, or refuses an argument.
        """
        knob = _servers(device)
        held, searched, known = _own(asked.held), _own(asked.searched), _own(asked.known)
        rest = replace(asked, held=_others(asked.held), searched=_others(asked.searched), known=_others(asked.known))
        found = super().understand(rest, model, device, workload)
        values = [*held.values(), *itertools.chain(*searched.values(), *known.values())]
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_SERVERS:
                raise UsageError(f"{knob.name}={value} is out of range: it must be from 1 to {_MOST_SERVERS}")
        return replace(
            found,
            space=found.space.with_new(knob.with_values(values)),
            held=found.held.updated(held),
            searched={**found.searched, **searched},
            known=found.known.updated({name: given[0] for name, given in known.items()}),
            current=None if found.current is None else found.current.updated({knob.name: knob.default}),
        )

    def load(self, setup: Setup) -> LoadedEngine:
        """Start `vllm serve` and wait until it takes requests; the stock server if `setup.faithful`."""
        variables, notes = environment_of(setup)
        if metadata := metadata_path():
            variables["PYTHONPATH"] = _with_path(str(metadata))
        control = None if setup.faithful else Control()
        if control:
            variables[VARIABLE] = control.path
        flags = server_flags(setup, live=control is not None)
        assert setup.model
        program = [sys.executable, "-P", "-m", "vllm.entrypoints.cli.main", "serve", setup.model.path]
        start = Start(lambda port: [*program, f"--host={HOST}", f"--port={port}", *flags], variables, without=(KEY,))
        process = ServerProcess(start)
        try:
            versions = {"vllm": vllm_version() or "unknown", **installed_versions(("torch", "transformers"))}
            return LoadedVllmServer(process, setup, versions, notes, control)
        except BaseException:
            process.end()
            raise


def server_flags(setup: Setup, *, live: bool) -> list[str]:
    """The flags of `vllm serve` for a setup, each one word; nothing where everything is at the server's default."""
    arguments = engine_arguments(setup)
    given = {name: value for name, value in arguments.items() if name not in ("model", "disable_log_stats")}
    flags = [flag for name, value in given.items() if (flag := flag_of(name, value))]
    return [*flags, f"--scheduler-cls={QUALIFIED_NAME}"] if live else flags


def _servers(device: Device) -> Knob:
    return _SERVERS.model_copy(update={"values": _SERVERS_ON_CPU}) if device.kind == "cpu" else _SERVERS


def _own(given: Mapping[str, _T]) -> dict[str, _T]:
    """What was asked of the server, and not of the engine."""
    return {canonical(name): value for name, value in given.items() if canonical(name) == _SERVERS.name}


def _others(given: Mapping[str, _T]) -> dict[str, _T]:
    return {name: value for name, value in given.items() if canonical(name) != _SERVERS.name}


def _with_path(folder: str) -> str:
    return os.pathsep.join((folder, *filter(None, (os.environ.get("PYTHONPATH"),))))
