"""SGLang's server, `python -m sglang.launch_server`: started in the interpreter that has it, loaded over HTTP.

Written from SGLang 0.5.23's own parser and routes. It has not run on a GPU of the authors yet.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from infertune.documents import plain_yaml
from infertune.domain.device import Device
from infertune.domain.knobs import Config, Scalar, SearchSpace
from infertune.domain.measurement import EngineFacts, Infeasible
from infertune.domain.models import Model, resolve_model
from infertune.domain.workload import Message, Workload
from infertune.engines.asking import Asked, Understood
from infertune.engines.base import (
    Availability,
    EngineOptions,
    Failure,
    LoadedEngine,
    Prompt,
    Served,
    Setup,
    first_line,
    last_statement,
)
from infertune.engines.chat_template import chat_token_ids
from infertune.engines.exporting import Source, comment, known_settings, source_of
from infertune.engines.installed import installed_versions
from infertune.engines.serving.arguments import Flag, understand, words_of
from infertune.engines.serving.loaded import LoadedServer
from infertune.engines.serving.process import HOST, ServerProcess, Start
from infertune.engines.serving.sender import Address, GaugeNames
from infertune.engines.sglang.arguments import flags_of
from infertune.engines.sglang.space import CURATED, is_plain, policy_of, server_space
from infertune.errors import UsageError

FORMS = ("sglang-args", "compose")
_MODULE = "sglang.launch_server"
_PORT = 30000
_MOUNT = "/model"
_SLOTS = 64  # requests at once where the server does not say (judgement): as many warm it up
_MEMORY = re.compile(r"OutOfMemoryError|out of memory|Not enough memory|increase --mem-fraction-static", re.IGNORECASE)
_REFUSED = re.compile(
    r"error: (argument|unrecognized)|invalid choice|(ValueError|AssertionError|NotImplementedError)(:|$)"
)


class SglangEngine:
    """SGLang as infertune knows it without starting it."""

    name: ClassVar[str] = "sglang"
    needs_model: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]] = FORMS
    scores: ClassVar[bool] = False
    serves: ClassVar[bool] = True
    simulated: bool = False

    def __init__(self, options: EngineOptions) -> None:
        self._python = options.python

    def available(self) -> Availability:
        """The installed version of SGLang, or what to install."""
        if self._version:
            return Availability(version=self._version)
        where = f" for {self._python}" if self._python else ""
        return Availability(version=None, reason=f"not installed{where}: pip install sglang, on a machine with a GPU")

    def space(self, model: Model | None, device: Device, workload: Workload) -> SearchSpace:
        """The curated knobs that the installed version has.

        Raises:
            UsageError: SGLang is not installed, or the model does not fit.
        """
        return server_space(self._checked(model), device, self._flags)

    def understand(self, asked: Asked, model: Model | None, device: Device, workload: Workload) -> Understood:
        """The space with any argument of the installed version in it.

        Raises:
            UsageError: There is no such argument, a value is refused, or only the user himself may set it.
        """
        if asked.command:
            raise UsageError("--current: a command of SGLang is not read yet; give a saved profile")
        return understand(asked, self.space(model, device, workload), self._flags, policy_of())

    def classify(self, failure: Failure) -> Infeasible | None:
        """SGLang's ways to say out of memory (at any stage), and to refuse a setting (while it starts)."""
        lines = f"{failure.message}\n{failure.trace_tail}".splitlines()
        if found := next((line for line in lines if _MEMORY.search(line)), None):
            return Infeasible(reason="oom", stage=failure.stage, detail=first_line(found))
        at = next((n for n, line in enumerate(lines) if _REFUSED.search(line)), None)
        if failure.stage != "load" or at is None:
            return None
        said = lines[at] if ":" in lines[at] else f"{lines[at].strip()}: {last_statement(lines[:at])}"
        return Infeasible(reason="rejected", stage=failure.stage, detail=first_line(said))

    def export(self, served: Served, form: str) -> str:
        """A command, or a compose file.

        Raises:
            UsageError: The profile names no model, or a setting that is not written out.
        """
        source = source_of(served.model)
        if form == "sglang-args":
            text = shlex.join(["python3", "-m", _MODULE, *_served_words(served, source, HOST)])
        else:
            text = plain_yaml(_compose(served, source)).rstrip("\n")
        return f"{comment(served, source)}\n{text}\n"

    def load(self, setup: Setup) -> LoadedEngine:
        """Start the server; called in a worker, in the interpreter that has SGLang."""
        flags = flags_of(self._version or "unknown", None)

        def command(port: int) -> Sequence[str]:
            return [sys.executable, "-m", _MODULE, *launch_words(setup, flags, port)]

        return LoadedSglang(ServerProcess(Start(command)), setup, self._version or "unknown")

    def _checked(self, model: Model | None) -> Model:
        if model is None:
            raise UsageError("SGLang needs a MODEL: a hub id, a folder, or builtin:NAME")
        if self._version is None:
            raise UsageError(f"SGLang is {self.available().reason}")
        return model

    @cached_property
    def _version(self) -> str | None:
        try:
            return installed_versions(("sglang",), self._python).get("sglang")
        except (OSError, subprocess.SubprocessError):
            return None

    @property
    def _flags(self) -> Mapping[str, Flag]:
        return flags_of(self._version or "unknown", self._python)


