"""The quality guard on a trained model: fewer bits in the KV cache are found, and never recommended."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import apart, trained

_LONGEST_S = 1500


def infertune(folder: Path, command: str, *more: str) -> tuple[int, dict[str, Any]]:
    """A command on the trained model; its exit code and what `--json` says."""
    workload = f"humaneval:{trained.prompts()},out=16"
    words = [*apart.command(folder), command, str(trained.model()), "--workload", workload]
    words += [*more, "--wait", "--json", "--out", str(folder / "run")]
    answer = subprocess.run(words, capture_output=True, text=True, timeout=_LONGEST_S)
    assert answer.stdout, answer.stderr[-3000:]
    return answer.returncode, json.loads(answer.stdout)


@pytest.mark.trained
@pytest.mark.vllm
@pytest.mark.parametrize(
    ("settings", "verdict", "least", "most"),
    [
        (["kv_cache_dtype=fp8", "enforce_eager=true"], "fail", 0.015, 0.06),
        (["dtype=float32", "enforce_eager=true"], "pass", -0.005, 0.005),
        (["max_num_seqs=8", "enable_prefix_caching=false"], "pass", -1e-4, 1e-4),
    ],
    ids=["fp8", "float32", "exact"],
)
def test_vllm_is_checked_against_its_default(
    tmp_path: Path, settings: list[str], verdict: str, least: float, most: float
) -> None:
    code, found = infertune(tmp_path, "check", "--engine", "vllm", *(w for s in settings for w in ("--set", s)))
    assert (found["answer"], code) == (verdict, {"pass": 0, "fail": 1}[verdict]), found["check"]["why"]
    figures, floor = found["check"]["figures"], found["check"]["floor"]
    assert least <= figures["perplexity_increase"]["mean"] <= most
    assert abs(floor["perplexity_increase"]["mean"]) < 1e-3
    assert 0.9 < figures["agreement"]["mean"] <= figures["agreement"]["high"] <= 1


@pytest.mark.trained
@pytest.mark.hf
def test_a_pipeline_in_a_wider_dtype_answers_as_well(tmp_path: Path) -> None:
    code, found = infertune(tmp_path, "check", "--engine", "hf", "--set", "dtype=float32")
    assert (code, found["answer"]) == (0, "pass"), found["check"]["why"]
    assert abs(found["check"]["figures"]["perplexity_increase"]["mean"]) < 0.005


@pytest.mark.trained
@pytest.mark.vllm
def test_a_tune_never_recommends_a_kv_cache_that_answers_worse(tmp_path: Path) -> None:
    knobs = ["--knob", "kv_cache_dtype=auto,fp8,fp8_e5m2", "--knob", "max_num_seqs=4,16", "--trials", "6"]
    held = ["--set", "enforce_eager=true", "--set", "max_num_batched_tokens=2048", "--trust", "quick"]
    code, found = infertune(tmp_path, "tune", "--engine", "vllm", "--requests", "16", *knobs, *held)
    assert code == 0 and found["best_config"]["kv_cache_dtype"] == "auto"
    assert not found["unchecked"]
    for check in found["checks"]:
        assert check["verdict"] == ("pass" if check["checked"]["kv_cache_dtype"] == "auto" else "fail"), check["why"]
