"""Several workers with one search: regret against trials and against the clock, for 1, 2, 4 and 8 workers.

    python -m tests.benchmarks.search.parallel [--held-out] [--landscapes 24] [--family NAME]... [--how NAME]...
    python -m tests.benchmarks.search.parallel --recorded [--seeds 10]

The clock is simulated: a trial takes its run, a launch where the worker's launch settings change, and up to a fifth
more or less by chance, so that workers end in any order. A worker that is free asks with what the others are measuring.
The default is measured first, alone, because the size of the job comes from it; with `--together` the others do not
wait for it. Prints for each family, way of asking and number of workers the mean regret in percent of the best tried
after so many trials, and the trials and seconds after which the mean regret is within 2%, and the mean of those after
which each run is (of those that never are, all of theirs), with the ratios to one worker. A way of asking is chosen on
the development half.
"""

import argparse
import heapq
import math
import random
import statistics
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from infertune.domain.knobs import Config, SearchSpace
from infertune.search import Predictor, Result, Searcher, make_searcher
from infertune.search.model_based import ModelSearcher, Parts
from tests.benchmarks.search.problems import Problem, Run, recorded
from tests.benchmarks.search.strategies import predictor_of
from tests.benchmarks.search.unknown import FAMILIES, LAUNCH_S, RUN_S, Family, Landscape, landscapes

WORKERS = (1, 2, 4, 8)
AT = (8, 12, 16, 24, 32, 48)
_NEAR = 0.02
_JITTER = 0.2


def _auto(parts: Parts) -> Callable[[SearchSpace, Predictor | None, int], Searcher]:
    return lambda space, predictor, seed: ModelSearcher(space, seed=seed, predictor=predictor, parts=parts)


HOW: dict[str, Callable[[SearchSpace, Predictor | None, int], Searcher]] = {
    "auto": _auto(Parts()),
    "fantasies": _auto(Parts(fantasies=True)),
    "pending run": _auto(Parts(pending_runs=True)),
    "pending fail": _auto(Parts(pending_runs=False)),
    "tpe": lambda space, _, seed: make_searcher(space, sampler="tpe", trials=max(AT), seed=seed),
    "random": lambda space, _, seed: make_searcher(space, sampler="random", trials=max(AT), seed=seed),
}


@dataclass(frozen=True)
class Task:
    """A landscape with what is known of its costs.

    Attributes:
        name: Seeds its noise.
        space: Its knobs.
        run: One noisy measurement.
        share: The true rate of a configuration over that of the best; 0 if it fails.
        predictor: The prior mean, if there is one.
    """

    name: str
    space: SearchSpace
    run: Callable[[Config, random.Random], Run]
    share: Callable[[Config], float]
    predictor: Predictor | None = None


def of_landscape(landscape: Landscape) -> Task:
    """A made landscape, on which every launch and every run take the same time."""

    def run(config: Config, rng: random.Random) -> Run:
        score = landscape.score(config, rng)
        return Run(None if score is None else math.exp(score), LAUNCH_S, 0.0 if score is None else RUN_S)

    return Task(landscape.name, landscape.space, run, lambda c: (landscape.rate(c) or 0.0) / landscape.best)


def of_problem(problem: Problem) -> Task:
    """A recorded landscape with its roofline."""
    share = {config: rate / problem.best for config, rate in problem.true.items()}
    return Task(problem.name, problem.space, problem.run, lambda c: share.get(c, 0.0), predictor_of(problem))


@dataclass(frozen=True)
class Told:
    """A result as it came: the clock in seconds, and 1 - true rate of the best tried so far / rate of the best."""

    clock_s: float
    regret: float
    failed: bool


def replay(
    task: Task, how: str, workers: int, seed: int, *, together: bool = False, trials: int = max(AT)
) -> list[Told]:
    """Run a search with so many workers, the default alone first, or `together` with the first of the others."""
    searcher = HOW[how](task.space, task.predictor, seed)
    rng = random.Random(zlib.crc32(f"{task.name}/{seed}".encode()))
    launched: list[Config | None] = [None] * workers
    busy: list[tuple[float, int, Result]] = []
    found, clock_s, asked, told = 0.0, 0.0, 0, list[Told]()
    while len(told) < trials:
        idle = sorted(set(range(workers)) - {worker for _, worker, _ in busy})
        idle = idle if told or together else idle[: not busy]
        for worker in idle:
            pending = [result.config for _, _, result in busy]
            if asked == trials or (config := searcher.ask(launched[worker], pending)) is None:
                break
            asked += 1
            run, engine = task.run(config, rng), launched[worker]
            same = engine is not None and task.space.launch_key(engine) == task.space.launch_key(config)
            launch_s, run_s = (
                s * rng.uniform(1 - _JITTER, 1 + _JITTER) for s in (run.launch_s * (not same), run.run_s)
            )
            result = Result(config, None if run.rate is None else math.log(run.rate), launch_s, run_s)
            heapq.heappush(busy, (clock_s + launch_s + run_s, worker, result))
        if not busy:
            break
        clock_s, worker, result = heapq.heappop(busy)
        launched[worker] = None if result.score is None else result.config
        searcher.tell(result)
        found = max(found, task.share(result.config))
        told.append(Told(clock_s, 1 - found, result.score is None))
    return told + [told[-1]] * (trials - len(told))


