"""What another run says about this one: its best configurations to try first, and the shape of what it measured.

The other run may be of another device, model or version: its level means nothing here, its shape often much. A Gaussian
process over its trials gives a prediction of ln(objective), scaled to fit what is measured here; where the two differ,
the surrogate of this run's search learns the rest. With a roofline, what it leaves is carried over, and the roofline
starts here from what was fitted there.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from infertune.domain.knobs import Config, SearchSpace
from infertune.search.base import Result, requests_of
from infertune.search.belief import Belief, Predictor
from infertune.search.surrogate import Array, Encoding

_FEWEST = 4
_MOST = 150
_MOVES = 20
_SLOPE_SD = 0.3  # how far this run's effects may be from the other's, as a factor


class Guess(Predictor, Protocol):
    """A predictor that can be carried from one run to another."""

    def settle(self) -> None:
        """Take what was fitted as the guess from now on."""


class Transferred:
    """Predicts from another run's results."""

    def __init__(
        self, space: SearchSpace, results: Sequence[Result], seed: int = 0, guess: Guess | None = None
    ) -> None:
        self._belief = Belief(Encoding(space), seed)
        self._guess = guess
        self._slope = 1.0
        known = [(space.repair(result.config), result.score) for result in results if result.score is not None]
        known.sort(key=lambda pair: -pair[1])
        known = known[:_MOST]
        self.has_shape = len({config for config, _ in known}) >= _FEWEST
        if not self.has_shape:
            return
        configs, scores = [config for config, _ in known], np.array([score for _, score in known])
        if guess:
            guess.fit(configs, scores, requests_of(results))
            guess.settle()
        self._belief.fit(configs, scores - self._guessed(configs), _MOVES)

    def fit(self, configs: Sequence[Config], scores: Array, n_requests: int | None = None) -> None:
        """Scale the other run's shape to what was measured here.

        Args:
            configs: That ran.
            scores: Of each, (n,).
            n_requests: Requests of the job that was measured, None if unknown.
        """
        if self._guess:
            self._guess.fit(configs, scores, n_requests)
        shape, left = self._shape(configs), scores - self._guessed(configs)
        shape, left = shape - shape.mean(), left - left.mean()
        weight = 0.1**2 / _SLOPE_SD**2  # a ridge towards 1: effects of 10% and more decide
        self._slope = float((weight + shape @ left) / (weight + shape @ shape))

    def predict(self, configs: Sequence[Config]) -> Array:
        """ln(objective) of configurations up to a constant, (n,)."""
        return self._guessed(configs) + self._slope * self._shape(configs)

    def _guessed(self, configs: Sequence[Config]) -> Array:
        return self._guess.predict(configs) if self._guess else np.zeros(len(configs))

    def _shape(self, configs: Sequence[Config]) -> Array:
        return self._belief.mean(configs) if self.has_shape else np.zeros(len(configs))
