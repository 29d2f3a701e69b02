"""The gain of transfer: trials to 98% of the optimum, from nothing and from another run.

    python -m tests.benchmarks.search.transfer hf-tiny-ragged:threads=1 hf-tiny-ragged:threads=2 [--seeds 30]

The first landscape is searched in 24 trials; the second then starts from those, as `tune --from RUN` does, or from
nothing. Two models, two workloads or two thread counts stand in for two devices.
"""

import argparse
import math
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from infertune.domain.knobs import Config, parse_scalar
from infertune.search import Result, Searcher, Transferred
from infertune.search.model_based import ModelSearcher
from tests.benchmarks.search.__main__ import problems_here
from tests.benchmarks.search.problems import Problem, slice_of
from tests.benchmarks.search.replay import Step, replay, rng_of
from tests.benchmarks.search.strategies import ours, predictor_of

_NEAR = 0.02
_SOURCE_TRIALS = 24
_TRIALS = 24


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--seeds", type=int, default=30)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        job = partial(compare, source=arguments.source, target=arguments.target)
        found = list(pool.map(job, range(arguments.seeds)))
    print(f"{arguments.source} → {arguments.target}, {arguments.seeds} seeds")
    for name, runs in zip(
        ("from nothing", "transferred"), zip(*(pair[:2] for pair in found), strict=True), strict=True
    ):
        first, for_good = ([reached(run) for run in runs] for reached in (first_near, near_for_good))
        print(
            f"{name:14} trials to 98% of the optimum: mean {statistics.mean(first):.1f}, median "
            f"{statistics.median(first):.0f}; to stay there {statistics.mean(for_good):.1f}, "
            f"{statistics.median(for_good):.0f}; regret after 4, 8, 12, 16: "
            + ", ".join(f"{100 * statistics.mean(run[n - 1].regret for run in runs):.1f}%" for n in (4, 8, 12, 16))
        )
    ported = [pair[2] for pair in found]
    print(f"ported, not retuned: {100 * statistics.mean(ported):.2f}% below the optimum")


def compare(seed: int, source: str, target: str) -> tuple[list[Step], list[Step], float]:
    """One seed: the steps from nothing, the steps from the source, and the regret of what was best at the source."""
    there, here = problem_of(source), problem_of(target)
    results = _searched(there, seed)
    best = max((r for r in results if r.score is not None), key=lambda r: r.score or 0.0).config
    ported = here.space.repair(best)

    def start_there(problem: Problem, seed: int) -> Searcher:
        predictor = Transferred(problem.space, results, seed, predictor_of(problem))
        return ModelSearcher(problem.space, seed=seed, seeds=[ported], predictor=predictor)

    regret = 1 - here.true[ported] / here.best if ported in here.true else 1.0
    return replay(here, ours(), seed, _TRIALS, every=1), replay(here, start_there, seed, _TRIALS, every=1), regret


def problem_of(name: str) -> Problem:
    """A landscape, or with `NAME:knob=value` the part of it in which a knob has a value."""
    if name in problems_here():
        return problems_here()[name]
    table, _, held = name.rpartition(":")
    knob, _, value = held.partition("=")
    return slice_of(problems_here()[table], knob, parse_scalar(value))


def first_near(steps: list[Step]) -> int:
    """Trials until what would be recommended is within 2% of the optimum; one more than there were, if never."""
    return next((n for n, step in enumerate(steps, start=1) if step.regret <= _NEAR), len(steps) + 1)


def near_for_good(steps: list[Step]) -> int:
    """Trials until it is and, whatever noise makes of the choice between the best few, stays there."""
    return len(steps) - next((n for n, step in enumerate(reversed(steps)) if step.regret > _NEAR), len(steps)) + 1


def _searched(problem: Problem, seed: int) -> list[Result]:
    rng = rng_of("source", problem.name, seed)
    searcher, launched = ours()(problem, seed), None
    results: list[Result] = []
    for _ in range(_SOURCE_TRIALS):
        config: Config | None = searcher.ask(launched)
        if config is None:
            break
        run = problem.run(config, rng)
        results.append(Result(config, None if run.rate is None else math.log(run.rate), run.launch_s, run.run_s))
        searcher.tell(results[-1])
        launched = config
    return results


if __name__ == "__main__":
    main()