def arrival(runs: Sequence[list[Told]]) -> tuple[float, float]:
    """Trials, and seconds, after which the mean regret of all runs stays within 2%; infinite if it never does."""
    n = min(map(len, runs))
    trials = next((i + 1 for i in range(n) if _mean(run[i].regret for run in runs) <= _NEAR), math.inf)
    marks = sorted((step.clock_s, which, step.regret) for which, run in enumerate(runs) for step in run)
    regrets = [1.0] * len(runs)
    for clock_s, which, regret in marks:
        regrets[which] = regret
        if _mean(regrets) <= _NEAR:
            return trials, clock_s
    return trials, math.inf


def own_arrival(runs: Sequence[list[Told]]) -> tuple[float, float]:
    """Mean of the trials, and of the seconds, after which a run is within 2%; all of its own if it never is."""
    first = [next((i for i, step in enumerate(run) if step.regret <= _NEAR), len(run) - 1) for run in runs]
    return _mean(i + 1 for i in first), _mean(run[i].clock_s for i, run in zip(first, runs, strict=True))


def _mean(values: object) -> float:
    return statistics.fmean(values)  # type: ignore[arg-type]


def made_runs(family: Family, how: str, workers: int, n: int, *, held_out: bool, together: bool) -> list[list[Told]]:
    """A way of asking on the first n landscapes of a family, one seed each."""
    pairs = enumerate(landscapes(family, n, held_out=held_out))
    return [replay(of_landscape(landscape), how, workers, seed, together=together) for seed, landscape in pairs]


def recorded_runs(name: str, how: str, workers: int, seeds: int, *, together: bool) -> list[list[Told]]:
    """The same on a recorded landscape, with several seeds."""
    problem = next(problem for problem in recorded() if problem.name == name)
    return [replay(of_problem(problem), how, workers, seed, together=together) for seed in range(seeds)]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--landscapes", type=int, default=24, help="of each family")
    parser.add_argument("--recorded", action="store_true", help="the recorded landscapes instead")
    parser.add_argument("--seeds", type=int, default=10, help="of each recorded landscape")
    parser.add_argument("--family", action="append", default=[], help="one whose name begins so")
    parser.add_argument("--how", action="append", default=[], choices=HOW)
    parser.add_argument("--workers", action="append", type=int, default=[])
    parser.add_argument("--together", action="store_true", help="the others do not wait for the default")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    run: Callable[..., list[list[Told]]]
    if arguments.recorded:
        sets: dict[str, object] = {problem.name: problem.name for problem in recorded()}
        run = partial(recorded_runs, seeds=arguments.seeds, together=arguments.together)
    else:
        sets = {family.name: family for family in FAMILIES}
        run = partial(made_runs, n=arguments.landscapes, held_out=arguments.held_out, together=arguments.together)
    sets = {n: s for n, s in sets.items() if not arguments.family or n.startswith(tuple(arguments.family))}
    ways, counts = arguments.how or ["auto"], tuple(arguments.workers) or WORKERS
    jobs = [(name, how, workers) for name in sets for how in ways for workers in counts]
    print(
        f"{'mean regret of the best tried, %':34}"
        + "".join(f"{n:>7}" for n in AT)
        + " failed| mean to 2%: trials, s, ratios | own"
    )
    every: dict[tuple[str, int], list[list[Told]]] = {}
    with ProcessPoolExecutor(arguments.processes) as pool:
        each = pool.map(run, [sets[name] for name, _, _ in jobs], *list(zip(*jobs, strict=True))[1:])
        for (name, how, workers), found in zip(jobs, each, strict=True):
            every.setdefault((how, workers), []).extend(found)
            _print(name, how, workers, found)
    if len(sets) > 1:
        for (how, workers), found in every.items():
            _print("all", how, workers, found)


_ones: dict[tuple[str, str], list[tuple[float, float]]] = {}


def _print(name: str, how: str, workers: int, runs: list[list[Told]]) -> None:
    arrivals = [arrival(runs), own_arrival(runs)]
    ones = _ones.setdefault((name, how), arrivals)
    cells = "".join(f"{100 * _mean(run[n - 1].regret for run in runs):7.2f}" for n in AT)
    failed = _mean(sum(step.failed for step in run[:24]) for run in runs)
    reached = "  |".join(
        f"{trials:6.1f}{seconds:6.0f}  {trials / one[0]:5.2f}{one[1] / seconds:5.1f}"
        for (trials, seconds), one in zip(arrivals, ones, strict=True)
    )
    print(f"{name[:18]:19}{how:13}{workers:2}{cells}{failed:6.1f} |{reached}", flush=True)


if __name__ == "__main__":
    main()
