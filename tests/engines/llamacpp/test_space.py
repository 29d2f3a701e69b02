"""The knobs of a server: where they rest, the rules between them, and what a user may ask for besides."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from infertune.domain.device import Device
from infertune.domain.knobs import Config, Scalar
from infertune.domain.models import resolve_model
from infertune.domain.workload import parse_workload
from infertune.engines.asking import Asked
from infertune.engines.base import Failure
from infertune.engines.llamacpp.command import setting_words
from infertune.engines.llamacpp.engine import LlamaCppEngine
from infertune.engines.llamacpp.flags import parse_help
from infertune.engines.llamacpp.space import server_space
from infertune.errors import DoesNotFitError, UsageError
from tests.engines.llamacpp.program import HELP

GIB = 1024**3
CPU = Device(kind="cpu", name="Some CPU", memory_bytes=16 * GIB, cores=4)
GPU = Device(kind="gpu", name="NVIDIA H100", count=1, memory_bytes=80 * GIB, cores=16, driver="570.1")
FLAGS = parse_help(HELP.read_text())
SHORT, LONG = parse_workload("synthetic:in=16,out=8"), parse_workload("synthetic:in=900,out=100")
TINY = resolve_model("builtin:tiny")


def test_the_default_is_what_a_server_does_when_told_nothing() -> None:
    space = server_space(TINY, CPU, SHORT, FLAGS, layers=4)
    assert space.default["parallel"] == 4 and space.default["kv_unified"] is True
    assert space.default["ctx_size"] == TINY.context_tokens
    assert setting_words({}, space.default.root) == []
    assert {knob.name for knob in space.knobs if knob.effect == "lossy"} == {"cache_type_k", "cache_type_v"}
    assert all(knob.scope == "launch" and knob.why for knob in space.knobs)


def test_a_short_workload_leaves_no_pool_to_search_and_a_long_one_grows_it_with_the_slots() -> None:
    few = server_space(TINY.model_copy(update={"context_tokens": 8192}), CPU, SHORT, FLAGS, layers=4)
    assert few["ctx_size"].values == (8192,)
    space = server_space(TINY, CPU, LONG, FLAGS, layers=4)
    assert space.default["ctx_size"] == 4 * 1024, "the model's 2048 tokens hold no four requests of 1000"
    assert any("ctx_size rests at 4096" in note for note in space.notes)
    assert space.repair(space.default.updated({"parallel": 32}))["ctx_size"] == 32 * 1024


@pytest.mark.parametrize("workload", [SHORT, LONG])
def test_every_repaired_configuration_holds_the_longest_request_in_every_slot(workload: object) -> None:
    space, rng = server_space(TINY, CPU, workload, FLAGS, layers=4), random.Random(1)  # type: ignore[arg-type]
    longest = 256 if workload is SHORT else 1024
    for _ in range(300):
        config = space.repair(Config({knob.name: rng.choice(knob.values) for knob in space.knobs}))
        assert int(str(config["ctx_size"])) >= int(str(config["parallel"])) * longest
        assert int(str(config["ubatch_size"])) <= int(str(config["batch_size"]))
        assert config["cache_type_v"] == "f16" or config["flash_attn"] != "off"


def test_a_pool_that_does_not_fit_is_made_smaller_unless_its_elements_are() -> None:
    wide = TINY.model_copy(
        update={"weight_bytes": GIB, "kv_cache": TINY.kv_cache.model_copy(update={"full_bytes_per_token": 2**20})}  # type: ignore[union-attr]
    )
    small = CPU.model_copy(update={"memory_bytes": 10 * GIB})
    space = server_space(wide, small, LONG, FLAGS, layers=4)
    assert space["parallel"].values[-1] == 8, "8 requests of 1024 MiB beside 1 GiB of weights in 9 GiB"
    with pytest.raises(DoesNotFitError, match="take a smaller one"):
        server_space(wide, CPU.model_copy(update={"memory_bytes": GIB}), LONG, FLAGS, layers=4)


def test_on_a_gpu_layers_are_tuned_in_place_of_threads() -> None:
    space = server_space(TINY, GPU, SHORT, FLAGS, layers=28)
    assert "threads" not in space and space["gpu_layers"].values == ("auto", "all", 14, 21)
    assert space["parallel"].values[-1] == 256


def test_an_older_server_has_switches_for_loading_and_what_it_lacks_is_left_out() -> None:
    older = {name: flag for name, flag in FLAGS.items() if name not in ("load_mode", "kv_unified")}
    older |= {name: replace(FLAGS["swa_full"], name=name, on=f"--{name}") for name in ("mlock", "mmap")}
    space = server_space(TINY, CPU, SHORT, older, layers=4)
    assert "mlock" in space and "load_mode" not in space and "kv_unified" not in space
    assert any("kv_unified: left out" in note for note in space.notes)


def test_slots_and_their_cache_are_written_together() -> None:
    whole = server_space(TINY, CPU, SHORT, FLAGS, layers=4).default.root
    assert setting_words({"parallel": 8}, {**whole, "parallel": 8}, FLAGS) == [
        "--parallel", "8", "--kv-unified", "--ctx-size", "2048",
    ]  # fmt: skip
    assert setting_words({"kv_unified": False}, {**whole, "kv_unified": False}, FLAGS) == [
        "--parallel", "4", "--no-kv-unified", "--ctx-size", "2048",
    ]  # fmt: skip
    changed: dict[str, Scalar] = {"threads_batch": None, "cache_type_k": "q4_0"}
    assert setting_words(changed, whole, FLAGS) == ["--cache-type-k", "q4_0"]


def test_any_argument_can_be_held_or_searched_under_any_of_its_names(engine: LlamaCppEngine) -> None:
    found = engine.understand(
        Asked(held={"np": 8, "--poll": 0}, searched={"ctk": ("f16", "q5_1"), "numa": (None, "isolate")}),
        TINY,
        CPU,
        SHORT,
    )
    assert found.held.root == {"parallel": 8, "poll": 0} and found.for_all.root == {"poll": 0}
    assert found.searched == {"cache_type_k": ("f16", "q5_1"), "numa": (None, "isolate")}
    assert "q5_1" in found.space["cache_type_k"].values and found.space["poll"].effect == "exact"
    assert found.space.default["poll"] is None and not found.space.violations(found.space.default)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"thread": 2}, "did you mean threads"),
        ({"threads": "many"}, "is not a number of the kind"),
        ({"cache_type_k": "q9_9"}, "cache_type_k=q9_9 is not one of f32, f16"),
        ({"poll": "fast"}, "stoi"),
        ({"port": 80}, "infertune sets it itself"),
        ({"temp": 0.5}, "it has no effect here"),
        ({"np": 4, "parallel": 8}, "parallel is given twice"),
        ({"swa_full": 3}, "it is a switch"),
    ],
)
def test_what_cannot_be_is_one_line(engine: LlamaCppEngine, held: dict[str, Scalar], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        engine.understand(Asked(held=held), TINY, CPU, SHORT)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lora", "/tmp/x.gguf"), ("tools", "all"), ("rpc", "10.0.0.1:80"), ("numa", "a b"), ("agent", True)],
)
def test_what_can_load_code_or_reach_out_takes_the_users_own_word(
    engine: LlamaCppEngine, name: str, value: Scalar
) -> None:
    with pytest.raises(UsageError, match=f"say so yourself with --set {name}="):
        engine.understand(Asked(held={name: value}), TINY, CPU, SHORT)
    with pytest.raises(UsageError, match="the profile sets"):
        engine.understand(Asked(known={name: (value,)}), TINY, CPU, SHORT)
    if name not in ("numa",):
        assert (
            engine.understand(Asked(held={name: value}, typed=frozenset({name})), TINY, CPU, SHORT).held[name] == value
        )


def test_what_a_profile_has_and_this_server_lacks_is_left_out(engine: LlamaCppEngine) -> None:
    found = engine.understand(Asked(known={"gone_since": (3,), "threads": (2,)}), TINY, CPU, SHORT)
    assert found.known.root == {"threads": 2}


def test_a_build_without_gpu_is_refused_on_a_gpu(engine: LlamaCppEngine) -> None:
    with pytest.raises(UsageError, match="built without a GPU backend"):
        engine.space(TINY, GPU, SHORT)


@pytest.mark.parametrize(
    ("stage", "line", "reason"),
    [
        ("load", "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 9", "oom"),
        ("run", "alloc_buffer: allocating 9 MiB on device 0: cudaMalloc failed: out of memory", "oom"),
        ("load", "llama_init_from_model: V cache quantization requires flash_attn", "rejected"),
        ("load", "error: invalid argument: --nonsense", "rejected"),
        ("load", "load: error while handling argument \"--cache-type-k\": Unsupported cache type: q9", "rejected"),
        ("run", "error: invalid argument: --nonsense", None),
        ("run", "srv  log_server_r: request: POST /v1/completions 127.0.0.1 500", None),
        ("load", "error while loading shared libraries: libllama.so.0: cannot open shared object file", None),
    ],
)  # fmt: skip
def test_its_own_words_for_no_and_for_out_of_memory(
    engine: LlamaCppEngine, stage: str, line: str, reason: str | None
) -> None:
    failure = Failure.model_validate(
        {
            "stage": stage,
            "error_type": "ServerEndedError",
            "message": "the server ended with code 1",
            "trace_tail": line,
        }
    )
    found = engine.classify(failure)
    assert (found and found.reason) == reason
    assert found is None or found.detail in line


def test_only_gguf_files_are_models(engine: LlamaCppEngine, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "text.gguf").write_text("no such magic")
    for spec, said in (
        (str(tmp_path), "holds no GGUF file"),
        (str(tmp_path / "text.gguf"), "is no GGUF file"),
        ("org/name", "no model 'org/name': llama.cpp takes a GGUF file"),
    ):
        with pytest.raises(UsageError, match=said):
            engine.resolve(spec, None)
    for name in ("a.gguf", "b.gguf", "mmproj-x.gguf"):
        (tmp_path / name).write_bytes(b"GGUF....")
    with pytest.raises(UsageError, match=r"holds 2 models \(a.gguf, b.gguf\): name one"):
        engine.resolve(str(tmp_path), None)
    split = tmp_path / "split"
    split.mkdir()
    (split / "m-00001-of-00003.gguf").write_bytes(b"GGUF....")
    with pytest.raises(UsageError, match="2 of its 3 parts are missing, the first m-00002-of-00003.gguf"):
        engine.resolve(str(split), None)
