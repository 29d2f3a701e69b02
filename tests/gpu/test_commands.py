"""Every command of run_all.sh is a valid request on the GPU it is meant for; checked without one."""

import shlex
import subprocess
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
from infertune.runs.job import restrict
from infertune.tuning.sweep import BenchRequest, LandscapeRequest

SCRIPT = Path(__file__).with_name("run_all.sh")
KINDS: dict[str, type[JobRequest]] = {"tune": TuneRequest, "landscape": LandscapeRequest, "bench": BenchRequest}
H100 = Device(
    kind="gpu", name="NVIDIA H100 80GB HBM3", uuids=("GPU-1",), memory_bytes=81559 * 1024**2, cores=16, driver="580"
)
# What vLLM 0.26.0 would choose for a dense bfloat16 model on an H100, read from its source: get_batch_defaults of
# EngineArgs, CacheConfig, and __post_init__ of VllmConfig.
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
    "tensor_parallel_size": 1,
}


def printed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPT), *arguments], capture_output=True, text=True, timeout=30)


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
    probe = Probe(version="0.26.0", fields=tuple(DEFAULTS), defaults=DEFAULTS, max_model_len=model.context_tokens)
    return space_from_probe(probe, model, H100)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """The Azure code trace in small: its columns, and prompts as long as its longest."""
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


def test_both_engines_tune_and_map_both_models_and_live_values_are_compared() -> None:
    done = {(line[0], line[1], line[line.index("--engine") + 1]) for line in MEASURING}
    for engine in ("hf", "vllm"):
        for model in ("builtin:qwen2.5-0.5b", "builtin:llama-3.1-8b"):
            assert ("tune", model, engine) in done
    assert {("landscape", "builtin:llama-3.1-8b", "vllm"), ("landscape", "builtin:llama-3.1-8b", "hf")} <= done
    [live] = commands("tests.benchmarks.live_against_fresh")
    space = space_of(live[0], resolve_model(live[1]), parse_workload(live[live.index("--workload") + 1]))
    knob = {live[live.index("--knob") + 1].partition("=")[0]: ()}
    assert not knob.keys() & space.launch_names


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "there is no stage nonsense; there are: smoke "),
        ([], "name stages; there are: smoke "),
        (["--nonsense"], "there is no option --nonsense"),
    ],
)
def test_a_wrong_call_says_what_there_is(arguments: list[str], complaint: str) -> None:
    answer = printed(*arguments)
    assert answer.returncode == 2 and f"run_all.sh: {complaint}" in answer.stderr
