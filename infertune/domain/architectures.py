"""The built-in models: shapes of decoders, which engines fill with dummy weights."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """A built-in: the fields of config.json that shape it, and the hub ids that have this shape."""

    config: dict[str, Any]
    hub_ids: tuple[str, ...] = ()


def _decoder(
    kind: str,
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    mlp: int,
    vocab: int,
    context: int,
    **more: Any,
) -> dict[str, Any]:
    """A decoder's config.json; `kind` is its class prefix, such as Qwen2."""
    return {
        "architectures": [f"{kind}ForCausalLM"],
        "model_type": {"Qwen3Moe": "qwen3_moe"}.get(kind, kind.lower()),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "intermediate_size": mlp,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        "bos_token_id": 0,
        "eos_token_id": 1,
        **more,
    }


def _llama3_rope(factor: float) -> dict[str, Any]:
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


# Shapes from the models' published config.json; the two first are ours, for CPUs.
BUILTINS: dict[str, Architecture] = {
    "tiny": Architecture(_decoder("Llama", 256, 4, 4, 2, 704, 4096, 2048)),
    "small": Architecture(_decoder("Llama", 576, 12, 9, 3, 1536, 8192, 4096)),
    "qwen2.5-0.5b": Architecture(
        _decoder("Qwen2", 896, 24, 14, 2, 4864, 151936, 32768, tie_word_embeddings=True),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct"),
    ),
    "qwen2.5-7b": Architecture(
        _decoder("Qwen2", 3584, 28, 28, 4, 18944, 152064, 32768),
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"),
    ),
    "qwen3-0.6b": Architecture(
        _decoder("Qwen3", 1024, 28, 16, 8, 3072, 151936, 40960, head_dim=128, tie_word_embeddings=True),
        ("Qwen/Qwen3-0.6B",),
    ),
    "llama-3.2-1b": Architecture(
        _decoder(
            "Llama", 2048, 16, 32, 8, 8192, 128256, 131072,
            rope_theta=5e5, rope_scaling=_llama3_rope(32.0), tie_word_embeddings=True,
        ),
        ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct"),
    ),
    "llama-3.1-8b": Architecture(
        _decoder("Llama", 4096, 32, 32, 8, 14336, 128256, 131072, rope_theta=5e5, rope_scaling=_llama3_rope(8.0)),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
    ),
    "mistral-7b": Architecture(
        _decoder("Mistral", 4096, 32, 32, 8, 14336, 32768, 32768, sliding_window=None),
        ("mistralai/Mistral-7B-v0.3", "mistralai/Mistral-7B-Instruct-v0.3"),
    ),
    "qwen3-30b-a3b": Architecture(
        _decoder(
            "Qwen3Moe", 2048, 48, 32, 4, 6144, 151936, 40960, head_dim=128, moe_intermediate_size=768,
            num_experts=128, num_experts_per_tok=8, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        ),
        ("Qwen/Qwen3-30B-A3B",),
    ),
}  # fmt: skip
