"""Main effects of the knobs and interactions of pairs of knobs, each tested by permutation.

An additive model of the scores is fitted by least squares. A knob has one level for each of its values or, with too few
configurations for that, a quadratic curve over an ordinal knob's ladder. Scores are logarithms, so effects that
multiply are additive and no interaction.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from infertune.domain.knobs import Knob
from infertune.domain.measurement import Frozen
from infertune.landscape.terrain import Spot

_PERMUTATIONS = 999  # a p-value is then a multiple of 0.001
_FEWEST = 12  # configurations; judgement
_ROWS_PER_COLUMN = 2  # configurations for each column of the model, at least; judgement
_MOST_INTERACTING = 6  # knobs, from the largest effect down, whose pairs are tested: 15 pairs; judgement
_TINY = 1e-12  # sum of squares that is rounding only
Matrix = NDArray[np.float64]


class Effect(Frozen):
    """The main effect of a knob, adjusted for the other knobs.

    Attributes:
        knob: The knob.
        share: Part of the scores' variance that this knob explains beyond the others, 0 to 1.
        spread: Factor of the objective between its best and its worst value.
        p_value: Share of the permutations that explain as much.
    """

    knob: str
    share: float
    spread: float
    p_value: float


class Interaction(Frozen):
    """How far the joint effect of two knobs is from the product of their main effects.

    Attributes:
        first: One knob.
        second: The other.
        share: Part of the scores' variance that their interaction explains beyond the additive model, 0 to 1.
        p_value: As in `Effect`, times the number of pairs tested (Bonferroni's correction).
    """

    first: str
    second: str
    share: float
    p_value: float


class Effects(Frozen):
    """All effects, the largest first.

    Attributes:
        effects: One for each knob that could be fitted.
        interactions: Pairs among the six knobs with the largest effects that could be fitted.
        explained: Part of the scores' variance that the additive model explains (R²).
        n: Configurations that it was fitted to.
    """

    effects: tuple[Effect, ...]
    interactions: tuple[Interaction, ...]
    explained: float
    n: int


def knob_effects(knobs: Sequence[Knob], spots: Sequence[Spot], seed: int = 0) -> Effects | None:
    """Main effects and interactions of knobs.

    Each is a partial sum of squares: what the model loses without it. It is tested by permuting the residuals of the
    model without it (Freedman & Lane, J. Business & Economic Statistics 1, 1983).

    Args:
        knobs: Knobs that took more than one value.
        spots: Configurations with a score.
        seed: Seeds the permutations.

    Returns:
        None with fewer than 12 configurations, or where the scores do not differ.
    """
    scores = np.array([spot.score for spot in spots])
    total = float(((scores - scores.mean()) ** 2).sum()) if len(spots) else 0.0
    if len(spots) < _FEWEST or not knobs or total < _TINY:
        return None
    levels = 1 + sum(len({repr(spot.config[knob.name]) for spot in spots}) - 1 for knob in knobs)
    by_value = len(spots) >= _ROWS_PER_COLUMN * levels
    columns = {knob.name: _columns(knob, spots, by_value) for knob in knobs}
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
        explained=1 - _residual(scores, every) / total,
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


def _columns(knob: Knob, spots: Sequence[Spot], by_value: bool) -> Matrix:
    """A knob's columns of the model, without the constant."""
    positions = [next(n for n, v in enumerate(knob.values) if repr(v) == repr(s.config[knob.name])) for s in spots]
    present = sorted(set(positions))
    if knob.ordinal and not by_value and len(present) > 3:
        place = np.array(positions) / max(present)
        return np.column_stack([place, place**2])
    return np.column_stack([np.zeros((len(spots), 0)), *(np.array(positions) == position for position in present[1:])])


def _design(blocks: Sequence[Matrix], rows: int) -> Matrix:
    return np.column_stack([np.ones(rows), *blocks])


def _basis(blocks: Sequence[Matrix], rows: int) -> Matrix:
    """An orthonormal basis of the constant and some columns, the constant first."""
    constant = np.full((rows, 1), 1 / math.sqrt(rows))
    wide = np.column_stack([np.zeros((rows, 0)), *blocks])
    wide = wide - wide.mean(axis=0)
    left, sizes, _ = np.linalg.svd(wide, full_matrices=False)
    return np.column_stack([constant, left[:, sizes > 1e-9 * max(1.0, sizes.max(initial=0.0))]])


def _residual(scores: Matrix, basis: Matrix) -> float:
    """Residual sum of squares of a model."""
    return float(((scores - basis @ (basis.T @ scores)) ** 2).sum())


def _tested(scores: Matrix, without: Matrix, whole: Matrix, shuffles: NDArray[np.intp]) -> tuple[float, float]:
    """The sum of squares that a larger model explains beyond a smaller one, and its p-value."""
    gained = _residual(scores, without) - _residual(scores, whole)
    fitted = without @ (without.T @ scores)
    shuffled = fitted[:, None] + (scores - fitted)[shuffles].T
    squares = (shuffled**2).sum(axis=0)
    residual_without = squares - ((without.T @ shuffled) ** 2).sum(axis=0)
    residual_whole = squares - ((whole.T @ shuffled) ** 2).sum(axis=0)
    # The statistic is F, up to a constant: the gain relative to the residuals of the larger model.
    observed = gained / max(_residual(scores, whole), _TINY)
    by_chance = (residual_without - residual_whole) / np.maximum(residual_whole, _TINY)
    return max(0.0, gained), (1 + int((by_chance >= observed * (1 - 1e-9)).sum())) / (1 + shuffles.shape[0])


def _shuffles(n: int, seed: int) -> NDArray[np.intp]:
    """Permutations, one a row."""
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(n) for _ in range(_PERMUTATIONS)])
