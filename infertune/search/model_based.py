"""The strategy of `--sampler auto`: the next trial has the largest expected improvement per second.

A predictor of ln(objective), if there is one (a roofline, or another run's measurements), is the prior mean; a Gaussian
process models its residuals. A candidate's expected improvement is weighted by the square of its feasibility
probability and divided by its cost in seconds: a job on the loaded engine, a job and a launch elsewhere.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import ndtr

from infertune.domain.knobs import Config, Scalar, SearchSpace
from infertune.search.base import Result, requests_of
from infertune.search.feasibility import Feasibility
from infertune.search.pool import Pool
from infertune.search.posterior import MAX_MODELLED, RECALL_MOVES, Posterior, Predictor, most_informative
from infertune.search.surrogate import Array, Encoding, Prior, Rows
from infertune.search.walls import MOST_KNOBS, Walls

# All judgement, checked as a whole by `python -m tests.benchmarks.search`.
_LEAST_FEASIBILITY = 0.6  # after a failure, less feasible candidates are tried only if there is no other
_FEASIBILITY_POWER = 2  # of the feasibility probability: a failure costs a launch and yields little information
_WORTHWHILE = math.log(1.01)  # a gain of 1% of the objective
_STOP_PROBABILITY = 0.05  # the search may end if no candidate gains 1% with a higher probability
_FEWEST_TRIALS = 8  # results before the search may end
_TELL_MOVES = 2  # Metropolis moves of each particle after a single result


@dataclass(frozen=True)
class Parts:
    """The strategy's parts, for the ablations of the benchmark.

    Attributes:
        costs: Power of the cost in seconds by which expected improvement is divided: 1 is improvement per second, 0
            improvement per trial.
        feasibility: Whether feasibility is learned from failures.
        prior: Of the surrogate's hyperparameters.
        fantasies: Pending trials are supposed to come out as drawn from the posterior, instead of as expected.
        pending_runs: What feasibility makes of pending trials: that they run, that they fail, or nothing.
    """

    costs: float = 1.0
    feasibility: bool = True
    prior: Prior = Prior()
    fantasies: bool = False
    pending_runs: bool | None = None


class ModelSearcher:
    """Bayesian optimisation with costs and feasibility, by ask and tell."""

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        seeds: Sequence[Config] = (),
        predictor: Predictor | None = None,
        parts: Parts | None = None,
    ) -> None:
        self._space = space
        self._launch_names = sorted(space.launch_names)
        self._parts = parts or Parts()
        self._encoding = Encoding(space)
        self._new_posterior = partial(Posterior, self._encoding, seed, prior=self._parts.prior, predictor=predictor)
        self._posterior = self._new_posterior()
        self._rng = np.random.default_rng(seed % 2**64)
        # With a predictor, the space's rules already exclude what does not fit the memory.
        self._feasibility = Feasibility(self._encoding, doubt_corner=predictor is None)
        table = predictor is None and len(self._encoding.knobs) <= MOST_KNOBS  # knobs held at a value do not count
        self._walls = Walls(self._encoding) if table else None
        self._pool = Pool(space, seed)
        self._first = [space.repair(space.default), *map(space.repair, seeds)]
        self._results: dict[Config, Result] = {}
        self._gain_probability = 1.0

    def ask(self, launched: Config | None, pending: Collection[Config] = ()) -> Config | None:
        """The default and the seeds first, then the candidate with the largest expected improvement per second."""
        taken = self._results.keys() | set(pending)
        for config in self._first:
            if config not in taken:
                return config
        best = self._best_first()
        candidates = self._pool.candidates(taken, best, launched)
        if not candidates:
            return None
        rows = self._encoding.rows(candidates)
        feasible = self._feasible(self._walls or self._feasibility, rows, pending)
        improvement = self._improvement(candidates, rows, best, list(pending)[-MAX_MODELLED:], feasible)
        cost = self._seconds(candidates, best, launched) ** self._parts.costs
        value = improvement * feasible**_FEASIBILITY_POWER / cost
        failed = any(result.score is None for result in self._results.values())
        if failed and not self._walls:  # beside a wall the best may lie: nothing is put off
            value[(feasible < _LEAST_FEASIBILITY) & (feasible < feasible.max())] = -1.0
        return candidates[int(np.argmax(value))]

    def tell(self, result: Result) -> None:
        """Add a result and update the model."""
        self._results[result.config] = result
        self._fit(_TELL_MOVES)

    def recall(self, results: Iterable[Result]) -> None:
        """Add many results and update the model once."""
        self._results.update({result.config: result for result in results})
        self._fit(RECALL_MOVES)

    def exhausted(self) -> bool:
        """Whether no candidate of the last `ask` gains 1% with a probability over 5%; never before 8 results."""
        return len(self._results) >= _FEWEST_TRIALS and self._gain_probability < _STOP_PROBABILITY

    def _best_first(self) -> list[Config]:
        known = [(result.score, config) for config, result in self._results.items() if result.score is not None]
        return [config for _, config in sorted(known, key=lambda pair: -pair[0])]

    def _fit(self, moves: int) -> None:
        measured = [result for result in most_informative(list(self._results.values())) if result.score is not None]
        if measured:
            scores = np.array([result.score for result in measured], dtype=float)
            self._posterior.fit([result.config for result in measured], scores, moves, requests_of(measured))

    def _improvement(
        self, candidates: Sequence[Config], rows: Rows, best: list[Config], pending: list[Config], feasible: Array
    ) -> Array:
        """Expected improvement of ln(objective) over the configuration with the highest posterior mean.

        Pending trials count as measured, with the result that each particle expects ("Kriging believer"; Ginsbourger et
        al., Kriging is well-suited to parallelize optimization, 2010): what they will show is not asked for again.
        """
        known = best[:MAX_MODELLED]
        posterior = self._posterior
        if not known:
            if not pending:
                return np.ones(len(rows))
            known, pending = pending[:1], pending[1:]  # the level is arbitrary: the first sets it
            posterior = self._new_posterior()
            posterior.fit(known, np.zeros(1), 0)
        if pending:
            posterior = posterior.supposing(pending, self._rng if self._parts.fantasies else None)
        at_known, _, weights = posterior.predict([*known, *pending])
        incumbent = at_known.max(axis=1, keepdims=True)
        means, sds, _ = posterior.predict(candidates, rows)
        z = (means - incumbent) / sds
        improvement = weights @ (sds * (z * ndtr(z) + np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)))
        self._gain_probability = float((weights @ ndtr((means - incumbent - _WORTHWHILE) / sds) * feasible).max())
        found: Array = improvement
        return found

    def _feasible(self, model: Feasibility | Walls, rows: Rows, pending: Collection[Config]) -> Array:
        """Feasibility probability of each row."""
        if not self._parts.feasibility:
            return np.ones(len(rows))
        modelled = most_informative(list(self._results.values()))
        configs = [result.config for result in modelled]
        ran = [result.score is not None for result in modelled]
        if self._parts.pending_runs is not None:
            configs += pending
            ran += [self._parts.pending_runs] * len(pending)
        return model.probability(rows, self._encoding.rows(configs), ran)

    def _seconds(self, candidates: Sequence[Config], best: Sequence[Config], launched: Config | None) -> Array:
        """Expected cost of each candidate in seconds.

        A launch costs what earlier launches of the same settings cost, or the mean of all. Leaving the best launch
        costs a second launch to return to it; that cost is added.
        """
        results = self._results.values()
        launches = [result for result in results if result.launch_s > 0]
        mean_run_s = float(np.mean([result.run_s for result in results] or [0.0])) or 1.0
        if not launches:
            return np.full(len(candidates), mean_run_s)
        mean_launch_s = float(np.mean([result.launch_s for result in launches]))
        by_settings = {self._launch_settings(result.config): result.launch_s for result in launches}
        loaded = None if launched is None else self._launch_settings(launched)
        wanted = [self._launch_settings(config) for config in candidates]
        launch_s = [0.0 if one == loaded else by_settings.get(one, mean_launch_s) for one in wanted]
        if best and self._launch_settings(best[0]) == loaded:
            launch_s = [there + mean_launch_s if there else 0.0 for there in launch_s]
        return mean_run_s + np.array(launch_s)

    def _launch_settings(self, config: Config) -> tuple[Scalar, ...]:
        return tuple(config.root[name] for name in self._launch_names)
