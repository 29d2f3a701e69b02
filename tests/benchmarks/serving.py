"""Is the goodput that a tune reports the true one, what does a tune cost, and how often is it wrong? On fake-serve.

    OMP_NUM_THREADS=1 nice -n 10 python -m tests.benchmarks.serving --seeds 200
    OMP_NUM_THREADS=1 nice -n 10 python -m tests.benchmarks.serving --seeds 200 --flat     # nothing is better
    OMP_NUM_THREADS=1 nice -n 10 python -m tests.benchmarks.serving --seeds 200 --gates 20000

A tune is of 12 configurations. What it costs is compared, in the server's own simulated seconds, with what is usual:
one restart for each configuration and rate, eight rates, a load of 60 s after each.
"""

import argparse
import math
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import infertune
from infertune.bench.bench import Bench
from infertune.bench.isolation import Deadlines
from infertune.bench.rates import Guess
from infertune.domain.arrivals import Arrivals
from infertune.domain.device import cpu
from infertune.domain.knobs import Config, Scalar
from infertune.domain.promise import Promise, RequestLimit
from infertune.domain.workload import parse_workload
from infertune.engines.base import EngineOptions, Prompt
from infertune.engines.fake.serving import FakeServeEngine
from infertune.gating.verdict import LOOKS, judge_pairs
from infertune.runs.serving import Serving

WORKLOAD = "synthetic:in=256,out=64"
LIMITS = ("ttft_s<0.5", "tpot_s<0.03")
PROMISE = Promise(
    limits=(RequestLimit(figure="ttft_s", most_s=0.5), RequestLimit(figure="tpot_s", most_s=0.03)), attain=0.95
)
STEEP: dict[str, tuple[Scalar, ...]] = {
    "max_num_seqs": (64, 128, 256),
    "max_num_batched_tokens": (512, 2048),
    "compiled": (False, True),
    "gpu_memory_utilization": (0.9,),
}
FLAT: dict[str, tuple[Scalar, ...]] = {
    "max_num_seqs": (256,),
    "max_num_batched_tokens": (2048, 4096, 8192),
    "compiled": (False,),
    "gpu_memory_utilization": (0.7, 0.8, 0.9, 0.95),
}
USUAL_RATES, USUAL_LOAD_S, LAUNCH_S = 8, 60.0, 45.0
CLOSE = 0.03


@dataclass(frozen=True)
class Outcome:
    """What one tune found.

    Attributes:
        answer: In words.
        errors: ln(reported / true) of the default's and of the candidate's goodput, where they were proved.
        covered: Whether the 95% interval of each has the true value.
        search_s: Simulated seconds of the search.
        proof_s: The same of the proof.
        usual_s: The same of one restart for each configuration and rate.
        looks: Most looks of a configuration in the search.
    """

    answer: str
    errors: tuple[float, ...]
    covered: tuple[bool, ...]
    search_s: float
    proof_s: float
    usual_s: float
    looks: int


@cache
def truth(config: Config) -> float:
    """The true goodput, from loads of 240,000 requests that no tune sees."""
    workload = parse_workload(WORKLOAD, None, 987_654)

    def draw(n: int) -> list[Prompt]:
        return [Prompt([0] * (r.prompt_tokens or 1), r.output_tokens) for r in workload.draw("final", n)]

    return FakeServeEngine(EngineOptions()).true_goodput(config, PROMISE, Arrivals("poisson"), draw, 240_000)


def tuned(seed: int, *, flat: bool = False, window: str = "20s", trust: str = "normal", check: bool = True) -> Outcome:
    """One tune; `check` compares it with the true goodput, which takes a minute a configuration."""
    knobs = FLAT if flat else STEEP
    with tempfile.TemporaryDirectory() as folder:
        study = infertune.tune(
            engine=f"fake-serve:launch={LAUNCH_S:g}s", device="cpu", workload=WORKLOAD, objective="goodput",
            slo=LIMITS, attain="95%", trials=12, sampler="grid", seed=seed, window=window, trust=trust,
            knob={name: values for name, values in knobs.items() if len(values) > 1},
            set={name: values[0] for name, values in knobs.items() if len(values) == 1},
            out=Path(folder) / "run", profiles=Path(folder) / "profiles",
        )  # fmt: skip
    summary, trials = study.summary, study.ledger.trials
    sides = [(summary.default_config, summary.default)]
    if summary.candidate_config != summary.default_config:
        sides.append((summary.candidate_config, summary.candidate))
    proved = [(config, side) for config, side in sides if check and side is not None and side.n > 1]
    search_s = sum(trial.cost_s for trial in trials if trial.phase == "search")
    searched = [trial for trial in trials if trial.phase == "search" and trial.measurement]
    launch_s = sum((2 if trial.config["compiled"] else 1) * LAUNCH_S for trial in searched)
    return Outcome(
        answer=summary.answer,
        errors=tuple(math.log(side.mean / truth(config)) for config, side in proved),
        covered=tuple(side.covers(truth(config)) for config, side in proved),
        search_s=search_s,
        proof_s=sum(trial.cost_s for trial in trials) - search_s,
        usual_s=USUAL_RATES * (launch_s + len(searched) * USUAL_LOAD_S),
        looks=max(len(trial.measurement.windows) for trial in searched if trial.measurement),
    )


