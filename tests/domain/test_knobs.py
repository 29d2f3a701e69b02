"""Knobs, rules and the configurations between them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infertune.domain.knobs import (
    Choice,
    Condition,
    Config,
    Constraint,
    Float,
    Int,
    Knob,
    Scalar,
    SearchSpace,
    doubling,
    format_scalar,
    parse_scalar,
)
from tests.builders import config, space, tokens_for_every_sequence

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.sampled_from(["fp8", "auto", "FLASH_ATTN", "a=b", "v1.2.3", "low latency", "µ"])
scalars: st.SearchStrategy[Scalar] = st.one_of(st.booleans(), st.integers(), finite, words, st.none())
anything: st.SearchStrategy[Scalar] = st.one_of(scalars, st.floats(), st.text(max_size=5))


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Ladders of any shape under the rules that engines have: an order between knobs, and conditions."""
    slots = draw(st.sets(st.integers(1, 64), min_size=1, max_size=4))
    budget = draw(st.sets(st.integers(1, 200), min_size=1, max_size=4)) | {draw(st.integers(64, 300))}
    share = draw(st.sets(st.floats(0.1, 1), min_size=1, max_size=3))
    shares = tuple(sorted(share))
    knobs = (
        Int("slots", tuple(slots), draw(st.sampled_from(sorted(slots))), scope="live"),
        Int("budget", tuple(budget), draw(st.sampled_from(sorted(budget)))),
        Float("share", shares, shares[0]),
        Choice("chunked", (True, False), draw(st.booleans())),
        Choice("mode", ("auto", "eager", None), "auto"),
    )
    full_length = Constraint(
        name="whole prompts",
        reason="without chunks the budget must hold a whole prompt",
        holds=lambda c: c["chunked"] is True or float(c["budget"] or 0) >= max(budget),
        mend=lambda c: {"budget": max(budget)},
    )
    rules = (full_length, tokens_for_every_sequence())
    return SearchSpace(knobs, (Condition("mode", "chunked", (True,)),), draw(st.permutations(rules).map(tuple)))


@settings(deadline=None)
@given(spaces(), st.data())
def test_a_repair_obeys_every_rule_stays_on_the_ladders_and_is_its_own_repair(
    of: SearchSpace, data: st.DataObject
) -> None:
    wish = Config({name: data.draw(anything, label=name) for name in (*of.names, "unknown")})
    repaired = of.repair(wish)
    assert of.violations(repaired) == []
    for knob in of.knobs:
        assert repr(repaired[knob.name]) in map(repr, knob.values)
    assert set(repaired.root) == set(of.names)
    assert repaired["chunked"] is True or repaired["mode"] == "auto"
    assert of.repair(repaired) == repaired


@settings(deadline=None)
@given(spaces(), st.data())
def test_the_grid_is_every_repair_exactly_once(of: SearchSpace, data: st.DataObject) -> None:
    grid = list(of.grid())
    assert len(set(grid)) == len(grid) <= of.size
    assert all(of.repair(point) == point and not of.violations(point) for point in grid)
    some = Config({knob.name: data.draw(st.sampled_from(knob.values)) for knob in of.knobs})
    assert of.repair(some) in grid
    assert of.repair(of.default) in grid


@settings(deadline=None)
@given(scalars)
def test_a_scalar_is_read_back_as_it_was_shown(value: Scalar) -> None:
    back = parse_scalar(format_scalar(value))
    assert back == value
    assert isinstance(back, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    ("text", "value"),
    [("True", True), ("none", None), ("null", None), ("8", 8), ("0.9", 0.9), ("1e3", 1000.0), (" fp8 ", "fp8")],
)
def test_scalars_are_read_as_typed(text: str, value: Scalar) -> None:
    assert repr(parse_scalar(text)) == repr(value)


def test_a_configuration_is_the_same_whatever_the_order_of_its_names() -> None:
    assert config(a=1, b=2) == config(b=2, a=1)
    assert hash(config(a=1, b=2)) == hash(config(b=2, a=1))
    assert config(a=1) != config(a=True) != config(a=1.0)


def test_a_configuration_reads_as_it_is_typed() -> None:
    assert str(config(slots=8, share=0.9, compiled=True, dtype=None)) == "slots=8 share=0.9 compiled=true dtype=none"


