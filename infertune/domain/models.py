"""Models: a hub id, a local folder, or `builtin:NAME`, and what config.json says about their size.

Speed needs no trained weights: a built-in is an architecture with a byte-level tokenizer written on the spot, which
the engines fill with dummy weights. The same is done for any hub id or folder with `--weights dummy`.
"""

import hashlib
import importlib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from infertune.domain.architectures import BUILTINS
from infertune.domain.measurement import Frozen
from infertune.errors import UsageError
from infertune.units import slugify

Weights = Literal["real", "dummy"]
Size = Annotated[int, Field(ge=0, le=2**60)]
_BYTES_PER_ELEMENT = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
_MAX_CONFIG_BYTES = 4 * 1024**2
_SHAPE = (
    "num_attention_heads", "hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size",
    "max_position_embeddings",
)  # fmt: skip


class Model(Frozen):
    """A model and the figures that tell how large it is.

    Attributes:
        spec: What the user wrote.
        name: For people and folder names.
        path: What an engine is told to load: a folder or a hub id.
        weights: `real`, or `dummy` for random ones (same speed for dense models, meaningless text).
        revision: The commit of a hub model; None for others, and where it is not known.
        config_hash: First 16 hex digits of SHA-256 over the canonical config.json.
        parameters: Number of parameters.
        active_parameters: Parameters that one token passes through: fewer in a mixture of experts.
        parameter_bytes: Their size in the configured dtype.
        kv_bytes_per_token: Size of one token's keys and values over all layers, in the configured dtype.
        context_tokens: Longest prompt plus output.
        vocab_size: Size of the embedding.
        dtype: The configured dtype.
    """

    spec: str
    name: str
    path: str
    weights: Weights
    revision: str | None = None
    config_hash: str
    parameters: Size
    active_parameters: Size
    parameter_bytes: Size
    kv_bytes_per_token: Size
    context_tokens: Size
    vocab_size: Size
    dtype: str


def cache_folder() -> Path:
    """Where infertune keeps what it can make again: `$XDG_CACHE_HOME/infertune`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infertune"


def resolve_model(spec: str, weights: Weights | None = None, revision: str | None = None) -> Model:
    """The model that a MODEL argument means.

    Args:
        spec: `builtin:NAME`, a folder with a config.json, or a hub id.
        weights: `dummy` for random weights; None takes the real ones where there are any.
        revision: A hub revision.

    Raises:
        UsageError: There is no such model, or its config.json does not describe a decoder.
    """
    if spec.startswith("builtin:"):
        name = spec.removeprefix("builtin:")
        if name not in BUILTINS:
            raise UsageError(f"no built-in model {name!r}; there are {', '.join(BUILTINS)}")
        if weights == "real":
            raise UsageError(f"{spec} has no trained weights; leave out --weights real, or name a hub id or folder")
        return _dummy(spec, name, BUILTINS[name].config, revision=None)
    folder = Path(os.path.expanduser(spec))  # Path's own raises for a user that is not here
    if os.path.isdir(folder):
        config = _read_config(folder / "config.json")
        name = slugify(folder.resolve().name)
        if weights == "dummy":
            return _dummy(spec, name, config, revision=None)
        return _model(spec, name, str(folder.resolve()), "real", config, revision=None)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", spec):
        raise UsageError(
            f"no model {spec!r}: give a folder with a config.json, a hub id such as Qwen/Qwen2.5-0.5B-Instruct, "
            f"or builtin:NAME ({', '.join(BUILTINS)})"
        )
    name = slugify(spec.partition("/")[2])
    shape = next((a.config for a in BUILTINS.values() if spec in a.hub_ids), None)
    if weights == "dummy" and shape:
        return _dummy(spec, name, shape, revision)
    path = _hub_config(spec, revision)
    if weights == "dummy":
        return _dummy(spec, name, _read_config(path), revision)
    return _model(spec, name, spec, "real", _read_config(path), revision or _commit_of(path))


def known_here(model: Model) -> tuple[str | None, str | None]:
    """A model's config.json by its hash and its hub revision, as they are here now; None without the network."""
    try:
        if model.spec.startswith("builtin:"):
            return _config_hash(BUILTINS[model.spec.removeprefix("builtin:")].config), None
        folder = Path(os.path.expanduser(model.spec))
        if folder.is_dir():
            return _config_hash(_read_config(folder / "config.json")), None
        shape = next((a.config for a in BUILTINS.values() if model.spec in a.hub_ids), None)
        if shape and model.weights == "dummy":
            return _config_hash(shape), None
        hub = importlib.import_module("huggingface_hub")
        path = Path(hub.hf_hub_download(model.spec, "config.json", local_files_only=True))
        return _config_hash(_read_config(path)), _commit_of(path) if model.weights == "real" else None
    except Exception:  # no such model, no library, nothing cached: all the same here
        return None, None


def _commit_of(path: Path) -> str | None:
    """The commit of a file in the hub's cache, `…/snapshots/COMMIT/config.json`."""
    return path.parent.name if path.parent.parent.name == "snapshots" else None


