"""Latencies as infertune measures them on a stock vLLM server, against `vllm bench serve` on the same server.

    python -m tests.benchmarks.serving_by_hand --rates 2,5,10 --pairs 5 --requests 60

A stock `vllm serve` is started once, as the proof does. At each rate, both generators send as many requests at a
constant rate, in turn (A B B A …); a pair is one load of each. Prints the ratio of the medians (infertune / by hand) of
the time to first token and the time per output token, with its 95% interval over the pairs. infertune counts from when
a request was due, `vllm bench serve` from when it was sent: so TTFT is given from both. With `--apart` the server has
the first core alone and the generators the second, so that neither's work slows the server.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import psutil

from infertune.domain import device as devices
from infertune.domain.models import resolve_model
from infertune.domain.workload import parse_workload
from infertune.engines import get_engine
from infertune.engines.base import Prompt, Setup
from infertune.engines.serving.loaded import LoadedServer
from infertune.engines.vllm.environment import metadata_path
from infertune.engines.vllm.served import LoadedVllmServer
from infertune.stats import paired_ratio


class Medians(NamedTuple):
    """Of one load, in seconds.

    Attributes:
        ttft_s: From when a request was due; by hand, from when it was sent.
        sent_ttft_s: From when it was sent.
        tpot_s: Per output token after the first.
        failed: Requests that failed.
    """

    ttft_s: float
    sent_ttft_s: float
    tpot_s: float
    failed: int


def with_infertune(engine: LoadedServer, rate: float, n: int, prompt: int, output: int, seed: int) -> Medians:
    """One load of infertune's generator."""
    rng = random.Random(seed)
    high = engine.vocab_size() * 3 // 4
    prompts = [Prompt([rng.randrange(3, high) for _ in range(prompt)], output) for _ in range(n)]
    engine.reset()
    load = engine.serve(prompts, [number / rate for number in range(n)], cut_after_s=120)
    good = [sent for sent in load.sent if not sent.error]
    return Medians(
        statistics.median(sent.ttft_s or 0.0 for sent in good),
        statistics.median((sent.first_s or 0.0) - sent.sent_s for sent in good),
        statistics.median(sent.tpot_s or 0.0 for sent in good),
        n - len(good),
    )


def by_hand(engine: LoadedServer, tokenizer: str, rate: float, n: int, prompt: int, output: int, seed: int) -> Medians:
    """One load of `vllm bench serve`."""
    address, metadata = engine.address, metadata_path()
    environment = {**os.environ, **({"PYTHONPATH": str(metadata)} if metadata else {})}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-P", "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend=openai",
            f"--base-url=http://{address.host}:{address.port}", "--endpoint=/v1/completions",
            f"--model={engine.served_model}", f"--tokenizer={tokenizer}", "--dataset-name=random",
            f"--random-input-len={prompt}", f"--random-output-len={output}", f"--num-prompts={n}", f"--seed={seed}",
            f"--request-rate={rate}", "--burstiness=inf", "--ignore-eos", "--temperature=0", "--disable-tqdm",
            "--save-result", "--save-detailed", f"--result-dir={folder}", "--result-filename=found.json",
        ]  # fmt: skip
        answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if answer.returncode:
            raise SystemExit(f"vllm bench serve ended with {answer.returncode}:\n{answer.stderr[-2000:]}")
        found = json.loads((Path(folder) / "found.json").read_text())
    rows = [(ttft, itls) for ttft, itls, error in zip(found["ttfts"], found["itls"], found["errors"], strict=True)
            if not error]  # fmt: skip
    ttft_s = statistics.median(ttft for ttft, _ in rows)
    tpot_s = statistics.median(sum(itls) / (output - 1) for _, itls in rows)
    return Medians(ttft_s, ttft_s, tpot_s, n - len(rows))


def on_second_core(loaded: LoadedVllmServer) -> None:
    """Move this process, and what it starts besides the server, to the second core."""
    server = {process.pid for process in loaded.process.family()} if loaded.process else set()
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        if process.pid not in server:
            for thread in process.threads():
                os.sched_setaffinity(thread.id, {1})


def main() -> None:
    """Run the pairs and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="builtin:tiny")
    parser.add_argument("--rates", default="2,5,10", help="requests a second")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=60, help="of a load")
    parser.add_argument("--prompt", type=int, default=64, help="tokens")
    parser.add_argument("--output", type=int, default=32, help="tokens")
    parser.add_argument("--apart", action="store_true", help="server and generators on a core each")
    arguments = parser.parse_args()
    model, device, engine = resolve_model(arguments.model), devices.detect(), get_engine("vllm-serve")
    space = engine.space(model, device, parse_workload(f"synthetic:in={arguments.prompt},out={arguments.output}"))
    config = space.repair(space.default.updated({"enforce_eager": True}))
    setup = Setup(model=model, device=device, config=config, defaults=space.default, faithful=True)
    print(f"{engine.available().version} on {device}, load {os.getloadavg()[0]:.1f} before")
    if arguments.apart:
        os.sched_setaffinity(0, {0})  # whatever is started from here on
    loaded = engine.load(setup)
    assert isinstance(loaded, LoadedVllmServer)
    if arguments.apart:
        on_second_core(loaded)
    shape = (arguments.requests, arguments.prompt, arguments.output)
    try:
        with_infertune(loaded, 5.0, *shape, seed=0)  # warm-up
        for rate in map(float, arguments.rates.split(",")):
            ours: list[Medians] = []
            theirs: list[Medians] = []
            for number in range(arguments.pairs):
                for side in (0, 1) if number % 2 == 0 else (1, 0):
                    seed = 1000 * number + int(rate)
                    if side == 0:
                        ours.append(with_infertune(loaded, rate, *shape, seed=seed))
                    else:
                        theirs.append(by_hand(loaded, model.path, rate, *shape, seed=seed))
                print(f"  {rate:g}/s pair {number}: {ours[-1]} {theirs[-1]}", file=sys.stderr, flush=True)
            print(f"{rate:g} requests/s, {arguments.pairs} pairs of {arguments.requests} requests:")
            for name, what in (("ttft_s", "TTFT from due"), ("sent_ttft_s", "TTFT from sent"), ("tpot_s", "TPOT")):
                one, other = ([getattr(m, name) for m in side] for side in (ours, theirs))
                ratio = paired_ratio(one, other)
                interval = f"{ratio.low:.3f} to {ratio.high:.3f}" if ratio.low is not None else "none"
                times = f"{1000 * statistics.median(one):.1f} ms, by hand {1000 * statistics.median(other):.1f} ms"
                print(f"  {what}: {times}; ratio {ratio.mean:.3f}, 95% interval {interval}", flush=True)
            print(f"  failed: {sum(m.failed for m in ours)}, by hand {sum(m.failed for m in theirs)}", flush=True)
    finally:
        loaded.close()


if __name__ == "__main__":
    main()
