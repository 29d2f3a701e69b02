"""Guards the regret of the search on recorded landscapes; `python -m tests.benchmarks.search` prints all of it."""

import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from tests.benchmarks.search.__main__ import problems_here, run_one

_SEEDS = range(5)
_RECORDED = [name for name, problem in problems_here().items() if problem.header]


@pytest.mark.slow
@pytest.mark.parametrize("name", _RECORDED)
def test_on_a_recorded_landscape_the_regret_is_below_that_of_random_search_and_tpe(name: str) -> None:
    """The mean of five seeds has a standard error of about 0.6%; another build of BLAS changes it."""
    with ProcessPoolExecutor(2) as pool:
        runs = {
            strategy: list(pool.map(partial(run_one, problem=name, strategy=strategy, trials=12, every=4), _SEEDS))
            for strategy in ("ours", "Optuna TPE", "random")
        }
    regrets = {
        strategy: {n: statistics.mean(run[n - 1].regret for run in found) for n in (8, 12)}
        for strategy, found in runs.items()
    }
    print(f"{name}: mean regret " + str(regrets))
    assert regrets["ours"][8] < 0.03 and regrets["ours"][12] < 0.015
    for other in ("Optuna TPE", "random"):
        assert all(regrets["ours"][n] < regrets[other][n] + 0.01 for n in (8, 12))


def test_the_recorded_landscapes_are_complete() -> None:
    """At least 150 configurations each, every one measured or known to fail."""
    assert len(_RECORDED) >= 4
    for name in _RECORDED:
        problem = problems_here()[name]
        assert len(problem.once) >= 150 and len(problem.true) >= 0.5 * len(problem.once)
        assert all(run.launch_s >= 0 and run.run_s > 0 for run in problem.once.values() if run.rate)
