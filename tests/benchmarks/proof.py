"""How many launches a proven answer costs, and whether it is right: whole tunes of the simulated engine.

    python -m tests.benchmarks.proof [--seeds 200] [--processes 2]     # every landscape and noise, default flags
    python -m tests.benchmarks.proof --only slope --noise 0.02
    python -m tests.benchmarks.proof --h200 [--seeds 50]                # launches of 75 s, a budget of 15 minutes

Simulated time: it needs no engine, but each tune takes some seconds of processor time.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# One thread for each process: numpy's own threads would fight over the cores. Before numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import infertune
from infertune.engines.base import EngineOptions
from infertune.engines.fake.engine import FakeEngine

LANDSCAPES = ("plateau", "ragged", "flat", "slope")
NOISES = (0.01, 0.03, 0.08)


@dataclass(frozen=True)
class Told:
    """What a tune said, beside the truth.

    Attributes:
        launches: After the search.
        minutes: Simulated, all of it.
        better: Whether it said better.
        covered: Whether the interval holds the true gain; None without a final comparison.
        optimism: Reported less true gain of the winner, relative; None without a final comparison.
        regret: Share of the best rate of the whole space that the recommendation leaves.
        true_gain: Of the best configuration of the space over the default, a ratio.
    """

    launches: int
    minutes: float
    better: bool
    covered: bool | None
    optimism: float | None
    regret: float
    true_gain: float


def tuned(landscape: str, noise: float, seed: int, launch: str = "30s", **flags: object) -> Told:
    """Tune the simulated engine once."""
    spec = f"{landscape},noise={noise},launch={launch}"
    with tempfile.TemporaryDirectory() as folder:
        places = {"out": Path(folder) / "run", "profiles": Path(folder) / "profiles"}
        study = infertune.tune(engine=f"fake:{spec}", seed=seed, **places, **flags)
    engine = FakeEngine(EngineOptions(variant=spec))
    summary, trials = study.summary, study.ledger.trials
    space = engine.space(None, study.ledger.header.device, None)  # type: ignore[arg-type]
    best, best_rate = engine.optimum(space)
    default = engine.true_rate(summary.default_config)
    covered = optimism = None
    if summary.gain is not None:
        truth = engine.true_rate(summary.candidate_config) / default
        covered = summary.gain.covers(truth)
        optimism = summary.gain.mean / truth - 1
    return Told(
        launches=sum(trial.phase in ("confirm", "final") for trial in trials),
        minutes=sum(trial.cost_s for trial in trials) / 60,
        better=summary.answer == "better",
        covered=covered,
        optimism=optimism,
        regret=1 - engine.true_rate(summary.best_config) / best_rate,
        true_gain=best_rate / default,
    )


def row(name: str, told: Iterable[Told]) -> str:
    """A line of the table."""
    of = list(told)
    covered = [one.covered for one in of if one.covered is not None]
    optimism = [one.optimism for one in of if one.optimism is not None]
    return (
        f"| {name} | {statistics.median(one.true_gain for one in of) - 1:+.0%} | "
        f"{statistics.median(one.launches for one in of):.0f} ({statistics.mean(one.launches for one in of):.1f}) | "
        f"{sum(one.better for one in of) / len(of):.1%} | "
        f"{sum(covered) / len(covered) if covered else 1:.1%} of {len(covered)} | "
        f"{statistics.mean(optimism) if optimism else 0:+.2%} | {statistics.mean(one.regret for one in of):.2%} |"
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", action="append", choices=LANDSCAPES)
    parser.add_argument("--noise", type=float, action="append", help="of launches and windows, such as 0.02")
    parser.add_argument("--h200", action="store_true")
    flags = parser.parse_args()
    with ProcessPoolExecutor(flags.processes) as pool:
        if flags.h200:
            seeds = range(flags.seeds or 50)
            runs = [
                pool.submit(tuned, "plateau", 0.01, seed, "75s", budget="15m", window="3s", requests=256)
                for seed in seeds
            ]
            told = [run.result() for run in runs]
            print(
                f"launches of 75 s, --budget 15m, {len(told)} seeds: better in {sum(one.better for one in told)}, "
                f"median {statistics.median(one.minutes for one in told):.1f} simulated minutes, "
                f"median regret {statistics.median(one.regret for one in told):.1%}, "
                f"within 3% of the best in {sum(one.regret <= 0.03 for one in told)}"
            )
            return
        print("| landscape, noise | best | launches: median (mean) | better | 95% covers | optimism | regret |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        everything: list[Told] = []
        for landscape in flags.only or LANDSCAPES:
            for noise in flags.noise or NOISES:
                runs = [pool.submit(tuned, landscape, noise, seed) for seed in range(flags.seeds or 200)]
                told = [run.result() for run in runs]
                everything += told
                print(row(f"{landscape}, {noise:.0%}", told), flush=True)
        print(row("all", everything))


if __name__ == "__main__":
    main()
