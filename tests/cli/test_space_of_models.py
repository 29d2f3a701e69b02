"""`infertune space MODEL` says how large a model is, also one that has no knobs on this machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engines.sizes.families import QUANTIZED

pytestmark = pytest.mark.hf


def space(folder: Path, config: dict[str, Any], *more: str) -> "subprocess.CompletedProcess[str]":
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "infertune", "space", str(folder), "--engine", "hf", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_a_model_that_fits_no_memory_here_is_still_described(tmp_path: Path) -> None:
    answer = space(tmp_path, QUANTIZED["deepseek-v3"][0], "--json")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    model = found["model"]
    assert (model["weight_source"], model["quantization"]) == ("estimate", "fp8")
    assert model["kv_bytes_per_token"] == 70272 and model["context_tokens"] == 163840 and model["unknown"] == {}
    assert found["knobs"] == [] and "take a smaller model" in found["notes"][0]
    text = space(tmp_path, QUANTIZED["deepseek-v3"][0])
    assert text.returncode == 0 and "671 B parameters (37.6 B active per token)" in text.stdout


def test_an_encoder_decoder_is_described_and_refused(tmp_path: Path) -> None:
    t5 = {"model_type": "t5", "d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "d_kv": 64,
          "vocab_size": 32128}  # fmt: skip
    answer = space(tmp_path, t5, "--json")
    assert (
        answer.returncode == 2 and "is an encoder-decoder (t5)" in answer.stderr and "take a decoder" in answer.stderr
    )
    model = json.loads(answer.stdout)["model"]
    assert model["kv_bytes_per_token"] is None and "encoder-decoder" in model["unknown"]["kv_bytes_per_token"]


def test_a_model_that_nobody_knows_is_not_refused_by_us(tmp_path: Path) -> None:
    answer = space(tmp_path, {"model_type": "new-one", "architectures": ["NewForCausalLM"], "vocab_size": 7})
    assert answer.returncode == 0, answer.stderr
    assert "unknown number of parameters" in answer.stdout and "does not know the model type 'new-one'" in answer.stdout
    assert "batch_size" in answer.stdout
