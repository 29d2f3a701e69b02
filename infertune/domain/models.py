"""Models: a hub id, a local folder, or `builtin:NAME`, and what its config.json and its weight files say of its size.

Speed needs no trained weights: a built-in is an architecture with a byte-level tokenizer written on the spot, which
the engines fill with dummy weights. The same is done for any hub id or folder with `--weights dummy`.
"""

import hashlib
import importlib
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from infertune.documents import read_json
from infertune.domain.architectures import BUILTINS
from infertune.domain.checkpoints import weights_in
from infertune.domain.sizes import FieldSizes, ModelConfig, Sizer, Sizes, text_part, with_checkpoint
from infertune.errors import UsageError
from infertune.units import slugify
from infertune.writing import write_inside

Weights = Literal["real", "dummy"]
_MAX_CONFIG_BYTES = 4 * 1024**2
_MAX_VOCAB = 2**22  # the largest known has 2**18
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)  # the oldest models, such as gpt2, have no owner
_LONGEST_HUB_ID = 96  # huggingface_hub's own limit


class Model(Sizes):
    """A model and the figures that tell how large it is.

    Attributes:
        spec: What the user wrote.
        name: For people and folder names.
        path: What an engine is told to load: a folder or a hub id.
        weights: `real`, or `dummy` for random ones (same speed for dense models, meaningless text).
        revision: The commit of a hub model; None for others, and where it is not known.
        config_hash: First 16 hex digits of SHA-256 over the canonical config.json.
    """

    spec: str
    name: str
    path: str
    weights: Weights
    revision: str | None = None
    config_hash: str

    @property
    def identity(self) -> tuple[str | None, ...]:
        """What figures depend on: where two models agree in it, what was measured with one holds for the other."""
        return (self.spec, self.path, self.weights, self.revision, self.config_hash, self.dtype)


