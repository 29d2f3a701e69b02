"""Main effects and interactions on surfaces whose answer is known."""

import math
import random
from collections.abc import Callable, Mapping

import pytest

from infertune.domain.knobs import Choice, Int, Scalar, SearchSpace
from infertune.landscape import Effects, Spot, knob_effects

SPACE = SearchSpace(
    (
        Int("strong", (1, 2, 4, 8), 1),
        Int("weak", (1, 2, 4), 1),
        Choice("idle", ("a", "b"), "a"),
        Int("other", (1, 2), 1),
    )
)
Rate = Callable[[Mapping[str, Scalar]], float]


def effects(rate: Rate, noise: float = 0.01, seed: int = 0, spots: int | None = None) -> Effects:
    rng = random.Random(seed)
    found = [
        Spot(config=c, scores=(math.log(rate(c.root)) + rng.gauss(0, noise),))
        for c in rng.sample(list(SPACE.grid()), spots or SPACE.size)
    ]
    answer = knob_effects(SPACE.knobs, found, seed)
    assert answer is not None
    return answer


def multiplied(c: Mapping[str, Scalar]) -> float:
    return 100 * float(c["strong"] or 0) ** 0.5 * float(c["weak"] or 0) ** 0.1


def together(c: Mapping[str, Scalar]) -> float:
    return multiplied(c) * (1.5 if c["strong"] == 8 and c["other"] == 2 else 1.0)


def test_effects_are_sorted_by_the_variance_they_explain() -> None:
    found = effects(multiplied)
    assert [effect.knob for effect in found.effects][:2] == ["strong", "weak"]
    by_name = {effect.knob: effect for effect in found.effects}
    assert by_name["strong"].spread == pytest.approx(8**0.5, rel=0.02)
    assert by_name["weak"].spread == pytest.approx(4**0.1, rel=0.02)
    assert by_name["strong"].share == pytest.approx(0.95, abs=0.04) and found.explained > 0.99
    assert by_name["strong"].p_value == by_name["weak"].p_value == 0.001


def test_a_random_part_of_the_grid_gives_the_same_order() -> None:
    found = effects(multiplied, spots=20)
    assert [effect.knob for effect in found.effects][:2] == ["strong", "weak"]
    assert found.effects[0].spread == pytest.approx(8**0.5, rel=0.1)


def test_a_knob_without_effect_is_significant_in_one_of_20_cases() -> None:
    values = [
        next(e.p_value for e in effects(multiplied, noise=0.05, seed=seed).effects if e.knob == "idle")
        for seed in range(60)
    ]
    assert sum(p < 0.05 for p in values) <= 7  # 3 expected
    assert 0.3 < sum(values) / len(values) < 0.7


def test_effects_that_multiply_are_no_interaction() -> None:
    alarms = sum(
        any(pair.p_value < 0.05 for pair in effects(multiplied, noise=0.05, seed=seed).interactions)
        for seed in range(40)
    )
    assert alarms <= 5  # 2 expected


def test_an_interaction_is_found() -> None:
    found = effects(together)
    first = found.interactions[0]
    assert {first.first, first.second} == {"strong", "other"} and first.p_value < 0.01 and first.share > 0.01
    assert all(pair.p_value > 0.05 for pair in found.interactions[1:])


def test_the_same_trials_give_the_same_answer() -> None:
    assert effects(together) == effects(together)


def test_too_few_or_equal_results_give_no_effects() -> None:
    spots = [Spot(config=c, scores=(1.0,)) for c in SPACE.grid()]
    assert knob_effects(SPACE.knobs, spots) is None
    assert (
        knob_effects(SPACE.knobs, [Spot(config=c, scores=(float(n),)) for n, c in enumerate(SPACE.grid())][:11]) is None
    )
    assert knob_effects((), spots) is None
