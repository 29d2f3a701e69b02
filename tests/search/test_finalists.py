"""Who may still be the best, by a model of everything that was measured."""

import math

import pytest

from infertune.domain.knobs import Config, Int, SearchSpace
from infertune.search import Result, standing
from tests.builders import config

SPACE = SearchSpace((Int("slots", (1, 2, 4, 8, 16), 1, why="-"),))
BASE = config(slots=1)


def results(*rates: float | None, launches: list[int] | None = None) -> list[Result]:
    of = launches or list(range(len(rates)))
    return [
        Result(config(slots=2**n), None if rate is None else math.log(rate), launch=launch)
        for n, (rate, launch) in enumerate(zip(rates, of, strict=True))
    ]


def test_nothing_stands_where_nothing_ran() -> None:
    assert standing(SPACE, results(None, None), base=BASE) is None
    assert standing(SPACE, [], base=BASE) is None


def test_the_best_leads_and_what_is_far_behind_is_no_rival() -> None:
    found = standing(SPACE, results(100, 190, 350, 600, 605), base=BASE)
    assert found is not None and found.leader == config(slots=16)
    assert set(found.rivals) <= {config(slots=16), config(slots=8)}
    assert found.gain == pytest.approx(math.log(6), abs=0.3)
    assert found.expected_loss >= 0


def test_a_second_measurement_lowers_what_the_leader_may_lose() -> None:
    found = results(100, 190, 350, 600, 605)
    before = standing(SPACE, found, base=BASE)
    again = [
        [Result(config(slots=n), math.log(rate), launch=10 + n) for n, rate in ((1, 100), (8, 500), (16, 610))]
        for _ in range(3)
    ]
    after = standing(SPACE, found, again, base=BASE)
    assert before is not None and after is not None
    assert after.leader == config(slots=16)
    assert after.expected_loss < before.expected_loss


def test_only_those_asked_about_lead() -> None:
    found = standing(SPACE, results(100, 190, 350, 600, 605), base=BASE, among={config(slots=4)})
    assert found is not None and found.leader == config(slots=4) and found.rivals == (config(slots=4),)


def test_a_lucky_launch_is_no_gain_of_all_that_ran_on_it() -> None:
    """Two launches, the second 8% faster whatever ran on it: less is expected of it than of eight separate launches."""
    rates = [100.0, 100.5, 108.0, 108.5, 108.2]
    one = standing(SPACE, results(*rates, launches=[0, 0, 1, 1, 1]), base=BASE)
    apart = standing(SPACE, results(*rates), base=BASE)
    assert one is not None and apart is not None
    assert one.expected_loss > 0 and one.gain < apart.gain


def test_the_same_results_give_the_same_answer() -> None:
    found = results(100, 190, 350, 600, 605)
    assert standing(SPACE, found, base=BASE) == standing(SPACE, list(found), base=BASE)
    assert isinstance(BASE, Config)
