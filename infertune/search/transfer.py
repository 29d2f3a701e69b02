"""Transfer: another run's measurements as the prior mean of this run's search.

The other run may be of another device, model or version. Its absolute figures do not hold here, but the shape of its
landscape often does. The posterior mean over its trials predicts ln(objective), scaled by a factor that is fitted to
this run's results; this run's surrogate models the residuals. With a roofline, only the roofline's residuals are
transferred, and the roofline starts from the parameters that were fitted to the other run.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from infertune.domain.knobs import Config, SearchSpace
from infertune.search.base import Result, requests_of
from infertune.search.posterior import Posterior, Predictor
from infertune.search.surrogate import Array, Encoding

# All judgement; `python -m tests.benchmarks.search.transfer` measures the whole.
_FEWEST = 4  # different configurations; fewer have no shape
_MOST = 150  # results, the best of them: bounds the time of a fit
_MOVES = 20  # Metropolis moves of each particle
_SCALE_SD = 0.3  # prior standard deviation of the scale between this run's effects and the other's; its mean is 1
_EFFECT_SD = 0.1  # in ln(objective): effects of 10% and more outweigh the prior of the scale


class StartablePredictor(Predictor, Protocol):
    """A predictor whose fitted parameters can be the starting point of another run's fit."""

    def start_from_fit(self) -> None:
        """Make the fitted parameters the starting point of every later fit."""


class Transferred:
    """Predicts ln(objective) from another run's results."""

    def __init__(
        self, space: SearchSpace, results: Sequence[Result], seed: int = 0, base: StartablePredictor | None = None
    ) -> None:
        """The other run's results, in this run's space.

        Args:
            space: Of this run; configurations are moved to the nearest allowed one.
            results: Of the other run's search.
            seed: Seeds the particles.
            base: A predictor, such as a roofline, of which only the residuals are transferred.
        """
        self._space = space
        self._posterior = Posterior(Encoding(space), seed)
        self._base = base
        self._scale = 1.0
        known = [(space.repair(result.config), result.score) for result in results if result.score is not None]
        known.sort(key=lambda pair: -pair[1])
        known = known[:_MOST]
        self.has_shape = len({config for config, _ in known}) >= _FEWEST
        if not self.has_shape:
            return
        configs, scores = [config for config, _ in known], np.array([score for _, score in known])
        if base:
            base.fit(configs, scores, requests_of(results))
            base.start_from_fit()
        self._posterior.fit(configs, scores - self._from_base(configs), _MOVES)

    def fit(self, configs: Sequence[Config], scores: Array, n_requests: int | None = None) -> None:
        """Fit the scale of the other run's shape to this run's results, by ridge regression towards 1.

        Args:
            configs: Configurations that ran.
            scores: ln(objective) of each, (n,).
            n_requests: Requests of the job that was measured, None if unknown.
        """
        if self._base:
            self._base.fit(configs, scores, n_requests)
        shape, residuals = self._shape(configs), scores - self._from_base(configs)
        shape, residuals = shape - shape.mean(), residuals - residuals.mean()
        weight = _EFFECT_SD**2 / _SCALE_SD**2
        self._scale = float((weight + shape @ residuals) / (weight + shape @ shape))

    def predict(self, configs: Sequence[Config]) -> Array:
        """ln(objective) of configurations up to a constant, (n,)."""
        return self._from_base(configs) + self._scale * self._shape(configs)

    def _from_base(self, configs: Sequence[Config]) -> Array:
        return self._base.predict(configs) if self._base else np.zeros(len(configs))

    def _shape(self, configs: Sequence[Config]) -> Array:
        """The other run's shape; a ladder that this run lengthened ends for it where it did."""
        if not self.has_shape:
            return np.zeros(len(configs))
        return self._posterior.mean([self._space.repair(config) for config in configs])
