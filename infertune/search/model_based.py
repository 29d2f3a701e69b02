"""The strategy of `--sampler auto`: the next trial is the one that is expected to gain most for each second it costs.

A prediction of ln(objective), if there is one (a roofline, or another run's measurements), is the prior mean; a
Gaussian process models what is left of it. A candidate's expected improvement is weighted by how likely it is to run,
and divided by what it costs: little on the engine that is loaded, a launch more on any other.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtr

from infertune.knobs import Config, SearchSpace
from infertune.search.base import Result
from infertune.search.feasibility import Feasibility
from infertune.search.pool import Pool
from infertune.search.surrogate import Array, Encoding, Prior, Rows, Surrogate

_HOPELESS = 0.5  # less likely to run than to fail: not tried while anything else is left
_WORTH = math.log(1.01)
_UNLIKELY = 0.05
_CAUTION = 2  # power of the probability to run: a failure costs a launch and tells little
_FEWEST_TRIALS = 8
_MOVES_OF_RECALL = 12
_MOST_MODELLED = 240  # results: the best and the last; more cost seconds a question and say little


class Predictor(Protocol):
    """A guess at ln(objective) from what is known besides this run's trials; its level does not matter."""

    def fit(self, configs: Sequence[Config], scores: Array) -> None:
        """Adjust to what was measured here."""

    def predict(self, configs: Sequence[Config]) -> Array:
        """The guess for each configuration."""


@dataclass(frozen=True)
class Parts:
    """The strategy's parts; the benchmark takes them away one at a time.

    Attributes:
        costs: Power of the cost in seconds by which gain is divided: 1 is gain per second, 0 gain per trial.
        feasibility: Whether failures are learned from.
        prior: Of the surrogate's parameters.
    """

    costs: float = 1.0
    feasibility: bool = True
    prior: Prior = Prior()


def believed(
    space: SearchSpace, results: Iterable[Result], rounds: Iterable[Sequence[Result]] = ()
) -> list[tuple[Config, float]]:
    """Measured configurations, best first, with ln(objective) as a model of all results together sees it.

    The best of many noisy figures is mostly luck; what its neighbours say of it is not. The same results give the same
    answer, whichever strategy asked for them and however often the run was interrupted.

    Args:
        space: Of the configurations.
        results: Of the search, one a configuration.
        rounds: Of the confirmation: some of the same configurations measured again beside each other. What a round's
            prompts and hour did to all of them alike is taken out first.
    """
    found = [(result.config, result.score) for result in _telling(list(results)) if result.score is not None]
    if not found:
        return []
    searched = dict(found)
    for one in rounds:
        again = [(r.config, r.score) for r in one if r.score is not None and r.config in searched]
        shift = sum(searched[config] - score for config, score in again) / max(1, len(again))
        found += [(config, score + shift) for config, score in again]
    encoding = Encoding(space)
    surrogate = Surrogate(encoding, seed=0)
    values = np.array([score for _, score in found])
    surrogate.fit(encoding.rows([config for config, _ in found]), values - values.mean(), _MOVES_OF_RECALL)
    means, _, weights = surrogate.predict(encoding.rows(list(searched)))
    scores = map(float, weights @ means + values.mean())
    return sorted(zip(searched, scores, strict=True), key=lambda pair: -pair[1])


