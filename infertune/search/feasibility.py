"""How likely a configuration is to run at all, learned from those that failed."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import ndtr

from infertune.search.surrogate import Array, Encoding, Rows, sum_and_product

_OPTIMISM = 1.3  # what runs is +1, what fails -1; without evidence most things run
_WARINESS = 2.0  # less optimism at the top of all ladders together
_SUSPECTED = 0.5  # chance to fail there while nothing has failed
_JOINT, _ALONE = 0.8, 0.15  # variances
# A hole in a ladder says little about its neighbours, a wall of memory everything about what lies behind it.
_LENGTHS = (0.12, 0.35, 0.7)
_SLOPES = (0.2, 1.0, 3.0)  # variances, as is noise
_NOISES = (0.15, 0.6)
_LEAST_WEIGHT = 0.1


class Feasibility:
    """Gaussian processes on labels (least-squares classification; Rasmussen and Williams, GPML, section 6.5).

    A straight line in every ordinal knob lets a few failures say that more of the same also fails, as memory does. How
    far a failure reaches is averaged over by the evidence, as in the surrogate.
    """

    def __init__(self, encoding: Encoding, *, wary: bool = False) -> None:
        """Of configurations as encoded.

        Args:
            encoding: Of the space.
            wary: Suspect the top of all ladders together before anything failed: what they hold is mostly memory.
        """
        self._encoding = encoding
        self._wary = wary

    def probability(self, rows: Rows, known: Rows, ran: Sequence[bool]) -> Array:
        """Probability that rows run, given which of the known rows did.

        While nothing has failed it is 1, and of the wary less for what is higher up the ladders than all that ran.

        Args:
            rows: Encoded candidates, (n, knobs).
            known: Encoded configurations that were tried, (m, knobs).
            ran: Whether each of those could be measured.
        """
        suspicion, known_suspicion = self._suspicion(rows), self._suspicion(known)
        if all(ran):
            higher = suspicion > known_suspicion.max(initial=0.0)
            return np.where(higher, 1 - _SUSPECTED * suspicion, 1.0)
        expected, known_expected = (_OPTIMISM - _WARINESS * of for of in (suspicion, known_suspicion))
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
            own = _JOINT + _ALONE * len(self._encoding.knobs) + fit.slope * own_line
            variance = fit.noise + np.maximum(own - np.einsum("ij,ij->j", half, half), 0.0)
            weight = math.exp(fit.evidence - most)
            total += weight * ndtr((expected + fit.whitened @ half) / np.sqrt(variance))
            weights += weight
        probability: Array = total / weights
        return probability

    def _suspicion(self, rows: Rows) -> Array:
        """From 0 where the ladders are in the mean at their middle or below to 1 at the top of all; 0 of the unwary."""
        ladder = self._encoding.ladder(rows)
        if not self._wary or not ladder.shape[1]:
            return np.zeros(len(rows))
        suspicion: Array = np.maximum(0.0, 2 * ladder.mean(axis=1)) ** 2
        return suspicion

    def _shape(self, length: float, a: Rows, b: Rows) -> Array:
        """Covariance without the line, (len(a), len(b))."""
        tables = [np.exp(-0.5 * (distance / length) ** 2) for distance in self._encoding.distances]
        each, joint = sum_and_product(tables, a, b)
        shape: Array = _JOINT * joint + _ALONE * each
        return shape


@dataclass(frozen=True, eq=False)
class _Fit:
    """One kind of process: lower Cholesky factor of the covariance, and its inverse times the labels."""

    length: float
    slope: float
    noise: float
    factor: Array
    whitened: Array
    evidence: float

    @classmethod
    def of(cls, length: float, slope: float, noise: float, covariance: Array, labels: Array) -> "_Fit":
        """The fit to the labels, (m,), with their covariance but for the noise, (m, m)."""
        factor = cholesky(covariance + noise * np.eye(len(labels)), lower=True, check_finite=False)
        whitened = solve_triangular(factor, labels, lower=True)
        evidence = -0.5 * whitened @ whitened - np.log(np.diag(factor)).sum()
        return cls(length, slope, noise, factor, whitened, float(evidence))
