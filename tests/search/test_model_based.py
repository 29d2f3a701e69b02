"""The strategy of `--sampler auto`: feasibility is learned, launches are weighed by their cost, and the search ends."""

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
from tests.search.trajectories import (
    Trajectory,
    best_score,
    memory_space,
    number,
    roomy_score,
    run_search,
    score,
)


@pytest.mark.parametrize("seed", range(4))
def test_five_knobs_are_within_two_percent_of_the_best_after_24_trials(seed: int) -> None:
    found = run_search(ModelSearcher(space(), seed=seed), 24)
    share = math.exp(found.best - best_score(space(), score))
    print(f"seed {seed}: {share:.4f} of the best, {found.launches} launches, {found.scores.count(None)} failures")
    assert share > 0.98


def test_it_finds_more_than_random_search_with_as_many_trials() -> None:
    ours = [run_search(ModelSearcher(space(), seed=seed), 12).best for seed in range(3)]
    random = [
        run_search(make_searcher(space(), sampler="random", trials=None, seed=seed), 12).best for seed in range(3)
    ]
    assert statistics.mean(ours) > statistics.mean(random)


@pytest.mark.slow
def test_learning_feasibility_halves_the_failures_before_the_best_is_found() -> None:
    good = best_score(space(), score) - 0.01

    def failures(feasibility: bool, seed: int) -> int:
        searcher = ModelSearcher(space(), seed=seed, parts=Parts(feasibility=feasibility))
        return run_search(searcher, 24).before(good).count(None)

    learned, blind = (sum(failures(feasibility, seed) for seed in range(3)) for feasibility in (True, False))
    print(f"failures until the best was found, over three seeds: {learned} learning from them, {blind} not")
    assert learned < 0.5 * blind


@pytest.mark.slow
def test_a_loaded_engine_is_used_for_more_than_one_trial() -> None:
    """The more a launch costs, the more trials run on the loaded engine; the best is found all the same."""

    def searches(costs: float, launch_s: float) -> list[Trajectory]:
        searchers = [ModelSearcher(space(), seed=seed, parts=Parts(costs=costs)) for seed in range(2)]
        return [run_search(searcher, 30, roomy_score, launch_cost_s=launch_s) for searcher in searchers]

    found = {"dear": searches(1.0, 400.0), "usual": searches(1.0, 40.0), "without costs": searches(0.0, 40.0)}
    launches = {name: sum(one.launches for one in runs) for name, runs in found.items()}
    print(f"launches in twice 30 trials: {launches}")
    assert launches["dear"] < launches["usual"] < launches["without costs"]
    assert launches["dear"] <= 36
    assert math.exp(min(one.best for one in found["dear"] + found["usual"]) - best_score(space(), roomy_score)) > 0.98


def test_with_launches_of_a_millisecond_the_loaded_engine_is_not_preferred() -> None:
    """The same results with other launch times."""

    def next_after(launch_s: float) -> Config | None:
        searcher = ModelSearcher(space(), seed=0)
        default = space().default
        searcher.recall(Result(c, score(c), launch_s, 10.0) for c in (default, default.updated({"slots": 64})))
        return searcher.ask(default)

    near = space().launch_key(space().default)
    dear, cheap = next_after(10_000.0), next_after(0.001)
    assert dear is not None and cheap is not None
    assert space().launch_key(dear) == near != space().launch_key(cheap)


def test_leaving_the_best_launch_costs_a_second_launch_to_return_to_it() -> None:
    """Two launch settings, the best on the first: the other one costs two launches, the way back only one."""
    of = SearchSpace((Int("slots", (1, 2), 1, scope="live"), Int("block", (1, 2), 1)))
    searcher = ModelSearcher(of)
    best, other = config(slots=1, block=1), config(slots=1, block=2)
    searcher.recall([Result(best, 2.0, 40.0, 10.0), Result(other, 1.0, 40.0, 10.0)])
    candidates = [config(slots=2, block=1), config(slots=2, block=2)]
    assert searcher._seconds(candidates, [best, other], best).tolist() == [10.0, 90.0]
    assert searcher._seconds(candidates, [best, other], other).tolist() == [50.0, 10.0]
    assert searcher._seconds(candidates, [best, other], None).tolist() == [50.0, 50.0]


