"""The curated table: vLLM's arguments that are worth searching, with their values on a CPU and on a GPU, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from infertune.domain.knobs import Choice, Effect, Float, Int, Knob, Scalar, doubling

LIVE = ("max_num_seqs", "max_num_batched_tokens")
PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
DeviceKind = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Entry:
    """An argument worth searching.

    Attributes:
        name: vLLM's own; a part of a nested argument has its dot.
        read: Where its effective value lies in a `VllmConfig`.
        make: What kind of knob it is.
        cpu: Its values on a CPU, to which the default is added; none where it is not searched there.
        gpu: The same on a GPU.
        why: What it trades, for the user.
        unit: Of the values.
        is_concurrency: Its value is how many requests run at once.
        effect: What other values do to answers.
        most: The engine takes values up to this one: a search may go on beyond the ladder.
        compiled: It says how the compiled model runs, and nothing where `enforce_eager` skips compiling.
    """

    name: str
    read: str
    make: Callable[..., Knob]
    cpu: tuple[Scalar, ...]
    gpu: tuple[Scalar, ...]
    why: str
    unit: str = ""
    is_concurrency: bool = False
    effect: Effect = "exact"
    most: float | None = None
    compiled: bool = False


_ON_OFF = (True, False)
NGRAM = '{"method":"ngram","num_speculative_tokens":4,"prompt_lookup_max":4}'
CURATED = (
    Entry("max_num_seqs", "scheduler_config.max_num_seqs", Int, doubling(1, 256), doubling(8, 1024),
          "sequences decoded together: more share one reading of the weights, each needs KV cache", "sequences",
          is_concurrency=True, most=65536),
    Entry("max_num_batched_tokens", "scheduler_config.max_num_batched_tokens", Int,
          doubling(64, 4096), doubling(512, 32768),
          "tokens computed in one step: more feed prefill better, fewer let decoding go on beside it", "tokens",
          most=1048576),
    Entry("enable_prefix_caching", "cache_config.enable_prefix_caching", Choice, _ON_OFF, _ON_OFF,
          "reuses the KV cache of shared beginnings; hashing costs a little where nothing is shared"),
    Entry("enable_chunked_prefill", "scheduler_config.enable_chunked_prefill", Choice, _ON_OFF, _ON_OFF,
          "splits long prompts over steps, so that decoding need not wait for them"),
    Entry("enforce_eager", "model_config.enforce_eager", Choice, _ON_OFF, _ON_OFF,
          "skips compiling and CUDA graphs: faster to launch, slower to run", effect="numeric"),
    Entry("dtype", "model_config.dtype", Choice, ("bfloat16", "float32"), (),
          "number format of weights and activations: bfloat16 halves what is read, if the processor computes in it"),
    Entry("gpu_memory_utilization", "cache_config.gpu_memory_utilization", Float, (), (0.85, 0.9, 0.95),
          "share of device memory for vLLM: what weights and activations leave becomes KV cache"),
    Entry("kv_cache_dtype", "cache_config.cache_dtype", Choice, (), ("auto", "fp8"),
          "fp8 doubles how many tokens the KV cache holds, at some loss of precision", effect="lossy"),
    Entry("block_size", "cache_config.block_size", Choice, (), (16, 32, 64, 128),
          "tokens in one KV cache block: large ones read faster and share prefixes less", "tokens"),
    Entry("async_scheduling", "scheduler_config.async_scheduling", Choice, (), _ON_OFF,
          "schedules the next step while the GPU computes this one"),
    Entry("long_prefill_token_threshold", "scheduler_config.long_prefill_token_threshold", Choice,
          (), (0, 512, 1024, 2048), "most tokens of one long prompt in a step; 0 sets no limit", "tokens"),
    Entry("performance_mode", "performance_mode", Choice, (), ("balanced", "throughput", "interactivity"),
          "vLLM's own presets for kernels and CUDA graphs", effect="numeric"),
    Entry("attention_backend", "attention_config.backend", Choice, (), ("FLASH_ATTN", "FLASHINFER", "TRITON_ATTN"),
          "the attention kernels; without one vLLM takes the first that this GPU and model allow", effect="numeric"),
    Entry("optimization_level", "optimization_level", Choice, (), (1, 2),
          "how much is compiled: 1 starts sooner, 2 captures CUDA graphs of whole decoding steps too", effect="numeric",
          compiled=True),
    Entry("compilation_config.cudagraph_mode", "compilation_config.cudagraph_mode.name", Choice,
          (), ("FULL_AND_PIECEWISE", "FULL_DECODE_ONLY", "PIECEWISE", "NONE"),
          "which steps are replayed as CUDA graphs: whole ones save the most launching, pieces fit every attention",
          effect="numeric", compiled=True),
    Entry("max_cudagraph_capture_size", "compilation_config.max_cudagraph_capture_size", Int, (), doubling(128, 1024),
          "largest batch that is replayed as a CUDA graph: larger ones take memory and time at the start", "sequences",
          effect="numeric", compiled=True),
    Entry("quantization", "model_config.quantization", Choice, (), ("fp8",),
          "fp8 halves the weights while they are loaded: less to read and to hold, at some loss of precision",
          effect="lossy"),
    Entry("speculative_config", "speculative_config", Choice, (), (NGRAM,),
          "n-gram speculation: guesses tokens from the prompt, checks several in a step; pays where outputs repeat it",
          effect="numeric"),
    Entry("tensor_parallel_size", "parallel_config.tensor_parallel_size", Int, (), doubling(1, 64),
          "GPUs that share every layer: more memory and bandwidth for one engine, paid in communication", "GPUs",
          effect="numeric"),
    Entry("pipeline_parallel_size", "parallel_config.pipeline_parallel_size", Int, (), doubling(1, 64),
          "GPUs that hold some of the layers each: little communication, but a step passes one after another", "GPUs",
          effect="numeric"),
    Entry("data_parallel_size", "parallel_config.data_parallel_size", Int, (), (1,),
          "copies of the engine that share the requests: no communication, but each holds all the weights", "copies",
          effect="numeric"),
    Entry("enable_expert_parallel", "parallel_config.enable_expert_parallel", Choice, (), _ON_OFF,
          "spreads whole experts over the GPUs in place of a part of each: fewer, larger products, uneven load",
          effect="numeric"),
    Entry("max_model_len", "model_config.max_model_len", Int, (), (1,),
          "longest prompt plus output: a shorter one needs less KV cache, and longer requests are then refused",
          "tokens"),
)  # fmt: skip
KNOBS = tuple(entry.name for entry in CURATED)
# Not passed to the probe where they are held, since its answer is their default; the context decides other defaults.
TUNED = frozenset(KNOBS) - {"max_model_len"}
LADDERS = {
    "cpu": {entry.name: entry.cpu for entry in CURATED},
    "gpu": {entry.name: entry.gpu for entry in CURATED if entry.name not in (*PARALLEL, "max_model_len")},
}
# Least and most that a number may be; the engine refuses others only after a launch.
BOUNDS: dict[str, tuple[float, float]] = {
    "gpu_memory_utilization": (0.01, 1.0),
    "max_cudagraph_capture_size": (0, 65536),
    "long_prefill_token_threshold": (0, 2**31),
}
