"""How likely a configuration is to run at all, learned from those that failed."""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr

from infertune.search.surrogate import Array, Encoding, Rows, sum_and_product

_OPTIMISM = 1.3  # what runs is +1, what fails -1; without evidence most things run
_LENGTH = 0.35
_JOINT, _ALONE, _SLOPE = 0.8, 0.15, 1.0  # variances
_NOISE = 0.15


class Feasibility:
    """A Gaussian process on labels (least-squares classification; Rasmussen and Williams, GPML, section 6.5).

    Its straight line in every ordinal knob lets a few failures say that more of the same also fails, as memory does.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding

    def probability(self, rows: Rows, known: Rows, ran: Sequence[bool]) -> Array:
        """Probability that rows run, given which of the known rows did; 1 while nothing has failed.

        Args:
            rows: Encoded candidates, (n, knobs).
            known: Encoded configurations that were tried, (m, knobs).
            ran: Whether each of those could be measured.
        """
        if all(ran):
            return np.ones(len(rows))
        labels = np.where(np.array(ran), 1.0, -1.0) - _OPTIMISM
        covariance = self._kernel(known, known)
        covariance[np.diag_indices(len(known))] += _NOISE
        across = self._kernel(rows, known)
        factor = cho_factor(covariance, check_finite=False)
        mean = _OPTIMISM + across @ cho_solve(factor, labels, check_finite=False)
        explained = np.einsum("ij,ji->i", across, cho_solve(factor, across.T, check_finite=False))
        line = (self._encoding.ladder(rows) ** 2).sum(axis=1)
        own = _JOINT + _ALONE * len(self._encoding.knobs) + _SLOPE * line
        probability: Array = ndtr(mean / np.sqrt(_NOISE + np.maximum(own - explained, 0.0)))
        return probability

    def _kernel(self, a: Rows, b: Rows) -> Array:
        tables = [np.exp(-0.5 * (distance / _LENGTH) ** 2) for distance in self._encoding.distances]
        each, joint = sum_and_product(tables, a, b)
        line = self._encoding.ladder(a) @ self._encoding.ladder(b).T
        kernel: Array = _JOINT * joint + _ALONE * each + _SLOPE * line
        return kernel
