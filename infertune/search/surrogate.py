"""A Gaussian process over configurations, for a few to a few hundred measurements of ln(objective).

The kernel is the sum of an additive part (one for each knob), a joint part (a product over all knobs) and a linear part
in every ordinal knob: few trials show main effects, more show interactions. An ordinal knob enters by its position on
its ladder of values; any two values of a choice are at distance 1. Hyperparameters are averaged over instead of fitted:
a small population of particles is weighted by the posterior density and moved by Metropolis moves after every result
(sequential Monte Carlo; Chopin, A sequential particle filter method for static models, Biometrika 2002). With a dozen
measurements the most likely length scale is often wrong by a large factor; the average is more robust. Amplitudes are
in units of ln(objective), where 0.1 is 10%.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from infertune.domain.knobs import Config, Knob, SearchSpace

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

# All judgement, checked as a whole by `python -m tests.benchmarks.search`.
_LEVEL_SD = 3.0  # prior standard deviation of the constant, in ln(objective)
_MOST_PARTICLES, _FEWEST_PARTICLES = 16, 3
_MOST_EVALUATIONS = 900  # particles × measurements of one update: bounds its time
_STEP = 0.35  # standard deviation of a Metropolis proposal, in standard deviations of the prior
_MOVES = 2  # Metropolis moves of each particle, unless told otherwise
_JITTER = 1e-8  # variance on the diagonal, so that the covariance of nearly equal configurations is positive definite


@dataclass(frozen=True)
class Prior:
    """Normal priors (mean, standard deviation) of the logarithms of the kernel's hyperparameters; judgement.

    Attributes:
        length: Length scale of a knob; a whole ladder has length 1, two values of a choice are at distance 1.
        additive: Amplitude of each knob's own part, in ln(objective).
        joint: Amplitude of the joint part, in ln(objective).
        slope: Standard deviation of the linear part's slope, in ln(objective) over a whole ladder.
        noise: Standard deviation of one measurement, in ln(objective).
        launch: Standard deviation of the effect that all measurements on one launch share, in ln(objective); None if
            measurements are independent.
    """

    length: tuple[float, float] = (math.log(0.6), 0.8)
    additive: tuple[float, float] = (math.log(0.25), 0.7)
    joint: tuple[float, float] = (math.log(0.12), 0.7)
    slope: tuple[float, float] = (math.log(0.5), 0.6)
    noise: tuple[float, float] = (math.log(0.05), 1.0)
    launch: tuple[float, float] | None = None


class Encoding:
    """Configurations as rows of integers: the index of each knob's value; knobs with one value are left out."""

    def __init__(self, space: SearchSpace) -> None:
        self.knobs = tuple(knob for knob in space.knobs if len(knob.values) > 1)
        self._positions = [{value: i for i, value in enumerate(knob.values)} for knob in self.knobs]
        self._ordinal = [k for k, knob in enumerate(self.knobs) if knob.ordinal]
        self._last = np.array([len(self.knobs[k].values) - 1 for k in self._ordinal], dtype=float)
        self.distances = tuple(_distances(knob) for knob in self.knobs)

    def rows(self, configs: Sequence[Config]) -> Rows:
        """An array of one row a configuration, (n, knobs)."""
        names = [knob.name for knob in self.knobs]
        rows = [[p[c.root[name]] for name, p in zip(names, self._positions, strict=True)] for c in configs]
        return np.array(rows, dtype=np.intp).reshape(len(rows), len(names))

    def ladder(self, rows: Rows) -> Array:
        """Positions of the ordinal knobs on their ladders, from -0.5 to 0.5, (n, ordinal knobs)."""
        ladder: Array = rows[:, self._ordinal] / self._last - 0.5
        return ladder


def _distances(knob: Knob) -> Array:
    """Distances between all values of a knob: the share of the ladder between them, or 1 for a choice."""
    n = len(knob.values)
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    distances: Array = apart / (n - 1) if knob.ordinal else (apart > 0).astype(float)
    return distances


