"""The hf engine: its space and its reading of errors anywhere, real pipelines where transformers is installed."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infertune.bench.channel import FailureReply, LoadCommand, LoadedReply, MeasureCommand, MeasuredReply, Plan
from infertune.bench.isolation import Deadlines, EngineProcess
from infertune.domain import device as devices
from infertune.domain.device import Device
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.measurement import Stage
from infertune.domain.models import Model, resolve_model
from infertune.domain.workload import Workload, parse_workload, token_ids
from infertune.engines.base import EngineOptions, Failure, LoadedEngine, Prompt, Setup
from infertune.engines.hf.engine import HfEngine
from infertune.errors import UsageError

GIB = 1024**3
CPU = Device(kind="cpu", name="test CPU", memory_bytes=16 * GIB, cores=6)
GPU = Device(kind="gpu", name="test GPU", memory_bytes=24 * GIB, cores=16, uuids=("GPU-1",))
MIXED = parse_workload("synthetic:in=5-60,out=3-20")

hf = pytest.mark.hf


@pytest.fixture
def engine() -> HfEngine:
    return HfEngine(EngineOptions())


@pytest.fixture(scope="module")
def tiny() -> Model:
    return resolve_model("builtin:tiny")


def space_of(model: Model, device: Device, workload: Workload = MIXED) -> SearchSpace:
    return HfEngine(EngineOptions()).space(model, device, workload)


# Texts as transformers 5.19 and torch 2.13 raise them; the CUDA ones as torch's allocator writes them.
CPU_OOM = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "230400000000 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA_OOM = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 5.2 GiB is free."
)
NO_FLASH = (
    "FlashAttention2 has been toggled on, but it cannot be used due to the following error: the package for "
    "FlashAttention2 doesn't seem to be installed."
)
NO_SUCH_ATTENTION = 'Specified `attn_implementation="nonsense"` is not supported. The only possible arguments are …'


@pytest.mark.parametrize(
    ("error_type", "message", "stage", "reason"),
    [
        ("RuntimeError", CPU_OOM, "run", "oom"),
        ("RuntimeError", CPU_OOM, "load", "oom"),
        ("OutOfMemoryError", CUDA_OOM, "run", "oom"),
        ("RuntimeError", CUDA_OOM, "warmup", "oom"),
        ("MemoryError", "", "warmup", "oom"),
        ("ImportError", NO_FLASH, "warmup", "rejected"),
        ("ValueError", NO_SUCH_ATTENTION, "load", "rejected"),
        ("NotImplementedError", "no kernel", "warmup", "rejected"),
        ("ValueError", "math domain error", "run", None),
        ("RuntimeError", "CUDA error: an illegal memory access was encountered", "run", None),
        ("BadAnswerError", "3 of 8 requests came back with another number of tokens than asked", "run", None),
        ("", "killed by SIGSEGV", "run", None),
    ],
)
def test_classify_tells_out_of_memory_and_refusals_from_faults(
    engine: HfEngine, error_type: str, message: str, stage: Stage, reason: str | None
) -> None:
    found = engine.classify(Failure(stage=stage, error_type=error_type, message=message))
    assert (found.reason if found else None) == reason
    assert found is None or found.stage == stage


def test_default_on_a_cpu_is_what_pipeline_does_when_told_nothing(tiny: Model) -> None:
    assert space_of(tiny, CPU).default.root == {
        "batch_size": 1,
        "request_order": "as_given",
        "attn_implementation": "sdpa",
        "cache_implementation": "dynamic",
        "threads": 6,
        "dtype": "bfloat16",
    }


def test_the_space_says_how_requests_are_put_into_batches(tiny: Model) -> None:
    batches = space_of(tiny, CPU).batches
    assert batches is not None
    lengths = [10.0, 400.0, 20.0, 300.0, 5.0]
    assert batches.of({"batch_size": 2, "request_order": "as_given"}, lengths) == [[0, 1], [2, 3], [4]]
    assert batches.of({"batch_size": 2, "request_order": "by_length"}, lengths) == [[1, 3], [2, 0], [4]]
    assert batches.of({"batch_size": 8, "request_order": "as_given"}, lengths) == [[0, 1, 2, 3, 4]]
    assert set(batches.knobs) <= set(space_of(tiny, CPU).names)


def test_only_dtype_needs_a_new_launch(tiny: Model) -> None:
    for device in (CPU, GPU):
        assert space_of(tiny, device).launch_names == {"dtype"}


def test_a_cpu_gets_threads_and_no_float16_and_a_gpu_the_reverse(tiny: Model) -> None:
    cpu, gpu = space_of(tiny, CPU), space_of(tiny, GPU)
    assert cpu["threads"].values == (1, 2, 4, 6)
    assert "threads" not in gpu
    assert cpu["dtype"].values == ("bfloat16", "float32")
    assert gpu["dtype"].values == ("bfloat16", "float16")
    assert any("float16" in note for note in cpu.notes)
    assert (cpu["batch_size"].values[-1], gpu["batch_size"].values[-1]) == (64, 512)


def test_a_checkpoint_in_float16_keeps_it_as_default_even_on_a_cpu(tiny: Model) -> None:
    space = space_of(tiny.model_copy(update={"dtype": "float16"}), CPU)
    assert space["dtype"].values == ("float16", "bfloat16", "float32")
    assert space.default["dtype"] == "float16"


def test_flash_attention_is_offered_only_where_it_is_installed_and_on_a_gpu(
    tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infertune.engines.hf.engine.installed_versions", lambda *_: {"flash_attn": "2.8.0"})
    assert "flash_attention_2" in space_of(tiny, GPU)["attn_implementation"].values
    assert "flash_attention_2" not in space_of(tiny, CPU)["attn_implementation"].values
    monkeypatch.setattr("infertune.engines.hf.engine.installed_versions", lambda *_: {})
    assert "flash_attention_2" not in space_of(tiny, GPU)["attn_implementation"].values


def test_disable_compile_rests_at_its_default_with_a_dynamic_cache(tiny: Model) -> None:
    space = space_of(tiny, GPU)
    asked = space.default.updated({"disable_compile": True})
    assert space.repair(asked) == space.default
    static = asked.updated({"cache_implementation": "static"})
    assert space.repair(static) == static


def test_repair_lowers_the_batch_to_the_largest_that_fits_the_memory() -> None:
    model = resolve_model("builtin:llama-3.1-8b")
    space = space_of(model, GPU, parse_workload("synthetic:in=4096,out=512"))
    repaired = space.repair(space.default.updated({"batch_size": 512}))
    batch_size = repaired["batch_size"]
    assert isinstance(batch_size, int)

    def need(requests: int) -> int:
        return model.weight_bytes + requests * (4096 + 512) * model.kv_bytes_per_token

    assert need(batch_size) <= 0.9 * GPU.memory_bytes < need(2 * batch_size)
    assert not space.violations(repaired)


def test_memory_is_reckoned_in_the_dtype_that_is_tried() -> None:
    device = CPU.model_copy(update={"memory_bytes": 8 * GIB})
    model = resolve_model("builtin:qwen3-0.6b")
    space = space_of(model, device, parse_workload("synthetic:in=2048,out=512"))
    largest = {
        dtype: space.repair(space.default.updated({"batch_size": 64, "dtype": dtype}))["batch_size"]
        for dtype in ("bfloat16", "float32")
    }
    assert largest["bfloat16"] == 16
    assert largest["float32"] == 8


def test_a_dtype_whose_weights_do_not_fit_is_left_out_with_a_note() -> None:
    model = resolve_model("builtin:llama-3.1-8b")
    space = space_of(model, CPU.model_copy(update={"memory_bytes": 24 * GIB}))
    assert space["dtype"].values == ("bfloat16",)
    assert any(note.startswith("dtype float32: left out") for note in space.notes)


def test_a_model_larger_than_the_memory_is_refused_with_both_sizes() -> None:
    with pytest.raises(UsageError, match=r"llama-3\.1-8b needs 15\.0 GiB .* has 8\.0 GiB"):
        space_of(resolve_model("builtin:llama-3.1-8b"), CPU.model_copy(update={"memory_bytes": 8 * GIB}))


def test_another_interpreter_is_asked_what_it_has(tmp_path: Path) -> None:
    ours = HfEngine(EngineOptions(python=Path(sys.executable)))
    assert ours.available() == HfEngine(EngineOptions()).available().model_copy(
        update={"reason": ours.available().reason}
    )
    absent = HfEngine(EngineOptions(python=tmp_path / "python")).available()
    assert absent.version is None
    assert "pip install infertune[hf]" in absent.reason


def test_what_is_missing_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infertune.engines.hf.engine.installed_versions", lambda *_: {"transformers": "5.19.0"})
    missing = HfEngine(EngineOptions()).available()
    assert missing.version is None
    assert missing.reason == "torch not installed: pip install infertune[hf]"


# Real transformers from here on.


def load(model: Model, config: Config) -> LoadedEngine:
    space = space_of(model, devices.cpu())
    setup = Setup(model=model, device=devices.cpu(), config=config, defaults=space.default, faithful=False)
    return HfEngine(EngineOptions()).load(setup)


def prompts_of(n: int) -> list[Prompt]:
    return [Prompt(token_ids(request, 4096), request.output_tokens) for request in MIXED.draw("search", n)]


@pytest.fixture(scope="module")
def exact(tiny: Model) -> Iterator[LoadedEngine]:
    """builtin:tiny in float32, where batching must not change a single token."""
    loaded = load(tiny, space_of(tiny, devices.cpu()).default.updated({"dtype": "float32"}))
    yield loaded
    loaded.close()


def default_live(model: Model) -> Config:
    """The default on one thread: with more, one core that something else uses makes tests ten times as slow."""
    return space_of(model, devices.cpu()).default.updated({"threads": 1})


@hf
def test_two_live_changes_are_measured_on_one_worker(tiny: Model, tmp_path: Path) -> None:
    space = space_of(tiny, devices.cpu())
    setup = Setup(model=tiny, device=devices.cpu(), config=space.default, defaults=space.default, faithful=False)
    plan = Plan(warmup=MIXED.draw("warmup", 8), requests=MIXED.draw("search", 12), windows=2)
    live, seen = default_live(tiny), []
    with EngineProcess(tmp_path / "worker.log") as process:
        loaded = process.load(LoadCommand(engine="hf", options=EngineOptions(), setup=setup), Deadlines())
        assert isinstance(loaded, LoadedReply), process.log_tail()
        for change in ({"batch_size": 2}, {"batch_size": 8, "attn_implementation": "eager"}):
            reply = process.measure(MeasureCommand(live=live.updated(change), plan=plan), Deadlines())
            assert isinstance(reply, MeasuredReply), (reply, process.log_tail())
            seen.append(reply.measurement)
        bad = live.updated({"attn_implementation": "nonsense"})
        refused = process.measure(MeasureCommand(live=bad, plan=plan), Deadlines())
        assert isinstance(refused, FailureReply)
        assert refused.failure.survivable
        rejection = HfEngine(EngineOptions()).classify(refused.failure)
        assert rejection is not None
        assert rejection.reason == "rejected"
        again = process.measure(MeasureCommand(live=live, plan=plan), Deadlines())
        assert isinstance(again, MeasuredReply)
        seen.append(again.measurement)
    attention = [measurement.facts.effective["attn_implementation"] for measurement in seen]
    assert attention == ["sdpa", "eager", "sdpa"]
    assert [measurement.facts.effective["batch_size"] for measurement in seen] == ["2", "8", "1"]
    for measurement in seen:
        assert measurement.facts.context_tokens == 2048
        for window in measurement.windows:
            assert window.output_tokens == sum(request.output_tokens for request in plan.requests)
            assert len(window.latency_s) == 12
            assert max(window.latency_s) <= window.duration_s


@hf
@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8},
        {"batch_size": 8, "request_order": "by_length"},
        {"batch_size": 8, "cache_implementation": "static"},
        {"batch_size": 32, "attn_implementation": "eager"},
    ],
    ids=str,
)
def test_a_batch_generates_what_its_requests_generate_alone(
    exact: LoadedEngine, tiny: Model, monkeypatch: pytest.MonkeyPatch, change: dict[str, int | str]
) -> None:
    prompts = prompts_of(17)
    pipeline = exact._pipe  # type: ignore[attr-defined]
    original, outputs = pipeline.postprocess, {}

    def recording(model_outputs: dict, **settings: object) -> object:  # type: ignore[type-arg]
        padded = model_outputs["input_ids"][0].tolist()
        prompt = tuple(token for token in padded if token != pipeline.tokenizer.pad_token_id)
        outputs[prompt] = model_outputs["generated_sequence"][0][0].tolist()[len(padded) :]
        return original(model_outputs, **settings)

    monkeypatch.setattr(pipeline, "postprocess", recording)

    def generated(live: Config) -> list[list[int]]:
        outputs.clear()
        exact.apply(live)
        completions = exact.generate(prompts)
        assert [c.output_tokens for c in completions] == [p.output_tokens for p in prompts]
        return [outputs[tuple(prompt.token_ids)][: prompt.output_tokens] for prompt in prompts]

    alone = generated(default_live(tiny))
    assert len({tuple(tokens) for tokens in alone}) > 1
    assert generated(default_live(tiny).updated(change)) == alone


@hf
def test_latency_ends_with_the_batch_a_request_was_sorted_into(exact: LoadedEngine, tiny: Model) -> None:
    lengths = [10, 400, 20, 300]
    prompts = [Prompt([7] * length, 4) for length in lengths]
    exact.apply(default_live(tiny).updated({"batch_size": 2, "request_order": "by_length"}))
    assert exact.slots() == 2
    short, longest, shorter, long = (completion.latency_s for completion in exact.generate(prompts))
    assert longest == long
    assert short == shorter
    assert longest is not None
    assert short is not None
    assert 0 < longest < short


@hf
def test_a_short_answer_shows_in_the_count(exact: LoadedEngine, tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    exact.apply(default_live(tiny))
    model = exact._pipe.model  # type: ignore[attr-defined]
    original = model.generate
    monkeypatch.setattr(model, "generate", lambda **settings: original(**settings)[:, :-2])
    assert [completion.output_tokens for completion in exact.generate([Prompt([5, 6, 7], 6)])] == [4]


@hf
def test_an_allocation_that_fails_is_survived(exact: LoadedEngine, tiny: Model) -> None:
    exact.apply(default_live(tiny).updated({"batch_size": 64, "attn_implementation": "eager"}))
    with pytest.raises(RuntimeError) as raised:
        exact.generate([Prompt([5] * 30_000, 2)] * 64)  # scores of 64 × 30,000² float32: no machine has them
    assert HfEngine(EngineOptions()).classify(
        Failure(stage="run", error_type=type(raised.value).__name__, message=str(raised.value))
    )
    assert exact.recover(raised.value)
    assert not exact.recover(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert [completion.output_tokens for completion in exact.generate(prompts_of(3))] == [
        prompt.output_tokens for prompt in prompts_of(3)
    ]


@hf
def test_a_saved_checkpoint_without_a_pad_token_runs_with_its_own_weights(exact: LoadedEngine, tmp_path: Path) -> None:
    pipeline = exact._pipe  # type: ignore[attr-defined]
    pipeline.model.save_pretrained(tmp_path)
    pipeline.tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    # Whatever this model says first ends its text: only a disabled end token gets past it.
    first_token = pipeline.model.generate(pipeline.tokenizer("a", return_tensors="pt").input_ids, max_new_tokens=1)
    generation = {"eos_token_id": int(first_token[0, -1]), "bos_token_id": 0}
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))

    model = resolve_model(str(tmp_path))
    assert model.weights == "real"
    live = default_live(model)
    loaded = load(model, live)
    loaded.apply(live.updated({"batch_size": 4}))
    texts = [Prompt(loaded.tokenize("a" * n), 5) for n in (1, 3, 9)]
    assert [completion.output_tokens for completion in loaded.generate(texts)] == [5, 5, 5]
    weights = zip(
        pipeline.model.parameters(),
        loaded._pipe.model.parameters(),  # type: ignore[attr-defined]
        strict=True,
    )
    assert all(bool((ours == theirs).all()) for ours, theirs in weights)
    loaded.close()


@hf
def test_a_model_that_keeps_its_attention_is_a_refusal(
    exact: LoadedEngine, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact.apply(default_live(tiny))
    model = exact._pipe.model  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "set_attn_implementation", lambda _wanted: None)
    with pytest.raises(ValueError, match="keeps sdpa instead of eager"):
        exact.apply(default_live(tiny).updated({"attn_implementation": "eager"}))
