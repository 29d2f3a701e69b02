"""SGLang's engine, on stand-ins of its package and its server: what it asks, how it starts one, what it writes.

No GPU of the authors has run it: these tests show that its parts fit each other, not that they fit SGLang.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from infertune.bench.channel import LoadCommand, LoadedReply
from infertune.bench.isolation import Deadlines, EngineProcess
from infertune.domain.device import Device
from infertune.domain.knobs import Config
from infertune.domain.models import resolve_model
from infertune.domain.workload import parse_workload
from infertune.engines import export_served
from infertune.engines.asking import Asked
from infertune.engines.base import EngineOptions, Failure, Prompt, Served, Setup
from infertune.engines.serving.process import ServerEndedError
from infertune.engines.sglang.arguments import flags_of
from infertune.engines.sglang.engine import LoadedSglang, SglangEngine, launch_words
from infertune.errors import UsageError
from tests.engines.sglang.stand_in import install

CPU = Device(kind="cpu", name="Some CPU", memory_bytes=16 * 1024**3, cores=4)
GPUS = Device(kind="gpu", name="NVIDIA H100", count=4, memory_bytes=80 * 1024**3, cores=16, driver="570.1")
TINY = resolve_model("builtin:tiny")
WORKLOAD = parse_workload("synthetic:in=16,out=8")


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-in, for this process and those that it starts."""
    folder = install(tmp_path / "packages")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    flags_of.cache_clear()
    yield folder
    flags_of.cache_clear()


@pytest.fixture
def engine() -> SglangEngine:
    return SglangEngine(EngineOptions())


def setup(**changed: object) -> Setup:
    defaults = Config({"mem_fraction_static": None, "max_running_requests": None, "enable_mixed_chunk": False})
    config = defaults.updated(changed)  # type: ignore[arg-type]
    return Setup(model=TINY, device=CPU, config=config, defaults=defaults, faithful=True)


def test_knobs_are_those_of_the_installed_version_around_its_own_defaults(engine: SglangEngine) -> None:
    assert engine.available().version == "0.5.23"
    space = engine.space(TINY, GPUS, WORKLOAD)
    assert space["max_running_requests"].default is None and space.most_concurrent == 512
    assert space["tp_size"].values == (1, 2, 4) and "tp_size" not in engine.space(TINY, CPU, WORKLOAD)
    assert space["schedule_policy"].values == ("fcfs", "lpm")
    assert space["kv_cache_dtype"].effect == "lossy" and space["enable_mixed_chunk"].default is False
    assert any("attention_backend: left out" in note for note in space.notes)
    assert any("has not been run" in note for note in space.notes)


def test_any_argument_of_the_installed_version_can_be_asked_for(engine: SglangEngine) -> None:
    found = engine.understand(
        Asked(held={"--tp": 2, "stream_interval": 4}, searched={"mem_fraction_static": (0.5, 0.6)}),
        TINY,
        GPUS,
        WORKLOAD,
    )
    assert found.held.root == {"tp_size": 2, "stream_interval": 4}
    for held, said in (
        ({"schedule_policy": "best"}, "is not one of lpm, random, fcfs"),
        ({"port": 1}, "infertune sets it itself"),
        ({"mem_fraction": 1}, "did you mean mem_fraction_static"),
        ({"trust_remote_code": True}, "say so yourself with --set trust_remote_code"),
    ):
        with pytest.raises(UsageError, match=said):
            engine.understand(Asked(held=held), TINY, GPUS, WORKLOAD)  # type: ignore[arg-type]


