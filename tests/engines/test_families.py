"""Every family, shrunk, through the real engines: it is measured, or the engine's own words say why not."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infertune.domain.checkpoints import Checkpoint
from infertune.domain.device import Device, detect
from infertune.domain.knobs import Config
from infertune.domain.models import Model, resolve_model
from infertune.domain.sizes import ModelConfig, Sizes
from infertune.domain.workload import parse_workload
from infertune.engines import get_engine
from infertune.engines.base import EngineOptions, Failure, Prompt, Setup
from infertune.errors import UsageError
from tests.engines.sizes.shrunk import NAMES, shrunk

PROMPTS = [Prompt(list(range(5, 5 + length)), 4) for length in (8, 20, 13, 9)]
REFUSED = {  # in transformers' words
    "kimi-k2": "model type `kimi_k2` but Transformers does not recognize this architecture",
    "qwen2.5-vl-7b": "Unrecognized configuration class",
}
# Architectures that differ in what vLLM's CPU build does with them.
ON_VLLM = ("gpt2", "bloom-560m", "gemma-3-4b", "qwen3-30b-a3b")


class InProcess:
    """Counts in this process, which has loaded transformers anyway."""

    def sizes(self, config: ModelConfig) -> Sizes:
        from infertune.engines.sizes.child import count

        return count(config)

    def hub_weights(self, hub_id: str, revision: str | None) -> Checkpoint | None:
        return None


def small_model(name: str, folder: Path) -> Model:
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps(shrunk(name)))
    return resolve_model(str(folder / name), "dummy", sizer=InProcess())


@pytest.fixture(scope="module")
def device() -> Device:
    return detect()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.hf
@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_of_any_family_answers_at_several_batch_sizes_or_transformers_says_why_not(
    name: str, tmp_path: Path, device: Device
) -> None:
    engine = get_engine("hf", EngineOptions())
    model = small_model(name, tmp_path)
    space = engine.space(model, device, parse_workload("synthetic:in=8-24,out=4", 8))
    setup = Setup(model=model, device=device, config=space.default, defaults=space.default, faithful=False)
    try:
        loaded = engine.load(setup)
    except Exception as error:
        assert REFUSED.get(name, "no refusal was expected") in str(error)
        failure = Failure(stage="load", error_type=type(error).__name__, message=str(error))
        told = engine.classify(failure)
        assert told and told.reason == "rejected" and REFUSED[name] in told.detail and "\n" not in told.detail
        return
    assert name not in REFUSED
    for batch_size in (1, 4):
        config = space.default.updated({"batch_size": batch_size, "threads": 1})
        loaded.apply(Config({n: value for n, value in config.root.items() if space[n].scope == "live"}))
        assert [completion.output_tokens for completion in loaded.generate(PROMPTS)] == [4] * len(PROMPTS)
    assert loaded.facts().context_tokens == model.context_tokens
    loaded.close()


@pytest.mark.hf
def test_an_encoder_decoder_is_refused_with_what_can_be_taken(tmp_path: Path, device: Device) -> None:
    t5 = {"model_type": "t5", "d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 2, "d_kv": 32,
          "vocab_size": 512}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(t5))
    model = resolve_model(str(tmp_path), "dummy", sizer=InProcess())
    with pytest.raises(UsageError) as refused:
        get_engine("hf", EngineOptions()).space(model, device, parse_workload("synthetic:in=8,out=4", 8))
    assert "is an encoder-decoder (t5)" in str(refused.value) and "take a decoder" in str(refused.value)


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What vLLM did with each family: all in one process, since importing it takes longer than a launch."""
    (tmp_path / "models").mkdir()
    models = {name: small_model(name, tmp_path / "models").model_dump(mode="json") for name in ON_VLLM}
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    command = [sys.executable, "-m", "tests.engines.vllm_families"]
    done = subprocess.run(
        command, input=json.dumps(models), capture_output=True, text=True, timeout=600, env=environment, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
    yield {found["name"]: found["answer"] for found in map(json.loads, lines)}


@pytest.mark.vllm
def test_vllm_answers_with_families_of_every_kind(answers: dict[str, str]) -> None:
    assert answers == dict.fromkeys(ON_VLLM, "ok")
