"""The contract of every search strategy: the default first, nothing twice, no rule broken, a small space completely."""

import math
import time
from pathlib import Path

import pytest

from infertune.domain.knobs import Choice, Int, SearchSpace
from infertune.domain.measurement import Measurement
from infertune.domain.trial import Trial
from infertune.errors import UsageError
from infertune.runs.ledger import Ledger
from infertune.search import Result, make_searcher
from infertune.search.grid import GridSearcher
from infertune.search.make import SAMPLERS
from infertune.search.model_based import ModelSearcher
from infertune.search.optuna_searcher import OptunaSearcher
from tests.builders import config, header, measured, one_knob, oom, space, tokens_for_every_sequence, trial
from tests.search.trajectories import run_search, score

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def small_space() -> SearchSpace:
    return SearchSpace(
        (Int("slots", (1, 2, 4), 2, scope="live"), Int("budget", (1, 2, 4), 1), Choice("mode", ("a", "b"), "a")),
        constraints=(tokens_for_every_sequence(),),
    )


@every_sampler
def test_the_default_is_asked_for_first(sampler: str) -> None:
    assert make_searcher(space(), sampler=sampler, trials=40).ask(None) == space().default


@every_sampler
def test_a_default_that_breaks_a_rule_is_asked_for_repaired(sampler: str) -> None:
    small = small_space()
    assert small.violations(small.default)
    assert make_searcher(small, sampler=sampler, trials=3).ask(None) == small.repair(small.default)


@every_sampler
def test_no_configuration_is_asked_for_twice_and_none_breaks_a_rule(sampler: str) -> None:
    found = run_search(make_searcher(space(), sampler=sampler, trials=40, seed=1), 40).configs
    assert len(set(found)) == len(found) == 40
    assert [space().violations(chosen) for chosen in found] == [[]] * 40


@every_sampler
def test_a_small_space_is_asked_for_whole_and_then_no_more(sampler: str) -> None:
    small = small_space()
    searcher = make_searcher(small, sampler=sampler, trials=None)
    found = run_search(searcher, 100, lambda chosen: 1.0, small).configs
    assert sorted(c.key for c in found) == sorted(c.key for c in small.grid())
    assert searcher.ask(None) is None


@every_sampler
def test_a_space_in_which_nothing_runs_is_asked_for_whole(sampler: str) -> None:
    small = small_space()
    found = run_search(make_searcher(small, sampler=sampler, trials=None), 100, lambda chosen: None, small).configs
    assert set(found) == set(small.grid())


@every_sampler
def test_a_space_of_one_point_is_asked_for_once(sampler: str) -> None:
    searcher = make_searcher(one_knob(4), sampler=sampler, trials=None)
    assert run_search(searcher, 5, lambda chosen: 1.0, one_knob(4)).configs == [config(slots=4)]


@every_sampler
def test_seeds_follow_the_default_repaired(sampler: str) -> None:
    if sampler == "grid":
        pytest.skip("the grid has an order of its own")
    seeds = [config(slots=256, budget=64, compiled=True, block=16, share=0.8), config(slots=9, compiled=False)]
    searcher = make_searcher(space(), sampler=sampler, trials=40, seeds=[*seeds, space().default])
    found = run_search(searcher, 4).configs
    assert found[:3] == [space().default, *map(space().repair, seeds)]
    assert found[1]["budget"] == 256
    assert len(set(found)) == 4, "a seed that is the default is not asked for again"


@every_sampler
def test_the_same_seed_asks_the_same(sampler: str) -> None:
    one, again = (run_search(make_searcher(space(), sampler=sampler, trials=20, seed=5), 20).configs for _ in range(2))
    assert one == again


@pytest.mark.parametrize("sampler", ["auto", "gp", "tpe", "random"])
def test_another_seed_asks_something_else(sampler: str) -> None:
    one, other = (run_search(make_searcher(space(), sampler=sampler, trials=20, seed=s), 20).configs for s in (5, 6))
    assert one != other


@every_sampler
@pytest.mark.parametrize("seed", [-1, -(2**63), 2**32, 2**63 - 1])
def test_every_seed_that_a_user_may_give_is_taken(sampler: str, seed: int) -> None:
    assert len(run_search(make_searcher(space(), sampler=sampler, trials=5, seed=seed), 5).configs) == 5


@every_sampler
def test_what_was_recalled_is_not_asked_for_again(sampler: str) -> None:
    before = run_search(make_searcher(space(), sampler="random", trials=60, seed=1), 25)
    searcher = make_searcher(space(), sampler=sampler, trials=60, seed=1)
    searcher.recall(Result(c, s, 40.0, 10.0) for c, s in zip(before.configs, before.scores, strict=True))
    assert not set(run_search(searcher, 12).configs) & set(before.configs)