def _hub_config(hub_id: str, revision: str | None) -> Path:
    """The path of a hub model's config.json, fetched into the hub's own cache if it is not there yet."""
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise UsageError(
            f"{hub_id} is a hub id, and no engine is installed that could load it: pip install infertune[vllm] "
            "or infertune[hf]"
        ) from None
    try:
        return Path(hub.hf_hub_download(hub_id, "config.json", revision=revision))
    except Exception as error:  # every hub, network and HTTP library error means the same here
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"cannot get config.json of {hub_id} from the hub ({first_line}); check the name, log in for a gated "
            "model, or give a local folder"
        ) from None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UsageError(f"{path} is no regular file; a model folder has a config.json")
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise UsageError(f"{path} is too large to be a model's config.json")
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; a model folder has a config.json") from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise UsageError(f"{path} is not a JSON object")
    return config


def _config_hash(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _model(spec: str, name: str, path: str, weights: Weights, config: dict[str, Any], revision: str | None) -> Model:
    text = config.get("text_config", config)
    try:
        for field in _SHAPE:
            _check_whole(text, field)
        heads = text["num_attention_heads"]
        head_dim = text.get("head_dim") or text["hidden_size"] // heads
        kv_elements = 2 * text["num_hidden_layers"] * (text.get("num_key_value_heads") or heads) * head_dim
        total, active = count_parameters(text)
        context, vocab = text["max_position_embeddings"], text["vocab_size"]
    except KeyError as error:
        raise UsageError(f"config.json of {spec} does not describe a decoder: {error} is missing") from None
    except (TypeError, AttributeError, ZeroDivisionError) as error:
        raise UsageError(f"config.json of {spec} does not describe a decoder: {error}") from None
    dtype = str(text.get("dtype") or text.get("torch_dtype") or config.get("torch_dtype") or "bfloat16")
    element_bytes = _BYTES_PER_ELEMENT.get(dtype, 2)
    try:
        return Model(
            spec=spec,
            name=name,
            path=path,
            weights=weights,
            revision=revision,
            config_hash=_config_hash(config),
            parameters=total,
            active_parameters=active,
            parameter_bytes=total * element_bytes,
            kv_bytes_per_token=kv_elements * element_bytes,
            context_tokens=context,
            vocab_size=vocab,
            dtype=dtype,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        what = f"{fault['loc'][0]}: {fault['msg']}"
        raise UsageError(f"config.json of {spec} does not describe a decoder: {what}") from None


def _check_whole(config: dict[str, Any], field: str) -> None:
    """Refuse a field of the shape that is no positive whole number.

    Raises:
        KeyError: It is missing.
        TypeError: It is something else.
    """
    value = config[field]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError(f"{field} is {str(value)[:40]!r}, not a whole number above 0")


def count_parameters(config: dict[str, Any]) -> tuple[int, int]:
    """All parameters of a decoder, and those that one token passes through, from its config.json.

    Counts embeddings, attention with its biases and norms, gated MLPs, and experts with their router.

    Raises:
        KeyError: A field of the shape is missing.
    """
    hidden, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
    kind = config.get("model_type", "")
    head_dim = config.get("head_dim") or hidden // heads
    query, kv = heads * head_dim, (config.get("num_key_value_heads") or heads) * head_dim
    attention = 2 * hidden * query + 2 * hidden * kv + (query + 2 * kv if kind.startswith("qwen2") else 0)
    norms = 2 * hidden + (2 * head_dim if kind.startswith("qwen3") else 0)
    experts = config.get("num_experts") or config.get("num_local_experts") or 0
    if experts:
        expert = 3 * hidden * config.get("moe_intermediate_size", config["intermediate_size"])
        mlp, active_mlp = (n * expert + hidden * experts for n in (experts, config["num_experts_per_tok"]))
    else:
        mlp = active_mlp = 3 * hidden * config["intermediate_size"]
    embeddings = config["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    fixed = embeddings + hidden + layers * (attention + norms)
    return fixed + layers * mlp, fixed + layers * active_mlp


def _dummy(spec: str, name: str, config: dict[str, Any], revision: str | None) -> Model:
    """Write config and tokenizer to the cache, and describe the model that lies there."""
    folder = cache_folder() / "models" / f"{name}-{_config_hash(config)[:8]}"
    model = _model(spec, name, str(folder), "dummy", config, revision)
    files = {"config.json": config, **_byte_tokenizer(model.vocab_size, model.context_tokens)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file_name, content in files.items():
            draft = folder / f"{file_name}.{os.getpid()}"
            draft.write_text(json.dumps(content), encoding="utf-8")
            draft.replace(folder / file_name)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}; set XDG_CACHE_HOME to another folder") from None
    return model


def _byte_tokenizer(vocab_size: int, context_tokens: int) -> dict[str, dict[str, Any]]:
    """A byte-level tokenizer in the `tokenizers` file format: 3 special tokens, 256 bytes, and filler to the size."""
    special = ["<s>", "</s>", "<pad>"]
    words = (special + [_byte_symbol(byte) for byte in range(256)])[:vocab_size]
    vocab = {word: number for number, word in enumerate(words)}
    vocab.update({f"\u0120t{number}": number for number in range(len(words), vocab_size)})
    added = [
        {"id": n, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for n, word in enumerate(special)
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "fuse_unk": False,
            "vocab": vocab,
            "merges": [],
        },
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "padding_side": "left",
        "model_max_length": context_tokens,
        "clean_up_tokenization_spaces": False,
    }
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": settings}


def _byte_symbol(byte: int) -> str:
    """The printable character that stands for a byte in byte-level BPE (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in printable:
        return chr(byte)
    return chr(256 + [b for b in range(256) if b not in printable].index(byte))
