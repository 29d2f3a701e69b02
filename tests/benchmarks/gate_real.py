"""The gate on a real engine: no alarm without a change, an alarm with one, and two versions against each other.

    python -m tests.benchmarks.gate_real aa --gates 10       a profile against itself: no REGRESSION
    python -m tests.benchmarks.gate_real delay --gates 5     a fixed delay in every batch, worth 15%: REGRESSION
    python -m tests.benchmarks.gate_real versions --baseline-python PATH    which version is faster?

Runs transformers pipelines on builtin:tiny with a batch size of 16, every gate through the command line. Prints one
line a gate and the counts; ends with 1 if a count is not as it should be.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.benchmarks.delayed_worker import delayed_python

_BATCH_SIZE = 16
_SETTINGS = {"batch_size": _BATCH_SIZE, "dtype": "float32", "threads": 1}  # fast and steady on every processor
_OUTPUT_TOKENS = 32
_WORKLOAD = f"synthetic:in=32-128,out={_OUTPUT_TOKENS}"
_DELAY_WORTH = 0.15


def main() -> None:
    """Make a profile, run the gates, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("aa", "delay", "versions"))
    parser.add_argument("--gates", type=int, default=1)
    parser.add_argument("--window", default="5s")
    parser.add_argument("--baseline-python", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "versions" and arguments.baseline_python is None:
        parser.error("versions needs --baseline-python")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        profile = make_profile(folder, arguments.window)
        sides = ["--against", str(profile)]
        if arguments.what == "delay":
            delay_s = delay_of(folder, arguments.window, _DELAY_WORTH)
            print(f"a delay of {1000 * delay_s:.1f} ms in every batch is worth {_DELAY_WORTH:.0%}")
            sides = ["--engine-python", str(delayed_python(folder, delay_s)), "--baseline-python", sys.executable]
        elif arguments.what == "versions":
            sides = ["--baseline-python", str(arguments.baseline_python)]
        answers: Counter[str] = Counter()
        for number in range(arguments.gates):
            out = ["--out", str(folder / f"gate-{number}"), "--window", arguments.window, "--json"]
            found = run("gate", str(profile), *sides, *out)
            answers[str(found["answer"])] += 1
            print(f"gate {number}: {line_of(found)}", flush=True)
    print(f"{arguments.what}: " + ", ".join(f"{n} {answer}" for answer, n in answers.items()))
    wrong = answers["regression"] if arguments.what == "aa" else arguments.gates - answers["regression"]
    sys.exit(1 if wrong and arguments.what != "versions" else 0)


def make_profile(folder: Path, window: str) -> Path:
    """A profile of one configuration, from the shortest tune that there is."""
    places = ["--out", str(folder / "tune"), "--profiles", str(folder / "profiles"), "--window", window]
    return Path(str(run("tune", *job_of(), "--trials", "1", *places, "--json")["profile"]))


def delay_of(folder: Path, window: str, worth: float) -> float:
    """Seconds that make every batch so much longer that a share of the throughput is lost, from three launches."""
    found = run(
        "bench", *job_of(), "--launches", "3", "3", "--window", window, "--out", str(folder / "bench"), "--json"
    )
    batch_s = _BATCH_SIZE * _OUTPUT_TOKENS / found["output_tokens_per_s"]["mean"]  # type: ignore[index]
    return batch_s * (1 / (1 - worth) - 1)


def job_of() -> list[str]:
    """What is measured, as arguments."""
    settings = [word for name, value in _SETTINGS.items() for word in ("--set", f"{name}={value}")]
    return ["builtin:tiny", "--engine", "hf", *settings, "--workload", _WORKLOAD]


def run(*arguments: str) -> dict[str, object]:
    """What a command of infertune says with `--json`; its verdict is no failure."""
    command = [sys.executable, "-m", "infertune", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode not in (0, 1, 3) or not done.stdout:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def line_of(found: dict[str, object]) -> str:
    """Verdict, ratio and pairs of a gate."""
    rate = found["metrics"][0]  # type: ignore[index]
    return (
        f"{found['answer']}, new ({found['new']['engine']}) / base ({found['base']['engine']}) "  # type: ignore[index]
        f"{rate['ratio']:.4f}, 95% interval {rate['ratio_low']:.4f} to {rate['ratio_high']:.4f}, {found['pairs']} pairs"
    )


if __name__ == "__main__":
    main()
