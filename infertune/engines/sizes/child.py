"""The child's side: `python -m infertune.engines.sizes.child count|hub`, JSON on standard input, one JSON line out.

`count` reads a config.json with transformers' `AutoConfig` and builds the model on the meta device, where tensors have
shapes and no memory. No code that comes with a checkpoint is run.
"""

import contextlib
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from infertune.domain.checkpoints import Checkpoint
from infertune.domain.sizes import (
    ELEMENT_BYTES,
    FieldSizes,
    ModelConfig,
    Sizes,
    dtype_of,
    quantization_method,
    quantization_of,
    sizes_of,
    text_part,
)
from infertune.engines.base import first_line

_CONTEXT_NAMES = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "model_max_length",
    "n_ctx", "context_length",
)  # fmt: skip
_HUB_DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2}


def count(config: ModelConfig) -> Sizes:
    """The figures of the model that a config.json describes."""
    import transformers

    transformers.logging.set_verbosity_error()
    try:
        read = _read(config)
    except Exception as error:  # whatever a stranger's config.json provokes
        return _unread(config, error)
    text = read.get_text_config(decoder=True)
    if text is not read and "tie_word_embeddings" not in config:  # as vLLM does; an outer class's default is no answer
        read.tie_word_embeddings = bool(getattr(text, "tie_word_embeddings", False))
    quantized, dtype = quantization_of(config), _dtype(config, read, text)
    why: dict[str, str] = {}
    parameters = active = weights = cache = whole = decoder = None
    from infertune.engines.sizes.counting import build, count_active, count_all
    from infertune.engines.sizes.kv_cache import measure_cache
    from infertune.engines.sizes.quantized import NotEstimatedError, estimate_bytes

    try:
        whole = build(read, config, dtype)
        parameters = count_all(whole)
        weights = estimate_bytes(whole, quantized, ELEMENT_BYTES.get(dtype, 2))
    except NotEstimatedError as error:
        why["weight_bytes"] = str(error)
    except Exception as error:
        why |= dict.fromkeys(("parameters", "weight_bytes", "active_parameters", "kv_cache"), _words(error))
    decoder = whole
    if read.is_encoder_decoder:
        why |= dict.fromkeys(("active_parameters", "kv_cache"), "an encoder-decoder has no single pass a token")
    else:
        if text is not read:  # its decoder alone, where it is a model of its own
            with contextlib.suppress(Exception):
                decoder = build(text, text_part(config), dtype)
        try:
            active = count_active(decoder, text) if decoder else None
        except Exception as error:
            why["active_parameters"] = _words(error)
        try:
            cache = measure_cache(decoder) if decoder else None
        except Exception as error:
            why["kv_cache"] = _words(error)
    alone = decoder is not whole and isinstance(text_part(config).get("model_type"), str)
    return sizes_of(
        parameters=parameters,
        active_parameters=active,
        weight_bytes=weights,
        cache=cache,
        context_tokens=context_of(text),
        vocab_size=_whole(text, "vocab_size"),
        dtype=dtype,
        model_type=str(read.model_type or ""),
        quantization=quantization_method(quantized) if quantized else None,
        encoder_decoder=bool(read.is_encoder_decoder),
        text_architecture=type(decoder).__name__ if alone else "",
        why=why,
    )


def _read(config: ModelConfig) -> Any:
    """The configuration, without what says how weights are quantized, and without code of its own."""
    from transformers import AutoConfig

    plain = {k: v for k, v in config.items() if k not in ("quantization_config", "compression_config", "auto_map")}
    with tempfile.TemporaryDirectory(prefix="infertune-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(plain), encoding="utf-8")
        try:
            return AutoConfig.from_pretrained(folder, trust_remote_code=False)
        except ValueError:
            if (cls := _class_of_architecture(config)) is None:
                raise
            return cls.from_dict({name: value for name, value in plain.items() if name != "model_type"})


def _class_of_architecture(config: ModelConfig) -> Any:
    """The configuration class of a model type that transformers does not know, by an architecture that it knows."""
    import transformers

    stated = config.get("architectures")
    known = str(config.get("model_type")) in transformers.CONFIG_MAPPING
    for name in stated if isinstance(stated, list) and not known else ():
        if isinstance(name, str) and name.isidentifier():
            return getattr(getattr(transformers, name, None), "config_class", None)
    return None


def _unread(config: ModelConfig, error: Exception) -> Sizes:
    import transformers

    kind = str(config.get("model_type") or "")
    words = _words(error)
    if kind and kind not in transformers.CONFIG_MAPPING:
        words = f"transformers {transformers.__version__} does not know the model type {kind[:40]!r}"
        if config.get("auto_map"):
            words += ", and code that comes with a checkpoint is not run to count it"
    return FieldSizes(words).sizes(config)


def _dtype(config: ModelConfig, read: Any, text: Any) -> str:
    """As config.json says, else as the classes' defaults do."""
    for part in (text, read):
        name = str(getattr(part, "dtype", None) or "").removeprefix("torch.")
        if name in ELEMENT_BYTES:
            return name
    return dtype_of(config)


def context_of(config: Any) -> int | None:
    """The longest sequence of a model, from transformers' configuration of its decoder; None if it sets no limit."""
    return _whole(config, *_CONTEXT_NAMES)


def _whole(config: Any, *names: str) -> int | None:
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _words(error: Exception) -> str:
    name = "" if type(error) is LookupError else f"{type(error).__name__}: "
    return first_line(name + " ".join(str(error).split()), 200)


def hub(question: dict[str, Any]) -> Checkpoint:
    """What the headers of a hub model's safetensors files say."""
    from huggingface_hub import get_safetensors_metadata

    found = get_safetensors_metadata(question["hub_id"], revision=question["revision"])
    n_bytes = 0
    for file in found.files_metadata.values():
        n_bytes += sum(end - begin for begin, end in (tensor.data_offsets for tensor in file.tensors.values()))
    floating = {
        name: n * _HUB_DTYPES[name] for name, n in found.parameter_count.items() if name in ("F32", "F16", "BF16")
    }
    most = max(floating, key=lambda name: floating[name], default=None)
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    return Checkpoint(weight_bytes=n_bytes, dtype=names[most] if most else None)


def main() -> None:
    """Answer one question; on failure, a traceback on standard error."""
    warnings.simplefilter("ignore")
    question = json.load(sys.stdin)
    answer = hub(question) if sys.argv[1] == "hub" else count(question)
    print(f"\n{answer.model_dump_json()}", flush=True)


if __name__ == "__main__":
    main()
