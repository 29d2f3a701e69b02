"""The grid: every point, with one launch for each launch setting."""

from infertune.search import Result
from infertune.search.grid import GridSearcher
from tests.builders import space
from tests.search.trajectories import run_search, score


def test_the_grid_needs_one_launch_for_each_setting_of_the_launch_knobs() -> None:
    found = run_search(GridSearcher(space()), 10_000, lambda chosen: 1.0)
    assert found.launches == len({space().launch_key(chosen) for chosen in found.configs}) == 24
    assert set(found.configs) == set(space().grid())


def test_the_defaults_launch_comes_first() -> None:
    found = run_search(GridSearcher(space()), 60, score).configs
    near = [space().launch_key(chosen) == space().launch_key(space().default) for chosen in found]
    assert near == sorted(near, reverse=True) and 1 < sum(near) < 60


def test_a_resumed_grid_goes_on_with_what_the_loaded_engine_can_run() -> None:
    points = list(space().grid())
    searcher = GridSearcher(space())
    searcher.recall(Result(chosen, 1.0) for chosen in points[:100])
    loaded = points[-1]
    chosen = searcher.ask(loaded)
    assert chosen is not None and chosen not in points[:100]
    assert space().launch_key(chosen) == space().launch_key(loaded)
