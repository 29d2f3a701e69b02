"""A strategy on a problem, trial by trial, on the clock of the record."""

import math
import random
import zlib
from dataclasses import dataclass

from infertune.knobs import Config
from infertune.search import Result, believed
from infertune.search.model_based import ModelSearcher
from infertune.search.tpe import OptunaSearcher
from tests.benchmarks.search.problems import Problem
from tests.benchmarks.search.strategies import Strategy

_FINALISTS, _CONFIRM_LAUNCHES = 5, 5  # as in the product


@dataclass(frozen=True)
class Step:
    """Where a strategy stands after a trial.

    Attributes:
        regret: 1 - true rate of what would be recommended now / rate of the true best; 1 while nothing ran.
        clock_s: Seconds of launches and runs so far.
        failed: Whether this trial failed.
    """

    regret: float
    clock_s: float
    failed: bool


def replay(problem: Problem, strategy: Strategy, seed: int, trials: int, *, launch_each: bool = False) -> list[Step]:
    """Run a strategy.

    What would be recommended is found as the product finds it: the five that look best are measured five times more,
    and the best of those is taken. That confirmation is the same for every strategy and is not on the clock.

    Args:
        problem: What answers.
        strategy: What asks.
        seed: Of strategy and noise.
        trials: How many.
        launch_each: Pay for a launch at every trial; else only where a launch setting changes, as the product does.
    """
    rng = random.Random(zlib.crc32(f"{problem.name}/{seed}".encode()))
    searcher = strategy(problem, seed)
    launched: Config | None = None
    results: list[Result] = []
    scores: dict[Config, float] = {}
    confirmed: dict[Config, list[float]] = {}
    clock_s = 0.0
    steps: list[Step] = []
    while len(steps) < trials and (config := searcher.ask(launched)) is not None:
        run = problem.run(config, rng)
        same = launched is not None and problem.space.launch_key(launched) == problem.space.launch_key(config)
        launch_s = 0.0 if same and not launch_each else run.launch_s
        score = None if run.rate is None else math.log(run.rate)
        results.append(Result(config, score, launch_s, run.run_s))
        searcher.tell(results[-1])
        launched = None if run.rate is None else config
        clock_s += launch_s + run.run_s
        if score is not None:
            scores[config] = score
        modelled = isinstance(searcher, ModelSearcher | OptunaSearcher)
        order = [c for c, _ in believed(problem.space, results)] if modelled else _by_figure(scores)
        finalists = order[:_FINALISTS]
        for config in finalists:
            if config not in confirmed:
                rates = [problem.run(config, rng).rate for _ in range(_CONFIRM_LAUNCHES)]
                confirmed[config] = [math.log(rate) for rate in rates if rate]
        if modelled:
            rounds = [[Result(c, confirmed[c][k]) for c in finalists] for k in range(_CONFIRM_LAUNCHES)]
            winner = next((c for c, _ in believed(problem.space, results, rounds) if c in finalists), None)
        else:
            winner = max(finalists, key=lambda c: sum(confirmed[c]) / len(confirmed[c]), default=None)
        regret = 1 - problem.true[winner] / problem.best if winner else 1.0
        steps.append(Step(regret, clock_s, score is None))
    last = steps[-1]
    return steps + [Step(last.regret, last.clock_s, False)] * (trials - len(steps))


def _by_figure(scores: dict[Config, float]) -> list[Config]:
    return sorted(scores, key=lambda config: -scores[config])
