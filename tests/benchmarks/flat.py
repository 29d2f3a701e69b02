"""The rate of false gains: how often a tune of a flat landscape reports a gain.

    python -m tests.benchmarks.flat [--seeds 200]

Tunes the fake engine's flat landscape with 30 trials and prints the false gains. Two processes, a minute for fifty
seeds.
"""

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import infertune


def gain(seed: int) -> str:
    """What the tune says was gained, with its interval; empty where it says nothing is better."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"out": Path(folder) / "run", "profiles": Path(folder) / "profiles"}
        study = infertune.tune(engine="fake:flat", requests=64, trials=30, seed=seed, **places)
    found = study.summary.gain
    if study.summary.answer != "better" or found is None or found.low is None or found.high is None:
        return ""
    return f"seed {seed}: {found.mean - 1:+.1%} ({found.low - 1:+.1%} to {found.high - 1:+.1%}), {found.n} pairs"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    seeds = parser.parse_args().seeds
    with ProcessPoolExecutor(2) as pool:
        better = [line for line in pool.map(gain, range(seeds)) if line]
    print(*better, f"no better than the default: {seeds - len(better)} of {seeds}", sep="\n")


if __name__ == "__main__":
    main()
