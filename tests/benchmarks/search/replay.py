"""A strategy on a problem, trial by trial, on the clock of the record."""

import math
import random
import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from infertune.domain.knobs import Config
from infertune.search import Predictor, Result, standing
from infertune.search.model_based import ModelSearcher
from infertune.search.optuna_searcher import OptunaSearcher
from tests.benchmarks.search.problems import Problem
from tests.benchmarks.search.strategies import AsSampler, Strategy, predictor_of

_FINALISTS, _CONFIRM_LAUNCHES = 5, 5
_LEADERS = 2  # configurations that share the second half of the confirmation
_CONFIRMATIONS = 3  # repetitions: with a noise of 8%, 25 launches often confuse two that are 3% apart


@dataclass(frozen=True)
class Step:
    """The state of a strategy after a trial.

    Attributes:
        regret: 1 - true rate of what would be recommended now / rate of the true best, the mean of several
            confirmations; 1 while nothing ran.
        clock_s: Seconds of launches and runs so far.
        failed: Whether this trial failed.
    """

    regret: float
    clock_s: float
    failed: bool


def replay(
    problem: Problem, strategy: Strategy, seed: int, trials: int, *, launch_each: bool = False, every: int
) -> list[Step]:
    """Run a strategy.

    The recommendation is found by a confirmation of the five best, in 25 launches for every strategy, which do not
    count on the clock; it is repeated three times. That is more than the product spends, so that the search is what is
    compared. infertune's samplers choose finalists and winner by the product's model of all trials, and give the second
    half of the launches to the two best; the others choose by the measured figures.

    Args:
        problem: The landscape.
        strategy: The strategy.
        seed: Of strategy and noise.
        trials: Number of trials.
        launch_each: Count a launch for every trial; else only where a launch setting changes, as the product does.
        every: The recommendation is computed at the first trial and at every `every`-th one.
    """
    rng = rng_of(problem.name, seed)
    searcher = strategy(problem, seed)
    launched: Config | None = None
    results: list[Result] = []
    predictor = predictor_of(problem)
    by_model = isinstance(searcher, ModelSearcher | OptunaSearcher | AsSampler)
    confirmations = [Confirmation(problem, rng_of(problem.name, seed, k), predictor) for k in range(_CONFIRMATIONS)]
    clock_s, regret, n_launches = 0.0, 1.0, 0
    steps: list[Step] = []
    while len(steps) < trials and (config := searcher.ask(launched)) is not None:
        run = problem.run(config, rng)
        same = launched is not None and problem.space.launch_key(launched) == problem.space.launch_key(config)
        launch_s = 0.0 if same and not launch_each else run.launch_s
        score = None if run.rate is None else math.log(run.rate)
        n_launches += launch_s > 0
        results.append(Result(config, score, launch_s, run.run_s, launch=n_launches))
        searcher.tell(results[-1])
        launched = None if run.rate is None else config
        clock_s += launch_s + run.run_s
        if not steps or (len(steps) + 1) % every == 0:
            if by_model:
                order = best_by_model(problem, results, (), predictor)
                winners = [confirmation.by_model(order[:_FINALISTS], results) for confirmation in confirmations]
            else:
                order = _best_seen(results)
                winners = [confirmation.by_figure(order[:_FINALISTS]) for confirmation in confirmations]
            regret = 1 - statistics.mean(problem.true[w] if w else 0.0 for w in winners) / problem.best
        steps.append(Step(regret, clock_s, score is None))
    last = steps[-1]
    return steps + [Step(last.regret, last.clock_s, False)] * (trials - len(steps))


def rng_of(*what: str | int) -> random.Random:
    """Random numbers of their own for each use, the same in every run."""
    return random.Random(zlib.crc32("/".join(map(str, what)).encode()))


def best_by_model(
    problem: Problem, results: list[Result], rounds: Sequence[list[Result]], predictor: Predictor | None
) -> list[Config]:
    """Configurations that ran, best first by the product's model of all measurements."""
    found = standing(problem.space, results, rounds, base=problem.space.default, predictor=predictor)
    return list(found.order) if found else []


def _halved(configs: int) -> tuple[int, int]:
    """Rounds for all configurations, and then for the leaders, in as many launches as without halving."""
    if configs <= _LEADERS + 1:
        return _CONFIRM_LAUNCHES, 0
    first = (_CONFIRM_LAUNCHES + 1) // 2
    return first, (_CONFIRM_LAUNCHES - first) * configs // _LEADERS


def _best_seen(results: list[Result]) -> list[Config]:
    scores = {result.config: result.score for result in results if result.score is not None}
    return sorted(scores, key=lambda config: -scores[config])


@dataclass(frozen=True)
class Confirmation:
    """Finalists measured again; what was drawn for one at an earlier trial is kept."""

    problem: Problem
    rng: random.Random
    predictor: Predictor | None
    drawn: dict[Config, list[float | None]] = field(default_factory=dict)

    def by_model(self, finalists: list[Config], results: list[Result]) -> Config | None:
        """The winner as the product finds it; None without finalists."""
        first, more = _halved(len(finalists))
        rounds = [[Result(c, self._score(c, k)) for c in finalists] for k in range(first)]
        leaders = self._best(finalists, results, rounds)[:_LEADERS]
        rounds += [[Result(c, self._score(c, k)) for c in leaders] for k in range(first, first + more)]
        return next(iter(self._best(leaders, results, rounds)), None)

    def by_figure(self, finalists: list[Config]) -> Config | None:
        """The best by the mean of as many launches of each; None without finalists."""

        def total(config: Config) -> float:
            again = [self._score(config, k) for k in range(_CONFIRM_LAUNCHES)]
            return sum(-math.inf if score is None else score for score in again)

        return max(finalists, key=total, default=None)

    def _best(self, of: list[Config], results: list[Result], rounds: list[list[Result]]) -> list[Config]:
        return [c for c in best_by_model(self.problem, results, rounds, self.predictor) if c in of]

    def _score(self, config: Config, launch: int) -> float | None:
        drawn = self.drawn.setdefault(config, [])
        while len(drawn) <= launch:
            rate = self.problem.run(config, self.rng).rate
            drawn.append(None if rate is None else math.log(rate))
        return drawn[launch]
