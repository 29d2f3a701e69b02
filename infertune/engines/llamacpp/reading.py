"""What a GGUF file says of its model: `python -m infertune.engines.llamacpp.reading FILE…` prints it as one JSON line.

The only place that reads GGUF, in a process of its own: the `gguf` package takes seconds for a vocabulary of 150,000
words. Several files are the parts of one model.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from infertune.domain.measurement import Frozen
from infertune.domain.sizes import KvCache, Sizes, sizes_of

_CACHE_BYTES = 2  # of an element of the KV cache: llama-server keeps f16 unless told otherwise
_LISTS = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges")


class GgufFacts(Frozen):
    """A GGUF model.

    Attributes:
        sizes: Its figures.
        layers: How many there are; None where the file does not say.
        chat: It has a chat template.
        metadata_hash: First 16 hexadecimal digits of SHA-256 over its metadata and the shapes and types of its tensors.
    """

    sizes: Sizes
    layers: int | None = None
    chat: bool = False
    metadata_hash: str


def read_facts(paths: Sequence[str]) -> GgufFacts:
    """The facts of a model from its files.

    Raises:
        Exception: Whatever the `gguf` package raises for a file that is none.
    """
    import gguf

    readers = [gguf.GGUFReader(path) for path in paths]
    fields = readers[0].fields
    values = {
        name: field.contents()
        for name, field in fields.items()
        if name not in _LISTS and not name.startswith(("GGUF.", "split."))
    }
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    digest = hashlib.sha256(repr(sorted(values.items())).encode())
    for tensor in tensors:
        digest.update(f"{tensor.name} {tensor.tensor_type.name} {list(tensor.shape)}".encode())
    kind = str(values.get("general.architecture", ""))
    parameters = sum(int(tensor.n_elements) for tensor in tensors)
    cache, why = _cache(kind, values)
    words = fields.get("tokenizer.ggml.tokens")
    sizes = sizes_of(
        parameters=parameters,
        active_parameters=_active(kind, values, tensors, parameters),
        weight_bytes=sum(int(tensor.n_bytes) for tensor in tensors),
        cache=cache,
        context_tokens=_whole(values, f"{kind}.context_length"),
        vocab_size=len(words.data) if words else _whole(values, f"{kind}.vocab_size"),
        dtype="float16",
        model_type=kind,
        quantization=_quantization(values, gguf),
        encoder_decoder=f"{kind}.decoder_start_token_id" in values,
        why={"kv_cache": why, "context_tokens": "the file does not say", "vocab_size": "the file does not say"},
    )
    return GgufFacts(
        sizes=sizes.model_copy(update={"weight_source": "files"}),
        layers=_whole(values, f"{kind}.block_count"),
        chat="tokenizer.chat_template" in values,
        metadata_hash=digest.hexdigest()[:16],
    )


def _quantization(values: Mapping[str, Any], gguf: Any) -> str | None:
    """The name of the file's type, such as `Q4_K_M`; None for plain numbers."""
    try:
        name = str(gguf.LlamaFileType(values["general.file_type"]).name).removeprefix("MOSTLY_")
    except (KeyError, ValueError):
        return None
    return None if name in ("ALL_F32", "F16", "BF16") else name


def _active(kind: str, values: Mapping[str, Any], tensors: Sequence[Any], parameters: int) -> int:
    """Parameters that one token passes through: of the experts, those that are used."""
    experts, used = _whole(values, f"{kind}.expert_count"), _whole(values, f"{kind}.expert_used_count")
    if not experts or not used:
        return parameters
    of_experts = sum(int(tensor.n_elements) for tensor in tensors if "_exps." in tensor.name)
    return parameters - of_experts + of_experts * used // experts


def _cache(kind: str, values: Mapping[str, Any]) -> tuple[KvCache | None, str]:
    """The KV cache of plain attention, every layer keeping every token; else why it is not known."""
    if any(name.startswith(f"{kind}.ssm.") for name in values):
        return None, "it has state-space layers, which are not counted here"
    layers, heads = _whole(values, f"{kind}.block_count"), _whole(values, f"{kind}.attention.head_count")
    width = _whole(values, f"{kind}.embedding_length")
    if not layers or not heads or not width:
        return None, "the file does not say how many layers and heads there are"
    stated = values.get(f"{kind}.attention.head_count_kv", heads)
    of_layers = stated if isinstance(stated, list) else [stated] * layers
    key = _whole(values, f"{kind}.attention.key_length") or width // heads
    value = _whole(values, f"{kind}.attention.value_length") or width // heads
    if latent := _whole(values, f"{kind}.attention.kv_lora_rank"):  # one small vector for all heads
        rope = _whole(values, f"{kind}.rope.dimension_count") or 0
        return KvCache(full_bytes_per_token=layers * (latent + rope) * _CACHE_BYTES), ""
    return KvCache(full_bytes_per_token=sum(map(int, of_layers)) * (key + value) * _CACHE_BYTES), ""


def _whole(values: Mapping[str, Any], name: str) -> int | None:
    found = values.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


if __name__ == "__main__":
    print(f"\n{read_facts(sys.argv[1:]).model_dump_json()}", flush=True)
