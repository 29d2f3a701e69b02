"""A GGUF file with random weights, for a model that has the shape of a config.json: speed needs no trained ones.

It is written beside the config.json, in 16-bit floats, the first time that it is launched. Seen with gguf 0.19.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infertune.domain.models import Model
from infertune.engines.llamacpp.files import random_file
from infertune.errors import UsageError
from infertune.units import format_bytes

_SPREAD = 0.02  # standard deviation, as decoders are initialised with (GPT-2)
_DRAWN = 2**20  # random numbers, repeated over every tensor: drawing 8 billion would take minutes
_KINDS = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3_moe": "qwen3moe"}
# Settings of config.json by their names in GGUF.
_NUMBERS = {
    "context_length": "max_position_embeddings", "embedding_length": "hidden_size", "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size", "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads", "attention.key_length": "head_dim",
    "attention.value_length": "head_dim", "expert_count": "num_experts", "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size", "rope.dimension_count": "head_dim",
}  # fmt: skip


def made_here(model: Model) -> Path:
    """The file with a model's random weights, written if it is not there yet.

    Raises:
        UsageError: Its architecture is not known here, or there is no room for it.
    """
    path = random_file(model)
    if path.is_file():
        return path
    config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") not in _KINDS:
        kinds = ", ".join(_KINDS)
        raise UsageError(f"{model.spec}: random weights are made for {kinds}, not for {config.get('model_type')}")
    free_bytes = shutil.disk_usage(path.parent).free
    if model.weight_bytes is not None and model.weight_bytes > free_bytes:
        raise UsageError(
            f"{model.spec}: its random weights take {format_bytes(model.weight_bytes)}, and {path.parent} has "
            f"{format_bytes(free_bytes)}; set XDG_CACHE_HOME to another folder"
        )
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".random-") as folder:
        _write(Path(folder) / path.name, config, path.parent)
        os.replace(Path(folder) / path.name, path)
    return path


def _write(path: Path, config: Mapping[str, Any], folder: Path) -> None:
    import gguf
    import numpy

    kind = _KINDS[str(config["model_type"])]
    writer = gguf.GGUFWriter(path, kind)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for name, field in _NUMBERS.items():
        if isinstance(config.get(field), int):
            writer.add_uint32(f"{kind}.{name}", config[field])
    writer.add_float32(f"{kind}.attention.layer_norm_rms_epsilon", float(config["rms_norm_eps"]))
    writer.add_float32(f"{kind}.rope.freq_base", float(config["rope_theta"]))
    _add_tokenizer(writer, folder)
    drawn = numpy.random.default_rng(0).normal(0, _SPREAD, _DRAWN).astype(numpy.float16)
    for name, shape in _tensors(config):
        if len(shape) == 1:  # norms, biases: kept in 32 bits by every converter
            writer.add_tensor(name, numpy.full(shape, 0.0 if name.endswith("bias") else 1.0, numpy.float32))
        else:
            writer.add_tensor(name, numpy.resize(drawn, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor, the width of its input last."""
    hidden, vocabulary, head = config["hidden_size"], config["vocab_size"], config["head_dim"]
    query, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield "token_embd.weight", (vocabulary, hidden)
    yield "output_norm.weight", (hidden,)
    if not config.get("tie_word_embeddings"):
        yield "output.weight", (vocabulary, hidden)
    for layer in range(config["num_hidden_layers"]):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", (hidden,)
        yield f"{block}.ffn_norm.weight", (hidden,)
        for name, width in (("q", query), ("k", kv), ("v", kv)):
            yield f"{block}.attn_{name}.weight", (width, hidden)
            if config["model_type"] == "qwen2":
                yield f"{block}.attn_{name}.bias", (width,)
        yield f"{block}.attn_output.weight", (hidden, query)
        if str(config["model_type"]).startswith("qwen3"):
            yield f"{block}.attn_q_norm.weight", (head,)
            yield f"{block}.attn_k_norm.weight", (head,)
        if experts := config.get("num_experts"):
            width = config["moe_intermediate_size"]
            yield f"{block}.ffn_gate_inp.weight", (experts, hidden)
            yield f"{block}.ffn_gate_exps.weight", (experts, width, hidden)
            yield f"{block}.ffn_up_exps.weight", (experts, width, hidden)
            yield f"{block}.ffn_down_exps.weight", (experts, hidden, width)
        else:
            width = config["intermediate_size"]
            yield f"{block}.ffn_gate.weight", (width, hidden)
            yield f"{block}.ffn_up.weight", (width, hidden)
            yield f"{block}.ffn_down.weight", (hidden, width)


def _add_tokenizer(writer: Any, folder: Path) -> None:
    """The byte-level tokenizer of the folder's tokenizer.json."""
    import gguf

    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    words = sorted(content["model"]["vocab"], key=content["model"]["vocab"].__getitem__)
    special = {entry["content"] for entry in content["added_tokens"]}
    kinds = [gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in words]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types(kinds)
    # llama.cpp wants merges; no text comes to these two words, so this one never happens.
    writer.add_token_merges([f"{words[-2]} {words[-1]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
