"""A model's size, for the terminal."""

from collections.abc import Iterator

from infertune.domain.sizes import Sizes
from infertune.units import format_bytes


def size_lines(model: Sizes) -> Iterator[str]:
    """What is known of a model's size, and why the rest is not."""
    parts = [model.parameters_text]
    if model.active_parameters is not None and model.active_parameters != model.parameters:
        parts[0] += f" ({model.active_parameters / 1e9:.3g} B active per token)"
    if model.weight_bytes is not None:
        source = "" if model.weight_source is None else f", {_SOURCES[model.weight_source]}"
        quantized = f", {model.quantization}" if model.quantization else ""
        parts.append(f"{format_bytes(model.weight_bytes)} of weights ({model.dtype}{quantized}{source})")
    if model.kv_bytes_per_token is not None:
        cache = f"KV cache {format_bytes(model.kv_bytes_per_token)} a token"
        if model.kv_bytes_per_sequence is not None:
            cache += f", {format_bytes(model.kv_bytes_per_sequence)} a sequence of full length"
        parts.append(cache)
    if model.context_tokens is not None:
        parts.append(f"context {model.context_tokens:,} tokens")
    yield f"model     {'; '.join(parts)}"
    reasons: dict[str, list[str]] = {}
    for figure, reason in model.unknown.items():
        reasons.setdefault(reason, []).append(figure.replace("_", " ").replace("kv", "KV"))
    for reason, figures in reasons.items():
        yield f"unknown   {', '.join(figures)}: {reason}"


_SOURCES = {"files": "from its files", "estimate": "an estimate"}