@every_sampler
def test_a_run_goes_on_after_a_recall_as_it_does_after_tells(sampler: str) -> None:
    """The model may differ a little, by its random draws; the set of configurations that is left may not."""
    small = small_space()
    results = [Result(chosen, number / 10, 40.0, 10.0) for number, chosen in enumerate(list(small.grid())[:8])]
    told, recalled = (make_searcher(small, sampler=sampler, trials=None) for _ in range(2))
    for result in results:
        told.tell(result)
    recalled.recall(results)
    rest = set(small.grid()) - {result.config for result in results}
    assert {*run_search(told, 50, lambda chosen: 1.0, small).configs} == rest
    assert {*run_search(recalled, 50, lambda chosen: 1.0, small).configs} == rest


@every_sampler
def test_an_empty_recall_changes_nothing(sampler: str) -> None:
    searcher = make_searcher(space(), sampler=sampler, trials=5)
    searcher.recall([])
    assert searcher.ask(None) == space().default
    assert not searcher.exhausted()


@every_sampler
def test_failures_before_any_success_do_not_stop_a_search(sampler: str) -> None:
    found = run_search(make_searcher(space(), sampler=sampler, trials=40), 15, lambda chosen: None).configs
    assert len(set(found)) == 15


@pytest.mark.parametrize("sampler", ["auto", "gp", "tpe", "random"])
def test_a_space_of_a_million_configurations_is_answered(sampler: str) -> None:
    large = SearchSpace(tuple(Int(f"k{n}", tuple(range(10)), 4, scope="live") for n in range(6)))
    assert large.size == 10**6
    searcher = make_searcher(large, sampler=sampler, trials=30)
    found = run_search(
        searcher, 12, lambda chosen: float(sum(int(v or 0) for v in chosen.root.values())), large
    ).configs
    assert len(set(found)) == 12
    assert not any(large.violations(chosen) for chosen in found)


def test_auto_is_the_grid_where_the_budget_covers_it() -> None:
    n = sum(1 for _ in space().grid())
    assert n < space().size, "rules exclude some combinations, which the budget need not cover"
    assert isinstance(make_searcher(space(), trials=n), GridSearcher)
    assert isinstance(make_searcher(space(), trials=n - 1), ModelSearcher)
    assert isinstance(make_searcher(space(), trials=None), ModelSearcher)
    assert isinstance(make_searcher(space(), trials=n, sampler="gp"), ModelSearcher)
    assert isinstance(make_searcher(space(), trials=n, sampler="tpe"), OptunaSearcher)
    assert isinstance(make_searcher(space(), trials=n, sampler="random"), OptunaSearcher)


def test_an_unknown_sampler_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="unknown sampler 'magic'; there are auto, gp, tpe, random, grid"):
        make_searcher(space(), sampler="magic", trials=5)


def test_only_the_model_can_say_that_nothing_is_left_to_gain() -> None:
    for sampler in ("tpe", "random", "grid"):
        searcher = make_searcher(small_space(), sampler=sampler, trials=None)
        run_search(searcher, 15, lambda chosen: 1.0, small_space())
        assert not searcher.exhausted()


@pytest.mark.parametrize("sampler", ["auto", "tpe"])
@pytest.mark.slow
def test_a_ledger_of_10_000_trials_is_opened_and_recalled_in_seconds(sampler: str, tmp_path: Path) -> None:
    of = space().with_knob(Int("block", tuple(range(1, 121)), 16))
    points = [chosen for chosen, _ in zip(of.grid(), range(10_000), strict=False)]
    assert len(points) == 10_000
    rows = [trial(n, chosen, measured(100.0 + n % 7, 101.0) if n % 9 else oom()) for n, chosen in enumerate(points)]
    Ledger.create(tmp_path / "run", header(of))
    with (tmp_path / "run" / "trials.jsonl").open("a") as file:
        file.writelines(row.model_dump_json() + "\n" for row in rows)

    def result(row: Trial) -> Result:
        found = row.outcome
        value = math.log(found.output_tokens_per_s) if isinstance(found, Measurement) else None
        return Result(row.config, value, row.launch_s, row.run_s)

    started = time.process_time()
    ledger = Ledger.open(tmp_path / "run")
    opened_s = time.process_time() - started
    searcher = make_searcher(of, sampler=sampler, trials=None)
    searcher.recall(map(result, ledger.trials))
    assert searcher.ask(None) not in {None, *points}
    took_s = time.process_time() - started
    print(f"10,000 trials, {sampler}: opened in {opened_s:.2f} s, the next question answered after {took_s:.2f} s")
    assert took_s < 10


@pytest.mark.parametrize("sampler", ["auto", "tpe"])
def test_asking_and_telling_costs_little_beside_a_measurement(sampler: str) -> None:
    searcher = make_searcher(space(), sampler=sampler, trials=None, seed=2)
    known = list(space().grid())[:1000:5]
    searcher.recall(Result(chosen, score(chosen), 40.0, 10.0) for chosen in known)
    times = []
    for _ in range(7):
        started = time.process_time()  # other work on the machine is no fault of the strategy's
        chosen = searcher.ask(known[0])
        assert chosen is not None
        searcher.tell(Result(chosen, score(chosen), 40.0, 10.0))
        times.append(time.process_time() - started)
    median_ms = 1000 * sorted(times)[len(times) // 2]
    print(f"{sampler}: ask and tell after 200 trials: median {median_ms:.0f} ms of processor time")
    assert median_ms < 500