class ModelSearcher:
    """Ask and tell over a surrogate."""

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
        self._parts = parts or Parts()
        self._predictor = predictor
        self._encoding = Encoding(space)
        self._surrogate = Surrogate(self._encoding, seed, self._parts.prior)
        self._feasibility = Feasibility(self._encoding)
        self._pool = Pool(space, seed)
        self._first = [space.repair(space.default), *map(space.repair, seeds)]
        self._results: dict[Config, Result] = {}
        self._likely_gain = 1.0

    def ask(self, launched: Config | None) -> Config | None:
        """The default and the seeds first, then what is expected to gain most a second."""
        while self._first:
            config = self._first.pop(0)
            if config not in self._results:
                return config
        best = self._best_first()
        candidates = self._pool.candidates(self._results.keys(), best, launched)
        if not candidates:
            return None
        rows = self._encoding.rows(candidates)
        runs = self._runs(rows)
        improvement = self._improvement(candidates, rows, best, runs) if best else np.ones(len(rows))
        hopeless = (runs < _HOPELESS) & (runs < runs.max())
        value = improvement * runs**_CAUTION / self._seconds(candidates, launched) ** self._parts.costs
        value[hopeless] = -1.0
        return candidates[int(np.argmax(value))]

    def tell(self, result: Result) -> None:
        """Remember a result and adjust the model."""
        self._results[result.config] = result
        self._fit()

    def recall(self, results: Iterable[Result]) -> None:
        """Remember many, adjusting the model once."""
        self._results.update({result.config: result for result in results})
        self._fit(_MOVES_OF_RECALL)

    def exhausted(self) -> bool:
        """Whether, after a few trials, no candidate of the last question gained 1% with a probability over 5%."""
        return len(self._results) >= _FEWEST_TRIALS and self._likely_gain < _UNLIKELY

    def _best_first(self) -> list[Config]:
        known = [(result.score, config) for config, result in self._results.items() if result.score is not None]
        return [config for _, config in sorted(known, key=lambda pair: -pair[0])]

    def _fit(self, moves: int = 2) -> None:
        measured = [result for result in _telling(list(self._results.values())) if result.score is not None]
        if not measured:
            return
        configs = [result.config for result in measured]
        scores = np.array([result.score for result in measured], dtype=float)
        if self._predictor:
            self._predictor.fit(configs, scores)
            scores = scores - self._predictor.predict(configs)
        rows = self._encoding.rows(configs)
        self._surrogate.fit(rows, scores - scores.mean(), moves)
        self._level = float(scores.mean())

    def _predict(self, configs: Sequence[Config], rows: Rows) -> tuple[Array, Array, Array]:
        means, sds, weights = self._surrogate.predict(rows)
        means = means + self._level
        return (means + self._predictor.predict(configs) if self._predictor else means), sds, weights

    def _improvement(self, candidates: Sequence[Config], rows: Rows, best: Sequence[Config], runs: Array) -> Array:
        """Expected improvement of ln(objective) over the best of what was measured, by the model's own view of it."""
        best = best[:_MOST_MODELLED]
        known, _, weights = self._predict(best, self._encoding.rows(best))
        incumbent = known.max(axis=1, keepdims=True)
        means, sds, _ = self._predict(candidates, rows)
        z = (means - incumbent) / sds
        improvement = weights @ (sds * (z * ndtr(z) + np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)))
        self._likely_gain = float((weights @ ndtr((means - incumbent - _WORTH) / sds) * runs).max())
        found: Array = improvement
        return found

    def _runs(self, rows: Rows) -> Array:
        if not self._parts.feasibility:
            return np.ones(len(rows))
        modelled = _telling(list(self._results.values()))
        known = self._encoding.rows([result.config for result in modelled])
        ran = [result.score is not None for result in modelled]
        return self._feasibility.probability(rows, known, ran)

    def _seconds(self, candidates: Sequence[Config], launched: Config | None) -> Array:
        """What each candidate is expected to cost: a launch costs what launches of the same settings cost so far."""
        results = self._results.values()
        launches = [result for result in results if result.launch_s > 0]
        mean_run_s = float(np.mean([result.run_s for result in results] or [0.0])) or 1.0
        if not launches:
            return np.full(len(candidates), mean_run_s)
        mean_launch_s = float(np.mean([result.launch_s for result in launches]))
        by_key: dict[str, float] = {self._space.launch_key(r.config): r.launch_s for r in launches}
        loaded = None if launched is None else self._space.launch_key(launched)
        keys = [self._space.launch_key(config) for config in candidates]
        launch_s = [0.0 if key == loaded else by_key.get(key, mean_launch_s) for key in keys]
        return mean_run_s + np.array(launch_s)


def _telling(results: list[Result]) -> list[Result]:
    """All results, or the best and the last of them where there are too many."""
    if len(results) <= _MOST_MODELLED:
        return results
    best = sorted(results, key=lambda r: -math.inf if r.score is None else r.score)[-_MOST_MODELLED // 2 :]
    chosen = {id(result) for result in (*best, *results[-_MOST_MODELLED // 2 :])}
    return [result for result in results if id(result) in chosen]
