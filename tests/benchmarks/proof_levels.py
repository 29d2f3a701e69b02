"""What the looks of the final comparison keep: errors, coverage, optimism, launches.

    python -m tests.benchmarks.proof_levels [--times 4000] [--corrected 2000] [--trust normal] [--drift 0.5] [--most 40]

Launches of both sides are drawn with a true gain and a noise (relative standard deviation of a launch); the product's
own functions decide when they end. `--most` is that of `--final-launches LEAST MOST`; `--drift` is the share of the
variance that both sides of a round have in common.
Simulated: it needs no engine, and takes half an hour, of which the optimism takes most.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from infertune.sequential import (
    TRUST,
    Trust,
    contrast,
    first_look_weights,
    interval,
    is_better,
    look,
    looks_within,
    narrow_mean,
)

GAINS = (0.0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.5, 0.8, 6.0)
NOISES = (0.01, 0.02, 0.03, 0.08)


@dataclass(frozen=True)
class Kept:
    """Over many simulated comparisons.

    Attributes:
        better: Share that said better.
        covered: Share of reported 95% intervals that held the true gain.
        optimism: Mean of reported less true gain, natural logarithms; not a number where none was counted.
        launches: Median launches of both sides.
    """

    better: float
    covered: float
    optimism: float
    launches: float


def simulate(
    gain: float,
    noise: float,
    trust: Trust,
    times: int,
    seed: int = 0,
    drift: float = 0.0,
    more_base: int = 0,
    corrected: int = 0,
    most: int | None = None,
) -> Kept:
    """Many comparisons of a true gain at a noise.

    Args:
        gain: 0.03 is +3%.
        noise: Of one launch, relative.
        trust: Whose looks are used.
        times: How many comparisons.
        seed: Of the draws.
        drift: Share of a launch's variance that the other side of its round shares.
        more_base: Launches of the base without a partner.
        corrected: Of so many of them the optimism is counted: a long comparison takes 0.1 s.
        most: Launches of each side at most; None for as many as the trust needs.
    """
    rng = np.random.default_rng(seed)
    truth, most = math.log1p(gain), most or trust.looks[-1]
    trust, looks = trust.up_to(most), looks_within(trust, trust.looks[0], most)
    better, covered, optimism, launches = 0, 0, 0.0, []
    for number in range(times):
        common = rng.normal(0, noise * math.sqrt(drift), most)
        own = noise * math.sqrt(1 - drift)
        new, base = truth + common + rng.normal(0, own, most), common + rng.normal(0, own, most)
        more = list(rng.normal(0, noise, more_base))
        for n in looks:
            found = contrast(list(new[:n]), list(base[:n]), more)
            if look(found, n, n + more_base, trust, most).ends:
                break
        told = interval(found, n, trust)
        assert told.low is not None and told.high is not None
        better += is_better(told)
        covered += told.low <= 1 + gain <= told.high
        if number < corrected:
            weights = first_look_weights(tuple(new[:n]), tuple(base[:n]), tuple(more), trust, looks)
            gains = [a - b for a, b in zip(new[:n], base[:n], strict=True)]
            optimism += sum(weight * gain for weight, gain in zip(weights, gains, strict=True)) - truth
        launches.append(2 * n + more_base)
    return Kept(
        better / times, covered / times, optimism / corrected if corrected else math.nan, float(np.median(launches))
    )


def bench_coverage(noise: float, times: int, looks: Sequence[int] = (3, 4, 6, 9, 12), seed: int = 0) -> float:
    """Share of `bench`'s 95% intervals that hold the truth, when it ends as soon as the interval is within ±2%."""
    rng, trust, covered = np.random.default_rng(seed), TRUST["normal"], 0
    for _ in range(times):
        scores = list(rng.normal(0, noise, looks[-1]))
        told = next(
            told
            for n in looks
            if (told := narrow_mean(scores[:n], trust)).half_width <= trust.half_width or n == looks[-1]
        )
        covered += told.covers(1.0)
    return covered / times


def main() -> None:
    """Print a row for each noise and gain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=4000)
    parser.add_argument("--trust", choices=sorted(TRUST), default="normal")
    parser.add_argument("--corrected", type=int, default=2000, help="of so many the optimism is counted")
    parser.add_argument("--drift", type=float, default=0.0)
    parser.add_argument("--most", type=int, help="launches of each side at most")
    flags = parser.parse_args()
    options = {"drift": flags.drift, "corrected": flags.corrected, "most": flags.most}
    run = partial(simulate, trust=TRUST[flags.trust], times=flags.times, **options)
    print(
        "| noise | true gain | better | 95% covers | optimism | launches |\n| ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    for noise in NOISES:
        for gain in GAINS:
            kept = run(gain, noise)
            print(
                f"| {noise:.0%} | {gain:+.0%} | {kept.better:.1%} | {kept.covered:.1%} | {kept.optimism:+.2%} | "
                f"{kept.launches:.0f} |"
            )
    print("\nbench, one configuration:")
    for noise in (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08):
        print(f"noise {noise:.1%}: 95% intervals cover {bench_coverage(noise, flags.times):.1%}")


if __name__ == "__main__":
    main()
