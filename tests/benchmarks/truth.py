"""Agreement of `infertune bench` with a plain script: paired, alternating launches over the same requests.

    python -m tests.benchmarks.truth hf --pairs 10
    python -m tests.benchmarks.truth vllm --pairs 10

Prints the rates pair by pair and the mean ratio infertune / plain with its 95% interval.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from infertune.domain.models import resolve_model
from infertune.domain.request import JobRequest
from infertune.runs.job import prepare
from infertune.stats import geometric_mean, paired_ratio

_OUTPUT_TOKENS = 32
_WINDOWS = 3
_ENGINES = {"hf": ("batch_size", 16, 64), "vllm": ("max_num_seqs", 64, 256)}
_QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}


def main() -> None:
    """Run the pairs and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=_ENGINES)
    parser.add_argument("--pairs", type=int, default=10)
    arguments = parser.parse_args()
    knob, value, n_requests = _ENGINES[arguments.engine]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workload = _write_prompts(folder / "prompts.jsonl", n_requests)
        request = JobRequest(engine=arguments.engine, model="builtin:tiny", workload=workload, requests=n_requests)
        plan = prepare(request).plan("search", n_requests)
        texts = {"prompts": [r.text for r in plan.requests], "warmup": [r.text for r in plan.warmup]}
        (folder / "job.json").write_text(json.dumps({**texts, "output_tokens": _OUTPUT_TOKENS}))
        ours = [sys.executable, "-m", "infertune", "bench", "builtin:tiny", "--engine", arguments.engine, "--json"]
        ours += ["--workload", workload, "--requests", str(n_requests), "--set", f"{knob}={value}"]
        ours += ["--launches", "1", "1", "--windows", str(_WINDOWS)]
        if arguments.engine == "vllm":
            ours += ["--set", "enforce_eager=true"]
        script = Path(__file__).with_name(f"plain_{arguments.engine}.py")
        path = resolve_model("builtin:tiny").path
        plain = [sys.executable, str(script), path, str(folder / "job.json"), str(value), str(_WINDOWS)]
        rates: dict[str, list[float]] = {"infertune": [], "plain": []}
        for pair in range(arguments.pairs):
            order = ("infertune", "plain") if pair % 2 == 0 else ("plain", "infertune")
            for side in order:
                out = ["--out", str(folder / f"run-{pair}")] if side == "infertune" else []
                printed = _run((ours if side == "infertune" else plain) + out)
                rate = json.loads(printed)["samples"][0] if side == "infertune" else _mean_rate(printed)
                rates[side].append(rate)
            print(
                f"pair {pair}: infertune {rates['infertune'][-1]:,.0f}, plain {rates['plain'][-1]:,.0f} tok/s",
                flush=True,
            )
    ratio = paired_ratio(rates["infertune"], rates["plain"])
    print(f"{arguments.engine}: infertune / plain {ratio.mean:.4f}, 95% interval {ratio.low:.4f} to {ratio.high:.4f}")


def _write_prompts(path: Path, n_requests: int) -> str:
    """ASCII prompts of 64 to 128 characters, each a token of the built-in tokenizer; four times a job's requests."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz     "
    lines = [
        json.dumps({"prompt": "".join(rng.choices(letters, k=rng.randint(64, 128)))}) for _ in range(4 * n_requests)
    ]
    path.write_text("\n".join(lines))
    return f"jsonl:{path},out={_OUTPUT_TOKENS}"


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **_QUIET})
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def _mean_rate(printed: str) -> float:
    """Geometric mean of the lines `rate NUMBER`; engines print others around them."""
    rates = [float(line.split()[1]) for line in printed.splitlines() if line.startswith("rate ")]
    assert len(rates) == _WINDOWS, printed
    return geometric_mean(rates)


if __name__ == "__main__":
    main()
