"""Guards asking for several workers; `python -m tests.benchmarks.search.parallel` prints all of it."""

import pytest

from tests.benchmarks.search.parallel import made_runs, own_arrival
from tests.benchmarks.search.unknown import FAMILIES


@pytest.mark.slow
def test_four_workers_come_near_the_best_sooner_than_one() -> None:
    """On 8 held-out landscapes of two knobs; the bounds are wide, for so few say little."""
    arrivals = {}
    for workers in (1, 4):
        runs = made_runs(FAMILIES[1], "auto", workers, 8, held_out=True, together=False)
        assert all(len(run) == len(runs[0]) for run in runs)
        arrivals[workers] = own_arrival(runs)
    print(f"trials and seconds to within 2%, by workers: {arrivals}")
    assert arrivals[4][0] < 2 * arrivals[1][0] and arrivals[4][1] < arrivals[1][1] / 1.3
