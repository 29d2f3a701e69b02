"""PED-ANOVA on a landscape whose answer is known."""

import pytest

from infertune.domain.knobs import Choice, Int, SearchSpace, doubling
from infertune.search.importance import ped_anova

SPACE = SearchSpace(
    (Int("strong", doubling(1, 128), 1), Int("weak", doubling(1, 16), 1), Choice("idle", (True, None, "x"), None))
)


def results(n: int | None = None) -> list[tuple[object, float]]:
    grid = list(SPACE.grid())[:n]
    return [(c, 10 * float(c["strong"] or 0) + float(c["weak"] or 0)) for c in grid]


def test_the_knob_that_decides_being_among_the_best_comes_first() -> None:
    found = ped_anova(SPACE.knobs, results())  # type: ignore[arg-type]
    assert found is not None and list(found.shares) == ["strong", "weak", "idle"]
    assert sum(found.shares.values()) == pytest.approx(1) and found.shares["strong"] > 0.9
    assert found.best_share == 0.1


def test_with_few_results_the_best_are_five() -> None:
    found = ped_anova(SPACE.knobs, results(20))  # type: ignore[arg-type]
    assert found is not None and found.best_share == 5 / 20


def test_too_few_results_or_a_single_knob_say_nothing() -> None:
    assert ped_anova(SPACE.knobs, results(11)) is None  # type: ignore[arg-type]
    assert ped_anova(SPACE.knobs[:1], results()) is None  # type: ignore[arg-type]
