"""A whole tune of six trials on each real engine of this machine, from the command line to the profile."""

import json
import subprocess
from pathlib import Path

import psutil
import pytest

import infertune
from tests import apart

# float32: processors without bfloat16 instructions emulate them, fifty times slower.
_COMMON = "--trials 6 --requests 32 --workload synthetic:in=32-64,out=16 --finalists 1 --final-launches 2 2 --json"


def _tune(engine: str, more: str, folder: Path) -> dict[str, object]:
    command = [*apart.command(folder), "tune", "builtin:tiny", "--engine", engine]
    command += [*_COMMON.split(), *more.split(), "--out", str(folder / "run"), "--profiles", str(folder / "profiles")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(answer.stdout)


def _check(found: dict[str, object], folder: Path, engine: str) -> None:
    profile = infertune.load_profile(str(found["profile"]))
    assert profile.fingerprint.engine == engine
    assert profile.fingerprint.model is not None and profile.fingerprint.model.weights == "dummy"
    assert found["answer"] in ("better", "no better than the default")
    assert (profile.config == profile.config.updated({})) and set(profile.changed.root) <= set(profile.config.root)
    if found["answer"] == "better":
        assert len(profile.samples) == len(profile.default_samples) == 2
        assert profile.gain is not None and profile.gain[1] > 1
    report = Path(str(found["report"]))
    assert report.name == "report.html" and report.read_text().startswith("<!doctype html>")
    assert report.with_suffix(".md").read_text().startswith(f"# {engine} tiny")
    lines = (folder / "run" / "trials.jsonl").read_text().splitlines()
    trials = [json.loads(line) for line in lines[1:-1]]
    searched = [trial for trial in trials if trial["phase"] == "search"]
    assert len(searched) == 6
    assert any(trial["live"] for trial in searched), "one launch should answer several questions"
    assert len({json.dumps(trial["config"], sort_keys=True) for trial in searched}) == 6
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(folder) in command]


@pytest.mark.hf
def test_a_tune_of_a_pipeline_ends_with_a_profile(tmp_path: Path) -> None:
    found = _tune("hf", "--set threads=1 --set dtype=float32", tmp_path)
    _check(found, tmp_path, "hf")
    assert found["answer"] == "better", "batches against one request at a time"


@pytest.mark.vllm
def test_a_tune_of_vllm_ends_with_a_profile(tmp_path: Path) -> None:
    held = "--set enforce_eager=true --set enable_chunked_prefill=true --set enable_prefix_caching=true"
    live = "--knob max_num_batched_tokens=512,2048,4096 --knob max_num_seqs=8,32,64,256"  # one launch for all of them
    found = _tune("vllm", f"{held} --set dtype=float32 {live}", tmp_path)
    _check(found, tmp_path, "vllm")
