"""Every command of run_all.sh is a valid request on the GPU it is meant for; checked without one."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from infertune.cli import app
from infertune.cli.options import flags_of
from infertune.domain.device import Device
from infertune.domain.knobs import Scalar, SearchSpace
from infertune.domain.models import Model, resolve_model
from infertune.domain.request import JobRequest, TuneRequest, make_request
from infertune.domain.workload import Workload, parse_workload
from infertune.engines.hf.space import pipeline_space
from infertune.engines.vllm.memory import check_fits
from infertune.engines.vllm.space import Probe, space_from_probe
from infertune.runs.asked import restrict
from infertune.tuning.sweep import BenchRequest, LandscapeRequest

SCRIPT = Path(__file__).with_name("run_all.sh")
KINDS: dict[str, type[JobRequest]] = {"tune": TuneRequest, "landscape": LandscapeRequest, "bench": BenchRequest}
H100 = Device(
    kind="gpu", name="NVIDIA H100 80GB HBM3", uuids=("GPU-1",), memory_bytes=81559 * 1024**2, cores=16, driver="580"
)
# What vLLM 0.26.0 would choose for a dense bfloat16 model on an H100, read from its source: get_batch_defaults of
# EngineArgs, CacheConfig, AttentionConfig, and __post_init__ of VllmConfig.
DEFAULTS: dict[str, Scalar] = {
    "max_num_seqs": 1024,
    "max_num_batched_tokens": 16384,
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "enforce_eager": False,
    "gpu_memory_utilization": 0.92,
    "kv_cache_dtype": "auto",
    "block_size": 16,
    "async_scheduling": True,
    "long_prefill_token_threshold": 0,
    "performance_mode": "balanced",
    "attention_backend": None,
    "optimization_level": 2,
    "compilation_config.cudagraph_mode": "FULL_AND_PIECEWISE",
    "max_cudagraph_capture_size": 512,
    "quantization": None,
    "tensor_parallel_size": 1,
}


def printed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True, timeout=120)


def stages() -> list[str]:
    return [line.partition("|")[0].strip() for line in printed("--list").stdout.splitlines()]


def commands(module: str) -> list[list[str]]:
    """The arguments of every call of a module, as a dry run prints them."""
    lines = printed("--dry-run", *stages()).stdout.splitlines()
    words = [shlex.split(line) for line in lines if not line.startswith("#")]
    return [line[3:] for line in words if line[:3] == ["python3", "-m", module]]


def request_of(arguments: list[str]) -> JobRequest:
    """The request that a command line makes."""
    name = arguments[0]
    command: Any = typer.main.get_command(app)
    context = command.commands[name].make_context(name, list(arguments[1:]))
    return make_request(KINDS[name], flags_of(context.params))


def space_of(engine: str, model: Model, workload: Workload) -> SearchSpace:
    """What the engine would offer on the GPU."""
    if engine == "hf":
        return pipeline_space(model, H100, workload, flash_attention=False)
    check_fits(model, H100)
    assert model.context_tokens
    fields = tuple(name.partition(".")[0] for name in DEFAULTS)
    probe = Probe(version="0.26.0", fields=fields, defaults=DEFAULTS, max_model_len=model.context_tokens)
    return space_from_probe(probe, model, H100)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A short trace with the columns of the Azure code trace, and prompts as long as its longest."""
    rows = [f"2023-11-16 18:15:46,{context},{context % 50 + 1}" for context in range(100, 7500, 100)]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    return path


MEASURING = [line for line in commands("infertune") if line[0] in KINDS]


@pytest.mark.parametrize("arguments", MEASURING, ids=lambda line: " ".join(line[:4]))
def test_a_stage_asks_only_for_what_there_is_on_a_gpu(arguments: list[str], trace: Path) -> None:
    request = request_of(arguments)
    assert request.model and request.engine and request.workload
    assert request.requests, "a job is sized by the slowest configuration unless its requests are given"
    model = resolve_model(request.model)
    spec = request.workload
    workload = parse_workload(f"trace:{trace}" if spec.startswith("trace:") else spec, request.requests)
    whole = space_of(request.engine, model, workload)
    space = restrict(whole, request.set, request.knob)
    assert not space.violations(space.repair(space.default))
    if isinstance(request, LandscapeRequest):
        points = list(space.grid())
        asked = 1
        for values in request.knob.values():
            asked *= len(values)
        assert len(points) == asked, "every point of the grid can be run"
    if isinstance(request, TuneRequest):
        assert space.default == whole.default, "the default that is compared with is the engine's own"
        assert space.size > (request.trials or 0), "there is something to search"
        varied = [name for name in space.launch_names if len(space[name].values) > 1]
        assert not varied, "the search pays for one launch"


def test_both_engines_tune_pipelines_are_mapped_and_live_values_are_compared() -> None:
    done = {(line[0], line[1], line[line.index("--engine") + 1]) for line in MEASURING}
    assert {("tune", "builtin:qwen2.5-0.5b", engine) for engine in ("hf", "vllm")} <= done
    assert {("tune", "builtin:llama-3.1-8b", "vllm"), ("landscape", "builtin:qwen2.5-0.5b", "hf")} <= done
    [live] = commands("tests.benchmarks.live_against_fresh")
    space = space_of(live[0], resolve_model(live[1]), parse_workload(live[live.index("--workload") + 1]))
    name, _, values = live[live.index("--knob") + 1].partition("=")
    assert name not in space.launch_names
    assert str(space.default[name]) in values.split(","), "one is not lowered: the effect of the process mode"


def test_a_rehearsal_runs_the_same_stages_with_the_smallest_model() -> None:
    lines = printed("--rehearse", "--dry-run").stdout.splitlines()
    assert [line[2:] for line in lines if line.startswith("#")] == stages()
    assert {word for line in lines for word in shlex.split(line) if word.startswith("builtin:")} == {"builtin:tiny"}


def test_every_stage_can_begin_within_a_call_of_eight_minutes_and_most_of_one_lease_fits_two() -> None:
    expected, least = {}, {}
    for line in printed("--list").stdout.splitlines():
        name, seconds, fewest, _ = (cell.strip() for cell in line.split("|"))
        expected[name], least[name] = int(seconds), int(fewest)
    assert all(least[name] < expected[name] < 480 for name in expected)
    first = ("device", "meters", "hf-grid", "hf-oom", "vllm-qwen-tune")
    assert list(expected)[: len(first)] == list(first)
    assert sum(expected[name] for name in first) <= 480


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "there is no stage nonsense; there are: device "),
        (["--skip", "nonsense"], "there is no stage nonsense; there are: device "),
        (["--skip"], "there is no stage ; there are: device "),
        (["--within", "8m"], "--within takes whole seconds"),
        (["--within"], "--within takes whole seconds"),
        (["--nonsense"], "there is no option --nonsense"),
    ],
)
def test_a_wrong_call_says_what_there_is(arguments: list[str], complaint: str) -> None:
    answer = printed(*arguments)
    assert answer.returncode == 2 and f"run_all.sh: {complaint}" in answer.stderr


def test_without_a_gpu_nothing_is_measured_in_its_name(tmp_path: Path) -> None:
    places = {"OUT": str(tmp_path / "out"), "WORK": str(tmp_path / "work"), "PACKS": str(tmp_path)}
    cpu = {**os.environ, **places, "CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable}
    answer = subprocess.run(["bash", str(SCRIPT), "device"], capture_output=True, text=True, timeout=180, env=cpu)
    assert answer.returncode == 5
    assert "no GPU is visible" in answer.stdout
    assert not (tmp_path / "out" / "summary.txt").exists()