def launches(n: int, window_s: float, seed: int = 0, **changes: Scalar) -> list[float]:
    """The goodput that n fresh launches of one configuration measure, as a proof or a gate does."""
    engine, workload = FakeServeEngine(EngineOptions()), parse_workload(WORKLOAD, None, seed)
    space = engine.space(None, cpu(), workload)
    config = space.default.updated(changes)
    serving = Serving(Arrivals("poisson"), PROMISE, window_s, window_s)
    rng, found = random.Random(seed), []
    for number in range(n):
        rate = truth(config) / PROMISE.attain * math.exp(rng.gauss(0, 0.02))
        plan = serving.plan(workload, "final", number).expecting(Guess(rate, 0.05))
        of_launch, logs = seed * 1000 + number, Path(tempfile.gettempdir())
        with Bench(engine, EngineOptions(), None, cpu(), space, logs, Deadlines(), seed=of_launch) as bench:
            measured = bench.measure(config, plan, fresh=True).outcome
        sustained = getattr(measured, "sustained", None)
        assert sustained, measured
        found.append(sustained.goodput_per_s)
    return found


def gated(samples: Sequence[float], drop: float, gates: int, margin: float = 0.05) -> dict[str, float]:
    """The shares of verdicts of gates whose launches are drawn from measured ones, the new side worse by a share."""
    rng, answers = random.Random(0), {"pass": 0, "regression": 0, "inconclusive": 0}
    logs = [math.log(sample) for sample in samples]
    for _ in range(gates):
        gains = [rng.choice(logs) - rng.choice(logs) + math.log1p(-drop) for _ in range(LOOKS[-1])]
        verdict = next(
            (v for n in LOOKS if (v := judge_pairs({"goodput_per_s": gains[:n]}, margin).answer) != "inconclusive"),
            "inconclusive",
        )
        answers[verdict] += 1
    return {answer: n / gates for answer, n in answers.items()}


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--gates", type=int, default=0)
    parser.add_argument("--window", default="20s")
    given = parser.parse_args()
    if given.gates:
        samples = launches(given.seeds, float(given.window.removesuffix("s")))
        cv = statistics.stdev(map(math.log, samples))
        print(f"{len(samples)} launches of the default: they differ by {cv:.2%}")
        for drop in (0.0, 0.05, 0.08, 0.10, 0.15):
            print(f"true drop {drop:.0%}: ", gated(samples, drop, given.gates))
        return
    started, outcomes = time.perf_counter(), []
    for seed in range(given.first, given.first + given.seeds):
        outcomes.append(tuned(seed, flat=given.flat, window=given.window, check=not given.flat))
        one = outcomes[-1]
        print(seed, one.answer, " ".join(f"{error:+.3f}" for error in one.errors), f"{one.search_s:.0f} s",
              f"{one.proof_s:.0f} s", f"looks {one.looks}", flush=True)  # fmt: skip
    errors = [error for one in outcomes for error in one.errors]
    covered = [inside for one in outcomes for inside in one.covered]
    print(f"{len(outcomes)} tunes in {time.perf_counter() - started:.0f} s")
    if errors:
        within = sum(abs(error) <= math.log1p(CLOSE) for error in errors) / len(errors)
        print(f"reported goodput within {CLOSE:.0%} of the true one: {within:.1%} of {len(errors)}; in its interval: "
              f"{sum(covered) / len(covered):.1%}; mean error {statistics.mean(errors):+.2%}")  # fmt: skip
    print(f"called better: {sum(one.answer == 'better' for one in outcomes) / len(outcomes):.1%}")
    search, proof, usual = (statistics.mean(getattr(one, name) for one in outcomes)
                            for name in ("search_s", "proof_s", "usual_s"))  # fmt: skip
    print(f"simulated: search {search:.0f} s, proof {proof:.0f} s; usual {usual:.0f} s: search 1/{usual / search:.1f}, "
          f"with proof 1/{usual / (search + proof):.1f}; most looks {max(one.looks for one in outcomes)}")  # fmt: skip


if __name__ == "__main__":
    main()
