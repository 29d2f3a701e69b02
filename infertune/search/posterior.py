"""The posterior of ln(objective): a predictor as prior mean, and a Gaussian process on its residuals."""

import copy
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from infertune.domain.knobs import Config
from infertune.search.base import Result
from infertune.search.surrogate import Array, Encoding, Prior, Rows, Surrogate

RECALL_MOVES = 12  # Metropolis moves of each particle where many results come at once; judgement
MAX_MODELLED = 240  # results in the model, the best and the last; with more an `ask` takes seconds; judgement


class Predictor(Protocol):
    """Predicts ln(objective), up to a constant, from what is known besides this run's trials: the prior mean."""

    def fit(self, configs: Sequence[Config], scores: Array, n_requests: int | None = None) -> None:
        """Fit to what was measured in this run.

        Every call starts anew, so the same results give the same predictor.

        Args:
            configs: Configurations that ran.
            scores: ln(objective) of each, (n,).
            n_requests: Requests of the job that was measured, None if unknown.
        """

    def predict(self, configs: Sequence[Config]) -> Array:
        """ln(objective) of each configuration up to a constant, (n,)."""


class Posterior:
    """A surrogate that models the residuals of a prior mean: the general level, and the predictor if there is one."""

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
        """Condition on measurements; they replace those of earlier calls.

        Args:
            configs: Configurations that ran, repeats included.
            scores: ln(objective) of each, (n,).
            moves: Metropolis moves of each particle; few are enough where results come one by one.
            n_requests: Requests of the job that was measured, None if unknown.
            launches: The number of the launch that each ran on, if the prior has an effect of the launch.
        """
        if self._predictor:
            self._predictor.fit(configs, scores, n_requests)
            scores = scores - self._predictor.predict(configs)
        self._level = float(scores.mean())
        self._surrogate.fit(self._encoding.rows(configs), scores - self._level, moves, launches)

    def predict(self, configs: Sequence[Config], rows: Rows | None = None) -> tuple[Array, Array, Array]:
        """Mean and standard deviation of ln(objective) under each particle of the surrogate.

        Args:
            configs: The configurations.
            rows: The same, encoded, if that was done already.

        Returns:
            Means and standard deviations, (particles, len(configs)), and the weights, (particles,), summing to 1.
        """
        means, sds, weights = self._surrogate.predict(self._encoding.rows(configs) if rows is None else rows)
        means = means + self._level
        return (means + self._predictor.predict(configs) if self._predictor else means), sds, weights

    def supposing(self, configs: Sequence[Config], rng: np.random.Generator | None = None) -> "Posterior":
        """This posterior as if configurations had been measured, and had come out as expected, or as drawn by `rng`."""
        supposed = copy.copy(self)
        supposed._surrogate = self._surrogate.supposing(self._encoding.rows(configs), rng)
        return supposed

    def draw(self, configs: Sequence[Config], n: int, rng: np.random.Generator) -> Array:
        """Joint posterior draws of ln(objective), (n, len(configs))."""
        drawn = self._surrogate.draw(self._encoding.rows(configs), n, rng) + self._level
        return drawn + self._predictor.predict(configs) if self._predictor else drawn

    def mean(self, configs: Sequence[Config]) -> Array:
        """Posterior mean of ln(objective), averaged over the particles, (len(configs),)."""
        means, _, weights = self.predict(configs)
        mean: Array = weights @ means
        return mean


def most_informative(results: list[Result]) -> list[Result]:
    """All results, or the best and the last of them where there are more than `MAX_MODELLED`."""
    if len(results) <= MAX_MODELLED:
        return results
    best = sorted(results, key=lambda r: -math.inf if r.score is None else r.score)[-MAX_MODELLED // 2 :]
    chosen = {id(result) for result in (*best, *results[-MAX_MODELLED // 2 :])}
    return [result for result in results if id(result) in chosen]
