"""The real `llama-server` with random weights: launches, what is forgotten between jobs, scores, refusals."""

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infertune.bench.bench import Bench
from infertune.bench.channel import Plan
from infertune.bench.isolation import Deadlines
from infertune.domain import device as devices
from infertune.domain.knobs import Config, Scalar
from infertune.domain.measurement import Infeasible, Measurement
from infertune.domain.models import Model
from infertune.domain.workload import parse_workload
from infertune.engines.asking import Asked
from infertune.engines.base import EngineOptions, Prompt, Setup
from infertune.engines.llamacpp.binary import find_binary
from infertune.engines.llamacpp.engine import LlamaCppEngine
from infertune.engines.llamacpp.files import facts_of, gguf_files
from infertune.engines.llamacpp.loaded import LoadedLlama
from infertune.engines.llamacpp.random_weights import made_here
from infertune.engines.serving.process import ServerEndedError
from infertune.errors import UsageError

pytestmark = pytest.mark.llamacpp

DEVICE = devices.detect()
WORKLOAD = parse_workload("synthetic:in=16,out=8")
PROMPTS = [Prompt([200 + n, *range(5, 40)], 6) for n in range(8)]


@pytest.fixture(scope="module")
def engine() -> LlamaCppEngine:
    return LlamaCppEngine(EngineOptions())


@pytest.fixture(scope="module")
def tiny(engine: LlamaCppEngine) -> Model:
    return engine.resolve("builtin:tiny", None)


@contextlib.contextmanager
def loaded(engine: LlamaCppEngine, model: Model, **changed: Scalar) -> Iterator[LoadedLlama]:
    space = engine.understand(Asked(held=changed), model, DEVICE, WORKLOAD).space
    config = space.default.updated({"threads": 1, **changed})
    found = engine.load(Setup(model=model, device=DEVICE, config=config, defaults=space.default, faithful=True))
    assert isinstance(found, LoadedLlama)
    try:
        yield found
    finally:
        found.close()


def prompt_tokens_computed(server: LoadedLlama) -> int:
    match = re.search(r"^llamacpp:prompt_tokens_total (\d+)", server.ask_text("GET", "/metrics"), re.MULTILINE)
    assert match
    return int(match[1])


def test_a_built_in_is_written_as_gguf_with_the_sizes_that_it_says(tiny: Model) -> None:
    facts = facts_of(gguf_files(made_here(tiny)))
    assert facts.layers == 4 and not facts.chat
    for name in ("parameters", "vocab_size", "context_tokens", "kv_bytes_per_token"):
        assert getattr(facts.sizes, name) == getattr(tiny, name), name


def test_a_file_and_the_folder_that_holds_it_are_the_same_model(
    engine: LlamaCppEngine, tiny: Model, tmp_path: Path
) -> None:
    (tmp_path / "small.gguf").symlink_to(made_here(tiny))
    model = engine.resolve(str(tmp_path / "small.gguf"), None)
    assert model == engine.resolve(str(tmp_path), None).model_copy(update={"spec": model.spec})
    assert (model.name, model.weights, model.weight_source) == ("small", "real", "files")
    assert engine.known_here(model) == model.config_hash
    (tmp_path / "small.gguf").unlink()
    assert engine.known_here(model) is None


def test_a_job_after_a_reset_finds_nothing_of_the_one_before(engine: LlamaCppEngine, tiny: Model) -> None:
    with loaded(engine, tiny) as server:
        assert [done.output_tokens for done in server.generate(PROMPTS)] == [6] * len(PROMPTS)
        server.reset()
        before = prompt_tokens_computed(server)
        server.generate(PROMPTS)
        computed = prompt_tokens_computed(server) - before
        assert computed == sum(len(prompt.token_ids) for prompt in PROMPTS)


def test_a_job_without_a_reset_finds_the_prompt_that_a_slot_keeps(engine: LlamaCppEngine, tiny: Model) -> None:
    with loaded(engine, tiny) as server:
        server.generate(PROMPTS[:1])
        before = prompt_tokens_computed(server)
        server.generate(PROMPTS[:1])
        assert prompt_tokens_computed(server) - before < len(PROMPTS[0].token_ids)


def test_what_runs_is_read_back(engine: LlamaCppEngine, tiny: Model) -> None:
    with loaded(engine, tiny, parallel=2, kv_unified=False, ubatch_size=128) as server:
        facts = server.facts()
    said = facts.effective
    assert (said["parallel"], said["threads"], said["kv_unified"]) == ("2", "1", "false")
    assert facts.context_tokens == 1024 and server.slots() == 2, "each slot has half of the context"
    assert facts.versions["llama.cpp"] == engine.available().version


