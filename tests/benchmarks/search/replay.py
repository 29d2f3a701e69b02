"""A strategy on a problem, trial by trial, on the clock of the record."""

import math
import random
import zlib
from dataclasses import dataclass

from infertune.knobs import Config
from infertune.search import Result
from tests.benchmarks.search.problems import Problem
from tests.benchmarks.search.strategies import Strategy


@dataclass(frozen=True)
class Step:
    """Where a strategy stands after a trial.

    Attributes:
        regret: 1 - true rate of what looks best so far / rate of the true best; 1 while nothing ran.
        clock_s: Seconds of launches and runs so far.
        failed: Whether this trial failed.
    """

    regret: float
    clock_s: float
    failed: bool


def replay(problem: Problem, strategy: Strategy, seed: int, trials: int) -> list[Step]:
    """Run a strategy; a launch is paid for where a launch setting changes, as the product's bench does."""
    rng = random.Random(zlib.crc32(f"{problem.name}/{seed}".encode()))
    searcher = strategy(problem, seed)
    launched: Config | None = None
    looks_best, best_score, clock_s = None, -math.inf, 0.0
    steps: list[Step] = []
    while len(steps) < trials and (config := searcher.ask(launched)) is not None:
        run = problem.run(config, rng)
        same = launched is not None and problem.space.launch_key(launched) == problem.space.launch_key(config)
        launch_s = 0.0 if same else run.launch_s
        score = None if run.rate is None else math.log(run.rate)
        searcher.tell(Result(config, score, launch_s, run.run_s))
        launched = None if run.rate is None else config
        clock_s += launch_s + run.run_s
        if score is not None and score > best_score:
            looks_best, best_score = config, score
        regret = 1.0 if looks_best is None else 1 - problem.true[looks_best] / problem.best
        steps.append(Step(regret, clock_s, score is None))
    last = steps[-1]
    return steps + [Step(last.regret, last.clock_s, False)] * (trials - len(steps))
