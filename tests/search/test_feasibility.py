"""The feasibility probability, given configurations that ran and configurations that failed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from infertune.domain.knobs import Choice, Int, SearchSpace
from infertune.search.feasibility import Feasibility
from infertune.search.surrogate import Array, Encoding
from tests.builders import space

OF = SearchSpace((Int("slots", tuple(range(11)), 0), Choice("mode", ("a", "b", "c"), "a")))
LADDERS = SearchSpace((Int("slots", tuple(range(11)), 0), Int("tokens", tuple(range(5)), 0)))


def probability(
    rows: list[list[int]], tried: list[tuple[list[int], bool]], *, of: SearchSpace = OF, doubt_corner: bool = False
) -> Array:
    known = np.array([row for row, _ in tried], dtype=np.intp).reshape(len(tried), len(of.knobs))
    shares = Feasibility(Encoding(of), doubt_corner=doubt_corner)
    return shares.probability(np.array(rows, dtype=np.intp), known, [ran for _, ran in tried])


def test_the_probability_is_one_while_nothing_has_failed() -> None:
    assert probability([[0, 0], [10, 2]], [([0, 0], True), ([5, 1], True)]).tolist() == [1.0, 1.0]


def test_the_corner_starts_with_a_failure_probability_of_half_until_it_ran() -> None:
    rows = [[0, 0], [10, 0], [8, 3], [10, 4]]
    low, one_ladder, near_top, top = probability(rows, [([0, 0], True)], of=LADDERS, doubt_corner=True)
    assert low == one_ladder == 1.0 > near_top > top == 0.5
    below, top = probability([[9, 3], [10, 4]], [([0, 0], True), ([9, 4], True)], of=LADDERS, doubt_corner=True)
    assert below == 1.0 > top
    assert probability(rows, [([10, 4], True)], of=LADDERS, doubt_corner=True).tolist() == [1.0] * 4


def test_with_a_doubtful_corner_a_first_failure_there_reaches_further() -> None:
    tried = [([0, 0], True), ([10, 4], False)]
    (plain,), (doubtful,) = (probability([[9, 4]], tried, of=LADDERS, doubt_corner=doubt) for doubt in (False, True))
    assert doubtful < plain


def test_a_space_without_ordinal_knobs_has_no_doubtful_corner() -> None:
    choices = SearchSpace((Choice("mode", ("a", "b"), "a"), Choice("other", ("a", "b"), "a")))
    assert probability([[1, 1]], [], of=choices, doubt_corner=True).tolist() == [1.0]


def test_what_failed_is_unlikely_to_run_and_what_ran_is_likely_to() -> None:
    ran, failed = probability([[1, 0], [9, 0]], [([1, 0], True), ([9, 0], False)])
    assert failed < 0.3 < 0.7 < ran


def test_the_neighbours_of_a_failure_are_less_likely_to_run_than_those_of_a_success() -> None:
    near_success, near_failure = probability([[2, 0], [8, 0]], [([1, 0], True), ([9, 0], False)])
    assert near_failure < 0.5 < near_success


def test_larger_values_than_those_that_failed_are_unlikely_to_run() -> None:
    """As where memory runs out."""
    beyond, before = probability([[10, 0], [2, 0]], [([0, 0], True), ([5, 0], False), ([7, 0], False)])
    assert beyond < 0.5
    assert beyond < before


def test_a_failing_value_of_a_choice_says_less_of_the_other_values() -> None:
    tried = [([0, 0], True), ([5, 0], True), ([3, 1], False), ([6, 1], False)]
    other, same = probability([[4, 2], [4, 1]], tried)
    assert same < 0.3 < 0.5 < other


def test_more_failures_beyond_a_limit_make_the_model_surer() -> None:
    few = [([0, 0], True), ([9, 0], False)]
    many = [*few, ([2, 0], True), ([3, 1], True), ([8, 1], False), ([10, 2], False), ([8, 0], False)]
    assert probability([[9, 1]], many)[0] < probability([[9, 1]], few)[0]
    assert probability([[1, 1]], many)[0] > 0.85


def test_an_isolated_failure_is_told_from_a_limit_beyond_which_everything_fails() -> None:
    """Two histories with the same first failure: beyond it either everything else runs, or everything fails."""
    before = [([0, 0], True), ([2, 0], True), ([3, 1], True), ([5, 0], False)]
    isolated = [*before, ([6, 0], True), ([7, 1], True), ([9, 0], True), ([8, 1], False)]
    limit = [*before, ([6, 0], False), ([7, 1], False), ([9, 0], False), ([8, 1], False)]
    beside_isolated, beyond_limit = (probability([[9, 1]], tried)[0] for tried in (isolated, limit))
    assert beside_isolated > 0.5
    assert beyond_limit < 0.1


def test_where_every_trial_failed_no_probability_is_0_or_1() -> None:
    shares = probability([[0, 0], [10, 2]], [([10, 0], False)])
    assert ((shares > 0) & (shares < 1)).all()
    assert shares[0] > shares[1]


@settings(max_examples=30)
@given(st.data(), st.booleans())
def test_it_is_a_probability_whatever_was_tried(data: st.DataObject, doubt_corner: bool) -> None:
    encoding = Encoding(space())
    row = st.tuples(*(st.integers(0, len(knob.values) - 1) for knob in encoding.knobs))
    known = np.array(data.draw(st.lists(row, min_size=1, max_size=25)), dtype=np.intp)
    ran = data.draw(st.lists(st.booleans(), min_size=len(known), max_size=len(known)))
    shares = Feasibility(encoding, doubt_corner=doubt_corner).probability(known, known, ran)
    assert ((shares >= 0) & (shares <= 1)).all()
