"""Transfer: another run's landscape, of another level and scale, predicts the best configuration of this one."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from infertune.domain.knobs import Config
from infertune.search import Result, Transferred
from infertune.search.model_based import ModelSearcher
from infertune.search.surrogate import Array
from tests.builders import config, space
from tests.search.trajectories import best_score, number, roomy_score, run_search


def elsewhere(scale: float = 1.0, level: float = 0.0, every: int = 13) -> list[Result]:
    """Results of a run on another device: the same shape, scaled and shifted."""
    return [Result(chosen, level + scale * roomy_score(chosen)) for chosen in list(space().grid())[::every]]


def rated(*, of: list[Config], scale: float = 1.0) -> np.ndarray:
    return np.array([scale * roomy_score(chosen) for chosen in of])


@pytest.mark.parametrize(("scale", "level"), [(1.0, 0.0), (1.0, 5.0), (0.6, -3.0), (1.5, 2.0)])
def test_a_shifted_and_scaled_landscape_predicts_the_best(scale: float, level: float) -> None:
    grid = list(space().grid())
    predicted = Transferred(space(), elsewhere(scale, level)).predict(grid)
    chosen = grid[int(np.argmax(predicted))]
    assert math.exp(roomy_score(chosen) - best_score(space(), roomy_score)) > 0.94


def test_the_order_of_configurations_it_never_saw_is_predicted() -> None:
    seen = {result.config for result in elsewhere()}
    rest = [chosen for chosen in space().grid() if chosen not in seen][::7]
    correlation = np.corrcoef(Transferred(space(), elsewhere()).predict(rest), rated(of=rest))[0, 1]
    assert correlation > 0.95


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_scale_of_this_device_is_fitted(scale: float) -> None:
    transferred = Transferred(space(), elsewhere())
    here = list(space().grid())[5::40]
    slots = [config(slots=s, budget=4096, compiled=False, block=16, share=0.8) for s in (4, 256)]

    def effect() -> float:
        low, high = transferred.predict(slots)
        return float(high - low)

    before = effect()
    transferred.fit(here, rated(of=here, scale=scale) + 7.0)
    assert effect() / before == pytest.approx(scale, rel=0.1)


def test_one_measurement_here_leaves_the_shape_as_it_was() -> None:
    transferred = Transferred(space(), elsewhere())
    grid = list(space().grid())[::50]
    before = transferred.predict(grid)
    transferred.fit([space().default], np.array([3.0]))
    assert transferred.predict(grid) == pytest.approx(before)


@pytest.mark.slow
def test_with_transfer_the_best_is_found_in_fewer_trials() -> None:
    """From a device that is half as fast and on which the effects are 20% smaller."""
    good = best_score(space(), roomy_score) - 0.02

    def trials(seed: int, *, warm: bool) -> int:
        predictor = Transferred(space(), elsewhere(0.8, -0.7), seed) if warm else None
        return len(run_search(ModelSearcher(space(), seed=seed, predictor=predictor), 25, roomy_score).before(good))

    warm, cold = ([trials(seed, warm=kind) for seed in range(3)] for kind in (True, False))
    print(f"trials before the first within 2% of the best: {warm} with an origin, {cold} without")
    assert statistics.mean(warm) < statistics.mean(cold)


class Doubling:
    """A predictor with one parameter: the rise of ln(rate) with every doubling of the slots."""

    def __init__(self) -> None:
        self.slope = self.start = 0.0
        self.jobs: list[int | None] = []

    def fit(self, configs: Sequence[Config], scores: Array, n_requests: int | None = None) -> None:
        self.jobs.append(n_requests)
        doublings = np.log2([number(chosen, "slots") for chosen in configs])
        self.slope = self.start
        if len(set(doublings)) > 1:
            self.slope = float(np.polyfit(doublings, scores, 1)[0])

    def start_from_fit(self) -> None:
        self.start = self.slope

    def predict(self, configs: Sequence[Config]) -> Array:
        return self.slope * np.log2([number(chosen, "slots") for chosen in configs])


def test_a_base_predictor_is_told_the_size_of_the_jobs_that_it_is_fitted_to() -> None:
    base = Doubling()
    there = [replace(result, n_requests=400) for result in elsewhere()]
    transferred = Transferred(space(), there, base=base)
    transferred.fit([space().default], np.array([3.0]), 64)
    assert base.jobs == [400, 64]


def test_a_base_predictor_starts_from_the_other_runs_fit_and_its_residuals_are_transferred() -> None:
    base = Doubling()
    transferred = Transferred(space(), elsewhere(), base=base)
    assert base.start > 0.1
    grid = list(space().grid())[::7]
    assert np.corrcoef(transferred.predict(grid), rated(of=grid))[0, 1] > 0.95
    transferred.fit([space().default], np.array([3.0]))
    assert base.slope == base.start, "one measurement here says nothing of the slope"
    here = list(space().grid())[5::40]
    transferred.fit(here, rated(of=here, scale=0.5))
    assert base.slope == pytest.approx(0.5 * base.start, rel=0.3)
    assert np.ptp(transferred.predict(grid)) == pytest.approx(0.5 * np.ptp(rated(of=grid)), rel=0.25)


def test_fewer_than_four_configurations_have_no_shape() -> None:
    results = elsewhere()
    assert not Transferred(space(), []).has_shape
    assert not Transferred(space(), results[:3]).has_shape
    assert not Transferred(space(), [results[0]] * 10).has_shape, "the same one ten times is no shape"
    assert not Transferred(space(), [Result(r.config, None) for r in results]).has_shape, "failures have no rate"
    assert Transferred(space(), results[:4]).has_shape
    flat = Transferred(space(), results[:3])
    flat.fit([r.config for r in results[:5]], np.arange(5.0))
    assert flat.predict([space().default]).tolist() == [0.0]


def test_results_of_another_space_are_moved_to_the_nearest_settings() -> None:
    foreign = [
        Result(config(slots=slots, budget=3000, graphs="on", compiled=True), math.log(slots))
        for slots in (3, 10, 40, 200, 1000)
    ]
    transferred = Transferred(space(), foreign)
    assert transferred.has_shape
    few, many = transferred.predict(
        [config(slots=s, budget=4096, compiled=True, block=16, share=0.8) for s in (4, 256)]
    )
    assert many > few + 1


def test_the_same_seed_predicts_the_same() -> None:
    one, again = (Transferred(space(), elsewhere(), 3).predict([space().default]) for _ in range(2))
    assert one == again