def test_variables_that_are_arguments_do_not_reach_the_server(
    engine: LlamaCppEngine, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_N_PARALLEL", "7")
    with loaded(engine, tiny) as server:
        assert server.slots() == 4
        assert any("LLAMA_ARG_N_PARALLEL" in note for note in server.facts().notes)


def test_scores_of_given_tokens_are_those_of_the_next_token_at_each_position(
    engine: LlamaCppEngine, tiny: Model
) -> None:
    tokens = [3 + 7 * n for n in range(24)]
    with loaded(engine, tiny) as server:
        [scores, again] = server.score([tokens, tokens], 5, [20, 20])
        assert scores.first == 20 and len(scores.logprobs) == len(scores.top) == 4
        for position, logprob, top in zip(range(20, 24), scores.logprobs, scores.top, strict=True):
            answer = server._complete(tokens[:position], 1, n_probs=4096)
            [step] = answer["completion_probabilities"]
            everywhere = {entry["id"]: entry["logprob"] for entry in step["top_logprobs"]}
            assert sum(map(math.exp, everywhere.values())) == pytest.approx(1, abs=1e-3)
            assert logprob == pytest.approx(everywhere[tokens[position]], abs=0.02)
            assert list(top)[0] == next(iter(everywhere))
        assert again.logprobs == pytest.approx(scores.logprobs, abs=0.02)


def test_a_cache_of_fewer_bits_scores_otherwise(engine: LlamaCppEngine, tiny: Model) -> None:
    tokens = [[3 + 7 * n + k for n in range(40)] for k in range(4)]
    found = {}
    for kind in ("f16", "q4_0"):
        with loaded(engine, tiny, cache_type_k=kind, cache_type_v=kind) as server:
            found[kind] = [value for scores in server.score(tokens, 5, [30] * 4) for value in scores.logprobs]
    assert found["f16"] != pytest.approx(found["q4_0"], abs=1e-5)


def test_words_become_token_ids_and_text_again(engine: LlamaCppEngine, tiny: Model) -> None:
    with loaded(engine, tiny) as server:
        ids = server.tokenize("What is 7 × 8?")
        assert len(ids) == len("What is 7 × 8?".encode()) and server.text(ids) == "What is 7 × 8?"
        assert server.tokenize("") == [] and server.vocab_size() == 4096


def test_configurations_that_cannot_be_are_infeasible_by_the_servers_own_words(
    engine: LlamaCppEngine, tiny: Model, tmp_path: Path
) -> None:
    """The server may take 3 GiB: a KV cache of 4 GiB is refused by the system, whatever this machine has."""
    server = find_binary(EngineOptions())
    limited = tmp_path / "llama-server"
    limited.write_text(f'#!/bin/sh\nulimit -v {3 * 2**20}\nexec "{server}" "$@"\n')
    limited.chmod(0o755)
    options = EngineOptions(binary=limited)
    space = engine.space(tiny, DEVICE, WORKLOAD)
    plan = Plan(warmup=WORKLOAD.draw("warmup", 4), requests=WORKLOAD.draw("search", 4))
    found = {}
    with Bench(LlamaCppEngine(options), options, tiny, DEVICE, space, tmp_path, Deadlines()) as bench:
        for name, config in (
            ("rejected", {"cache_type_v": "q4_0", "flash_attn": "off"}), ("oom", {"ctx_size": 2**21}), ("ok", {}),
        ):  # fmt: skip
            found[name] = bench.measure(space.default.updated(config), plan, fresh=True).outcome
    assert isinstance(found["ok"], Measurement), found["ok"]
    for name in ("rejected", "oom"):
        outcome = found[name]
        assert isinstance(outcome, Infeasible), outcome
        assert (outcome.reason, outcome.stage) == (name, "load")


def test_a_file_that_is_no_model_ends_with_the_servers_own_words(
    engine: LlamaCppEngine, tiny: Model, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(made_here(tiny).read_bytes()[:100_000])
    setup = Setup(
        model=tiny.model_copy(update={"path": str(broken), "weights": "real"}), device=DEVICE, config=Config({}),
        defaults=Config({}), faithful=True,
    )  # fmt: skip
    with pytest.raises(UsageError, match="is it whole"):
        engine.resolve(str(broken), None)
    with pytest.raises(ServerEndedError, match="error"):
        engine.load(setup)
