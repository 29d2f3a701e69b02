"""Optuna's samplers: failures told by constraint are avoided, and TPE beats random search."""

import math
import statistics

from infertune.domain.knobs import Config
from infertune.search import make_searcher
from tests.search.trajectories import (
    Score,
    limited_score,
    memory_space,
    number,
    out_of_memory,
    run_search,
    unlimited_score,
)


def test_a_region_that_was_told_to_fail_is_asked_for_less() -> None:
    """The best scores lie along the memory limit. The same region, told as running, is asked for again and again."""

    def hits(seed: int, landscape: Score) -> int:
        searcher = make_searcher(memory_space(), sampler="tpe", trials=None, seed=seed)
        return sum(map(out_of_memory, run_search(searcher, 90, landscape, memory_space()).configs[30:]))

    told = sum(hits(seed, limited_score) for seed in range(3))
    untold = sum(hits(seed, unlimited_score) for seed in range(3))
    print(f"asked for beyond the memory limit in 180 trials: {told} told of it, {untold} not")
    assert told < 0.5 * untold


def test_tpe_finds_more_than_random_search() -> None:
    def peak(chosen: Config) -> float:
        places = zip(memory_space().names, (7, 2, 9, 5), strict=True)
        return -sum(abs(math.log2(number(chosen, name)) - at) for name, at in places)

    def best(sampler: str, seed: int) -> float:
        searcher = make_searcher(memory_space(), sampler=sampler, trials=None, seed=seed)
        return run_search(searcher, 50, peak, memory_space()).best

    tpe, chance = ([best(sampler, seed) for seed in range(5)] for sampler in ("tpe", "random"))
    print(f"steps from the peak after 50 trials: tpe {tpe}, random {chance}")
    assert statistics.mean(tpe) > statistics.mean(chance)
