"""The Gaussian process: its means, its uncertainty, and that its matrices are positive definite."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infertune.domain.knobs import Choice, Int, SearchSpace
from infertune.search.surrogate import Array, Encoding, Prior, Rows, Surrogate
from tests.builders import space

LADDER = SearchSpace((Int("slots", tuple(range(1, 12)), 1),))
KINDS = tuple("abcdefgh")


def predicted(surrogate: Surrogate, rows: Rows) -> tuple[Array, Array]:
    """Mean and standard deviation over all particles."""
    means, sds, weights = surrogate.predict(rows)
    mean = weights @ means
    return mean, np.sqrt(weights @ (sds**2 + means**2) - mean**2)


def column(*positions: int) -> Rows:
    return np.array(positions, dtype=np.intp)[:, None]


def fitted(rows: Rows, values: Array, of: SearchSpace = LADDER, seed: int = 0, moves: int = 20) -> Surrogate:
    surrogate = Surrogate(Encoding(of), seed)
    surrogate.fit(rows, values, moves)
    return surrogate


def test_rows_are_positions_of_the_knobs_that_have_a_choice() -> None:
    of = SearchSpace((Int("slots", (4, 8, 16), 4), Int("held", (3,), 3), Choice("mode", ("x", "y"), "y")))
    encoding = Encoding(of)
    assert [knob.name for knob in encoding.knobs] == ["slots", "mode"]
    rows = encoding.rows([of.default, of.default.updated({"slots": 16, "mode": "x"})])
    assert rows.tolist() == [[0, 1], [2, 0]]
    assert encoding.ladder(rows).tolist() == [[-0.5], [0.5]]
    assert encoding.rows([]).shape == (0, 2)


def test_a_false_switch_and_a_zero_are_not_mixed_up() -> None:
    of = SearchSpace((Choice("flag", (False, True), False), Int("count", (0, 1), 0)))
    assert Encoding(of).rows([of.default.updated({"flag": True})]).tolist() == [[1, 0]]


def test_what_was_measured_is_predicted() -> None:
    rows, values = column(0, 2, 4, 6, 8, 10), np.array([-0.8, -0.4, 0.1, 0.4, 0.5, 0.2])
    mean, sd = predicted(fitted(rows, values), rows)
    assert mean == pytest.approx(values, abs=0.04)
    assert (sd < 0.08).all()


def test_between_two_measurements_the_mean_lies_between_them() -> None:
    mean, _ = predicted(fitted(column(0, 4, 6, 10), np.array([-0.6, -0.1, 0.1, 0.6])), column(5))
    assert -0.1 < mean[0] < 0.1


def test_a_slope_is_extrapolated_beyond_the_data() -> None:
    mean, _ = predicted(fitted(column(0, 1, 2, 3, 4), np.linspace(-0.4, 0.4, 5)), column(8))
    assert mean[0] > 0.4


def test_uncertainty_grows_with_the_distance_from_what_was_measured() -> None:
    _, sd = predicted(fitted(column(0, 1, 2), np.array([-0.2, 0.0, 0.2])), column(1, 4, 7, 10))
    assert (np.diff(sd) > 0).all()


def test_a_measurement_reduces_the_uncertainty_where_it_was_made() -> None:
    before, after = column(0, 1), column(0, 1, 9)
    _, unknown = predicted(fitted(before, np.array([0.0, 0.1])), column(9))
    _, known = predicted(fitted(after, np.array([0.0, 0.1, 0.3])), column(9))
    assert known[0] < 0.3 * unknown[0]


def test_repeats_that_agree_reduce_the_uncertainty_more_than_repeats_that_differ() -> None:
    rows = column(*[0, 5, 10] * 6)
    steady = np.tile([-0.2, 0.0, 0.2], 6)
    wobble = steady + 0.1 * np.where(np.arange(18) // 3 % 2, 1.0, -1.0)
    _, sure = predicted(fitted(rows, steady), column(5))
    _, unsure = predicted(fitted(rows, wobble), column(5))
    _, once = predicted(fitted(column(0, 5, 10), steady[:3]), column(5))
    assert sure[0] < once[0]
    assert sure[0] < unsure[0]
    mean, _ = predicted(fitted(rows, wobble), column(0, 5, 10))
    assert mean == pytest.approx([-0.2, 0.0, 0.2], abs=0.06)


def test_values_of_a_choice_have_no_order_and_positions_on_a_ladder_do() -> None:
    choices = SearchSpace((Choice("mode", KINDS, "a"),))
    numbers = SearchSpace((Int("slots", tuple(range(8)), 0),))
    rows, values = column(0, 1, 7), np.array([-0.3, -0.3, 0.6])
    of_choice, _ = predicted(fitted(rows, values, choices), column(2, 6))
    of_number, _ = predicted(fitted(rows, values, numbers), column(2, 6))
    assert of_choice[0] == pytest.approx(of_choice[1])
    assert of_number[1] > of_number[0] + 0.2


def test_main_effects_of_two_knobs_add_up_at_a_combination_never_measured() -> None:
    of = SearchSpace((Int("a", (0, 1, 2, 3), 0), Int("b", (0, 1, 2, 3), 0)))
    rows = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [0, 1], [0, 2], [0, 3]], dtype=np.intp)
    values = 0.2 * rows[:, 0] + 0.3 * rows[:, 1]
    mean, _ = predicted(fitted(rows, values - values.mean(), of), np.array([[3, 3], [0, 3]], dtype=np.intp))
    assert mean[0] > mean[1] + 0.3


def test_the_same_seed_gives_the_same_and_weights_sum_to_one() -> None:
    rows, values = column(0, 3, 6, 9), np.array([-0.3, 0.0, 0.1, 0.2])
    one, again, other = (fitted(rows, values, seed=seed).predict(column(1, 5)) for seed in (4, 4, 5))
    for a, b in zip(one, again, strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(one[0], other[0])
    assert one[2].sum() == pytest.approx(1)
    assert one[0].shape == one[1].shape == (len(one[2]), 2)


def test_with_many_measurements_there_are_fewer_particles() -> None:
    few = fitted(column(0, 5, 10), np.array([0.0, 0.1, 0.2]))
    many = fitted(column(*range(11)).repeat(30, axis=0), np.linspace(0, 1, 330), moves=1)
    assert 1 <= len(many.predict(column(0))[2]) <= 3 < len(few.predict(column(0))[2])


def test_the_prior_of_the_noise_decides_how_closely_measurements_are_followed() -> None:
    rows, values = column(0, 5, 10), np.array([-0.3, 0.6, -0.3])
    near, far = (Surrogate(Encoding(LADDER), 0, Prior(noise=(math.log(noise), 0.01))) for noise in (0.01, 1.0))
    for surrogate in (near, far):
        surrogate.fit(rows, values)
    assert predicted(near, column(5))[0][0] > 2 * abs(predicted(far, column(5))[0][0])


@settings(max_examples=30)
@given(st.data())
def test_any_rows_can_be_fitted_and_predicted(data: st.DataObject) -> None:
    """A matrix that is not positive definite would raise; repeats, single rows and large values included."""
    encoding = Encoding(space())
    row = st.tuples(*(st.integers(0, len(knob.values) - 1) for knob in encoding.knobs))
    rows = np.array(data.draw(st.lists(row, min_size=1, max_size=25)), dtype=np.intp)
    values = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=len(rows), max_size=len(rows))))
    surrogate = Surrogate(encoding, data.draw(st.integers(0, 100)))
    surrogate.fit(rows, values, 1)
    asked = np.array(data.draw(st.lists(row, min_size=1, max_size=8)), dtype=np.intp)
    means, sds, weights = surrogate.predict(asked)
    assert np.isfinite(means).all() and np.isfinite(sds).all() and (sds > 0).all()
    assert weights.sum() == pytest.approx(1)
