"""How large a model is: parameters, bytes of weights and of KV cache, context; and what config.json alone says.

An architecture is counted by the library that defines it (`infertune.engines.sizes`). `FieldSizes` is for where there
is no such library, and for the built-in models: it reads the fields of config.json and counts plain decoders only.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Protocol

from pydantic import AliasChoices, Field, ValidationError

from infertune.domain.checkpoints import Checkpoint
from infertune.domain.measurement import Frozen

ModelConfig = Mapping[str, object]
Size = Annotated[int, Field(ge=0, le=2**60)]
ELEMENT_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1,
}  # fmt: skip
_DEFAULT_DTYPE = "bfloat16"
# A field's name in config.json differs between families; transformers' attribute maps name the same fields.
_NAMES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim"),
    "vocab_size": ("vocab_size",),
    "context_tokens": (
        "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length",
        "model_max_length", "n_ctx",
    ),
}  # fmt: skip
# Decoders of gated MLPs (or experts of them) and full attention in every layer, which are counted from their fields.
_PLAIN = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")


class Window(Frozen):
    """The layers whose KV cache keeps the last tokens only.

    Attributes:
        tokens: How many of a sequence they keep.
        bytes_per_token: Of all those layers together.
    """

    tokens: Size
    bytes_per_token: Size


class KvCache(Frozen):
    """What one sequence keeps in memory, by the kind of its layers.

    Attributes:
        full_bytes_per_token: Layers that keep every token: full attention, and latent attention with its small vectors.
        windows: Layers that keep the last tokens only: sliding and chunked attention.
        state_bytes: Layers that keep the same amount at any length: state-space, linear attention, convolutions.
    """

    full_bytes_per_token: Size = 0
    windows: tuple[Window, ...] = ()
    state_bytes: Size = 0

    @property
    def bytes_per_token(self) -> int:
        """What a token adds while it lies inside every window."""
        return self.full_bytes_per_token + sum(window.bytes_per_token for window in self.windows)

    @property
    def bounded(self) -> bool:
        """Whether it stops growing at some length."""
        return self.full_bytes_per_token == 0

    def bytes_at(self, tokens: float) -> float:
        """The size of a sequence of so many tokens."""
        windows = sum(min(tokens, window.tokens) * window.bytes_per_token for window in self.windows)
        return self.full_bytes_per_token * tokens + windows + self.state_bytes


class Sizes(Frozen):
    """The figures of a model; one that is not known is None, and `unknown` says why.

    Attributes:
        parameters: All of them, those of an image or audio part included.
        active_parameters: Those that one token of text passes through: fewer in a mixture of experts.
        weight_bytes: What the weights take: as the checkpoint's files say, or an estimate.
        weight_source: Where that comes from.
        kv_bytes_per_token: KV cache that one token adds, over all layers, in the configured dtype. Layers with a
            window count until it is full (see `kv_cache`).
        kv_bytes_per_sequence: KV cache and states of one sequence of the whole context.
        kv_cache: The same by the kind of layer; None in documents written before it was known.
        context_tokens: Longest prompt plus output.
        vocab_size: Size of the embedding.
        dtype: The number format that the weights are loaded in.
        model_type: As config.json names it; empty if it does not.
        quantization: The method by which the weights are quantized; None if they are not.
        encoder_decoder: It is no decoder: every output needs an encoder's pass over the input.
        text_architecture: Of a multimodal model, the class of its decoder where it is a model of its own; else empty.
        unknown: Figure → why it is None.
    """

    parameters: Size | None = None
    active_parameters: Size | None = None
    weight_bytes: Size | None = Field(default=None, validation_alias=AliasChoices("weight_bytes", "parameter_bytes"))
    weight_source: Literal["files", "estimate"] | None = None
    kv_bytes_per_token: Size | None = None
    kv_bytes_per_sequence: Size | None = None
    kv_cache: KvCache | None = None
    context_tokens: Size | None = None
    vocab_size: Size | None = None
    dtype: str
    model_type: str = ""
    quantization: str | None = None
    encoder_decoder: bool = False
    text_architecture: str = ""
    unknown: dict[str, str] = {}

    @property
    def parameters_text(self) -> str:
        """For people: `8.03 B parameters`."""
        if self.parameters is None:
            return "unknown number of parameters"
        return f"{self.parameters / 1e9:.3g} B parameters"

    @property
    def sequence_bytes(self) -> float | None:
        """KV cache and states of one sequence of the whole context; None if it is not known."""
        if self.kv_bytes_per_sequence is not None:
            return self.kv_bytes_per_sequence
        return None if self.context_tokens is None else self.kv_bytes(self.context_tokens)  # an older document

    def kv_bytes(self, tokens: float) -> float | None:
        """KV cache and states of one sequence of so many tokens; None if it is not known."""
        if self.kv_cache is not None:
            return self.kv_cache.bytes_at(tokens)
        return None if self.kv_bytes_per_token is None else self.kv_bytes_per_token * tokens


class Sizer(Protocol):
    """Who counts a model."""

    def sizes(self, config: ModelConfig) -> Sizes:
        """The figures of the model that a config.json describes, its weight bytes estimated."""

    def hub_weights(self, hub_id: str, revision: str | None) -> Checkpoint | None:
        """The weights of a hub model whose files are not here; None where the hub cannot be asked."""


class FieldSizes:
    """Figures from the fields of config.json, for plain decoders: no library, no network."""

    def __init__(self, why: str = "it is counted by transformers, which is not asked here") -> None:
        self._why = why

    def sizes(self, config: ModelConfig) -> Sizes:
        """The figures of a model; all but its context and vocabulary are None where it is no plain decoder."""
        text = text_part(config)
        kind = str(text.get("model_type") or config.get("model_type") or "")
        dtype = dtype_of(config)
        unknown = {}
        found: dict[str, int | None] = {}
        for figure, field in (("context_tokens", "context_tokens"), ("vocab_size", "vocab_size")):
            try:
                found[figure] = _field(text, field)
            except ValueError as error:
                found[figure], unknown[figure] = None, str(error)
        why = self._why
        total = active = None
        cache = None
        if text is config and kind in _PLAIN and not text.get("attention_bias") and not text.get("mlp_bias"):
            try:
                total, active = _count(text, kind)
                cache = _plain_cache(text, ELEMENT_BYTES.get(dtype, 2))
            except ValueError as error:
                why = str(error)
        quantized = quantization_of(config)
        weights = None if total is None or quantized else total * ELEMENT_BYTES.get(dtype, 2)
        return sizes_of(
            parameters=total,
            active_parameters=active,
            weight_bytes=weights,
            cache=cache,
            context_tokens=found["context_tokens"],
            vocab_size=found["vocab_size"],
            dtype=dtype,
            model_type=kind,
            quantization=quantization_method(quantized) if quantized else None,
            encoder_decoder=config.get("is_encoder_decoder") is True,
            why={**dict.fromkeys(("parameters", "active_parameters", "weight_bytes", "kv_cache"), why), **unknown},
        )

    def hub_weights(self, hub_id: str, revision: str | None) -> Checkpoint | None:
        """Nothing: the network is not asked."""
        return None


def sizes_of(
    *,
    parameters: int | None,
    active_parameters: int | None,
    weight_bytes: int | None,
    cache: KvCache | None,
    context_tokens: int | None,
    vocab_size: int | None,
    dtype: str,
    model_type: str,
    quantization: str | None,
    encoder_decoder: bool,
    why: Mapping[str, str],
    text_architecture: str = "",
) -> Sizes:
    """Figures whose weight bytes are an estimate, with the reasons of those that are None.

    A figure that is too large to be true is None too.
    """
    figures: dict[str, int | None] = {
        "parameters": parameters,
        "active_parameters": active_parameters,
        "weight_bytes": weight_bytes,
        "kv_bytes_per_token": None if cache is None else cache.bytes_per_token,
        "kv_bytes_per_sequence": _per_sequence(cache, context_tokens),
        "context_tokens": context_tokens,
        "vocab_size": vocab_size,
    }
    unknown = {}
    for name, value in figures.items():
        if value is not None and not 0 <= value <= 2**60:
            figures[name], unknown[name] = None, f"{value:.3g} cannot be"
        elif value is None:
            is_cache = name.startswith("kv_")
            unknown[name] = why.get(name) or (why.get("kv_cache") if is_cache else None) or "config.json does not say"
    if cache is not None and figures["kv_bytes_per_sequence"] is None:
        unknown.setdefault("kv_bytes_per_sequence", "")
        unknown["kv_bytes_per_sequence"] = "its context has no limit that is known"
    if unknown.keys() & {"kv_bytes_per_token"}:
        cache = None
    return Sizes(
        **figures,
        weight_source=None if figures["weight_bytes"] is None else "estimate",
        kv_cache=cache,
        dtype=dtype,
        model_type=model_type,
        quantization=quantization,
        encoder_decoder=encoder_decoder,
        text_architecture=text_architecture,
        unknown=unknown,
    )


def _per_sequence(cache: KvCache | None, context_tokens: int | None) -> int | None:
    if cache is None or (context_tokens is None and not cache.bounded):
        return None
    longest = max((window.tokens for window in cache.windows), default=0) if context_tokens is None else context_tokens
    return round(cache.bytes_at(longest))


def with_checkpoint(sizes: Sizes, checkpoint: Checkpoint, config: ModelConfig) -> Sizes:
    """The same figures, with weight bytes and, where config.json has none, the dtype of a checkpoint's files."""
    changes: dict[str, object] = {}
    unknown = dict(sizes.unknown)
    if checkpoint.weight_bytes is not None:
        unknown.pop("weight_bytes", None)
        changes |= {"weight_bytes": checkpoint.weight_bytes, "weight_source": "files"}
    if checkpoint.dtype and not _stated_dtype(config):
        changes |= {"dtype": checkpoint.dtype}
    try:
        return Sizes.model_validate({**dict(sizes), **changes, "unknown": unknown})
    except ValidationError:  # files that claim an impossible size
        return sizes


