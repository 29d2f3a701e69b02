"""What each knob does over the whole landscape, and which pairs of knobs interact; every claim checked by permutation.

An additive model of the scores is fitted by least squares: one level a value of a knob, or, where there are too few
configurations for that, a curve of second degree over an ordinal knob's ladder. Scores are logarithms, so knobs whose
effects multiply do not interact.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from infertune.domain.knobs import Knob
from infertune.domain.measurement import Frozen
from infertune.landscape.terrain import Spot

_PERMUTATIONS = 999
_FEWEST = 12
_ROWS_PER_COLUMN = 2
_MOST_INTERACTING = 6
_TINY = 1e-12
Matrix = NDArray[np.float64]


class Effect(Frozen):
    """What a knob does, the other knobs being accounted for.

    Attributes:
        knob: The knob.
        share: Part of the scores' variance that only this knob explains, 0 to 1.
        spread: Factor between its best and its worst value.
        p_value: How often shuffling the knob explains as much.
    """

    knob: str
    share: float
    spread: float
    p_value: float


class Interaction(Frozen):
    """How far two knobs' joint effect is from the product of their effects.

    Attributes:
        first: One knob.
        second: The other.
        share: Part of the scores' variance that only their interaction explains, 0 to 1.
        p_value: As of `Effect`, times the number of pairs tested (Bonferroni).
    """

    first: str
    second: str
    share: float
    p_value: float


class Effects(Frozen):
    """All effects, the largest first.

    Attributes:
        effects: One a knob that could be fitted.
        interactions: Pairs among the six largest effects that could be fitted.
        explained: Part of the variance that the additive model explains.
        n: How many configurations it was fitted to.
    """

    effects: tuple[Effect, ...]
    interactions: tuple[Interaction, ...]
    explained: float
    n: int


def knob_effects(knobs: Sequence[Knob], spots: Sequence[Spot], seed: int = 0) -> Effects | None:
    """Effects and interactions of knobs.

    Each is the variance that the model loses without it (partial sums of squares), tested by permuting the residuals
    of the model without it (Freedman & Lane, J. Business & Economic Statistics 1, 1983).

    Args:
        knobs: Those that took more than one value.
        spots: Configurations with a score.
        seed: Of the permutations.

    Returns:
        None with fewer than 12 configurations, or where the scores do not differ.
    """
    scores = np.array([spot.score for spot in spots])
    total = float(((scores - scores.mean()) ** 2).sum()) if len(spots) else 0.0
    if len(spots) < _FEWEST or not knobs or total < _TINY:
        return None
    levels = 1 + sum(len({repr(spot.config[knob.name]) for spot in spots}) - 1 for knob in knobs)
    whole_ladders = len(spots) >= _ROWS_PER_COLUMN * levels
    columns = {knob.name: _columns(knob, spots, whole_ladders) for knob in knobs}
    columns = {name: found for name, found in columns.items() if found.shape[1]}
    shuffles = _shuffles(len(spots), seed)
    every = _basis([*columns.values()], len(spots))
    if not columns or every.shape[1] >= len(spots):
        return None
    coefficients = np.linalg.lstsq(_design([*columns.values()], len(spots)), scores, rcond=None)[0]
    effects, at = [], 1
    for name, own in columns.items():
        others = _basis([found for other, found in columns.items() if other != name], len(spots))
        gained, p_value = _tested(scores, others, every, shuffles)
        fitted = own @ coefficients[at : at + own.shape[1]]
        at += own.shape[1]
        spread = math.exp(float(fitted.max() - fitted.min()))
        effects.append(Effect(knob=name, share=gained / total, spread=spread, p_value=p_value))
    effects.sort(key=lambda effect: (-effect.share, effect.knob))
    return Effects(
        effects=tuple(effects),
        interactions=_interactions([e.knob for e in effects[:_MOST_INTERACTING]], columns, every, scores, shuffles),
        explained=1 - _left(scores, every) / total,
        n=len(spots),
    )


def _interactions(
    names: Sequence[str], columns: dict[str, Matrix], additive: Matrix, scores: Matrix, shuffles: NDArray[np.intp]
) -> tuple[Interaction, ...]:
    total = float(((scores - scores.mean()) ** 2).sum())
    pairs = []
    for first, second in combinations(names, 2):
        products = np.einsum("ij,ik->ijk", columns[first], columns[second]).reshape(len(scores), -1)
        both = _basis([additive[:, 1:], products], len(scores))
        if both.shape[1] > additive.shape[1] and both.shape[1] * _ROWS_PER_COLUMN <= len(scores):
            pairs.append((first, second, *_tested(scores, additive, both, shuffles)))
    found = [
        Interaction(first=a, second=b, share=gained / total, p_value=min(1.0, p * len(pairs)))
        for a, b, gained, p in pairs
    ]
    return tuple(sorted(found, key=lambda pair: (-pair.share, pair.first, pair.second)))


def _columns(knob: Knob, spots: Sequence[Spot], whole_ladders: bool) -> Matrix:
    """A knob's columns of the model, without the constant."""
    rungs = [next(n for n, v in enumerate(knob.values) if repr(v) == repr(s.config[knob.name])) for s in spots]
    present = sorted(set(rungs))
    if knob.ordinal and not whole_ladders and len(present) > 3:
        place = np.array(rungs) / max(present)
        return np.column_stack([place, place**2])
    return np.column_stack([np.zeros((len(spots), 0)), *(np.array(rungs) == rung for rung in present[1:])])


def _design(blocks: Sequence[Matrix], rows: int) -> Matrix:
    return np.column_stack([np.ones(rows), *blocks])


def _basis(blocks: Sequence[Matrix], rows: int) -> Matrix:
    """An orthonormal basis of the constant and some columns, the constant first."""
    constant = np.full((rows, 1), 1 / math.sqrt(rows))
    wide = np.column_stack([np.zeros((rows, 0)), *blocks])
    wide = wide - wide.mean(axis=0)
    left, sizes, _ = np.linalg.svd(wide, full_matrices=False)
    return np.column_stack([constant, left[:, sizes > 1e-9 * max(1.0, sizes.max(initial=0.0))]])


def _left(scores: Matrix, basis: Matrix) -> float:
    """Sum of squares that a model leaves."""
    return float(((scores - basis @ (basis.T @ scores)) ** 2).sum())


def _tested(scores: Matrix, without: Matrix, whole: Matrix, shuffles: NDArray[np.intp]) -> tuple[float, float]:
    """The sum of squares that a larger model explains beyond a smaller one, and the p-value of it."""
    gained = _left(scores, without) - _left(scores, whole)
    fitted = without @ (without.T @ scores)
    shuffled = fitted[:, None] + (scores - fitted)[shuffles].T
    squares = (shuffled**2).sum(axis=0)
    left_without = squares - ((without.T @ shuffled) ** 2).sum(axis=0)
    left_whole = squares - ((whole.T @ shuffled) ** 2).sum(axis=0)
    # Compared as F does, so that permutations with little left to explain count for what they are.
    observed = gained / max(_left(scores, whole), _TINY)
    by_chance = (left_without - left_whole) / np.maximum(left_whole, _TINY)
    return max(0.0, gained), (1 + int((by_chance >= observed * (1 - 1e-9)).sum())) / (1 + shuffles.shape[0])


def _shuffles(n: int, seed: int) -> NDArray[np.intp]:
    """Permutations, one a row."""
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(n) for _ in range(_PERMUTATIONS)])
