"""A strategy on a problem, trial by trial, on the clock of the record."""

import math
import random
import statistics
import zlib
from dataclasses import dataclass, field

from infertune.domain.knobs import Config
from infertune.search import Predictor, Result, believed
from infertune.search.model_based import ModelSearcher
from infertune.search.tpe import OptunaSearcher
from infertune.tuning.phases import LEADERS, halved
from tests.benchmarks.search.problems import Problem
from tests.benchmarks.search.strategies import Strategy, predictor_of

_FINALISTS, _CONFIRM_LAUNCHES = 5, 5  # as in the product
_CONFIRMATIONS = 3  # one tells little: of two that lie 3% apart, 25 launches with noise of 8% often take the wrong one


@dataclass(frozen=True)
class Step:
    """Where a strategy stands after a trial.

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

    What would be recommended is found by measuring the five that look best again, in 25 launches for every strategy,
    which are not on the clock, three times over. Ours and the product's other samplers choose finalists and winner as
    the product does, by a model of all trials and with the second half of the launches for the two best; plain ones by
    figure.

    Args:
        problem: What answers.
        strategy: What asks.
        seed: Of strategy and noise.
        trials: How many.
        launch_each: Pay for a launch at every trial; else only where a launch setting changes, as the product does.
        every: What would be recommended is asked at the first trial and at every so many; between them it stays.
    """
    rng = rng_of(problem.name, seed)
    searcher = strategy(problem, seed)
    launched: Config | None = None
    results: list[Result] = []
    predictor = predictor_of(problem)
    by_model = isinstance(searcher, ModelSearcher | OptunaSearcher)
    confirmations = [Confirmation(problem, rng_of(problem.name, seed, k), predictor) for k in range(_CONFIRMATIONS)]
    clock_s, regret = 0.0, 1.0
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
        if not steps or (len(steps) + 1) % every == 0:
            if by_model:
                order = [config for config, _ in believed(problem.space, results, predictor=predictor)]
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
        first, more = halved(len(finalists), _CONFIRM_LAUNCHES)
        rounds = [[Result(c, self._score(c, k)) for c in finalists] for k in range(first)]
        leaders = self._best(finalists, results, rounds)[:LEADERS]
        rounds += [[Result(c, self._score(c, k)) for c in leaders] for k in range(first, first + more)]
        return next(iter(self._best(leaders, results, rounds)), None)

    def by_figure(self, finalists: list[Config]) -> Config | None:
        """The best by the mean of as many launches of each; None without finalists."""

        def total(config: Config) -> float:
            again = [self._score(config, k) for k in range(_CONFIRM_LAUNCHES)]
            return sum(-math.inf if score is None else score for score in again)

        return max(finalists, key=total, default=None)

    def _best(self, of: list[Config], results: list[Result], rounds: list[list[Result]]) -> list[Config]:
        return [c for c, _ in believed(self.problem.space, results, rounds, self.predictor) if c in of]

    def _score(self, config: Config, launch: int) -> float | None:
        drawn = self.drawn.setdefault(config, [])
        while len(drawn) <= launch:
            rate = self.problem.run(config, self.rng).rate
            drawn.append(None if rate is None else math.log(rate))
        return drawn[launch]
