"""Which families run here? Every published family of the tests, shrunk, through `infertune bench`, one line each.

    python -m tests.benchmarks.families hf
    python -m tests.benchmarks.families vllm gpt2 gemma-3-4b

A line has the rate of random weights, which says only that it runs, or why it does not, in the engine's words.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.engines.sizes.shrunk import NAMES, shrunk

_JOB = "--weights dummy --workload synthetic:in=8-24,out=8 --requests 8 --launches 1 1 --windows 1 --wait --json"
_HELD = {"hf": {"batch_size": "4"}, "vllm": {"enforce_eager": "true"}}
_QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}


def main() -> None:
    """Bench one family after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=_HELD)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="FAMILY")
    arguments = parser.parse_args()
    measured = 0
    for name in arguments.names or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / name
            model.mkdir()
            (model / "config.json").write_text(json.dumps(shrunk(name)))
            answer = _bench(model, arguments.engine)
        measured += answer.endswith("tok/s")
        print(f"{name:20} {answer}", flush=True)
    print(f"{measured} of {len(arguments.names or NAMES)} measured by {arguments.engine}")


def _bench(model: Path, engine: str) -> str:
    command = [sys.executable, "-m", "infertune", "bench", str(model), "--engine", engine, *_JOB.split()]
    for setting, value in _HELD[engine].items():
        command += ["--set", f"{setting}={value}"]
    command += ["--out", str(model.parent / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **_QUIET}, check=False)
    if done.returncode == 0:
        return f"{json.loads(done.stdout)['samples'][0]:,.0f} tok/s"
    return f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"


if __name__ == "__main__":
    main()