def test_the_search_is_never_exhausted_before_eight_results() -> None:
    searcher = ModelSearcher(space(), seed=0)
    for _ in range(7):
        chosen = searcher.ask(None)
        assert chosen is not None
        searcher.tell(Result(chosen, 1.0, 40.0, 10.0))
        assert not searcher.exhausted()


def test_the_search_of_a_flat_landscape_ends_early() -> None:
    searcher = ModelSearcher(space(), seed=0)
    trials = 0
    while trials < 60:
        chosen = searcher.ask(None)
        if searcher.exhausted():
            break
        assert chosen is not None
        searcher.tell(Result(chosen, math.log(5000.0), 40.0, 10.0))
        trials += 1
    print(f"the search of a flat landscape of 1,176 combinations ended after {trials} trials")
    assert 8 <= trials < 60


def test_the_search_goes_on_while_the_landscape_rises() -> None:
    searcher = ModelSearcher(memory_space(), seed=0)
    by_slots = sorted(memory_space().grid(), key=lambda c: number(c, "slots"))[:12]
    searcher.recall(Result(c, 0.3 * math.log2(number(c, "budget")), 40.0, 10.0) for c in by_slots)
    searcher.ask(None)
    assert not searcher.exhausted()


def test_noise_of_half_a_percent_does_not_keep_a_search_going() -> None:
    """Half a percent, as between windows on one machine, gives no reason to expect a gain of 1%."""
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
    """A predictor that is never fitted: ln(rate) rises by a constant with every doubling of the slots."""

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
def test_with_one_result_the_predictor_decides_the_second_trial(slope: float, slots: int) -> None:
    of = SearchSpace((Int("slots", doubling(1, 512), 16, scope="live"),))
    searcher = ModelSearcher(of, seed=0, predictor=Steep(slope))
    searcher.tell(Result(of.default, 5.0, 40.0, 10.0))
    second = searcher.ask(of.default)
    assert second is not None and number(second, "slots") == slots


def test_a_wrong_predictor_costs_trials_but_not_the_answer() -> None:
    found = run_search(ModelSearcher(space(), seed=0, predictor=Steep(-0.3)), 30)
    assert math.exp(found.best - best_score(space(), score)) > 0.95


def test_a_configuration_told_twice_counts_with_its_last_result() -> None:
    searcher = ModelSearcher(space(), seed=0)
    chosen = space().default
    searcher.tell(Result(chosen, None, 40.0, 0.0))
    searcher.tell(Result(chosen, 3.0, 40.0, 10.0))
    assert searcher.ask(chosen) not in (None, chosen)


def test_a_knob_with_one_value_keeps_it() -> None:
    of = SearchSpace((Int("slots", (1, 2, 4), 1), Int("held", (7,), 7)))
    found = run_search(ModelSearcher(of), 10, lambda chosen: number(chosen, "slots"), of)
    assert {chosen["held"] for chosen in found.configs} == {7}
    assert sorted(number(chosen, "slots") for chosen in found.configs) == [1, 2, 4]
    assert config(slots=1, held=7) == found.configs[0]


def test_a_predictor_is_told_the_size_of_the_job_that_was_measured() -> None:
    steep = Steep(0.1)
    searcher = ModelSearcher(space(), predictor=steep)
    default = space().default
    searcher.tell(Result(default.updated({"slots": 64}), None))
    assert steep.jobs == [], "a failure has no rate"
    searcher.tell(Result(default, 1.0, n_requests=37))
    searcher.tell(Result(default.updated({"slots": 16}), 1.1, n_requests=37))
    assert steep.jobs == [37, 37]
