"""What is believed of ln(objective) after some results: a prediction, and a Gaussian process over what it leaves."""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from infertune.domain.knobs import Config, SearchSpace
from infertune.search.base import Result, requests_of
from infertune.search.surrogate import Array, Encoding, Prior, Rows, Surrogate

MOVES_OF_RECALL = 12  # of the surrogate's population, where many results come at once
MOST_MODELLED = 240  # results: the best and the last; more cost seconds a question and say little


class Predictor(Protocol):
    """A guess at ln(objective) from what is known besides this run's trials; its level does not matter."""

    def fit(self, configs: Sequence[Config], scores: Array, n_requests: int | None = None) -> None:
        """Adjust to what was measured here, in jobs of so many requests if that is known.

        It starts anew every time: the same results give the same predictor.
        """

    def predict(self, configs: Sequence[Config]) -> Array:
        """The guess for each configuration."""


class Belief:
    """A surrogate with the general level, and the prediction if there is one, taken out of what it is given."""

    def __init__(
        self, encoding: Encoding, seed: int, *, prior: Prior | None = None, predictor: Predictor | None = None
    ) -> None:
        self._encoding = encoding
        self._surrogate = Surrogate(encoding, seed, prior)
        self._predictor = predictor
        self._level = 0.0

    def fit(self, configs: Sequence[Config], scores: Array, moves: int, n_requests: int | None = None) -> None:
        """Take measurements, all of them, in place of those before.

        Args:
            configs: That ran, repeats included.
            scores: ln(objective) of each, (n,).
            moves: Of the surrogate's population: few where results come one by one.
            n_requests: Requests of the job that was measured, None if unknown.
        """
        if self._predictor:
            self._predictor.fit(configs, scores, n_requests)
            scores = scores - self._predictor.predict(configs)
        self._level = float(scores.mean())
        self._surrogate.fit(self._encoding.rows(configs), scores - self._level, moves)

    def predict(self, configs: Sequence[Config], rows: Rows | None = None) -> tuple[Array, Array, Array]:
        """Mean and standard deviation of ln(objective), for each kind of kernel in the surrogate's population.

        Args:
            configs: Whose.
            rows: The same, if they are encoded already.

        Returns:
            Means and standard deviations, (kernels, len(configs)), and the kernels' weights, (kernels,), summing to 1.
        """
        means, sds, weights = self._surrogate.predict(self._encoding.rows(configs) if rows is None else rows)
        means = means + self._level
        return (means + self._predictor.predict(configs) if self._predictor else means), sds, weights

    def mean(self, configs: Sequence[Config]) -> Array:
        """Mean of ln(objective) over all kernels, (len(configs),)."""
        means, _, weights = self.predict(configs)
        mean: Array = weights @ means
        return mean


def believed(
    space: SearchSpace,
    results: Iterable[Result],
    rounds: Iterable[Sequence[Result]] = (),
    predictor: Predictor | None = None,
) -> list[tuple[Config, float]]:
    """Measured configurations, best first, with ln(objective) as a model of all results together sees it.

    The best of many noisy figures is mostly luck; what its neighbours say of it is not. The same results give the same
    answer, whichever strategy asked for them and however often the run was interrupted.

    Args:
        space: Of the configurations.
        results: Of the search, one a configuration.
        rounds: Of the confirmation: some of the same configurations measured again beside each other. What a round's
            prompts and hour did to all of them alike is taken out first.
        predictor: A guess at the objective, adjusted to these results.
    """
    results = list(results)
    found = [(result.config, result.score) for result in most_telling(results) if result.score is not None]
    if not found:
        return []
    searched = dict(found)
    n_requests = requests_of(results)
    for one in rounds:
        again = [(r.config, r.score) for r in one if r.score is not None and r.config in searched]
        shift = sum(searched[config] - score for config, score in again) / max(1, len(again))
        found += [(config, score + shift) for config, score in again]
    belief = Belief(Encoding(space), seed=0, predictor=predictor)
    scores = np.array([score for _, score in found])
    belief.fit([config for config, _ in found], scores, MOVES_OF_RECALL, n_requests)
    means = map(float, belief.mean(list(searched)))
    return sorted(zip(searched, means, strict=True), key=lambda pair: -pair[1])


def most_telling(results: list[Result]) -> list[Result]:
    """All results, or the best and the last of them where there are too many."""
    if len(results) <= MOST_MODELLED:
        return results
    best = sorted(results, key=lambda r: -math.inf if r.score is None else r.score)[-MOST_MODELLED // 2 :]
    chosen = {id(result) for result in (*best, *results[-MOST_MODELLED // 2 :])}
    return [result for result in results if id(result) in chosen]
