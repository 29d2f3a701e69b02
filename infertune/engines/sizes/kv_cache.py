"""What a sequence leaves in the KV cache: a model on the meta device reads a few tokens, and its cache is looked at.

So the figure follows the model's own code: grouped and shared heads, latent attention, windows, states.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infertune.domain.sizes import KvCache, Window

_SHORT, _LONGER, _LONG = 2, 3, 24  # tokens; the third one shows whether it grows evenly
_CACHES = ("past_key_values", "cache_params", "state")


@dataclass(frozen=True)
class _Layer:
    """A part of a cache.

    Attributes:
        n_bytes: What it holds.
        window: How many tokens it keeps at most; None for no limit.
        ordinary: It is of a kind that transformers shares between models; those grow evenly.
    """

    n_bytes: int
    window: int | None
    ordinary: bool


def measure_cache(model: Any) -> KvCache:
    """The cache of one sequence.

    Raises:
        LookupError: The model returns no cache, or one that does not grow evenly.
        Exception: Whatever its code raises on the meta device.
    """
    short, longer = _run(model, _SHORT), _run(model, _LONGER)
    growths = [two.n_bytes - one.n_bytes for one, two in zip(short, longer, strict=True)]
    if not all(layer.ordinary for layer in longer):
        for two, many, growth in zip(longer, _run(model, _LONG), growths, strict=True):
            within = two.window is None or two.window > _LONG
            if within and many.n_bytes - two.n_bytes != growth * (_LONG - _LONGER):
                raise LookupError("its cache does not grow evenly with the tokens")
    full = state = 0
    windows: dict[int, int] = {}
    for one, growth in zip(short, growths, strict=True):
        state += one.n_bytes - _SHORT * growth
        if one.window is None:
            full += growth
        else:
            windows[one.window] = windows.get(one.window, 0) + growth
    copies = _copies(model.config)
    found = tuple(Window(tokens=n, bytes_per_token=size // copies) for n, size in sorted(windows.items()) if size)
    return KvCache(full_bytes_per_token=full // copies, windows=found, state_bytes=max(0, state))


def _copies(config: Any) -> int:
    """How often transformers keeps each key-value head of a Falcon, which engines keep once."""
    if getattr(config, "model_type", "") == "falcon" and getattr(config, "new_decoder_architecture", False):
        return max(1, int(config.num_attention_heads) // int(config.num_kv_heads))
    return 1


def _run(model: Any, tokens: int) -> list[_Layer]:
    """The cache's layers after so many tokens, and what lies outside of them as a last one."""
    import torch
    from torch.fx.experimental import _config as meta_config

    for part in (model.config, model.config.get_text_config(decoder=True)):
        part.pad_token_id = None  # with one, the input is searched for it, and it holds no numbers
    torch.distributions.Distribution.set_default_validate_args(False)  # a check would need numbers
    with torch.no_grad(), torch.device("meta"), meta_config.patch(meta_nonzero_assume_all_nonzero=True):
        if hasattr(model, "set_experts_implementation"):
            with contextlib.suppress(ValueError):
                model.set_experts_implementation("batched_mm")  # others ask which experts were chosen
        output = model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=True)
    cache = next((found for name in _CACHES if (found := getattr(output, name, None)) is not None), None)
    if cache is None:
        raise LookupError(f"{type(model).__name__} returns no cache")
    seen: set[int] = set()
    layers = [
        _Layer(_bytes(layer, seen), _window(layer), type(layer).__module__ == "transformers.cache_utils")
        for layer in getattr(cache, "layers", ())
    ]
    rest = _bytes(cache, seen)
    return [*layers, _Layer(rest, None, ordinary=rest == 0)]


def _window(layer: Any) -> int | None:
    window = getattr(layer, "sliding_window", None)
    return int(window) if isinstance(window, int) and window > 0 else None


def _bytes(holder: Any, seen: set[int]) -> int:
    tensors = _tensors(holder, seen)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.numel() > 1)  # not its counters


def _tensors(holder: Any, seen: set[int], depth: int = 0) -> Iterator[Any]:
    import torch

    if id(holder) in seen or depth > 6 or isinstance(holder, str | int | float | bool | type | torch.nn.Module):
        return
    seen.add(id(holder))
    if isinstance(holder, torch.Tensor):
        yield holder
        return
    if isinstance(holder, dict):
        inside: Any = holder.values()
    elif isinstance(holder, list | tuple):
        inside = holder
    else:
        inside = vars(holder).values() if hasattr(holder, "__dict__") else ()
    for part in inside:
        yield from _tensors(part, seen, depth + 1)
