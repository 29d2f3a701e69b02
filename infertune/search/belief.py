"""What is believed of ln(objective) after some results: a prediction, and a Gaussian process over what it leaves."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from infertune.domain.knobs import Config
from infertune.search.base import Result
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

    def fit(
        self,
        configs: Sequence[Config],
        scores: Array,
        moves: int,
        n_requests: int | None = None,
        launches: Sequence[int] | None = None,
    ) -> None:
        """Take measurements, all of them, in place of those before.

        Args:
            configs: That ran, repeats included.
            scores: ln(objective) of each, (n,).
            moves: Of the surrogate's population: few where results come one by one.
            n_requests: Requests of the job that was measured, None if unknown.
            launches: The launch that each ran on, where the prior has a part for it.
        """
        if self._predictor:
            self._predictor.fit(configs, scores, n_requests)
            scores = scores - self._predictor.predict(configs)
        self._level = float(scores.mean())
        self._surrogate.fit(self._encoding.rows(configs), scores - self._level, moves, launches)

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

    def draw(self, configs: Sequence[Config], n: int, rng: np.random.Generator) -> Array:
        """Joint draws of ln(objective) of configurations, (n, len(configs))."""
        drawn = self._surrogate.draw(self._encoding.rows(configs), n, rng) + self._level
        return drawn + self._predictor.predict(configs) if self._predictor else drawn

    def mean(self, configs: Sequence[Config]) -> Array:
        """Mean of ln(objective) over all kernels, (len(configs),)."""
        means, _, weights = self.predict(configs)
        mean: Array = weights @ means
        return mean


def most_telling(results: list[Result]) -> list[Result]:
    """All results, or the best and the last of them where there are too many."""
    if len(results) <= MOST_MODELLED:
        return results
    best = sorted(results, key=lambda r: -math.inf if r.score is None else r.score)[-MOST_MODELLED // 2 :]
    chosen = {id(result) for result in (*best, *results[-MOST_MODELLED // 2 :])}
    return [result for result in results if id(result) in chosen]
