"""Which arguments can make vLLM load code, read or write files, or reach the network.

Those take effect only where the user names them by `--set` himself: a profile, a ledger, a configuration file and a
command of today may come from somebody else. What is allowed without is a list, because new versions add arguments.
"""

import json
import re

from infertune.domain.knobs import Scalar
from infertune.engines.shell import names_in

_PLAIN_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*", re.ASCII)
# Numbers and switches name no code and no file; these do more than their type says.
_REACHING = re.compile(
    r"trust|plugin|port$|_addr|address|nnodes|node_rank|data_parallel_(start_)?rank|headless|allow_|_cls|elastic"
    r"|hf_token|external_lb|hybrid_lb"
)
# Arguments whose value is a word from a list of vLLM's own.
_WORDS = names_in("""
    all2all_backend attention_backend convert dcp_comm_backend dtype expert_placement_strategy kv_cache_dtype
    kv_offloading_backend linear_backend logprobs_mode lora_dtype mamba_backend mamba_cache_dtype mamba_cache_mode
    mamba_ssm_cache_dtype max_model_len mm_encoder_attn_backend mm_encoder_attn_dtype mm_encoder_tp_mode moe_backend
    offload_backend optimization_level performance_mode prefix_caching_hash_algo quantization runner
    safetensors_load_strategy scheduling_policy spec_method gdn_prefill_backend kda_prefill_backend kda_decode_backend
    sparse_indexer_topk_backend
""")
# The same where only some of the words are harmless.
_SOME_WORDS = {
    "load_format": ("auto", "hf", "safetensors", "fastsafetensors", "mistral", "dummy"),
    "distributed_executor_backend": ("mp", "uni"),
    "data_parallel_backend": ("mp",),
    "tokenizer_mode": ("auto", "hf", "slow", "mistral"),
    "config_format": ("auto", "hf", "mistral"),
    "generation_config": ("auto", "vllm"),
    "model_impl": ("auto", "vllm"),
}
# Parts of nested arguments that hold numbers, switches, words of vLLM's own, or lists of them.
_PARTS = re.compile(
    r"compilation_config\.(mode|level|cudagraph_\w+|max_cudagraph_capture_size|compile_sizes|use_inductor\w*"
    r"|splitting_ops|full_cuda_graph|use_cudagraph|custom_ops|pass_config(\.\w+)?)"
    r"|attention_config\.(backend|flash_attn_version|use_\w+|disable_\w+)"
    r"|speculative_config\.(method|num_speculative_tokens|prompt_lookup_max|prompt_lookup_min|disable_\w+)"
    r"|hf_overrides\.(text_config\.)?(rope_(parameters|scaling)(\.\w+)?|rope_theta|max_position_embeddings)"
    r"|override_generation_config\.\w+|structured_outputs_config\.(backend|disable_\w+|enable_\w+)"
    r"|limit_mm_per_prompt\.\w+(\.\w+)?|mm_processor_kwargs\.((min|max)_\w+|num_crops|use_fast|fps|size(\.\w+)?)"
    r"|eplb_config\.\w+"
)
_NGRAM_KEYS = {"method", "num_speculative_tokens", "prompt_lookup_max", "prompt_lookup_min"}
_LISTS = ("cudagraph_capture_sizes",)


def opens(name: str, value: Scalar) -> bool:
    """Whether a setting may do more than say how this model is computed.

    Args:
        name: Canonical; a part of a nested argument has its dot.
        value: Its value.
    """
    head = name.partition(".")[0]
    if _REACHING.search(head):
        return value not in (None, False)
    if "." in name:
        return _PARTS.fullmatch(name) is None or not _is_data(value)
    if value is None or isinstance(value, bool | int | float):
        return False
    if name == "speculative_config":  # other methods load a second model
        return not _is_ngram(value)
    if name in _SOME_WORDS:
        return value not in _SOME_WORDS[name]
    if name in _LISTS:
        return not _is_data(value)
    return name not in _WORDS or _PLAIN_WORD.fullmatch(value) is None


def _is_ngram(value: str) -> bool:
    try:
        content = json.loads(value)
    except ValueError:
        return False
    known = isinstance(content, dict) and content.get("method") == "ngram" and content.keys() <= _NGRAM_KEYS
    return known and all(isinstance(item, int) for key, item in content.items() if key != "method")


def _is_data(value: Scalar) -> bool:
    """A number, a switch, a plain word, or lists and tables of them."""
    if not isinstance(value, str):
        return True
    try:
        content = json.loads(value) if value[:1] in ("[", "{") else value
    except ValueError:
        return False
    return _plain(content)


def _plain(content: object) -> bool:
    if isinstance(content, list):  # custom operators stand there as "+rms_norm"
        return all(_plain(item.lstrip("+-") if isinstance(item, str) else item) for item in content)
    if isinstance(content, dict):
        return all(_plain(key) and _plain(item) for key, item in content.items())
    return not isinstance(content, str) or _PLAIN_WORD.fullmatch(content) is not None
