"""Optuna's samplers: failures told by constraint are avoided, and what is learned beats chance."""

import math
import statistics

from infertune.domain.knobs import Config
from infertune.search import make_searcher
from tests.search.walks import (
    Score,
    behind_the_wall,
    blind_to_the_wall,
    number,
    up_to_the_wall,
    walk,
    wall_space,
)


def test_a_region_told_to_fail_is_asked_for_less_than_one_that_nobody_told_of() -> None:
    """The best figures lie along a wall: whoever is not told of it walks into it again and again."""

    def hits(seed: int, landscape: Score) -> int:
        searcher = make_searcher(wall_space(), sampler="tpe", trials=None, seed=seed)
        return sum(map(behind_the_wall, walk(searcher, 90, landscape, wall_space()).configs[30:]))

    told = sum(hits(seed, up_to_the_wall) for seed in range(3))
    untold = sum(hits(seed, blind_to_the_wall) for seed in range(3))
    print(f"asked for behind the wall in 180 trials: {told} told of it, {untold} not")
    assert told < 0.5 * untold


def test_tpe_finds_more_than_chance_does() -> None:
    def peak(chosen: Config) -> float:
        places = zip(wall_space().names, (7, 2, 9, 5), strict=True)
        return -sum(abs(math.log2(number(chosen, name)) - at) for name, at in places)

    def best(sampler: str, seed: int) -> float:
        searcher = make_searcher(wall_space(), sampler=sampler, trials=None, seed=seed)
        return walk(searcher, 50, peak, wall_space()).best

    tpe, chance = ([best(sampler, seed) for seed in range(5)] for sampler in ("tpe", "random"))
    print(f"steps from the peak after 50 trials: tpe {tpe}, random {chance}")
    assert statistics.mean(tpe) > statistics.mean(chance)