def text_part(config: ModelConfig) -> ModelConfig:
    """The part of a multimodal config.json that describes its decoder; else the whole."""
    for name in ("text_config", "llm_config", "language_config"):
        nested = config.get(name)
        if isinstance(nested, dict) and nested:
            return nested
    return config


def dtype_of(config: ModelConfig) -> str:
    """The number format that config.json asks for."""
    return _stated_dtype(config) or _DEFAULT_DTYPE


def _stated_dtype(config: ModelConfig) -> str | None:
    for part in (text_part(config), config):
        for name in ("dtype", "torch_dtype"):
            value = part.get(name)
            if isinstance(value, str) and value.removeprefix("torch.") in ELEMENT_BYTES:
                return value.removeprefix("torch.")
    return None


def quantization_of(config: ModelConfig) -> ModelConfig | None:
    """What config.json says of how its weights are quantized."""
    for part in (config, text_part(config)):
        for name in ("quantization_config", "compression_config"):
            found = part.get(name)
            if isinstance(found, dict) and found:
                return found
    return None


def quantization_method(quantization: ModelConfig) -> str:
    """The name of the method, such as `awq`."""
    named = quantization.get("quant_method")
    if isinstance(named, str) and named:
        return named[:40]
    if quantization.get("load_in_4bit") or quantization.get("load_in_8bit"):
        return "bitsandbytes"
    return "modelopt" if quantization.get("quant_algo") else "unnamed"


