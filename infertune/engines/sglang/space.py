"""The knobs of SGLang's server, around what the installed version rests at, and which arguments anybody may set."""

import re
from collections.abc import Mapping

from infertune.domain.device import Device
from infertune.domain.knobs import Choice, Effect, Knob, Scalar, SearchSpace, doubling, parse_scalar
from infertune.domain.models import Model
from infertune.engines.serving.arguments import Flag, Policy, check_word
from infertune.engines.shell import names_in
from infertune.errors import DoesNotFitError
from infertune.units import format_bytes

_PLAIN = re.compile(r"[A-Za-z0-9][\w.,+-]*", re.ASCII)
_CONCURRENCY = "max_running_requests"
# Name → values besides the one that it rests at, what they do to answers, and why.
_CURATED: dict[str, tuple[tuple[Scalar, ...], Effect, str]] = {
    _CONCURRENCY: (
        doubling(8, 512), "numeric",
        "Requests decoded together: more share one reading of the weights, and each waits for the others.",
    ),
    "mem_fraction_static": (
        (0.7, 0.8, 0.85, 0.9), "exact",
        "Share of the memory for weights and KV cache: more requests fit, and less is left for activations.",
    ),
    "chunked_prefill_size": (
        (1024, 2048, 4096, 8192, 16384), "numeric",
        "Tokens of a prompt computed at once: larger reads prompts faster and makes running requests wait.",
    ),
    "max_prefill_tokens": (
        (4096, 8192, 16384, 32768), "exact",
        "Tokens of all prompts in one round: more start at once, and running requests wait longer.",
    ),
    "schedule_policy": (
        ("fcfs", "lpm"), "exact",
        "Which waiting request starts next: the first that came, or the one with the longest known prefix.",
    ),
    "schedule_conservativeness": (
        (0.3, 0.6, 1.0, 1.3), "exact",
        "How much memory is kept for outputs not yet written: less starts more requests, and may take some back.",
    ),
    "enable_mixed_chunk": (
        (False, True), "numeric", "Prompts and decoding in one batch: fewer rounds, longer ones.",
    ),
    "disable_radix_cache": (
        (False, True), "numeric", "Without a prefix cache: worth it only where no two prompts begin alike.",
    ),
    "disable_overlap_schedule": (
        (False, True), "exact", "Without planning the next round while the GPU computes this one.",
    ),
    "num_continuous_decode_steps": (
        (1, 2, 4, 8), "exact", "Decoding steps between two looks at the queue: fewer looks, later first tokens.",
    ),
    "attention_backend": (
        ("flashinfer", "fa3", "triton"), "numeric", "The attention kernels; which is fastest depends on the GPU.",
    ),
    "page_size": (
        (1, 16, 64), "numeric", "Tokens of a page of the KV cache: larger is quicker to look up, and shares less.",
    ),
    "kv_cache_dtype": (
        ("fp8_e4m3", "fp8_e5m2"), "lossy", "Number format of the KV cache: half the bits hold twice the requests.",
    ),
    "tp_size": (
        (), "numeric", "GPUs that share each layer: more bandwidth and memory for one copy, and talk between them.",
    ),
    "dp_size": ((), "exact", "Copies of the model beside each other: no talk between them, each with its own cache."),
}  # fmt: skip
CURATED = tuple(_CURATED)
_EXACT = names_in("stream_interval max_queued_requests max_total_tokens context_length watchdog_timeout")
_NUMERIC = names_in("""
    cuda_graph_max_bs disable_cuda_graph enable_torch_compile torch_compile_max_bs sampling_backend
    decode_attention_backend prefill_attention_backend triton_attention_num_kv_splits enable_dp_attention ep_size
""")
_OURS = names_in(
    "model_path model host port tokenizer_path served_model_name load_format api_key enable_metrics device"
)


def server_space(model: Model, device: Device, flags: Mapping[str, Flag]) -> SearchSpace:
    """The curated knobs that the installed version has.

    Raises:
        DoesNotFitError: The weights do not fit the device.
    """
    if model.weight_bytes is not None and model.weight_bytes > device.memory_bytes * device.count:
        raise DoesNotFitError(
            f"{model.name} needs {format_bytes(model.weight_bytes)} for its weights, but {device.name} has "
            f"{format_bytes(device.memory_bytes * device.count)}; take a smaller one"
        )
    knobs, notes = [], ["SGLang has not been run by infertune's authors yet: its knobs are those of its documentation"]
    for name, (values, effect, why) in _CURATED.items():
        flag = flags.get(name)
        if flag is None:
            notes.append(f"{name}: left out, the installed SGLang has no such argument")
            continue
        if name in ("tp_size", "dp_size"):
            values = doubling(1, device.count)
        knob = _knob(flag, values, effect, why)
        if len(knob.values) > 1:
            knobs.append(knob)
    return SearchSpace(knobs=tuple(knobs), notes=(*notes, *device.notes))


def policy_of() -> Policy:
    """What may be set on an SGLang server."""
    return Policy(
        program="SGLang",
        curated=CURATED,
        effect=lambda name: "exact" if name in _EXACT else "numeric" if name in _NUMERIC else "lossy",
        plain=is_plain,
        refused=lambda name: "infertune sets it itself" if name in _OURS else "",
        check=check_word,
    )


def is_plain(name: str, value: Scalar) -> bool:
    """Whether a setting may stand in a stranger's profile: an argument that names no code, file or address."""
    known = name in CURATED or name in _EXACT | _NUMERIC
    return known and (not isinstance(value, str) or _PLAIN.fullmatch(value) is not None)


def _knob(flag: Flag, values: tuple[Scalar, ...], effect: Effect, why: str) -> Knob:
    """A knob that rests where the installed version does; `None` leaves the value to SGLang."""
    default = None if flag.default is None else parse_scalar(flag.default)
    known = [value for value in values if not flag.words or str(value) in flag.words or flag.kind == "switch"]
    own = tuple(dict.fromkeys((default, *known)))
    return Choice(flag.name, own, default, effect=effect, why=why, is_concurrency=flag.name == _CONCURRENCY)