def test_without_sglang_it_says_what_to_install(engine: SglangEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SglangEngine(EngineOptions(python=Path("/no/such/python"))).available()
    assert found.version is None and "pip install sglang" in found.reason


def test_a_launch_passes_what_differs_from_the_default(engine: SglangEngine) -> None:
    words = launch_words(setup(mem_fraction_static=0.8, enable_mixed_chunk=True), flags_of("0.5.23", None), 7)
    assert words == [
        "--model-path", TINY.path, "--host", "127.0.0.1", "--port", "7", "--enable-metrics", "--load-format", "dummy",
        "--device", "cpu", "--mem-fraction-static", "0.8", "--enable-mixed-chunk",
    ]  # fmt: skip


def test_a_server_is_started_becomes_ready_is_loaded_and_leaves_nothing(engine: SglangEngine) -> None:
    loaded = engine.load(setup(max_running_requests=8))
    assert isinstance(loaded, LoadedSglang) and loaded.process
    try:
        family = loaded.process.family()
        completions = loaded.generate([Prompt([1, 2, 3], 4)] * 5)
        assert [completion.output_tokens for completion in completions] == [4] * 5
        assert loaded.slots() == 8 and loaded.facts().versions == {"sglang": "0.5.23"}
    finally:
        loaded.close()
    assert family and not any(process.is_running() for process in family)


def test_a_server_that_refuses_ends_with_its_own_words(engine: SglangEngine) -> None:
    with pytest.raises(ServerEndedError, match="code 1"):
        engine.load(setup(mem_fraction_static=0.99))


@pytest.mark.parametrize(
    ("stage", "line", "reason"),
    [
        ("load", "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.", "oom"),
        ("run", "torch.OutOfMemoryError: CUDA out of memory.", "oom"),
        ("load", "launch_server.py: error: argument --page-size: invalid int value", "rejected"),
        ("load", "AssertionError: page size must be 1", "rejected"),
        ("run", "AssertionError: page size must be 1", None),
    ],
)
def test_its_own_words_for_no_and_for_out_of_memory(
    engine: SglangEngine, stage: str, line: str, reason: str | None
) -> None:
    failure = Failure.model_validate(
        {"stage": stage, "error_type": "ServerEndedError", "message": "", "trace_tail": line}
    )
    found = engine.classify(failure)
    assert (found and found.reason) == reason


def test_a_refusal_without_a_word_is_told_by_its_statement(engine: SglangEngine) -> None:
    trace = '  File "args.py", line 9\n    assert self.tp_size == 1\n           ^^^^^^^^^^^^^^^^^\nAssertionError'
    found = engine.classify(Failure(stage="load", error_type="ServerEndedError", message="", trace_tail=trace))
    assert found and found.detail == "AssertionError: assert self.tp_size == 1"


@pytest.mark.slow
def test_it_runs_in_a_worker_as_every_engine_does(tmp_path: Path) -> None:
    handle = EngineProcess(tmp_path / "worker.log")
    try:
        reply = handle.load(LoadCommand(engine="sglang", options=EngineOptions(), setup=setup()), Deadlines())
        assert isinstance(reply, LoadedReply), (reply, handle.log_tail())
    finally:
        handle.close()


def test_exports_are_what_people_run(engine: SglangEngine) -> None:
    changed = Config({"mem_fraction_static": 0.8, "enable_mixed_chunk": True})
    hub = TINY.model_copy(update={"spec": "Qwen/Qwen3-0.6B", "path": "Qwen/Qwen3-0.6B", "weights": "real"})
    served = Served(model=hub, device=GPUS, engine_version="0.5.23", config=changed, changed=changed)
    assert shlex.split(export_served("sglang", served, "sglang-args"), comments=True) == [
        "python3", "-m", "sglang.launch_server", "--model-path=Qwen/Qwen3-0.6B", "--host=127.0.0.1", "--port=30000",
        "--mem-fraction-static=0.8", "--enable-mixed-chunk",
    ]  # fmt: skip
    text = export_served("sglang", served, "compose")
    PyCompose.from_yaml(text)
    assert yaml.safe_load(text)["services"]["sglang"]["image"] == "lmsysorg/sglang:v0.5.23"
    hostile = served.model_copy(update={"changed": Config({"trust_remote_code": True})})
    with pytest.raises(UsageError, match="it is not exported"):
        export_served("sglang", hostile, "sglang-args")
