"""Several workers ask one strategy: what others are measuring is known, results come in any order, workers get lost."""

import math
import random

import pytest

from infertune.domain.knobs import Config, Int, SearchSpace, doubling
from infertune.search import Result, make_searcher
from infertune.search.grid import GridSearcher
from infertune.search.make import SAMPLERS
from infertune.search.model_based import ModelSearcher
from tests.builders import config, space
from tests.search.test_search import small_space
from tests.search.trajectories import score

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


@every_sampler
def test_four_workers_measure_a_small_space_whole_and_nothing_twice(sampler: str) -> None:
    """Each result is told at a random time, so that workers end in any order."""
    of, rng = small_space(), random.Random(3)
    searcher = make_searcher(of, sampler=sampler, trials=None, seed=1)
    asked: list[Config] = []
    pending: list[Config] = []
    while True:
        while len(pending) < 4 and (chosen := searcher.ask(rng.choice([None, *asked]), pending)) is not None:
            asked.append(chosen)
            pending.append(chosen)
        if not pending:
            break
        done = pending.pop(rng.randrange(len(pending)))
        searcher.tell(Result(done, rng.choice([None, rng.random()]), 40.0, 10.0))
    assert sorted(c.key for c in asked) == sorted(c.key for c in of.grid())


@every_sampler
def test_what_is_pending_is_not_asked_for_before_anything_was_told(sampler: str) -> None:
    searcher = make_searcher(space(), sampler=sampler, trials=40, seed=2)
    pending: list[Config] = []
    for _ in range(8):
        chosen = searcher.ask(None, pending)
        assert chosen is not None and chosen not in pending and not space().violations(chosen)
        pending.append(chosen)
    assert pending[0] == space().default


@every_sampler
def test_the_configuration_of_a_lost_worker_may_be_asked_for_again(sampler: str) -> None:
    of = small_space()
    searcher = make_searcher(of, sampler=sampler, trials=None)
    lost = searcher.ask(None)
    assert lost is not None
    left = set(of.grid())
    while (chosen := searcher.ask(None)) is not None:
        left.remove(chosen)
        searcher.tell(Result(chosen, 1.0, 40.0, 10.0))
    assert left == set()


def test_the_model_asks_elsewhere_than_where_a_result_is_about_to_come() -> None:
    """One knob, two results: the most promising point is pending, so its neighbours have little left to tell."""
    of = SearchSpace((Int("slots", tuple(range(1, 33)), 1, scope="live"),))
    searcher = ModelSearcher(of, seed=0)
    searcher.recall([Result(config(slots=1), 1.0, 0.0, 10.0), Result(config(slots=6), 1.4, 0.0, 10.0)])
    first = searcher.ask(None)
    assert first is not None
    second = searcher.ask(None, [first])
    assert second is not None
    assert searcher.ask(None) == first, "asking changes nothing"
    assert abs(int(second["slots"] or 0) - int(first["slots"] or 0)) > 1


def test_before_any_result_the_models_first_questions_lie_apart() -> None:
    of = SearchSpace(tuple(Int(name, doubling(1, 256), 16) for name in ("slots", "budget")))
    searcher = ModelSearcher(of, seed=0)
    pending: list[Config] = []
    for _ in range(4):
        chosen = searcher.ask(None, pending)
        assert chosen is not None
        pending.append(chosen)

    def apart(one: Config, other: Config) -> float:
        return max(abs(math.log2(float(one[n] or 0) / float(other[n] or 0))) for n in of.names)

    assert min(apart(a, b) for i, a in enumerate(pending) for b in pending[:i]) >= 2


def test_workers_on_a_grid_take_different_launches_where_they_can() -> None:
    searcher = GridSearcher(space())
    pending: list[Config] = []
    for _ in range(4):
        chosen = searcher.ask(None, pending)
        assert chosen is not None
        pending.append(chosen)
    assert len({space().launch_key(chosen) for chosen in pending}) == 4


@pytest.mark.parametrize("workers", [2, 4])
def test_several_workers_find_what_one_finds_in_about_as_many_trials(workers: int) -> None:
    searcher = ModelSearcher(space(), seed=1)
    pending: list[Config] = []
    found = []
    while len(found) < 28:
        while len(pending) < workers:
            chosen = searcher.ask(None, pending)
            assert chosen is not None
            pending.append(chosen)
        done = pending.pop(0)
        found.append(score(done))
        searcher.tell(Result(done, found[-1], 40.0, 10.0))
    best = max(value for chosen in space().grid() if (value := score(chosen)) is not None)
    assert math.exp(max(value for value in found if value is not None) - best) > 0.98