def launch_words(setup: Setup, flags: Mapping[str, Flag], port: int) -> list[str]:
    """The arguments of a launch.

    Raises:
        UsageError: An argument takes no such value.
    """
    assert setup.model, "SGLang needs a model"
    words = ["--model-path", setup.model.path, "--host", HOST, "--port", str(port), "--enable-metrics"]
    if setup.model.weights == "dummy":
        words += ["--load-format", "dummy"]
    elif setup.model.revision:
        words += ["--revision", setup.model.revision]
    if setup.device.kind == "cpu":
        words += ["--device", "cpu"]
    for name, value in setup.changed.root.items():
        words += words_of(flags[name], value)
    return words


class LoadedSglang(LoadedServer):
    """A server that was started here; texts become token ids by the model's own tokenizer, in this process."""

    gauge_names = GaugeNames(
        path="/metrics",
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        kv_cache_share="sglang:token_usage",
        preemptions="sglang:num_retracted_requests_total",
    )

    def __init__(self, process: ServerProcess, setup: Setup, version: str) -> None:
        super().__init__(Address(HOST, process.port), "default", process)
        assert setup.model
        self._model, self._setup, self._version = setup.model, setup, version

    def fields(self, prompt: Prompt) -> dict[str, object]:
        """No end token, so that every output has the length that is asked for; ids, so that tokens are counted."""
        return {"ignore_eos": True, "return_token_ids": True}

    def apply(self, live: Config) -> None:
        """Nothing changes on a running server."""

    def slots(self) -> int:
        """How many requests it runs at once."""
        value = self._setup.config.root.get("max_running_requests")
        return value if isinstance(value, int) and value > 0 else _SLOTS

    def facts(self) -> EngineFacts:
        """The version and the settings that it was started with."""
        return EngineFacts(
            versions={"sglang": self._version},
            effective={name: str(value) for name, value in self._setup.changed.root.items()},
            context_tokens=self._model.context_tokens,
        )

    def reset(self) -> None:
        """Empty the prefix cache."""
        self.ask_text("POST", "/flush_cache")

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        return list(self._tokenizer(text)["input_ids"])

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int] | None:
        """Token ids by the chat template of the model's tokenizer."""
        return chat_token_ids(self._tokenizer, messages)

    def text(self, token_ids: Sequence[int]) -> str:
        """Token ids as text."""
        return str(self._tokenizer.decode(list(token_ids)))

    def vocab_size(self) -> int:
        """Size of the model's vocabulary."""
        return self._model.vocab_size or len(self._tokenizer)

    @cached_property
    def _tokenizer(self) -> Any:
        import transformers

        return transformers.AutoTokenizer.from_pretrained(self._model.path, revision=self._model.revision)


def _served_words(served: Served, source: Source, host: str, model: str | None = None) -> list[str]:
    """The arguments of a server for people, each setting in one word."""
    name = model or (resolve_model(source.name).path if source.dummy else source.name)
    words = [f"--model-path={name}", f"--host={host}", f"--port={_PORT}"]
    words += ["--load-format=dummy"] if source.dummy else []
    words += [f"--revision={source.revision}"] if source.revision else []

    def harmless(setting: str, value: Scalar) -> bool:
        return setting in served.allowed or is_plain(setting, value)

    for setting, value in known_settings(served.changed, CURATED, harmless).items():
        dashed = f"--{setting.replace('_', '-')}"
        if isinstance(value, bool):
            words += [dashed] if value else []
        else:
            words.append(f"{dashed}={value}")
    return words


def _compose(served: Served, source: Source) -> dict[str, object]:
    """A compose file of one service on this machine's loopback."""
    release = re.match(r"\d+\.\d+\.\d+(\.post\d+)?$", served.engine_version or "", re.ASCII)
    mounted = source.kind != "hub"
    words = _served_words(served, source, "0.0.0.0", _MOUNT if mounted else None)
    service: dict[str, object] = {
        "image": f"lmsysorg/sglang:{f'v{release[0]}' if release else 'latest'}",
        "command": ["python3", "-m", _MODULE, *(word.replace("$", "$$") for word in words)],
        "ports": [f"127.0.0.1:{_PORT}:{_PORT}"],
        "ipc": "host",
        "restart": "unless-stopped",
        "deploy": {
            "resources": {
                "reservations": {
                    "devices": [{"driver": "nvidia", "count": served.device.count, "capabilities": ["gpu"]}]
                }
            }
        },
    }
    if mounted:
        folder = resolve_model(source.name).path if source.dummy else source.name
        bind = {"type": "bind", "source": folder.replace("$", "$$"), "target": _MOUNT, "read_only": True}
        service["volumes"] = [bind]
    else:
        service["environment"] = {"HF_TOKEN": "${HF_TOKEN:-}"}
    return {"services": {"sglang": service}}