def sum_and_product(tables: Sequence[Array], a: Rows, b: Rows) -> tuple[Array, Array]:
    """Sum and product over knobs of a table entry for each pair of values; two arrays (len(a), len(b))."""
    total, product = np.zeros((len(a), len(b))), np.ones((len(a), len(b)))
    for k, table in enumerate(tables):
        entry = table[:, b[:, k]][a[:, k]]
        total += entry
        product *= entry
    return total, product


class Surrogate:
    """The Gaussian process. Its values may have any mean, so that a prior mean can be subtracted beforehand."""

    def __init__(self, encoding: Encoding, seed: int, prior: Prior | None = None) -> None:
        self._encoding = encoding
        self._rng = np.random.default_rng(seed % 2**64)  # it takes none below 0
        prior = prior or Prior()
        d = len(encoding.knobs)
        pairs = [prior.length] * d + [prior.additive, prior.joint, prior.slope, prior.noise]
        pairs += [prior.launch] if prior.launch else []
        self._mean, self._sd = np.array(pairs).T
        self._particles = self._mean + self._sd * self._rng.standard_normal((_MOST_PARTICLES, len(pairs)))
        self._noise_at = d + 3
        self._same_launch: Array | None = None
        self._rows: Rows = np.empty((0, d), dtype=np.intp)
        self._values = np.empty(0)
        self._fits: list[_Fit] = []
        self._shares: Array = np.empty(0)

    def fit(self, rows: Rows, values: Array, moves: int = _MOVES, launches: Sequence[int] | None = None) -> None:
        """Condition on measurements; they replace those of earlier calls.

        Args:
            rows: Encoded configurations, (n, knobs); repeats are allowed.
            values: ln(objective) of each, less the prior mean, (n,).
            moves: Metropolis moves of each particle.
            launches: The number of the launch that each ran on, if the prior has an effect of the launch.
        """
        self._rows, self._values = rows, values
        if launches is not None and len(self._mean) > self._noise_at + 1:
            self._same_launch = np.equal.outer(np.asarray(launches), np.asarray(launches)).astype(float)
        room = _MOST_EVALUATIONS // max(1, len(values))
        self._particles = self._particles[: max(_FEWEST_PARTICLES, room)]
        fits = [self._fit(particle) for particle in self._particles]
        weights = np.array([fit.log_posterior for fit in fits])
        weights = np.exp(weights - weights.max())
        chosen = self._rng.choice(len(fits), size=len(fits), p=weights / weights.sum())
        fits = [fits[i] for i in chosen]
        for _ in range(moves):
            fits = [self._moved(fit) for fit in fits]
        self._particles = np.array([fit.particle for fit in fits])
        self._fits = list({id(fit): fit for fit in fits}.values())
        self._shares = np.array([sum(fit is other for other in fits) / len(fits) for fit in self._fits])

    def predict(self, rows: Rows) -> tuple[Array, Array, Array]:
        """Mean and standard deviation of the value without noise, under each distinct particle.

        Returns:
            Means and standard deviations, (particles, len(rows)), and the weights, (particles,), summing to 1.
        """
        means, sds = [], []
        for fit in self._fits:
            across = self._kernel(fit.particle, rows, self._rows)
            half = solve_triangular(fit.factor, across.T, lower=True, check_finite=False)
            variance = self._own_variance(fit.particle, rows) - np.einsum("ij,ij->j", half, half)
            means.append(across @ fit.alpha)
            sds.append(np.sqrt(np.maximum(variance, 1e-10)))
        return np.array(means), np.array(sds), self._shares

    def supposing(self, rows: Rows, rng: np.random.Generator | None = None) -> "Surrogate":
        """This surrogate as if measurements at rows had come out as each particle expects: the means stay.

        Args:
            rows: Encoded configurations, (m, knobs).
            rng: If given, they come out as one joint draw of each particle instead (fantasies; Snoek et al., Practical
                Bayesian optimization of machine learning algorithms, NeurIPS 2012, section 3.2).
        """
        supposed = copy.copy(self)
        supposed._rows, supposed._fits = np.vstack([self._rows, rows]), []
        for fit in self._fits:
            across = self._kernel(fit.particle, rows, self._rows)
            values = across @ fit.alpha
            if rng is not None:
                half = solve_triangular(fit.factor, across.T, lower=True, check_finite=False)
                covariance = self._kernel(fit.particle, rows, rows) - half.T @ half
                covariance[np.diag_indices(len(rows))] += math.exp(2 * fit.particle[self._noise_at]) + _JITTER
                values = values + rng.standard_normal(len(rows)) @ cholesky(covariance, check_finite=False)
            supposed._values = np.concatenate([self._values, values])
            supposed._same_launch = None
            supposed._fits.append(supposed._fit(fit.particle))
        return supposed

    def draw(self, rows: Rows, n: int, rng: np.random.Generator) -> Array:
        """Joint posterior draws of the value without noise at rows, over all particles.

        Args:
            rows: Encoded configurations, (m, knobs).
            n: Number of draws.
            rng: Their source of randomness.

        Returns:
            The draws, (n, m).
        """
        drawn = np.empty((0, len(rows)))
        for fit, count in zip(self._fits, rng.multinomial(n, self._shares), strict=True):
            across = self._kernel(fit.particle, rows, self._rows)
            half = solve_triangular(fit.factor, across.T, lower=True, check_finite=False)
            covariance = self._kernel(fit.particle, rows, rows) - half.T @ half
            covariance[np.diag_indices(len(rows))] += _JITTER
            spread = rng.standard_normal((count, len(rows))) @ cholesky(covariance, check_finite=False)
            drawn = np.vstack([drawn, across @ fit.alpha + spread])
        return drawn

    def _moved(self, fit: "_Fit") -> "_Fit":
        step = _STEP * self._sd * self._rng.standard_normal(len(self._sd))
        proposal = self._fit(fit.particle + step)
        accepted = math.log(self._rng.uniform() + 1e-300) < proposal.log_posterior - fit.log_posterior
        return proposal if accepted else fit

    def _fit(self, particle: Array) -> "_Fit":
        covariance = self._kernel(particle, self._rows, self._rows)
        covariance[np.diag_indices(len(self._values))] += math.exp(2 * particle[self._noise_at]) + 1e-9
        if self._same_launch is not None:
            covariance += math.exp(2 * particle[-1]) * self._same_launch
        factor = cholesky(covariance, lower=True, check_finite=False, overwrite_a=True)
        alpha = cho_solve((factor, True), self._values, check_finite=False)
        log_likelihood = -0.5 * self._values @ alpha - np.log(np.diag(factor)).sum()
        log_prior = -0.5 * (((particle - self._mean) / self._sd) ** 2).sum()
        return _Fit(particle, factor, alpha, float(log_likelihood + log_prior))

    def _kernel(self, particle: Array, a: Rows, b: Rows) -> Array:
        d = len(self._encoding.knobs)
        additive, joint, slope = np.exp(2 * particle[d : d + 3])
        lengths = np.exp(particle[:d])
        tables = [_matern(d / length) for d, length in zip(self._encoding.distances, lengths, strict=True)]
        total, product = sum_and_product(tables, a, b)
        line = self._encoding.ladder(a) @ self._encoding.ladder(b).T
        covariance: Array = _LEVEL_SD**2 + additive * total + joint * product + slope * line
        return covariance

    def _own_variance(self, particle: Array, rows: Rows) -> Array:
        d = len(self._encoding.knobs)
        additive, joint, slope = np.exp(2 * particle[d : d + 3])
        line = (self._encoding.ladder(rows) ** 2).sum(axis=1)
        variance: Array = _LEVEL_SD**2 + len(self._encoding.knobs) * additive + joint + slope * line
        return variance


@dataclass(frozen=True, eq=False)
class _Fit:
    """One particle: lower Cholesky factor of its covariance, and the inverse covariance times the values."""

    particle: Array
    factor: Array
    alpha: Array
    log_posterior: float


def _matern(distance: Array) -> Array:
    """Matérn correlation of smoothness 3/2, rough enough for the steps of engines' landscapes."""
    scaled = math.sqrt(3) * distance
    correlation: Array = (1 + scaled) * np.exp(-scaled)
    return correlation
