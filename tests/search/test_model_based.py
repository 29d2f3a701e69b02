"""The strategy of `--sampler auto`: it learns what fails, uses the engine that is loaded, and knows when to stop."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest

from infertune.domain.knobs import Config, Int, SearchSpace, doubling
from infertune.search import Result, make_searcher
from infertune.search.model_based import ModelSearcher, Parts
from infertune.search.surrogate import Array
from tests.builders import config, space
from tests.search.walks import (
    Walk,
    best_score,
    number,
    roomy_score,
    score,
    walk,
    wall_space,
)


@pytest.mark.parametrize("seed", range(4))
def test_five_knobs_are_within_two_percent_of_the_best_after_24_trials(seed: int) -> None:
    found = walk(ModelSearcher(space(), seed=seed), 24)
    share = math.exp(found.best - best_score(space(), score))
    print(f"seed {seed}: {share:.4f} of the best, {found.launches} launches, {found.scores.count(None)} failures")
    assert share > 0.98


def test_it_finds_more_than_chance_does_with_as_many_trials() -> None:
    ours = [walk(ModelSearcher(space(), seed=seed), 12).best for seed in range(3)]
    chance = [walk(make_searcher(space(), sampler="random", trials=None, seed=seed), 12).best for seed in range(3)]
    assert statistics.mean(ours) > statistics.mean(chance)


@pytest.mark.slow
def test_who_learns_from_failures_fails_less_on_the_way_to_the_best() -> None:
    good = best_score(space(), score) - 0.01

    def failures(feasibility: bool, seed: int) -> int:
        searcher = ModelSearcher(space(), seed=seed, parts=Parts(feasibility=feasibility))
        return walk(searcher, 24).before(good).count(None)

    learned, blind = (sum(failures(feasibility, seed) for seed in range(3)) for feasibility in (True, False))
    print(f"failures until the best was found, over three seeds: {learned} learning from them, {blind} not")
    assert learned < 0.5 * blind


def test_a_loaded_engine_is_used_for_more_than_one_trial() -> None:
    """The dearer a launch, the more is tried on the engine that is there; the best is found all the same."""

    def taken(costs: float, launch_s: float) -> list[Walk]:
        searchers = [ModelSearcher(space(), seed=seed, parts=Parts(costs=costs)) for seed in range(2)]
        return [walk(searcher, 30, roomy_score, launch_cost_s=launch_s) for searcher in searchers]

    walks = {"dear": taken(1.0, 400.0), "usual": taken(1.0, 40.0), "blind to costs": taken(0.0, 40.0)}
    launches = {name: sum(one.launches for one in found) for name, found in walks.items()}
    print(f"launches in twice 30 trials: {launches}")
    assert launches["dear"] < launches["usual"] < launches["blind to costs"]
    assert launches["dear"] <= 36
    assert math.exp(min(one.best for one in walks["dear"] + walks["usual"]) - best_score(space(), roomy_score)) > 0.98


def test_where_launches_cost_nothing_to_speak_of_the_loaded_engine_is_not_preferred() -> None:
    """The same results at other prices: cheap launches are worth what live trials are."""

    def next_after(launch_s: float) -> Config | None:
        searcher = ModelSearcher(space(), seed=0)
        default = space().default
        searcher.recall(Result(c, score(c), launch_s, 10.0) for c in (default, default.updated({"slots": 64})))
        return searcher.ask(default)

    near = space().launch_key(space().default)
    dear, cheap = next_after(10_000.0), next_after(0.001)
    assert dear is not None and cheap is not None
    assert space().launch_key(dear) == near != space().launch_key(cheap)


def test_who_leaves_the_launch_of_the_best_pays_for_coming_back() -> None:
    """Two launch settings, and the best on the first: the other one costs two launches, from there back only one."""
    of = SearchSpace((Int("slots", (1, 2), 1, scope="live"), Int("block", (1, 2), 1)))
    searcher = ModelSearcher(of)
    best, other = config(slots=1, block=1), config(slots=1, block=2)
    searcher.recall([Result(best, 2.0, 40.0, 10.0), Result(other, 1.0, 40.0, 10.0)])
    candidates = [config(slots=2, block=1), config(slots=2, block=2)]
    assert searcher._seconds(candidates, [best, other], best).tolist() == [10.0, 90.0]
    assert searcher._seconds(candidates, [best, other], other).tolist() == [50.0, 10.0]
    assert searcher._seconds(candidates, [best, other], None).tolist() == [50.0, 50.0]


def test_it_never_says_that_nothing_is_left_before_a_few_trials_were_told() -> None:
    searcher = ModelSearcher(space(), seed=0)
    for _ in range(7):
        chosen = searcher.ask(None)
        assert chosen is not None
        searcher.tell(Result(chosen, 1.0, 40.0, 10.0))
        assert not searcher.exhausted()


def test_a_flat_landscape_is_given_up_long_before_its_end() -> None:
    searcher = ModelSearcher(space(), seed=0)
    trials = 0
    while trials < 60:
        chosen = searcher.ask(None)
        if searcher.exhausted():
            break
        assert chosen is not None
        searcher.tell(Result(chosen, math.log(5000.0), 40.0, 10.0))
        trials += 1
    print(f"a flat landscape of 1,176 combinations was given up after {trials} trials")
    assert 8 <= trials < 60


def test_a_landscape_that_still_rises_is_not_given_up() -> None:
    searcher = ModelSearcher(wall_space(), seed=0)
    by_slots = sorted(wall_space().grid(), key=lambda c: number(c, "slots"))[:12]
    searcher.recall(Result(c, 0.3 * math.log2(number(c, "budget")), 40.0, 10.0) for c in by_slots)
    searcher.ask(None)
    assert not searcher.exhausted()


def test_noise_alone_does_not_keep_a_search_going_for_ever() -> None:
    """Half a percent of noise, as windows on one machine have, is no reason to expect 1%."""
    of = SearchSpace((Int("slots", doubling(1, 256), 16, scope="live"), Int("block", doubling(1, 256), 16)))
    wobble = {c: 0.005 * math.sin(97.0 * n) for n, c in enumerate(of.grid())}
    searcher = ModelSearcher(of, seed=1)
    trials = 0
    while trials < 70:
        chosen = searcher.ask(None)
        if searcher.exhausted():
            break
        assert chosen is not None
        searcher.tell(Result(chosen, wobble[chosen], 40.0, 10.0))
        trials += 1
    assert 8 <= trials < 50


class Steep:
    """A guess that never learns: ln(rate) rises by so much with every doubling of the slots."""

    def __init__(self, slope: float) -> None:
        self._slope = slope
        self.jobs: list[int | None] = []

    def fit(self, configs: Sequence[Config], scores: Array, n_requests: int | None = None) -> None:
        """Nothing to adjust."""
        assert len(configs) == len(scores)
        self.jobs.append(n_requests)

    def predict(self, configs: Sequence[Config]) -> Array:
        return np.array([self._slope * math.log2(number(chosen, "slots")) for chosen in configs])


@pytest.mark.parametrize(("slope", "slots"), [(0.5, 512), (-0.5, 1)])
def test_a_predictor_shows_the_way_before_anything_is_known(slope: float, slots: int) -> None:
    of = SearchSpace((Int("slots", doubling(1, 512), 16, scope="live"),))
    searcher = ModelSearcher(of, seed=0, predictor=Steep(slope))
    searcher.tell(Result(of.default, 5.0, 40.0, 10.0))
    second = searcher.ask(of.default)
    assert second is not None and number(second, "slots") == slots


def test_a_predictor_that_is_wrong_costs_trials_but_not_the_answer() -> None:
    found = walk(ModelSearcher(space(), seed=0, predictor=Steep(-0.3)), 30)
    assert math.exp(found.best - best_score(space(), score)) > 0.95


def test_a_configuration_told_twice_counts_with_its_last_result() -> None:
    searcher = ModelSearcher(space(), seed=0)
    chosen = space().default
    searcher.tell(Result(chosen, None, 40.0, 0.0))
    searcher.tell(Result(chosen, 3.0, 40.0, 10.0))
    assert searcher.ask(chosen) not in (None, chosen)


def test_a_knob_of_one_value_is_carried_along() -> None:
    of = SearchSpace((Int("slots", (1, 2, 4), 1), Int("held", (7,), 7)))
    found = walk(ModelSearcher(of), 10, lambda chosen: number(chosen, "slots"), of)
    assert {chosen["held"] for chosen in found.configs} == {7}
    assert sorted(number(chosen, "slots") for chosen in found.configs) == [1, 2, 4]
    assert config(slots=1, held=7) == found.configs[0]


def test_a_predictor_is_told_the_size_of_the_job_that_was_measured() -> None:
    steep = Steep(0.1)
    searcher = ModelSearcher(space(), predictor=steep)
    default = space().default
    searcher.tell(Result(default.updated({"slots": 64}), None))
    assert steep.jobs == [], "what failed tells no rate"
    searcher.tell(Result(default, 1.0, n_requests=37))
    searcher.tell(Result(default.updated({"slots": 16}), 1.1, n_requests=37))
    assert steep.jobs == [37, 37]
