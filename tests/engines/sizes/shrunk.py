"""The families of `families.py` with few layers of little width, which start in seconds with random weights."""

from collections.abc import Mapping
from typing import Any

from tests.engines.sizes.families import FAMILIES

# Head width 64: engines have no kernels for much less. Latent widths stay as published: kernels know no others.
_SMALL: dict[str, Any] = {
    "hidden_size": 256, "n_embd": 256, "n_embed": 256, "d_model": 256, "word_embed_proj_dim": 256,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_kv_heads": 2, "head_dim": 64,
    "intermediate_size": 512, "intermediate_size_mlp": 512, "n_inner": 512, "ffn_dim": 512, "block_ff_dim": 512,
    "moe_intermediate_size": 128, "shared_expert_intermediate_size": 128,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "q_lora_rank": 64,
    "qk_nope_head_dim": 64, "v_head_dim": 64, "conv_dim": 256, "conv_dim_out": 256, "block_dim": 256,
    "max_position_embeddings": 512, "n_positions": 512, "n_ctx": 512, "max_seq_len": 512, "seq_length": 512,
    "vocab_size": 512, "rotary_dim": 32, "sliding_window": 64, "attention_chunk_size": 128, "time_step_rank": 16,
    "mamba_dt_rank": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "query_pre_attn_scalar": 64,
    "mamba_n_heads": 8,
}  # fmt: skip
_VISION = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56,
    "patch_size": 14, "depth": 1, "num_heads": 2, "out_hidden_size": 256, "vision_output_dim": 64,
    "projector_input_dim": 64, "projector_output_dim": 64,
}  # fmt: skip
_BY_TYPE: dict[str, dict[str, Any]] = {
    "qwen3_next": {"num_hidden_layers": 4},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    "bamba": {"attn_layer_indices": [1]},
    "lfm2": {"num_hidden_layers": 4, "full_attn_idxs": [1, 3]},
    "gemma3": {"mm_tokens_per_image": 4},
    "mamba": {"intermediate_size": 512},
    "falcon_mamba": {"intermediate_size": 512},
    "phi": {"partial_rotary_factor": 0.5},
    "mixtral": {"num_experts_per_tok": 2},
    "qwen2_5_vl": {"rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]}},
}
# One of each architecture.
NAMES = tuple({family.config["model_type"]: name for name, family in reversed(FAMILIES.items())}.values())[::-1]


def shrunk(name: str) -> dict[str, Any]:
    """The config.json of a family, made small."""
    config = FAMILIES[name].config
    return {
        **_small(config), **_BY_TYPE.get(config["model_type"], {}), "bos_token_id": 0, "eos_token_id": 1,
        "pad_token_id": 2, "torch_dtype": "float32",
    }  # fmt: skip


def _small(config: Mapping[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {}
    for field, value in config.items():
        if field == "vision_config":
            small[field] = {name: _VISION.get(name, old) for name, old in value.items()}
        elif isinstance(value, dict):
            small[field] = {**_small(value), "vocab_size": 512, "num_hidden_layers": 2, "hidden_size": 256}
        elif field == "num_key_value_heads":
            heads = config["num_attention_heads"]
            small[field] = 4 if value == heads else min(value, 2)
        elif field == "num_experts_per_tok":
            small[field] = min(value, 2)
        else:
            small[field] = _SMALL[field] if field in _SMALL and value is not None else value
    return small
