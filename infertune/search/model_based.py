"""The strategy of `--sampler auto`: the next trial is the one that is expected to gain most for each second it costs.

A prediction of ln(objective), if there is one (a roofline, or another run's measurements), is the prior mean; a
Gaussian process models what is left of it. A candidate's expected improvement is weighted by how likely it is to run,
and divided by what it costs: little on the engine that is loaded, a launch more on any other.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from infertune.domain.knobs import Config, Scalar, SearchSpace
from infertune.search.base import Result, requests_of
from infertune.search.belief import MOST_MODELLED, MOVES_OF_RECALL, Belief, Predictor, most_telling
from infertune.search.feasibility import Feasibility
from infertune.search.pool import Pool
from infertune.search.surrogate import Array, Encoding, Prior, Rows

_HOPELESS = 0.6  # less likely to run: not tried while anything else is left
_WORTH = math.log(1.01)
_UNLIKELY = 0.05
_CAUTION = 2  # power of the probability to run: a failure costs a launch and tells little
_FEWEST_TRIALS = 8
_MOVES_OF_TELL = 2


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
        self._launch_names = sorted(space.launch_names)
        self._parts = parts or Parts()
        self._encoding = Encoding(space)
        self._belief = Belief(self._encoding, seed, prior=self._parts.prior, predictor=predictor)
        self._feasibility = Feasibility(self._encoding, wary=predictor is None)  # who predicts knows of memory
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
        value = improvement * runs**_CAUTION / self._seconds(candidates, best, launched) ** self._parts.costs
        value[hopeless] = -1.0
        return candidates[int(np.argmax(value))]

    def tell(self, result: Result) -> None:
        """Remember a result and adjust the model."""
        self._results[result.config] = result
        self._fit(_MOVES_OF_TELL)

    def recall(self, results: Iterable[Result]) -> None:
        """Remember many, adjusting the model once."""
        self._results.update({result.config: result for result in results})
        self._fit(MOVES_OF_RECALL)

    def exhausted(self) -> bool:
        """Whether, after a few trials, no candidate of the last question gained 1% with a probability over 5%."""
        return len(self._results) >= _FEWEST_TRIALS and self._likely_gain < _UNLIKELY

    def _best_first(self) -> list[Config]:
        known = [(result.score, config) for config, result in self._results.items() if result.score is not None]
        return [config for _, config in sorted(known, key=lambda pair: -pair[0])]

    def _fit(self, moves: int) -> None:
        measured = [result for result in most_telling(list(self._results.values())) if result.score is not None]
        if measured:
            scores = np.array([result.score for result in measured], dtype=float)
            self._belief.fit([result.config for result in measured], scores, moves, requests_of(measured))

    def _improvement(self, candidates: Sequence[Config], rows: Rows, best: Sequence[Config], runs: Array) -> Array:
        """Expected improvement of ln(objective) over the best of what was measured, by the model's own view of it."""
        known, _, weights = self._belief.predict(best[:MOST_MODELLED])
        incumbent = known.max(axis=1, keepdims=True)
        means, sds, _ = self._belief.predict(candidates, rows)
        z = (means - incumbent) / sds
        improvement = weights @ (sds * (z * ndtr(z) + np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)))
        self._likely_gain = float((weights @ ndtr((means - incumbent - _WORTH) / sds) * runs).max())
        found: Array = improvement
        return found

    def _runs(self, rows: Rows) -> Array:
        if not self._parts.feasibility:
            return np.ones(len(rows))
        modelled = most_telling(list(self._results.values()))
        known = self._encoding.rows([result.config for result in modelled])
        ran = [result.score is not None for result in modelled]
        return self._feasibility.probability(rows, known, ran)

    def _seconds(self, candidates: Sequence[Config], best: Sequence[Config], launched: Config | None) -> Array:
        """What each candidate is expected to cost.

        A launch costs what launches of the same settings cost so far. Who leaves that of the best so far will want it
        back, and pays for that too.
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
