"""The feasibility probability: how likely a configuration is to run, given which ran and which failed."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import ndtr

from infertune.search.surrogate import Array, Encoding, Rows, sum_and_product

# Labels are +1 for a configuration that ran and -1 for one that failed. All values are judgement, checked as a whole by
# `python -m tests.benchmarks.search` (failures in 24 trials).
_PRIOR_MEAN = 1.3  # of the latent label: without evidence most configurations run
_CORNER_DROP = 2.0  # the prior mean is lower by this where every ordinal knob is at its maximum
_CORNER_FAILURE = 0.5  # probability of a failure there while nothing has failed
_JOINT, _ADDITIVE = 0.8, 0.15  # variances of the kernel's joint part and of each knob's own part
# Length scales, in shares of a ladder: a short one for isolated failures, a long one for a memory limit, beyond which
# everything fails. They are averaged over, weighted by the marginal likelihood.
_LENGTHS = (0.12, 0.35, 0.7)
_SLOPES = (0.2, 1.0, 3.0)  # prior variances of the slope over a whole ladder
_NOISES = (0.15, 0.6)  # variances of a label's noise
_LEAST_WEIGHT = 0.1  # fits whose marginal likelihood, relative to the best one's, is lower are dropped


class Feasibility:
    """Gaussian processes on labels (least-squares classification; Rasmussen and Williams, GPML, section 6.5).

    The kernel has a linear part in every ordinal knob: after a few failures, higher values are expected to fail too, as
    they do where memory runs out. Length scale, slope and noise are averaged over, weighted by the marginal likelihood.
    """

    def __init__(self, encoding: Encoding, *, doubt_corner: bool = False) -> None:
        """A model for the configurations of a space.

        Args:
            encoding: Of the space.
            doubt_corner: Start with a failure probability of 50% in the corner where every ordinal knob is at its
                maximum, because large values mostly need memory; for spaces without a predictor that knows memory.
        """
        self._encoding = encoding
        self._doubt_corner = doubt_corner

    def probability(self, rows: Rows, known: Rows, ran: Sequence[bool]) -> Array:
        """Probability that rows run, given which of the known rows did.

        While nothing has failed it is 1; with `doubt_corner` it is lower for rows nearer to the corner than every
        configuration that ran.

        Args:
            rows: Encoded candidates, (n, knobs).
            known: Encoded configurations that were tried, (m, knobs).
            ran: Whether each of those could be measured.
        """
        nearness, known_nearness = self._corner_nearness(rows), self._corner_nearness(known)
        if all(ran):
            nearer = nearness > known_nearness.max(initial=0.0)
            return np.where(nearer, 1 - _CORNER_FAILURE * nearness, 1.0)
        expected, known_expected = (_PRIOR_MEAN - _CORNER_DROP * of for of in (nearness, known_nearness))
        labels = np.where(np.array(ran), 1.0, -1.0) - known_expected
        ladder, known_ladder = self._encoding.ladder(rows), self._encoding.ladder(known)
        line = known_ladder @ known_ladder.T
        own_line = (ladder**2).sum(axis=1)
        shapes = {length: self._shape(length, known, known) for length in _LENGTHS}
        fits = [
            _Fit.of(length, slope, noise, shapes[length] + slope * line, labels)
            for length, slope, noise in itertools.product(_LENGTHS, _SLOPES, _NOISES)
        ]
        most = max(fit.evidence for fit in fits)
        fits = [fit for fit in fits if math.exp(fit.evidence - most) >= _LEAST_WEIGHT]
        across = {length: self._shape(length, known, rows) for length in {fit.length for fit in fits}}
        across_line = known_ladder @ ladder.T
        total, weights = np.zeros(len(rows)), 0.0
        for fit in fits:
            half = solve_triangular(fit.factor, across[fit.length] + fit.slope * across_line, lower=True)
            own = _JOINT + _ADDITIVE * len(self._encoding.knobs) + fit.slope * own_line
            variance = fit.noise + np.maximum(own - np.einsum("ij,ij->j", half, half), 0.0)
            weight = math.exp(fit.evidence - most)
            total += weight * ndtr((expected + fit.whitened @ half) / np.sqrt(variance))
            weights += weight
        probability: Array = total / weights
        return probability

    def _corner_nearness(self, rows: Rows) -> Array:
        """0 where the mean position on the ladders is at most the middle, 1 in the corner; 0 without `doubt_corner`."""
        ladder = self._encoding.ladder(rows)
        if not self._doubt_corner or not ladder.shape[1]:
            return np.zeros(len(rows))
        nearness: Array = np.maximum(0.0, 2 * ladder.mean(axis=1)) ** 2
        return nearness

    def _shape(self, length: float, a: Rows, b: Rows) -> Array:
        """Covariance without the linear part, (len(a), len(b))."""
        tables = [np.exp(-0.5 * (distance / length) ** 2) for distance in self._encoding.distances]
        each, joint = sum_and_product(tables, a, b)
        shape: Array = _JOINT * joint + _ADDITIVE * each
        return shape


@dataclass(frozen=True, eq=False)
class _Fit:
    """One length, slope and noise: lower Cholesky factor of the covariance, and its inverse times the labels."""

    length: float
    slope: float
    noise: float
    factor: Array
    whitened: Array
    evidence: float

    @classmethod
    def of(cls, length: float, slope: float, noise: float, covariance: Array, labels: Array) -> "_Fit":
        """The fit to the labels, (m,), with their covariance without the noise, (m, m)."""
        factor = cholesky(covariance + noise * np.eye(len(labels)), lower=True, check_finite=False)
        whitened = solve_triangular(factor, labels, lower=True)
        evidence = -0.5 * whitened @ whitened - np.log(np.diag(factor)).sum()
        return cls(length, slope, noise, factor, whitened, float(evidence))
