"""Which words of a `vllm serve` command belong to which flag, by vLLM 0.32 and what earlier versions had besides.

Only for taking a command apart before vLLM is asked: values are checked by the installed version's own parser.
"""

from typing import Literal

from infertune.engines.shell import names_in

Arity = Literal["switch", "one", "many"]


# Of the server, not of the engine: they are kept for the export and never given to the engine.
_SERVER_SWITCHES = names_in("""
    allow_credentials cohere_is_reasoning_model disable_fastapi_docs disable_frontend_multiprocessing
    disable_log_requests disable_uvicorn_access_log enable_auto_tool_choice enable_flash_late_interaction
    enable_force_include_usage enable_log_deltas enable_log_outputs enable_log_requests enable_offline_docs
    enable_per_request_metrics enable_prompt_tokens_details enable_request_id_headers enable_scale_out
    enable_server_load_tracking enable_ssl_refresh enable_tokenizer_info_endpoint exclude_tools_when_tool_choice_none
    grpc headless log_error_stack return_tokens_as_token_ids trust_request_chat_template trust_request_mm_kwargs
""")
_SERVER_VALUES = names_in("""
    allowed_headers allowed_methods allowed_origins anthropic_disabled_thinking_effort api_server_count chat_template
    chat_template_content_format cohere_format data_parallel_supervisor_port default_chat_template_kwargs
    disable_access_log_for_endpoints dp_supervisor_probe_failure_threshold dp_supervisor_probe_interval_s
    dp_supervisor_probe_timeout_s fingerprint_mode fingerprint_value grpc_port h11_max_header_count
    h11_max_incomplete_event_size host max_log_len middleware port reasoning_parser reasoning_parser_plugin
    response_role root_path sse_keep_alive_interval ssl_ca_certs ssl_cert_reqs ssl_certfile ssl_ciphers ssl_keyfile
    tool_call_parser tool_parser_plugin tool_server tool_strict_level uds uvicorn_log_level log_config_file
    otlp_traces_endpoint
""")
_SERVER_MANY = names_in("api_key lora_modules prompt_adapters served_model_name collect_detailed_traces")
SERVER = _SERVER_SWITCHES | _SERVER_VALUES | _SERVER_MANY

_ENGINE_SWITCHES = names_in("""
    aggregate_engine_logging allow_deprecated_quantization async_scheduling calculate_kv_scales cudagraph_metrics
    data_parallel_external_lb data_parallel_hybrid_lb data_parallel_multi_port_external_lb dcp_q_replicate
    disable_async_output_proc disable_cascade_attn disable_chunked_mm_input disable_custom_all_reduce
    disable_hybrid_kv_cache_manager disable_log_stats disable_nccl_for_dp_synchronization disable_sliding_window
    enable_batch_sharded_sampling enable_chunked_prefill enable_cumem_allocator enable_dbo enable_elastic_ep
    enable_ep_weight_filter enable_eplb enable_expert_parallel enable_fault_tolerance enable_flashinfer_autotune
    enable_hc_sp enable_layerwise_nvtx_tracing enable_logging_iteration_details enable_lora enable_lora_bias
    enable_mamba_cache_stochastic_rounding enable_mamba_shared_prefix_checkpoint enable_mfu_metrics
    enable_mixed_moe_lora_format enable_mm_embeds enable_moe_shared_loras enable_multimodal_encoder_data_parallel
    enable_nccl_comm_suspend enable_prefix_caching enable_prompt_embeds enable_reasoning enable_return_routed_experts
    enable_shm_tensor_arena enable_sleep_mode enable_tower_connector_lora enable_trace_replay enforce_eager
    fail_on_environ_validation fully_sharded_loras interleave_mm_strings jit_monitor_verbose kv_cache_metrics
    kv_sharing_fast_prefill language_model_only long_prefill_token_threshold_adaptive mm_device_do_normalize
    mm_encoder_only multi_step_stream_outputs numa_bind ray_workers_use_nsight return_sampling_mask
    scheduler_reserve_full_isl skip_mm_profiling skip_tokenizer_init sleep_mode_offload_cudagraph
    specialize_active_lora swa_bounded_replay tokens_only trust_remote_code use_fp64_gumbel use_replayssm
    use_tqdm_on_load use_v2_block_manager worker_use_ray engine_use_ray
""")
_ENGINE_MANY = names_in("""
    allowed_media_domains cpu_offload_params cudagraph_capture_sizes cuda_graph_sizes ignore_patterns
    kv_cache_dtype_skip_layers logits_processors lora_target_modules numa_bind_cpus numa_bind_nodes offload_params
    sleep_preserve_parameter_names
""")
SHORT = {
    "-asc": "api_server_count", "-q": "quantization", "-pp": "pipeline_parallel_size", "-n": "nnodes",
    "-r": "node_rank", "-tp": "tensor_parallel_size", "-dcp": "decode_context_parallel_size",
    "-pcp": "prefill_context_parallel_size", "-dp": "data_parallel_size", "-dpn": "data_parallel_rank",
    "-dpr": "data_parallel_start_rank", "-dpl": "data_parallel_size_local", "-dpa": "data_parallel_address",
    "-dpp": "data_parallel_rpc_port", "-dpb": "data_parallel_backend", "-dph": "data_parallel_hybrid_lb",
    "-dpe": "data_parallel_external_lb", "-dpm": "data_parallel_multi_port_external_lb",
    "-ep": "enable_expert_parallel", "-sc": "speculative_config", "-cc": "compilation_config",
    "-ac": "attention_config", "-O": "optimization_level",
}  # fmt: skip


def arity(name: str) -> Arity:
    """How many values follow a flag; one where it is not known."""
    if name in _SERVER_SWITCHES or name in _ENGINE_SWITCHES:
        return "switch"
    return "many" if name in _SERVER_MANY or name in _ENGINE_MANY else "one"


def is_switch(name: str) -> bool:
    """Whether a flag takes no value; `no_…` turns one off."""
    return arity(name) == "switch" or (name.startswith("no_") and arity(name.removeprefix("no_")) == "switch")
