"""The gate on real pipelines, short: two interpreters, and a worker that is slower by a known delay."""

import sys
from pathlib import Path

import psutil
import pytest

from infertune.runs.ledger import Ledger
from tests.benchmarks import gate_real
from tests.benchmarks.delayed_worker import delayed_python


@pytest.mark.hf
@pytest.mark.timed
def test_a_delay_in_every_batch_is_a_regression_between_two_interpreters(tmp_path: Path) -> None:
    profile = gate_real.make_profile(tmp_path, "0.5s")
    slow = delayed_python(tmp_path, 1.5)  # a batch takes half a second, or a few on a busy machine
    sides = ["--engine-python", str(slow), "--baseline-python", sys.executable]
    found = gate_real.run("gate", str(profile), *sides, "--requests", "8", "--out", str(tmp_path / "gate"), "--json")
    assert found["answer"] == "regression" and found["exit_code"] == 1
    assert found["new"]["engine"] == found["base"]["engine"]  # type: ignore[index]
    assert found["new"]["versions"]["transformers"]  # type: ignore[index]
    trials = Ledger.open(tmp_path / "gate").trials
    assert len(trials) == 2 * found["pairs"]  # type: ignore[operator]
    assert len({trial.launch_number for trial in trials}) == len(trials)
    logs = sorted(path.name for path in (tmp_path / "gate" / "logs").iterdir())
    assert len(logs) == len(trials), "two benches do not write into each other's logs"
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(tmp_path) in command]