def _field(config: ModelConfig, name: str) -> int:
    """A whole number above 0 under any of a field's names.

    Raises:
        ValueError: There is none.
    """
    names = _NAMES.get(name, (name,))
    given = next((other for other in names if config.get(other) is not None), None)
    if given is None:
        raise ValueError(f"config.json has no {names[0]}")
    value = config[given]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{given} is {str(value)[:40]!r}, not a whole number above 0")
    return value


def _optional(config: ModelConfig, name: str, default: int) -> int:
    return default if config.get(name) is None else _field(config, name)


def _count(config: ModelConfig, kind: str) -> tuple[int, int]:
    """All parameters of a plain decoder, and those that one token passes through.

    Raises:
        ValueError: A field is missing or is no whole number.
    """
    hidden, layers = _field(config, "hidden_size"), _field(config, "num_hidden_layers")
    query, kv, head_dim = _widths(config)
    attention = 2 * hidden * query + 2 * hidden * kv + (query + 2 * kv if kind == "qwen2" else 0)
    norms = 2 * hidden + (2 * head_dim if kind.startswith("qwen3") else 0)
    width = _field(config, "intermediate_size")
    experts = config.get("num_experts") or config.get("num_local_experts")
    if experts:
        n = _field(config, "num_experts" if config.get("num_experts") else "num_local_experts")
        expert = 3 * hidden * _optional(config, "moe_intermediate_size", width)
        mlp, active_mlp = (k * expert + hidden * n for k in (n, _field(config, "num_experts_per_tok")))
    else:
        mlp = active_mlp = 3 * hidden * width
    embeddings = _field(config, "vocab_size") * hidden * (1 if config.get("tie_word_embeddings") else 2)
    fixed = embeddings + hidden + layers * (attention + norms)
    return fixed + layers * mlp, fixed + layers * active_mlp


def _widths(config: ModelConfig) -> tuple[int, int, int]:
    """Width of all queries, of all keys, and of one head."""
    heads = _field(config, "num_attention_heads")
    head_dim = _optional(config, "head_dim", max(1, _field(config, "hidden_size") // heads))
    return heads * head_dim, _optional(config, "num_key_value_heads", heads) * head_dim, head_dim


def _plain_cache(config: ModelConfig, element_bytes: int) -> KvCache:
    _, kv, _ = _widths(config)
    per_token = 2 * _field(config, "num_hidden_layers") * kv * element_bytes
    if config.get("sliding_window") is not None and config.get("use_sliding_window") is not False:
        if str(config.get("model_type")).startswith(
            "qwen"
        ):  # theirs slides in some layers only, and by default in none
            return KvCache(full_bytes_per_token=per_token)
        return KvCache(windows=(Window(tokens=_field(config, "sliding_window"), bytes_per_token=per_token),))
    return KvCache(full_bytes_per_token=per_token)
