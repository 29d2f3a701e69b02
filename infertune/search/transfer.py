"""What another run says about this one: its best configurations to try first, and the shape of what it measured.

The other run may be of another device, model or version: its level means nothing here, its shape often much. A Gaussian
process over its trials gives a prediction of ln(objective), scaled to fit what is measured here; where the two differ,
the surrogate of this run's search learns the rest.
"""

from collections.abc import Sequence

import numpy as np

from infertune.knobs import Config, SearchSpace
from infertune.search.base import Result
from infertune.search.belief import Belief
from infertune.search.surrogate import Array, Encoding

_FEWEST = 4
_MOST = 150
_MOVES = 20
_SLOPE_SD = 0.3  # how far this run's effects may be from the other's, as a factor


class Transferred:
    """Predicts from another run's results."""

    def __init__(self, space: SearchSpace, results: Sequence[Result], seed: int = 0) -> None:
        self._belief = Belief(Encoding(space), seed)
        self._slope = 1.0
        known = [(space.repair(result.config), result.score) for result in results if result.score is not None]
        known.sort(key=lambda pair: -pair[1])
        known = known[:_MOST]
        self.has_shape = len({config for config, _ in known}) >= _FEWEST
        if self.has_shape:
            self._belief.fit([config for config, _ in known], np.array([score for _, score in known]), _MOVES)

    def fit(self, configs: Sequence[Config], scores: Array, n_requests: int | None = None) -> None:  # noqa: ARG002
        """Scale the other run's shape to what was measured here.

        Args:
            configs: That ran.
            scores: Of each, (n,).
            n_requests: Not needed.
        """
        shape = self._shape(configs)
        shape, scores = shape - shape.mean(), scores - scores.mean()
        weight = 0.1**2 / _SLOPE_SD**2  # a ridge towards 1: effects of 10% and more decide
        self._slope = float((weight + shape @ scores) / (weight + shape @ shape))

    def predict(self, configs: Sequence[Config]) -> Array:
        """ln(objective) of configurations up to a constant, (n,)."""
        return self._slope * self._shape(configs)

    def _shape(self, configs: Sequence[Config]) -> Array:
        if not self.has_shape:
            return np.zeros(len(configs))
        return self._belief.mean(configs)
