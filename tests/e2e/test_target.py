"""`bench --target`: a server that runs already is loaded over HTTP; its key is written nowhere."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from infertune.domain.request import make_request
from infertune.engines.serving.process import ServerProcess
from infertune.engines.serving.target import KEY_VARIABLE
from infertune.errors import UsageError
from infertune.runs.job import prepare
from infertune.runs.serving import on_target
from infertune.tuning.sweep import BenchRequest
from tests.apart import command
from tests.engines.serving.loaded_stub import start

SECRET = "a-key"  # the one that the stub takes


def measure(tmp_path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """`bench --target` of a stub that is started with these flags."""
    server = ServerProcess(start(*flags))
    try:
        words = ["bench", "--target", f"http://127.0.0.1:{server.port}", "--rate", "20", "--duration", "2s",
                 "--slo", "ttft_s<5", "--launches", "1", "1", "--windows", "1", "--device", "cpu",
                 "--workload", "synthetic:in=16,out=8", "--out", str(tmp_path / "run")]  # fmt: skip
        return subprocess.run([*command(tmp_path), *words], capture_output=True, text=True, timeout=120)
    finally:
        server.end()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["500", "short", "error event"])
@pytest.mark.timed
def test_a_load_of_which_nothing_came_back_whole_is_no_measurement(tmp_path: Path, fault: str) -> None:
    done = measure(tmp_path, "--fault", fault)
    assert done.returncode == 5 and "none of 64 requests came back whole" in done.stderr.splitlines()[-1], done.stderr
    assert "tok/s" not in done.stdout


@pytest.mark.slow
@pytest.mark.timed
def test_what_failed_is_told_and_its_tokens_are_not_counted(tmp_path: Path) -> None:
    """Every fourth request stops at half of its 8 tokens."""
    done = measure(tmp_path, "--fault", "short", "--every", "4")
    assert (
        done.returncode == 0 and "10 of 40 requests failed or were cut, such as: 4 of 8 tokens came (10)" in done.stdout
    )
    trial = json.loads((tmp_path / "run" / "trials.jsonl").read_text().splitlines()[1])
    assert trial["outcome"]["windows"][0]["output_tokens"] == 30 * 8
    report = (tmp_path / "run" / "report.md").read_text()
    assert (
        "10 requests failed or were cut, such as: 4 of 8 tokens came (10)." in report
        and "of the requests kept it." in report
    )


def test_one_of_the_models_of_a_server_is_measured() -> None:
    server = ServerProcess(start("--models=one,two"))
    target = f"http://127.0.0.1:{server.port}"

    def measured(**options: object) -> object:
        request = on_target(make_request(BenchRequest, {"target": target, "rate": 5, "device": "cpu", **options}))
        return prepare(request).space.default["served_model"]

    try:
        assert (measured(), measured(set={"served_model": "two"})) == ("one", "two")
        with pytest.raises(UsageError, match="served_model=three.*one, two"):
            measured(set={"served_model": "three"})
        with pytest.raises(UsageError, match="unknown knob 'max_num_seqs'; there are served_model"):
            measured(set={"max_num_seqs": 8})
    finally:
        server.end()


@pytest.mark.slow
@pytest.mark.timed
def test_a_server_that_runs_is_measured_and_runs_on_and_its_key_is_written_nowhere(tmp_path: Path) -> None:
    server = ServerProcess(start("--owner="))
    try:
        words = ["bench", "--target", f"http://127.0.0.1:{server.port}", "--rate", "10", "--duration", "2s",
                 "--slo", "ttft_s<5", "--launches", "1", "1", "--windows", "1", "--device", "cpu",
                 "--workload", "synthetic:in=16,out=4", "--out", str(tmp_path / "run"), "--json"]  # fmt: skip
        done = subprocess.run(
            [*command(tmp_path), *words],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, KEY_VARIABLE: SECRET},
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["figures"]["completed_per_s"]["mean"] > 5 and result["config"] == {"served_model": "stub"}
        written = [
            path.read_text() for path in (tmp_path / "run").rglob("*") if path.suffix in (".jsonl", ".md", ".log")
        ]
        assert len(written) >= 3 and not any(SECRET in text for text in (*written, done.stdout, done.stderr))
        server.check()  # it runs on
    finally:
        server.end()
