"""Search strategies: what they ask for, what they never ask for, and how they take a failure."""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infertune.errors import UsageError
from infertune.knobs import Choice, Config, Int, SearchSpace, doubling
from infertune.ledger import Ledger
from infertune.measurement import Measurement
from infertune.search import Searcher, make_searcher
from infertune.search.grid import GridSearcher
from infertune.search.tpe import OptunaSearcher
from infertune.trial import Trial
from tests.builders import config, header, measured, oom, space, tokens_for_every_sequence, trial

Score = Callable[[Config], float | None]


def number(chosen: Config, name: str) -> float:
    value = chosen[name]
    assert isinstance(value, int | float)
    return float(value)


def score(chosen: Config) -> float | None:
    """Saturating in slots, better compiled; out of memory with much of both and a large share."""
    slots = number(chosen, "slots")
    if slots >= 128 and number(chosen, "share") >= 0.9:
        return None
    return math.log(9000 * slots / (slots + 48) * (1.2 if chosen["compiled"] else 1.0))


def asked(searcher: Searcher, n: int, of: Score = score, launched: Config | None = None) -> list[Config]:
    """Ask and tell n times; the engine is launched with what was asked for, as a bench does where it has to."""
    found: list[Config] = []
    for _ in range(n):
        chosen = searcher.ask(launched)
        if chosen is None:
            break
        if launched is None or space().launch_key(launched) != space().launch_key(chosen):
            launched = chosen
        searcher.tell(chosen, of(chosen))
        found.append(chosen)
    return found


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random", "grid"])
def test_the_default_is_asked_for_first(sampler: str) -> None:
    assert make_searcher(space(), sampler=sampler, trials=40).ask(None) == space().default


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_configuration_is_asked_for_twice_and_none_breaks_a_rule(sampler: str, seed: int) -> None:
    found = asked(make_searcher(space(), sampler=sampler, trials=60, seed=seed), 60)
    assert len(set(found)) == len(found) == 60
    assert [space().violations(chosen) for chosen in found] == [[]] * 60


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_small_space_is_asked_for_whole_and_then_no_more(sampler: str) -> None:
    small = SearchSpace(
        (Int("slots", (1, 2, 4), 2, scope="live"), Int("budget", (1, 2, 4), 1), Choice("mode", ("a", "b"), "a")),
        constraints=(tokens_for_every_sequence(),),
    )
    searcher = make_searcher(small, sampler=sampler, trials=None)
    found = []
    while (chosen := searcher.ask(None)) is not None:
        searcher.tell(chosen, 1.0)
        found.append(chosen)
    assert sorted(c.key for c in found) == sorted(c.key for c in small.grid())
    assert found[0] == small.repair(small.default)


def test_a_space_of_one_point_is_asked_for_once() -> None:
    for sampler in ("tpe", "random", "grid"):
        searcher = make_searcher(SearchSpace((Int("slots", (4,), 4),)), sampler=sampler, trials=5)
        searcher.tell(config(slots=4), 1.0)
        assert searcher.ask(None) is None


def test_the_grid_is_taken_where_the_budget_reaches_for_it() -> None:
    n = sum(1 for _ in space().grid())
    assert isinstance(make_searcher(space(), trials=n), GridSearcher)
    assert isinstance(make_searcher(space(), trials=n - 1), OptunaSearcher)
    assert isinstance(make_searcher(space(), trials=None), OptunaSearcher)
    assert isinstance(make_searcher(space(), trials=n, sampler="tpe"), OptunaSearcher)


def test_an_unknown_sampler_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="there are auto, tpe, random, grid"):
        make_searcher(space(), sampler="magic", trials=5)


def test_the_grid_needs_one_launch_for_each_setting_of_the_launch_knobs() -> None:
    found = asked(make_searcher(space(), sampler="grid", trials=None), 10_000)
    keys = [space().launch_key(chosen) for chosen in found]
    assert 1 + sum(a != b for a, b in zip(keys, keys[1:], strict=False)) == len(set(keys)) == 24


def test_seeds_follow_the_default_repaired() -> None:
    seeds = [config(slots=256, budget=64, compiled=True, block=16, share=0.8), config(slots=9, compiled=False)]
    searcher = make_searcher(space(), sampler="tpe", trials=40, seeds=seeds)
    found = asked(searcher, 3)
    assert found == [space().default, *map(space().repair, seeds)]
    assert found[1]["budget"] == 256


def test_the_same_seed_asks_the_same_and_another_something_else() -> None:
    one, again, other = (asked(make_searcher(space(), sampler="tpe", trials=30, seed=s), 30) for s in (5, 5, 6))
    assert one == again != other


def test_live_settings_are_tried_on_the_launch_that_is_there() -> None:
    found = asked(make_searcher(space(), sampler="tpe", trials=60, seed=3), 60)
    keys = [space().launch_key(chosen) for chosen in found]
    launches = 1 + sum(a != b for a, b in zip(keys, keys[1:], strict=False))
    assert launches <= 60 / 2
    assert len(set(keys[:6])) == 1, "the first live settings share the default's launch"


