"""`bench --target`: a server that runs already is loaded over HTTP; its key is written nowhere."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from infertune.engines.serving.process import ServerProcess
from infertune.engines.serving.target import KEY_VARIABLE
from tests.apart import command
from tests.engines.serving.loaded_stub import start

SECRET = "a-key"  # the one that the stub takes


@pytest.mark.slow
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
