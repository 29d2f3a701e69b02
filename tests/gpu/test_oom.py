"""Real out-of-memory errors of a GPU: a pipeline goes on without a relaunch, and vLLM's are not taken for crashes."""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from infertune.bench.bench import Bench
from infertune.bench.channel import Plan
from infertune.bench.isolation import Deadlines
from infertune.domain.architectures import BUILTINS
from infertune.domain.device import Device
from infertune.domain.knobs import Int, SearchSpace
from infertune.domain.measurement import Infeasible, Measurement
from infertune.domain.models import resolve_model
from infertune.domain.request import JobRequest
from infertune.domain.workload import parse_workload
from infertune.engines import get_engine
from infertune.engines.base import EngineOptions
from infertune.runs.job import prepare
from tests.gpu.board import MIB, Board, held_by_another

pytestmark = pytest.mark.gpu

WORKLOAD = parse_workload("synthetic:in=64,out=8")
PLAN = Plan(warmup=WORKLOAD.draw("warmup", 4), requests=WORKLOAD.draw("search", 4))

# One activation of qwen2.5-0.5b's MLP then has 256 x 32,000 x 4,864 bfloat16: 80 GB, and three of them live at once.
_TOO_MUCH = "synthetic:in=32000,out=2"
_TOO_MANY = 256


@pytest.mark.hf
def test_a_pipeline_survives_cuda_out_of_memory_and_runs_on_without_a_relaunch(one_gpu: Device, tmp_path: Path) -> None:
    large = JobRequest(engine="hf", model="builtin:qwen2.5-0.5b", workload=_TOO_MUCH, requests=_TOO_MANY)
    job = prepare(large)
    small = prepare(large.model_copy(update={"workload": "synthetic:in=64,out=8", "requests": 8})).plan("search", 8)
    with job.bench(tmp_path) as bench:
        first = bench.measure(job.space.default, small)
        assert isinstance(first.outcome, Measurement), first.outcome
        loaded = Board.now(one_gpu)
        too_large = bench.measure(job.space.default.updated({"batch_size": _TOO_MANY}), job.plan("search", _TOO_MANY))
        assert isinstance(too_large.outcome, Infeasible) and too_large.outcome.reason == "oom", too_large.outcome
        assert "CUDA out of memory" in too_large.outcome.detail
        assert bench.launched is not None, "the model is still loaded"
        assert Board.now(one_gpu).used_bytes < loaded.used_bytes + 1024 * MIB, "the failed batch was given back"
        after = bench.measure(job.space.default, small)
        assert isinstance(after.outcome, Measurement), after.outcome
    assert after.live and after.launch_s == 0.0 and after.launch_number == first.launch_number
    assert after.outcome.output_tokens_per_s > 0.5 * first.outcome.output_tokens_per_s


@contextlib.contextmanager
def vllm_bench(gpu: Device, spec: str, folder: Path) -> Iterator[tuple[Bench, SearchSpace]]:
    """A bench without the check that the weights fit, so that they fail on the GPU."""
    space = SearchSpace(
        knobs=(
            Int("max_num_seqs", (8, 64), 64, scope="live", live_at_most_launched=True),
            Int("max_num_batched_tokens", (512, 2048), 2048, scope="live", live_at_most_launched=True),
        )
    )
    options = EngineOptions()
    with Bench(
        engine=get_engine("vllm", options),
        options=options,
        model=resolve_model(spec, weights="dummy"),
        device=gpu,
        space=space,
        log_folder=folder / "logs",
        deadlines=Deadlines(load_s=300),
    ) as bench:
        yield bench, space


@pytest.mark.vllm
@pytest.mark.parametrize("faithful", [False, True], ids=["in-process", "multi-process"])
def test_weights_that_do_not_fit_are_out_of_memory_in_vllm_and_leave_nothing(
    one_gpu: Device, tmp_path: Path, faithful: bool
) -> None:
    shape = BUILTINS["llama-3.1-8b"].config
    layer_bytes = resolve_model("builtin:llama-3.1-8b").weight_bytes / (shape["num_hidden_layers"] + 5)
    too_many = math.ceil(1.5 * one_gpu.memory_bytes / layer_bytes)
    folder = tmp_path / "too-large"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**shape, "num_hidden_layers": too_many}))
    before = Board.now(one_gpu)
    with vllm_bench(one_gpu, str(folder), tmp_path) as (bench, space):
        outcome = bench.measure(space.default, PLAN, fresh=faithful).outcome
    assert isinstance(outcome, Infeasible), outcome
    assert (outcome.reason, outcome.stage) == ("oom", "load")
    assert "out of memory" in outcome.detail
    before.assert_is_back()


@pytest.mark.vllm
def test_memory_taken_by_another_process_is_out_of_memory_in_vllm(one_gpu: Device, tmp_path: Path) -> None:
    with (
        held_by_another(one_gpu.memory_bytes // 2),
        vllm_bench(one_gpu, "builtin:qwen2.5-0.5b", tmp_path) as (bench, space),
    ):
        outcome = bench.measure(space.default, PLAN, fresh=True).outcome
    assert isinstance(outcome, Infeasible), outcome
    assert (outcome.reason, outcome.stage) == ("oom", "load")
    assert outcome.detail.startswith("Free memory on device")
