"""Models as published: the fields that their config.json states, and the figures of their cards and files.

`parameters` are those of the card or of the safetensors files; `kv` is the KV cache of one token in 16-bit numbers,
from layers, key-value heads and head width (or latent width) as published. `window` is the part of it that lies in
layers which keep so many tokens only. `active` counts the table of embeddings in full, as the cards of Mixtral,
DeepSeek and Qwen do; OpenAI's leave it out (5.1 B and 3.6 B).
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """A published model."""

    config: dict[str, Any]
    parameters: int
    kv: int
    active: float | None = None
    window: tuple[int, int] | None = None  # tokens, bytes a token
    context: int | None = None


def _gpt(kind: str, architecture: str, **more: Any) -> dict[str, Any]:
    return {"model_type": kind, "architectures": [architecture], **more}


def _llama_like(
    kind: str, architecture: str, hidden: int, layers: int, heads: int, kv_heads: int, mlp: int, vocab: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": kind, "architectures": [architecture], "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "intermediate_size": mlp, "vocab_size": vocab,
        "torch_dtype": "bfloat16", **more,
    }  # fmt: skip


_SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "image_size": 896, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
_DEEPSEEK = {
    "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 7168,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "vocab_size": 129280, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_experts_per_tok": 8, "first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "n_group": 8, "topk_group": 4,
    "max_position_embeddings": 163840, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip
_GPT_OSS = {
    "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "hidden_size": 2880, "num_hidden_layers": 36,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880,
    "vocab_size": 201088, "num_local_experts": 128, "num_experts_per_tok": 4, "sliding_window": 128,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "attention_bias": True,
}  # fmt: skip

FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        _gpt("gpt2", "GPT2LMHeadModel", n_embd=768, n_layer=12, n_head=12, n_positions=1024, n_ctx=1024,
             vocab_size=50257),
        124_439_808, 2 * 12 * 768 * 2, context=1024),
    "gpt2-xl": Family(
        _gpt("gpt2", "GPT2LMHeadModel", n_embd=1600, n_layer=48, n_head=25, n_positions=1024, vocab_size=50257),
        1_557_611_200, 2 * 48 * 1600 * 2),
    "opt-125m": Family(
        _gpt("opt", "OPTForCausalLM", hidden_size=768, num_hidden_layers=12, num_attention_heads=12, ffn_dim=3072,
             vocab_size=50272, max_position_embeddings=2048, word_embed_proj_dim=768),
        125_239_296, 2 * 12 * 768 * 2, context=2048),
    "opt-6.7b": Family(
        _gpt("opt", "OPTForCausalLM", hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, ffn_dim=16384,
             vocab_size=50272, max_position_embeddings=2048, word_embed_proj_dim=4096),
        6_658_473_984, 2 * 32 * 4096 * 2),
    "bloom-560m": Family(
        _gpt("bloom", "BloomForCausalLM", hidden_size=1024, n_layer=24, n_head=16, vocab_size=250880, seq_length=2048),
        559_214_592, 2 * 24 * 1024 * 2, context=2048),
    "bloom-7b1": Family(
        _gpt("bloom", "BloomForCausalLM", n_embed=4096, n_layer=30, num_attention_heads=32, vocab_size=250880,
             seq_length=2048),
        7_069_016_064, 2 * 30 * 4096 * 2),
    "falcon-7b": Family(
        _gpt("falcon", "FalconForCausalLM", hidden_size=4544, num_hidden_layers=32, num_attention_heads=71,
             multi_query=True, alibi=False, bias=False, new_decoder_architecture=False, parallel_attn=True,
             vocab_size=65024),
        6_921_720_704, 2 * 32 * 64 * 2, context=2048),
    "falcon-40b": Family(
        _gpt("falcon", "FalconForCausalLM", hidden_size=8192, num_hidden_layers=60, num_attention_heads=128,
             num_kv_heads=8, multi_query=True, alibi=False, bias=False, new_decoder_architecture=True,
             parallel_attn=True, vocab_size=65024),
        41_303_293_952, 2 * 60 * 8 * 64 * 2),
    "phi-2": Family(
        _gpt("phi", "PhiForCausalLM", hidden_size=2560, num_hidden_layers=32, num_attention_heads=32,
             intermediate_size=10240, vocab_size=51200, max_position_embeddings=2048, partial_rotary_factor=0.4),
        2_779_683_840, 2 * 32 * 2560 * 2),
    "starcoder": Family(
        _gpt("gpt_bigcode", "GPTBigCodeForCausalLM", n_embd=6144, n_layer=40, n_head=48, n_inner=24576,
             n_positions=8192, vocab_size=49152, multi_query=True),
        15_517_456_384, 2 * 40 * 128 * 2, context=8192),
    "starcoder2-3b": Family(
        _llama_like("starcoder2", "Starcoder2ForCausalLM", 3072, 30, 24, 2, 12288, 49152, use_bias=True,
                    max_position_embeddings=16384),
        3_030_371_328, 2 * 30 * 2 * 128 * 2),
    "gemma-2b": Family(
        _llama_like("gemma", "GemmaForCausalLM", 2048, 18, 8, 1, 16384, 256000, head_dim=256),
        2_506_172_416, 2 * 18 * 256 * 2),
    "gemma-2-9b": Family(
        _llama_like("gemma2", "Gemma2ForCausalLM", 3584, 42, 16, 8, 14336, 256000, head_dim=256, sliding_window=4096,
                    max_position_embeddings=8192),
        9_241_705_984, 2 * 42 * 8 * 256 * 2, window=(4096, 21 * 2 * 8 * 256 * 2), context=8192),
    "gemma-3-1b": Family(
        _llama_like("gemma3_text", "Gemma3ForCausalLM", 1152, 26, 4, 1, 6912, 262144, head_dim=256,
                    sliding_window=512, sliding_window_pattern=6, max_position_embeddings=32768),
        999_885_952, 2 * 26 * 256 * 2, window=(512, 22 * 2 * 256 * 2)),
    "gemma-3-4b": Family(
        {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "torch_dtype": "bfloat16",
         "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                         "num_hidden_layers": 34, "sliding_window": 1024}, "vision_config": _SIGLIP},
        4_300_079_472, 2 * 34 * 4 * 256 * 2, active=3.88e9, window=(1024, 29 * 2 * 4 * 256 * 2), context=131072),
    "gemma-3-27b": Family(
        {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "torch_dtype": "bfloat16",
         "text_config": {"model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504, "head_dim": 128,
                         "num_attention_heads": 32, "num_key_value_heads": 16, "num_hidden_layers": 62,
                         "query_pre_attn_scalar": 168, "sliding_window": 1024}, "vision_config": _SIGLIP},
        27_432_406_640, active=27.01e9, kv=2 * 62 * 16 * 128 * 2, window=(1024, 52 * 2 * 16 * 128 * 2)),
    "mistral-small-3.1-24b": Family(  # config.json says nowhere that its embeddings are not tied
        {"model_type": "mistral3", "architectures": ["Mistral3ForConditionalGeneration"], "torch_dtype": "bfloat16",
         "spatial_merge_size": 2, "multimodal_projector_bias": False,
         "text_config": {"model_type": "mistral", "hidden_size": 5120, "intermediate_size": 32768, "head_dim": 128,
                         "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
                         "vocab_size": 131072, "max_position_embeddings": 131072, "sliding_window": None},
         "vision_config": {"model_type": "pixtral", "hidden_size": 1024, "intermediate_size": 4096, "head_dim": 64,
                           "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 1540, "patch_size": 14}},
        24_011_361_280, 2 * 40 * 8 * 128 * 2, active=23.57e9, context=131072),
    "mamba-130m": Family(
        _gpt("mamba", "MambaForCausalLM", hidden_size=768, num_hidden_layers=24, state_size=16, expand=2,
             conv_kernel=4, intermediate_size=1536, time_step_rank=48, vocab_size=50280),
        129_135_360, 0),
    "falcon-mamba-7b": Family(
        _gpt("falcon_mamba", "FalconMambaForCausalLM", hidden_size=4096, num_hidden_layers=64, state_size=16,
             conv_kernel=4, intermediate_size=8192, time_step_rank=256, vocab_size=65024, tie_word_embeddings=False),
        7_272_665_088, 0),
    "deepseek-v3": Family(_DEEPSEEK, 671_026_419_200, 61 * (512 + 64) * 2, active=37.5e9, context=163840),
    "kimi-k2": Family(
        {**_DEEPSEEK, "model_type": "kimi_k2", "num_attention_heads": 64, "num_key_value_heads": 64,
         "n_routed_experts": 384, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "vocab_size": 163840,
         "max_position_embeddings": 131072},
        1_026_000_000_000, 61 * (512 + 64) * 2, active=32.9e9),
    "deepseek-v2-lite": Family(
        {**_DEEPSEEK, "model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"], "hidden_size": 2048,
         "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 10944,
         "moe_intermediate_size": 1408, "vocab_size": 102400, "n_routed_experts": 64, "n_shared_experts": 2,
         "num_experts_per_tok": 6, "first_k_dense_replace": 1, "q_lora_rank": None, "n_group": 1, "topk_group": 1,
         "topk_method": "greedy"},
        15_706_484_224, 27 * (512 + 64) * 2, active=2.66e9),
    "minicpm3-4b": Family(
        _llama_like("minicpm3", "MiniCPM3ForCausalLM", 2560, 62, 40, 40, 6400, 73448, q_lora_rank=768,
                    kv_lora_rank=256, qk_nope_head_dim=64, qk_rope_head_dim=32),
        4_073_000_000, 62 * (256 + 32) * 2),
    "gpt-oss-120b": Family(
        _GPT_OSS, 116_829_156_672, 2 * 36 * 8 * 64 * 2, active=5.71e9, window=(128, 18 * 2 * 8 * 64 * 2),
        context=131072),
    "gpt-oss-20b": Family(
        {**_GPT_OSS, "num_hidden_layers": 24, "num_local_experts": 32}, 20_914_757_184, 2 * 24 * 8 * 64 * 2,
        active=4.19e9, window=(128, 12 * 2 * 8 * 64 * 2)),
    "llama-3.1-8b": Family(
        _llama_like("llama", "LlamaForCausalLM", 4096, 32, 32, 8, 14336, 128256, max_position_embeddings=131072),
        8_030_261_248, 128 * 1024, context=131072),
    "llama-3.1-70b": Family(
        _llama_like("llama", "LlamaForCausalLM", 8192, 80, 64, 8, 28672, 128256, max_position_embeddings=131072),
        70_553_706_496, 320 * 1024),
    "smollm2-135m": Family(
        _llama_like("llama", "LlamaForCausalLM", 576, 30, 9, 3, 1536, 49152, tie_word_embeddings=True,
                    max_position_embeddings=8192),
        134_515_008, 2 * 30 * 3 * 64 * 2),
    "llama-4-scout": Family(
        {"model_type": "llama4", "architectures": ["Llama4ForConditionalGeneration"], "torch_dtype": "bfloat16",
         "text_config": {"model_type": "llama4_text", "hidden_size": 5120, "intermediate_size": 8192,
                         "intermediate_size_mlp": 16384, "num_hidden_layers": 48, "num_attention_heads": 40,
                         "num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 16, "num_experts_per_tok": 1,
                         "interleave_moe_layer_step": 1, "vocab_size": 202048, "attention_chunk_size": 8192},
         "vision_config": {"model_type": "llama4_vision_model", "hidden_size": 1408, "intermediate_size": 5632,
                           "num_hidden_layers": 34, "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
                           "vision_output_dim": 4096, "projector_input_dim": 4096, "projector_output_dim": 4096}},
        108_641_793_536, 2 * 48 * 8 * 128 * 2, active=17.2e9, window=(8192, 36 * 2 * 8 * 128 * 2)),
    "qwen2.5-7b": Family(
        _llama_like("qwen2", "Qwen2ForCausalLM", 3584, 28, 28, 4, 18944, 152064, max_position_embeddings=32768,
                    sliding_window=131072, use_sliding_window=False, max_window_layers=28),
        7_615_616_512, 56 * 1024, context=32768),
    "qwen2.5-vl-7b": Family(
        {**_llama_like("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", 3584, 28, 28, 4, 18944, 152064),
         "vision_config": {"model_type": "qwen2_5_vl", "depth": 32, "hidden_size": 1280, "intermediate_size": 3420,
                           "num_heads": 16, "out_hidden_size": 3584, "patch_size": 14}},
        8_292_166_656, 56 * 1024, active=7.616e9),
    "qwen3-8b": Family(
        _llama_like("qwen3", "Qwen3ForCausalLM", 4096, 36, 32, 8, 12288, 151936, head_dim=128),
        8_190_735_360, 144 * 1024),
    "qwen1.5-moe-a2.7b": Family(
        _llama_like("qwen2_moe", "Qwen2MoeForCausalLM", 2048, 24, 16, 16, 5632, 151936, moe_intermediate_size=1408,
                    shared_expert_intermediate_size=5632, num_experts=60, num_experts_per_tok=4),
        14_315_784_192, 192 * 1024, active=2.69e9),
    "qwen3-30b-a3b": Family(
        _llama_like("qwen3_moe", "Qwen3MoeForCausalLM", 2048, 48, 32, 4, 6144, 151936, head_dim=128, num_experts=128,
                    num_experts_per_tok=8, moe_intermediate_size=768, max_position_embeddings=40960),
        30_532_122_624, 96 * 1024, active=3_353_032_704, context=40960),
    "qwen3-next-80b-a3b": Family(
        _llama_like("qwen3_next", "Qwen3NextForCausalLM", 2048, 48, 16, 2, 5120, 151936, head_dim=256, num_experts=512,
                    num_experts_per_tok=10, moe_intermediate_size=512, shared_expert_intermediate_size=512,
                    linear_conv_kernel_dim=4, linear_key_head_dim=128, linear_value_head_dim=128,
                    linear_num_key_heads=16, linear_num_value_heads=32, full_attention_interval=4,
                    max_position_embeddings=262144),
        79_674_391_296, 24 * 1024, active=3.87e9, context=262144),
    "mixtral-8x7b": Family(
        _llama_like("mixtral", "MixtralForCausalLM", 4096, 32, 32, 8, 14336, 32000, num_local_experts=8,
                    num_experts_per_tok=2, max_position_embeddings=32768),
        46_702_792_704, 128 * 1024, active=12.88e9),
    "olmoe-1b-7b": Family(
        _llama_like("olmoe", "OlmoeForCausalLM", 2048, 16, 16, 16, 1024, 50304, num_experts=64,
                    num_experts_per_tok=8),
        6_919_161_856, 128 * 1024, active=1.28e9),
    "minimax-m2": Family(
        _llama_like("minimax_m2", "MiniMaxM2ForCausalLM", 3072, 62, 48, 8, 1536, 200064, head_dim=128,
                    num_local_experts=256, num_experts_per_tok=8, rotary_dim=64, scoring_func="sigmoid"),
        228_700_000_000, 2 * 62 * 8 * 128 * 2, active=11.03e9),
    "glm-4.5-air": Family(
        _llama_like("glm4_moe", "Glm4MoeForCausalLM", 4096, 46, 96, 8, 10944, 151552, head_dim=128,
                    attention_bias=True, moe_intermediate_size=1408, n_routed_experts=128, n_shared_experts=1,
                    num_experts_per_tok=8, first_k_dense_replace=1),
        106_800_000_000, 2 * 46 * 8 * 128 * 2, active=13.4e9),
    "mistral-7b-v0.1": Family(
        _llama_like("mistral", "MistralForCausalLM", 4096, 32, 32, 8, 14336, 32000, sliding_window=4096,
                    max_position_embeddings=32768),
        7_241_732_096, 128 * 1024, window=(4096, 128 * 1024)),
    "mistral-small-24b": Family(
        _llama_like("mistral", "MistralForCausalLM", 5120, 40, 32, 8, 32768, 131072, head_dim=128,
                    sliding_window=None, max_position_embeddings=32768),
        23_572_403_200, 160 * 1024, context=32768),
    "olmo-2-7b": Family(
        _llama_like("olmo2", "Olmo2ForCausalLM", 4096, 32, 32, 32, 11008, 100352), 7_298_617_344, 512 * 1024),
    "granite-3.1-8b": Family(
        _llama_like("granite", "GraniteForCausalLM", 4096, 40, 32, 8, 12800, 49155, tie_word_embeddings=True),
        8_170_848_256, 160 * 1024),
    "glm-4-9b": Family(
        _llama_like("glm4", "Glm4ForCausalLM", 4096, 40, 32, 2, 13696, 151552, head_dim=128, attention_bias=False),
        9_400_279_040, 40 * 1024),
    "command-r": Family(
        _llama_like("cohere", "CohereForCausalLM", 8192, 40, 64, 64, 22528, 256000), 34_980_831_232, 1280 * 1024),
    "command-r7b": Family(
        _llama_like("cohere2", "Cohere2ForCausalLM", 4096, 32, 32, 8, 14336, 256000, sliding_window=4096,
                    sliding_window_pattern=4),
        8_028_033_024, 128 * 1024, window=(4096, 96 * 1024)),
    "stablelm-3b": Family(
        _llama_like("stablelm", "StableLmForCausalLM", 2560, 32, 32, 32, 6912, 50304, max_position_embeddings=4096),
        2_795_443_200, 320 * 1024),
    "pythia-6.9b": Family(
        _gpt("gpt_neox", "GPTNeoXForCausalLM", hidden_size=4096, num_hidden_layers=32, num_attention_heads=32,
             intermediate_size=16384, vocab_size=50432, max_position_embeddings=2048),
        6_857_302_016, 512 * 1024),
    "gpt-j-6b": Family(
        _gpt("gptj", "GPTJForCausalLM", n_embd=4096, n_layer=28, n_head=16, n_positions=2048, rotary_dim=64,
             vocab_size=50400, tie_word_embeddings=False),
        6_050_882_784, 448 * 1024, context=2048),
    "mpt-7b": Family(
        _gpt("mpt", "MPTForCausalLM", d_model=4096, n_heads=32, n_layers=32, expansion_ratio=4, max_seq_len=2048,
             vocab_size=50432, no_bias=True),
        6_649_286_656, 512 * 1024, context=2048),
    "smollm3-3b": Family(
        _llama_like("smollm3", "SmolLM3ForCausalLM", 2048, 36, 16, 4, 11008, 128256), 3_075_098_624, 72 * 1024),
    "phi-3-mini": Family(
        _llama_like("phi3", "Phi3ForCausalLM", 3072, 32, 32, 32, 8192, 32064, sliding_window=2047,
                    max_position_embeddings=4096, pad_token_id=32000),
        3_821_079_552, 384 * 1024, window=(2047, 384 * 1024)),
    "phi-4": Family(
        _llama_like("phi3", "Phi3ForCausalLM", 5120, 40, 40, 10, 17920, 100352, pad_token_id=100349),
        14_659_507_200, 200 * 1024),
    "lfm2-1.2b": Family(
        _llama_like("lfm2", "Lfm2ForCausalLM", 2048, 16, 32, 8, 12288, 65536, block_auto_adjust_ff_dim=True,
                    block_ff_dim=12288, block_ffn_dim_multiplier=1.0, block_multiple_of=256, block_dim=2048,
                    full_attn_idxs=[2, 5, 8, 10, 12, 14], tie_embedding=True, conv_dim=2048, conv_dim_out=2048),
        1_170_340_608, 6 * 2 * 8 * 64 * 2),
    "jamba-v0.1": Family(
        _llama_like("jamba", "JambaForCausalLM", 4096, 32, 32, 8, 14336, 65536, attn_layer_period=8,
                    attn_layer_offset=4, expert_layer_period=2, expert_layer_offset=1, num_experts=16,
                    num_experts_per_tok=2, mamba_d_state=16, mamba_d_conv=4, mamba_expand=2, mamba_dt_rank=256),
        51_570_323_328, 4 * 2 * 8 * 128 * 2, active=12.1e9),
    "bamba-9b": Family(
        _llama_like("bamba", "BambaForCausalLM", 4096, 32, 32, 8, 14336, 128256, attn_layer_indices=[9, 18, 27],
                    mamba_n_heads=128, mamba_d_head=64, mamba_d_state=128, mamba_d_conv=4, mamba_expand=2,
                    mamba_n_groups=1),
        9_780_000_000, 3 * 2 * 8 * 128 * 2),
    "seed-oss-36b": Family(
        _llama_like("seed_oss", "SeedOssForCausalLM", 5120, 64, 80, 8, 27648, 155136, head_dim=128,
                    attention_bias=True, attention_out_bias=False),
        36_151_104_512, 256 * 1024),
}  # fmt: skip

_LLAMA_8B, _LLAMA_70B = FAMILIES["llama-3.1-8b"].config, FAMILIES["llama-3.1-70b"].config
_QWEN_7B = FAMILIES["qwen2.5-7b"].config
_PACKED = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128}

# Quantized checkpoints: their config and the size of their files in GB, as the hub shows it.
QUANTIZED: dict[str, tuple[dict[str, Any], float]] = {
    "llama-3.1-70b-awq": (
        {**_LLAMA_70B, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True,
                                               "version": "gemm", "modules_to_not_convert": None}}, 39.77),
    "qwen2.5-7b-gptq-int4": (
        {**_QWEN_7B, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False,
                                             "sym": True}}, 5.57),
    "gpt-oss-120b": (
        {**_GPT_OSS, "quantization_config": {
            "quant_method": "mxfp4", "modules_to_not_convert": [
                "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}}, 65.25),
    "gpt-oss-20b": (
        {**FAMILIES["gpt-oss-20b"].config, "quantization_config": {
            "quant_method": "mxfp4", "modules_to_not_convert": [
                "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}}, 13.76),
    "deepseek-v3": (  # 688.6 GB with the 14 B of multi-token prediction, which engines leave out
        {**_DEEPSEEK, "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                              "weight_block_size": [128, 128]}}, 674.0),
    "llama-3.1-8b-fp8": (
        {**_LLAMA_8B, "quantization_config": {
            "quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                "num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True}}}}}, 9.08),
    "llama-3.1-8b-w4a16": (
        {**_LLAMA_8B, "quantization_config": {
            "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": _PACKED}}}}, 5.74),
    "llama-3.1-8b-bnb-4bit": (
        {**_LLAMA_8B, "quantization_config": {
            "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True, "llm_int8_skip_modules": None}}, 5.70),
}  # fmt: skip
