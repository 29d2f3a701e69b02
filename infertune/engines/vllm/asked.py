"""What a user asks vLLM's arguments to be: which of it is among the knobs, and knobs made of the rest."""

from collections.abc import Iterable, Mapping

from infertune.domain.knobs import Config, Effect, Knob, Scalar, SearchSpace, format_scalar
from infertune.engines.asking import Asked, Understood, canonical, only_by_the_user
from infertune.engines.base import first_line
from infertune.engines.shell import names_in
from infertune.engines.vllm.opening import opens
from infertune.engines.vllm.parser import Argument
from infertune.engines.vllm.table import BOUNDS, CURATED, LADDERS, TUNED
from infertune.errors import UsageError

# What other values of an argument do to answers; everything that is not here counts as lossy.
_EXACT = names_in("""
    max_model_len seed served_model_name disable_log_stats cpu_offload_gb num_gpu_blocks_override kv_cache_memory_bytes
    swap_space scheduling_policy distributed_executor_backend load_format download_dir safetensors_load_strategy
    max_parallel_loading_workers use_tqdm_on_load enable_sleep_mode revision max_logprobs kv_offloading_size
    preemption_mode stream_interval max_num_partial_prefills max_long_partial_prefills trust_remote_code
    prefix_caching_hash_algo disable_hybrid_kv_cache_manager max_num_queued_reqs numa_bind
""")
_NUMERIC = names_in("""
    compilation_config optimization_level cudagraph_capture_sizes max_cudagraph_capture_size attention_backend
    attention_config disable_custom_all_reduce pipeline_parallel_size data_parallel_size enable_expert_parallel
    decode_context_parallel_size all2all_backend moe_backend disable_cascade_attn enable_dbo linear_backend
""")

_AS_GIVEN = ("speculative_config",)  # what vLLM makes of it is no text


def needs_parser(asked: Asked, device_kind: str) -> bool:
    """Whether the installed parser has to be asked: not where every value stands on the ladder of a knob."""
    if asked.command:
        return True
    ladders = LADDERS[device_kind]
    return any(
        not any(value == known and type(value) is type(known) for known in ladders.get(canonical(name), ()))
        for name, values in asked.values().items()
        for value in values
    )


def understand(
    asked: Asked,
    space: SearchSpace,
    arguments: Iterable[Argument],
    command: Mapping[str, Scalar] | None,
    current: Config,
) -> Understood:
    """A space with everything in it that was asked for.

    Args:
        asked: As the user spelled it.
        space: The curated knobs.
        arguments: What the parser made of what was asked for; empty where it was not needed.
        command: What a command of today sets, by canonical name.
        current: The knobs' values under that command.

    Raises:
        UsageError: A value is out of bounds, or only the user himself may set it.
    """
    parsed = {argument.asked: argument for argument in arguments}
    if not parsed:  # every value stands on a knob's ladder
        parsed = {n: Argument(asked=n, name=canonical(n), values=values) for n, values in asked.values().items()}
    typed = {canonical(name) for name in asked.typed} | {parsed[n].name for n in asked.typed if n in parsed}
    _check_names([argument.name for argument in parsed.values()])
    settings = [(argument.name, value) for argument in parsed.values() for value in argument.values]
    settings += list((command or {}).items())
    source = "--current" if asked.command else asked.source
    for name, value in settings:
        if opens(name, value) and name not in typed:
            setting = f"{name}={first_line(format_scalar(value), 60)}"
            raise only_by_the_user(source, setting, again=f"{name}={_quoted(value)}")
    for argument in parsed.values():
        space = _extended(space, argument)
    held = {parsed[name].name: parsed[name].values[-1] for name in asked.held}
    searched = {parsed[name].name: _values(parsed[name], values) for name, values in asked.searched.items()}
    known = {parsed[name].name: parsed[name].values[0] for name in asked.known if name in parsed}
    if command is None:
        return Understood(space, Config(held), _for_all(held), searched, Config(known))
    chosen = {name: value for name, value in current.root.items() if name in space and name in TUNED}
    for name, value in command.items():
        if name in space and name in chosen:
            chosen[name] = value if name in _AS_GIVEN else chosen[name]
            space = space.with_knob(space[name].with_values([chosen[name]]))
            continue
        if name not in {*held, *searched}:
            held[name] = value
            space = _extended(space, Argument(asked=name, name=name, values=(value,)))
        elif name in searched:
            chosen[name] = value
    return Understood(space, Config(held), _for_all(held), searched, Config(known), Config(chosen))


def _for_all(held: Mapping[str, Scalar]) -> Config:
    return Config({name: value for name, value in held.items() if name not in TUNED})


def _values(argument: Argument, asked: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    """The searched values of an argument, which may be known for another reason too."""
    return argument.values[-len(asked) :]


def _check_names(names: list[str]) -> None:
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{twice} is given twice, in two spellings")


def _extended(space: SearchSpace, argument: Argument) -> SearchSpace:
    """The space with an argument's values: on the ladder of its knob, or as a knob of their own."""
    if argument.name not in space:
        return space.with_new(_knob(argument))
    knob = space[argument.name]
    for value in argument.values:
        _check_bounds(knob, value)
    return space.with_knob(knob.with_values(argument.values))


def _check_bounds(knob: Knob, value: Scalar) -> None:
    """Refuse a number that the engine would refuse only after a launch, or not at all."""
    if not knob.ordinal:
        return
    shown = f"{knob.name}={first_line(format_scalar(value), 60)}"
    if isinstance(value, bool) or not isinstance(value, int if knob.kind == "int" else int | float):
        raise UsageError(f"{shown} is no {'whole ' if knob.kind == 'int' else ''}number")
    low, high = BOUNDS.get(knob.name, (1, 2**31))
    if not low <= value <= high:
        raise UsageError(f"{shown} is out of range: it must be {low:g} or more, {high:,g} at most")


def _knob(argument: Argument) -> Knob:
    """A knob of an argument that has no curated one; it is launched with, and rests at the engine's own default."""
    values = tuple(dict.fromkeys((argument.default, *argument.values)))
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    kind = "choice" if len(numbers) < len(values) else "int" if all(isinstance(v, int) for v in numbers) else "float"
    ordered = tuple(sorted(numbers)) if kind != "choice" else values
    return Knob.model_validate(
        {
            "name": argument.name,
            "kind": kind,
            "values": ordered,
            "default": argument.default,
            "effect": effect_of(argument.name),
            "why": next((e.why for e in CURATED if e.name == argument.name), "an argument of vLLM that was asked for"),
        }
    )


def effect_of(name: str) -> Effect:
    """What other values of an argument do to answers, as far as it is known."""
    head = name.partition(".")[0]
    if name != "dtype" and (entry := next((entry for entry in CURATED if entry.name == name), None)):
        return entry.effect
    if name in _EXACT:
        return "exact"
    return "numeric" if head in _NUMERIC or name.startswith("speculative_config.") else "lossy"


def _quoted(value: Scalar) -> str:
    text = first_line(format_scalar(value), 60)
    return text if text.replace("_", "").replace("-", "").replace("/", "").replace(".", "").isalnum() else f"'{text}'"
