"""However an engine ends, no process and no memory of it is left on the GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infertune.bench.channel import LoadCommand, LoadedReply, MeasureCommand
from infertune.bench.isolation import Deadlines, EngineProcess
from infertune.domain.device import Device
from infertune.domain.knobs import Config
from infertune.domain.measurement import Crashed, Measurement
from infertune.domain.request import JobRequest
from infertune.engines.base import Setup
from infertune.runs.job import Job, prepare
from tests.gpu.board import Board

MODEL = "builtin:qwen2.5-0.5b"
DEADLINES = Deadlines(load_s=300, warmup_s=60, run_s=60)
pytestmark = pytest.mark.gpu
each_engine = pytest.mark.parametrize(
    "engine", [pytest.param("hf", marks=pytest.mark.hf), pytest.param("vllm", marks=pytest.mark.vllm)]
)


def a_job(engine: str) -> Job:
    return prepare(JobRequest(engine=engine, model=MODEL, workload="synthetic:in=64,out=8", requests=8))


def quick(job: Job) -> Config:
    """The default, without compiling and CUDA graphs, which launches fastest."""
    eager = {"enforce_eager": True} if "enforce_eager" in job.space else {}
    return job.space.repair(job.space.default.updated(eager))


def loaded(job: Job, folder: Path) -> EngineProcess:
    """An engine launched as its users do: vLLM in several processes."""
    process = EngineProcess(folder / "launch.log")
    setup = Setup(model=job.model, device=job.device, config=quick(job), defaults=job.engine_defaults, faithful=True)
    answer = process.load(LoadCommand(engine=job.engine.name, options=job.options, setup=setup), DEADLINES)
    assert isinstance(answer, LoadedReply), (answer, process.log_tail())
    return process


def weights_bytes(job: Job) -> int:
    assert job.model and job.model.weight_bytes
    return job.model.weight_bytes


@each_engine
def test_a_killed_worker_leaves_neither_memory_nor_a_process(one_gpu: Device, engine: str, tmp_path: Path) -> None:
    job = a_job(engine)
    before = Board.now(one_gpu)
    process = loaded(job, tmp_path)
    during = Board.now(one_gpu)
    assert during.used_bytes > before.used_bytes + weights_bytes(job)
    assert during.processes > before.processes
    process.kill()
    before.assert_is_back()


@each_engine
def test_a_worker_killed_by_others_is_a_crash_and_leaves_nothing(one_gpu: Device, engine: str, tmp_path: Path) -> None:
    job = a_job(engine)
    before = Board.now(one_gpu)
    process = loaded(job, tmp_path)
    os.kill(process.pid, 9)
    live = quick(job).subset(frozenset(job.space.names) - job.space.launch_names)
    answer = process.measure(MeasureCommand(live=live, plan=job.plan("search", 8)), DEADLINES)
    assert isinstance(answer, Crashed) and answer.signal == "SIGKILL"
    before.assert_is_back()


@each_engine
def test_nothing_is_left_when_infertune_itself_is_killed(one_gpu: Device, engine: str, tmp_path: Path) -> None:
    job = a_job(engine)
    before = Board.now(one_gpu)
    command = [sys.executable, "-m", "infertune", "bench", MODEL, "--engine", engine, "--out", str(tmp_path / "run")]
    command += ["--workload", "synthetic:in=64,out=1024", "--requests", "64", "--json"]
    command += ["--set", "enforce_eager=true"] if "enforce_eager" in job.space else []
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        before.wait_until_used(weights_bytes(job), within_s=180)
        assert parent.poll() is None, parent.stderr
    finally:
        parent.kill()
        parent.communicate()
    before.assert_is_back()


@each_engine
def test_a_relaunch_waits_until_the_memory_of_the_last_engine_is_back(
    one_gpu: Device, engine: str, tmp_path: Path
) -> None:
    job = a_job(engine)
    before, notes = Board.now(one_gpu), list[str]()
    with job.bench(tmp_path, on_note=notes.append) as bench:
        for _ in range(2):
            attempt = bench.measure(quick(job), job.plan("search", 8), fresh=True)
            assert isinstance(attempt.outcome, Measurement), attempt.outcome
            assert attempt.outcome.windows[0].energy.gpu_j is not None, attempt.outcome.windows[0].energy.reason
    assert not [note for note in notes if "memory is not back" in note]
    before.assert_is_back()