def test_a_launch_is_asked_for_a_few_live_settings_before_the_next() -> None:
    found = asked(make_searcher(space(), sampler="tpe", trials=60, seed=1), 60)
    keys = [space().launch_key(chosen) for chosen in found][30:]  # after the settings tried one at a time
    runs = [len(list(run)) for _, run in itertools.groupby(keys)]
    assert len(runs) > 3
    assert min(runs[1:-1]) >= 3


def test_launch_settings_are_tried_one_at_a_time_before_they_are_combined() -> None:
    found = asked(make_searcher(space(), sampler="tpe", trials=60), 30)
    default = space().default
    first_launches = dict.fromkeys(chosen.subset(space().launch_names) for chosen in found)
    changed = [sum(c[name] != default[name] for name in c.root) for c in list(first_launches)[:7]]
    assert changed == [0, 1, 1, 1, 1, 1, 1]


def wall_space() -> SearchSpace:
    return SearchSpace(
        (
            Int("slots", doubling(1, 1024), 8),
            Int("budget", doubling(1, 1024), 8),
            Int("block", doubling(1, 1024), 8),
            Int("share", doubling(1, 1024), 8),
        )
    )


def test_a_region_told_to_fail_is_asked_for_less_than_one_that_nobody_told_of() -> None:
    """The best figures lie along a wall: whoever is not told of it walks into it again and again."""

    def behind_the_wall(chosen: Config) -> bool:
        return number(chosen, "slots") * number(chosen, "budget") > 2**12

    def height(chosen: Config) -> float:
        return math.log2(number(chosen, "slots")) + math.log2(number(chosen, "budget")) / 2

    def hits(seed: int, tell: Score) -> int:
        searcher = make_searcher(wall_space(), sampler="tpe", trials=None, seed=seed)
        return sum(behind_the_wall(chosen) for chosen in asked(searcher, 100, tell)[40:])

    told = sum(hits(seed, lambda c: None if behind_the_wall(c) else height(c)) for seed in range(3))
    untold = sum(hits(seed, height) for seed in range(3))
    print(f"asked for behind the wall in 180 trials: {told} told of it, {untold} not")
    assert told < 0.5 * untold


def test_failures_before_any_success_do_not_stop_a_search() -> None:
    found = asked(make_searcher(space(), sampler="tpe", trials=40), 20, lambda chosen: None)
    assert len(set(found)) == 20


def test_recalled_results_are_not_asked_for_again() -> None:
    before = asked(make_searcher(space(), sampler="tpe", trials=60, seed=1), 25)
    for sampler in ("tpe", "random", "grid"):
        searcher = make_searcher(space(), sampler=sampler, trials=60, seed=1)
        searcher.recall((chosen, score(chosen)) for chosen in before)
        assert not set(asked(searcher, 25)) & set(before)


def test_tpe_finds_more_than_chance_does() -> None:
    def best(sampler: str, seed: int) -> float:
        found = asked(make_searcher(wall_space(), sampler=sampler, trials=None, seed=seed), 50, peak)
        return max(peak(chosen) for chosen in found)

    def peak(chosen: Config) -> float:
        steps = [
            abs(math.log2(number(chosen, name)) - at) for name, at in zip(wall_space().names, (7, 2, 9, 5), strict=True)
        ]
        return -sum(steps)

    tpe, chance = ([best(sampler, seed) for seed in range(5)] for sampler in ("tpe", "random"))
    print(f"steps from the peak after 50 trials: tpe {tpe}, random {chance}")
    assert statistics.mean(tpe) > statistics.mean(chance)


def test_a_ledger_of_10_000_trials_is_opened_and_recalled_in_seconds(tmp_path: Path) -> None:
    of = space().with_knob(Int("block", tuple(range(1, 121)), 16))
    points = [chosen for chosen, _ in zip(of.grid(), range(10_000), strict=False)]
    assert len(points) == 10_000
    rows = [trial(n, chosen, measured(100.0 + n % 7, 101.0) if n % 9 else oom()) for n, chosen in enumerate(points)]
    ledger = Ledger.create(tmp_path / "run", header(of))
    with (tmp_path / "run" / "trials.jsonl").open("a") as file:
        file.writelines(row.model_dump_json() + "\n" for row in rows)

    def result(row: Trial) -> tuple[Config, float | None]:
        found = row.outcome
        return row.config, math.log(found.output_tokens_per_s) if isinstance(found, Measurement) else None

    started = time.perf_counter()
    ledger = Ledger.open(tmp_path / "run")
    opened_s = time.perf_counter() - started
    searcher = make_searcher(of, sampler="tpe", trials=None)
    searcher.recall(map(result, ledger.trials))
    took_s = time.perf_counter() - started
    print(f"10,000 trials: opened in {opened_s:.2f} s, searcher rebuilt after {took_s:.2f} s")
    assert took_s < 6


def test_asking_and_telling_costs_little_beside_a_measurement() -> None:
    searcher = make_searcher(space(), sampler="tpe", trials=None, seed=2)
    searcher.recall((chosen, score(chosen)) for chosen in itertools.islice(space().grid(), 0, 1000, 5))
    asked(searcher, 20)  # past the settings tried one at a time
    times = []
    for _ in range(9):
        started = time.perf_counter()
        asked(searcher, 1)
        times.append(time.perf_counter() - started)
    print(f"ask and tell after 200 trials: median {1000 * statistics.median(times):.0f} ms")
    assert statistics.median(times) < 1.0
