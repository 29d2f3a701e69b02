"""The feasibility probability where nothing predicts memory and there are at most two knobs, as in recorded tables."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from infertune.search.surrogate import Array, Encoding, Rows

# All values are judgement, chosen on the development half of `python -m tests.benchmarks.search.unseen`.
MOST_KNOBS = 2  # with three to five knobs, random walls were worse than the Gaussian process
_WALLS = 2000  # that are drawn
_NO_WALL = 0.65  # probability that there is none
_TOO_SMALL = 0.33  # that the lowest value of the other knob never runs: too few devices for the weights
_ROOM = (-1.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.5, 1.5)  # rungs of load that a rung of the other knob makes room for
_BEFORE, _BEYOND = (0.3, 3.0), (10.0, 0.1)  # Beta priors (failures, runs) before and beyond a wall
_NEVER = 1e6  # a load that no memory holds


class Walls:
    """An average over random walls, weighted by their likelihood (importance sampling).

    A wall is a memory limit: either knob may be the one that loads the memory, rung by rung; the other makes room,
    takes some of it, or does not matter. What loads it beyond the limit fails. The values of a
    choice have random loads.
    """

    def __init__(self, encoding: Encoding) -> None:
        rng = np.random.default_rng(0)
        sizes = [len(knob.values) for knob in encoding.knobs]
        loading, small = rng.integers(0, max(1, len(sizes)), (2, _WALLS))
        small[(rng.random(_WALLS) > _TOO_SMALL) | (small == loading)] = -1
        tables: list[Array] = [np.empty((_WALLS, 0))]
        limits = np.zeros((2, _WALLS))
        for k, knob in enumerate(encoding.knobs):
            slope = np.where(loading == k, 1.0, -rng.choice(_ROOM, _WALLS))
            rungs = np.arange(sizes[k], dtype=float)
            load: Array = slope[:, None] * rungs if knob.ordinal else rng.standard_normal((_WALLS, sizes[k]))
            limits += load[np.arange(_WALLS), rng.integers(0, sizes[k], (2, _WALLS))]
            load[:, 0] += _NEVER * (knob.ordinal & (small == k))
            tables.append(load)
        self._load = np.hstack(tables)  # of every value of every knob, (walls, values)
        # The larger load of two random configurations: about a third of a table is beyond it.
        self._limit = np.where(rng.random(_WALLS) < _NO_WALL, np.inf, limits.max(axis=0) + 1e-6)
        self._column = np.cumsum([0, *sizes])[:-1].astype(np.intp)

    def probability(self, rows: Rows, known: Rows, ran: Sequence[bool]) -> Array:
        """Probability that rows run, given which of the known rows did; arguments as of `Feasibility`."""
        if not ran:
            return np.ones(len(rows))
        label = np.array(ran, dtype=float)
        beyond = self._beyond(known, np.arange(_WALLS)).astype(float)
        evidence, runs = np.zeros(_WALLS), []
        for side, prior in ((1 - beyond, _BEFORE), (beyond, _BEYOND)):
            failed, ran_there = prior[0] + side @ (1 - label), prior[1] + side @ label
            evidence += betaln(failed, ran_there)
            runs.append((ran_there / (failed + ran_there))[:, None])
        weights = np.exp(evidence - evidence.max())
        kept = np.flatnonzero(weights > 1e-3)  # the others hardly count, but take time
        found = np.where(self._beyond(rows, kept), runs[1][kept], runs[0][kept])
        probability: Array = weights[kept] @ found / weights[kept].sum()
        return probability

    def _beyond(self, rows: Rows, walls: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether each row is beyond each of the walls, (walls, rows)."""
        beyond: NDArray[np.bool_] = self._load[walls][:, rows + self._column].sum(axis=2) > self._limit[walls, None]
        return beyond