def cache_folder() -> Path:
    """Where infertune keeps what it can make again: `$XDG_CACHE_HOME/infertune`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infertune"


def resolve_model(
    spec: str, weights: Weights | None = None, revision: str | None = None, sizer: Sizer | None = None
) -> Model:
    """The model that a MODEL argument means.

    Args:
        spec: `builtin:NAME`, a folder with a config.json, or a hub id.
        weights: `dummy` for random weights; None takes the real ones where there are any.
        revision: A hub revision.
        sizer: Who counts what is not built in; None reads the fields of config.json alone.

    Raises:
        UsageError: There is no such model, or its config.json describes none.
    """
    counting: Sizer = sizer or FieldSizes()
    if spec.startswith("builtin:"):
        name = spec.removeprefix("builtin:")
        if name not in BUILTINS:
            raise UsageError(f"no built-in model {name!r}; there are {', '.join(BUILTINS)}")
        if weights == "real":
            raise UsageError(f"{spec} has no trained weights; leave out --weights real, or name a hub id or folder")
        return _dummy(spec, name, BUILTINS[name].config, None, FieldSizes())
    folder = Path(os.path.expanduser(spec))  # Path's own raises for a user that is not here
    if os.path.isdir(folder):
        config = _read_config(folder / "config.json")
        name = slugify(folder.resolve().name)
        if weights == "dummy":
            return _dummy(spec, name, config, None, counting)
        return _trained(spec, name, folder.resolve(), config, counting)
    if not _HUB_ID.fullmatch(spec) or len(spec) > _LONGEST_HUB_ID:
        raise UsageError(
            f"no model {spec!r}: give a folder with a config.json, a hub id such as Qwen/Qwen2.5-0.5B-Instruct, "
            f"or builtin:NAME ({', '.join(BUILTINS)})"
        )
    name = slugify(spec.rpartition("/")[2])
    shape = next((a.config for a in BUILTINS.values() if spec in a.hub_ids), None)
    if weights == "dummy" and shape:
        return _dummy(spec, name, shape, revision, FieldSizes())
    path = _hub_config(spec, revision)
    config = _read_config(path)
    if weights == "dummy":
        return _dummy(spec, name, config, revision, counting)
    sizes = _sizes(spec, config, counting)
    commit = revision or _commit_of(path)
    files = weights_in(path.parent) or counting.hub_weights(spec, commit)
    return _model(spec, name, spec, "real", config, with_checkpoint(sizes, files, config) if files else sizes, commit)


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
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry; the error says it once
    try:
        return Path(hub.hf_hub_download(hub_id, "config.json", revision=revision))
    except Exception as error:  # every hub, network and HTTP library error means the same here
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"cannot get config.json of {hub_id} from the hub ({first_line}); check the name, log in for a gated "
            "model, or give a local folder"
        ) from None


def _read_config(path: Path) -> dict[str, Any]:
    if not os.path.lexists(path):
        raise UsageError(f"cannot read {path}: there is none; a model folder has a config.json")
    config = read_json(path, "model's config.json", _MAX_CONFIG_BYTES)
    if not isinstance(config, dict):
        raise UsageError(f"{path} is not a JSON object")
    return config


def _config_hash(config: ModelConfig) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _sizes(spec: str, config: ModelConfig, sizer: Sizer) -> Sizes:
    """The figures of a model.

    Raises:
        UsageError: Nothing in config.json says what architecture it is, so that no engine can tell either.
    """
    if not any(part.get(name) for part in (config, text_part(config)) for name in ("model_type", "architectures")):
        raise UsageError(
            f"config.json of {spec} describes no model: it has neither model_type nor architectures; "
            "give the folder of a model in the Hugging Face format"
        )
    return sizer.sizes(config)


def _model(
    spec: str, name: str, path: str, weights: Weights, config: ModelConfig, sizes: Sizes, revision: str | None = None
) -> Model:
    return Model(
        spec=spec, name=name, path=path, weights=weights, revision=revision, config_hash=_config_hash(config),
        **dict(sizes),
    )  # fmt: skip


def _trained(spec: str, name: str, folder: Path, config: ModelConfig, sizer: Sizer) -> Model:
    """A folder with its weights."""
    sizes = _sizes(spec, config, sizer)
    files = weights_in(folder)
    return _model(spec, name, str(folder), "real", config, with_checkpoint(sizes, files, config) if files else sizes)


def _dummy(spec: str, name: str, config: Mapping[str, Any], revision: str | None, sizer: Sizer) -> Model:
    """Write config and tokenizer to the cache, and describe the model that lies there.

    Raises:
        UsageError: The cache cannot be written, or the size of the vocabulary is not known.
    """
    sizes = _sizes(spec, config, sizer)
    if sizes.vocab_size is None or sizes.vocab_size > _MAX_VOCAB:
        size = f"is {sizes.vocab_size}" if sizes.vocab_size else f"is not known ({sizes.unknown.get('vocab_size')})"
        raise UsageError(
            f"{spec} cannot have dummy weights: a tokenizer is made for them, and the size of its vocabulary {size}; "
            "take its real weights"
        )
    folder = cache_folder() / "models" / f"{name}-{_config_hash(config)[:8]}"
    launched = _decoder_alone(config, sizes.text_architecture) if sizes.text_architecture else config
    files = {"config.json": launched, **_byte_tokenizer(sizes.vocab_size, sizes.context_tokens)}
    try:
        for file_name, content in files.items():
            place = f"models/{folder.name}/{file_name}"
            write_inside(cache_folder(), place, json.dumps(content), "cached model")
    except UsageError as error:
        raise UsageError(f"{error}; set XDG_CACHE_HOME to another folder") from None
    return _model(spec, name, str(folder), "dummy", config, sizes, revision)


def _decoder_alone(config: ModelConfig, architecture: str) -> dict[str, Any]:
    """The config.json of a multimodal model's decoder: its image part needs files that dummy weights do not have."""
    text = dict(text_part(config))
    for name in ("dtype", "torch_dtype", "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings"):
        if name in config and name not in text:
            text[name] = config[name]
    return {**text, "architectures": [architecture]}


def _byte_tokenizer(vocab_size: int, context_tokens: int | None) -> dict[str, dict[str, Any]]:
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
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
    }
    if context_tokens is not None:
        settings["model_max_length"] = context_tokens
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": settings}


def _byte_symbol(byte: int) -> str:
    """The printable character that stands for a byte in byte-level BPE (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in printable:
        return chr(byte)
    return chr(256 + [b for b in range(256) if b not in printable].index(byte))