def test_configurations_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError):
        config(a=1).root = {}  # type: ignore[misc]
    assert config(a=1, b=2).updated({"b": 3}) == config(a=1, b=3)
    assert config(a=1, b=2).subset({"b"}) == config(b=2)


def test_the_nearest_value_is_nearest_by_ratio_not_by_difference() -> None:
    knob = Int("n", (1, 16, 128), 1)
    assert [knob.nearest(value) for value in (0, 5, 45, 50, 10**9)] == [1, 16, 16, 128, 128]


def test_the_nearest_value_has_the_knobs_own_spelling() -> None:
    assert repr(Int("n", (1, 16), 1).nearest(16.0)) == "16"
    assert repr(Int("n", (1, 16), 16).nearest(True)) == "16"
    assert repr(Choice("c", (False, True), False).nearest(1)) == "False"


def test_a_choice_that_is_not_allowed_falls_back_to_the_default() -> None:
    assert Choice("mode", ("auto", "eager"), "eager").nearest("fast") == "eager"


def test_at_least_takes_the_next_larger_value_or_the_largest() -> None:
    knob = Int("n", (4, 8, 16), 4)
    assert [knob.at_least(floor) for floor in (1, 5, 16, 99)] == [4, 8, 16, 16]


def test_a_default_that_is_not_among_the_values_is_added_to_them() -> None:
    assert Int("n", (4, 16), 10).values == (4, 10, 16)


@pytest.mark.parametrize(
    ("values", "default", "fault"),
    [((1, 2), 3, "not among"), ((1, 1), 1, "stands twice"), ((2, 1), 1, "must ascend")],
)
def test_a_knob_that_makes_no_sense_is_refused(values: tuple[int, ...], default: int, fault: str) -> None:
    from infertune.domain.knobs import Knob

    with pytest.raises(ValidationError, match=fault):
        Knob(name="n", kind="int", values=values, default=default)


def test_restricting_a_knob_moves_its_default_to_the_nearest_value_left() -> None:
    knob = Int("n", doubling(1, 64), 16).restricted((64, 8))
    assert (knob.values, knob.default) == ((8, 64), 8)
    assert repr(Float("f", (1.0, 2.0), 1.0).restricted((2,)).values) == "(2.0,)"


def test_doubling_stops_at_the_last_rung_within_reach() -> None:
    assert doubling(3, 25) == (3, 6, 12, 24)


def test_the_launch_key_ignores_live_knobs_only() -> None:
    base = space().default
    assert space().launch_key(base) == space().launch_key(base.updated({"slots": 4, "budget": 64}))
    assert space().launch_key(base) != space().launch_key(base.updated({"block": 64}))


def test_the_grid_changes_launch_knobs_slowest() -> None:
    keys = [space().launch_key(point) for point in space().grid()]
    changes = sum(a != b for a, b in zip(keys, keys[1:], strict=False))
    assert changes + 1 == len(set(keys)) == 2 * 3 * 4


def test_the_most_concurrent_configuration_is_the_top_of_the_concurrency_knob() -> None:
    assert space().most_concurrent == 256
    at_rest = Choice("max_running_requests", (None, 8), None, is_concurrency=True).restricted((None,))
    assert SearchSpace((at_rest,)).most_concurrent == 1  # as many as the engine decides
    assert SearchSpace((Int("n", (1, 2), 1),)).most_concurrent == 1


def test_violations_name_the_value_the_knob_and_the_rule() -> None:
    good = space().default
    assert "slots=5 is not one of 4, 8" in space().violations(good.updated({"slots": 5}))[0]
    assert space().violations(good.updated({"speed": 5})) == ["unknown knob speed"]
    assert space().violations(good.updated({"slots": 256, "budget": 64})) == ["budget must be at least slots"]


def test_a_space_is_written_down_with_its_rules_in_words() -> None:
    assert space().record().rules == ("budget must be at least slots",)
    assert space().record().knobs == space().knobs


def test_a_knob_of_which_nobody_has_said_anything_counts_as_lossy() -> None:
    assert Choice("unknown", (True, False), True).effect == "lossy"
    assert Knob.model_validate_json('{"name": "n", "kind": "int", "values": [1], "default": 1}').effect == "lossy"
