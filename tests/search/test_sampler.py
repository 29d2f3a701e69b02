"""infertune's strategy as a sampler of Optuna: Optuna's own contract, and what is particular to it."""

import doctest
import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase
from optuna.trial import TrialState

from infertune.domain.knobs import Config, Int, SearchSpace
from infertune.search import InfertuneSampler, Result, sampler
from infertune.search.model_based import ModelSearcher

optuna.logging.set_verbosity(optuna.logging.ERROR)


class TestOptunasContract(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], optuna.samplers.BaseSampler]:
        return partial(InfertuneSampler, seed=0)


def test_the_example_of_its_docstring_runs() -> None:
    found = doctest.testmod(sampler)
    assert found.attempted >= 8 and not found.failed


def study_of(**arguments: Any) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=InfertuneSampler(seed=1, **arguments))


def done(study: optuna.Study, space: dict[str, Any], value: float | None, **attributes: object) -> optuna.Trial:
    """Ask, and tell a value, or that it failed."""
    trial = study.ask(space)
    for name, given in attributes.items():
        trial.set_user_attr(f"infertune:{name}", given)
    study.tell(trial, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)
    return trial


def test_it_asks_exactly_what_the_strategy_asks() -> None:
    """Costs, failures and the loaded launch come through attributes and states; 14 questions, one after the other."""
    chosen = InfertuneSampler(seed=4, launch=["b"])
    knobs = (Int("a", tuple(range(12)), 3, scope="live"), Int("b", tuple(range(12)), 3))
    strategy = ModelSearcher(SearchSpace(knobs), seed=chosen._seed)
    study = optuna.create_study(direction="maximize", sampler=chosen)
    study.enqueue_trial({"a": 3, "b": 3})
    launched: Config | None = None
    for _ in range(14):
        trial = study.ask(SPACE)
        asked = Config(trial.params)
        assert asked == strategy.ask(launched)
        a, b = trial.params["a"], trial.params["b"]
        value = None if a + b > 17 else 1000.0 - (a - 8) ** 2 - (b - 6) ** 2
        launch_s = 0.0 if launched and launched["b"] == b else 40.0
        trial.set_user_attr("infertune:launch_s", launch_s)
        trial.set_user_attr("infertune:run_s", 10.0)
        study.tell(trial, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)
        strategy.tell(Result(asked, None if value is None else math.log(value), launch_s, 10.0))
        launched = None if value is None else asked


LADDERS = {
    "int": (IntDistribution(1, 9, step=2), 5),
    "float": (FloatDistribution(0.5, 0.9, step=0.1), 5),
    "log int": (IntDistribution(1, 40, log=True), 40),
    "long": (IntDistribution(0, 10_000), 33),
    "log": (FloatDistribution(1e-5, 1.0, log=True), 33),
    "choice": (CategoricalDistribution([None, True, 2, "a"]), 4),
}


@pytest.mark.parametrize("name", LADDERS)
def test_every_value_of_a_ladder_is_tried_once_and_then_any_again(name: str) -> None:
    distribution, n = LADDERS[name]
    study = study_of()
    tried = [done(study, {"x": distribution}, 1.0 + n % 3).params["x"] for n in range(n)]
    assert len(set(map(repr, tried))) == n
    assert distribution._contains(distribution.to_internal_repr(done(study, {"x": distribution}, 1.0).params["x"]))


SPACE = {"a": IntDistribution(0, 11), "b": IntDistribution(0, 11)}


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("level", [50.0, -50.0])
def test_a_peak_is_found_in_either_direction_and_with_values_of_any_sign(direction: str, level: float) -> None:
    study = optuna.create_study(direction=direction, sampler=InfertuneSampler(seed=3))
    sign = 1 if direction == "maximize" else -1
    for _ in range(20):
        trial = study.ask(SPACE)
        away = (trial.params["a"] - 8) ** 2 + (trial.params["b"] - 3) ** 2
        study.tell(trial, level - sign * 0.3 * away)
    assert abs(study.best_params["a"] - 8) <= 1 and abs(study.best_params["b"] - 3) <= 1


@pytest.mark.parametrize("how", ["constraint", "failed"])
def test_failures_teach_it_where_nothing_runs(how: str) -> None:
    """The value rises up to a limit beyond which nothing runs; a third of the space is beyond."""
    study = study_of()
    study.enqueue_trial({"a": 0, "b": 0})
    beyond = []
    for _ in range(24):
        trial = study.ask(SPACE)
        total = trial.params["a"] + trial.params["b"]
        beyond.append(total > 14)
        if how == "constraint":
            trial.set_constraint("memory", total - 14)
        study.tell(trial, None if beyond[-1] and how == "failed" else 1.0 + total, state=None)
    best = max(t.params["a"] + t.params["b"] for t in study.trials if t.params["a"] + t.params["b"] <= 14)
    print(f"{how}: {sum(beyond)} of 24 trials beyond the limit, best {best} of 14")
    assert best >= 13 and sum(beyond) <= 9


def test_a_loaded_launch_is_used_while_launches_are_dear() -> None:
    def launches(**arguments: Any) -> int:
        study, loaded, n = study_of(**arguments), None, 0
        for _ in range(20):
            trial = study.ask(SPACE)
            n += trial.params["a"] != loaded
            trial.set_user_attr("infertune:launch_s", 0.0 if trial.params["a"] == loaded else 400.0)
            trial.set_user_attr("infertune:run_s", 10.0)
            loaded = trial.params["a"]
            study.tell(trial, 100.0 - trial.params["b"] ** 2 - (trial.params["a"] - 5) ** 2)
        return n

    assert launches(launch=["a"]) < 0.7 * launches()


def test_the_asking_workers_launch_may_be_named() -> None:
    study = study_of(launch=["a"])
    for a, b in ((2, 2), (9, 4), (5, 6)):
        study.enqueue_trial({"a": a, "b": b})
        done(study, SPACE, 10.0 + a / 100 + b / 100, launch_s=5000.0, run_s=1.0)
    for a in (2, 9):
        trial = study.ask()
        trial.set_user_attr("infertune:launched", {"a": a})
        assert trial.suggest_int("a", 0, 11) == a
        study.tell(trial, state=TrialState.FAIL)


def test_running_trials_are_not_asked_for_again() -> None:
    study = study_of()
    done(study, SPACE, 1.0)
    running = [study.ask(SPACE).params for _ in range(8)]
    assert len({tuple(params.items()) for params in running}) == 8


def test_pruned_trials_count_with_what_they_reported_last() -> None:
    study = study_of()
    for _ in range(3):
        trial = study.ask({"a": SPACE["a"]})
        trial.report(float(trial.params["a"]) + 1, 0)
        study.tell(trial, state=TrialState.PRUNED)
    done(study, {"a": SPACE["a"]}, 1.0)
    before = {trial.params["a"] for trial in study.trials}
    assert study.ask({"a": SPACE["a"]}).params["a"] not in before


X = {"x": IntDistribution(0, 20)}


@pytest.mark.parametrize("reported", [[], [math.nan]])
def test_trials_that_were_pruned_without_a_figure_are_not_asked_for_again(reported: list[float]) -> None:
    study, asked = study_of(), []
    study.enqueue_trial({"x": 5})
    for _ in range(21):
        trial = study.ask(X)
        asked.append(trial.params["x"])
        for step, value in enumerate(reported):
            trial.report(value, step)
        if asked[-1] % 2 == 0:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, asked[-1] + 1.0)
    assert sorted(asked) == list(range(21))


def results_of(study: optuna.Study) -> list[Result]:
    """What the strategy has been told when the next trial is asked for."""
    study.ask(X)
    assert isinstance(study.sampler, InfertuneSampler)
    [search] = study.sampler._searches.values()
    return [*search._searcher._results.values()]


def test_a_pruned_trial_counts_with_the_last_finite_value_that_it_reported() -> None:
    study = study_of()
    done(study, X, 1.0)
    trial = study.ask(X)
    for step, value in enumerate([2.0, 7.0, math.nan]):
        trial.report(value, step)
    study.tell(trial, state=TrialState.PRUNED)
    assert [result.score for result in results_of(study)] == [0.0, math.log(7.0)]


@pytest.mark.parametrize("same", ["name and number", "storage too"])
def test_a_sampler_on_a_second_study_carries_nothing_over(tmp_path: Any, same: str) -> None:
    chosen, url = InfertuneSampler(seed=1), f"sqlite:///{tmp_path}/s.db"
    storage = optuna.storages.RDBStorage(url) if same == "storage too" else None
    for level, direction in ((1.0, "maximize"), (50.0, "maximize"), (90.0, "minimize")):
        if same == "storage too" and level > 1:
            optuna.delete_study(study_name="s", storage=storage)
        study = optuna.create_study(study_name="s", storage=storage, direction=direction, sampler=chosen)
        assert study._study_id == (1 if storage else 0)
        for n in range(3):
            study.enqueue_trial({"x": int(level) % 8 + n})
            done(study, X, level + n)
        sign = -1 if direction == "minimize" else 1
        assert [r.score for r in results_of(study)] == [sign * math.log(level + n) for n in range(3)]


def test_trials_on_one_rung_of_a_ladder_are_one_with_the_mean_of_those_that_ran() -> None:
    study, long = study_of(), {"x": IntDistribution(0, 1000)}
    for x, value, launch_s, run_s in ((500, 100.0, 40.0, 10.0), (510, 1.0, 0.0, 20.0), (505, None, 60.0, 30.0)):
        study.enqueue_trial({"x": x})
        done(study, long, value, launch_s=launch_s, run_s=run_s)
    study.enqueue_trial({"x": 0})
    done(study, long, None)
    study.ask(long)
    [search] = study.sampler._searches.values()  # type: ignore[attr-defined]
    merged, failed = search._told.values()
    assert merged.score == pytest.approx(math.log(10.0)) and failed.score is None
    assert (merged.launch_s, merged.run_s) == (50.0, 20.0)


@pytest.mark.parametrize("cost", [math.nan, math.inf, -5.0, None, "abc", [], 10**400])
def test_a_cost_that_is_none_counts_as_0(cost: object) -> None:
    study = study_of()
    done(study, X, 1.0, launch_s=cost, run_s=cost)
    done(study, X, 2.0, launch_s=3.0, run_s=4)
    assert [(result.launch_s, result.run_s) for result in results_of(study)] == [(0.0, 0.0), (3.0, 4.0)]


@pytest.mark.parametrize("launched", ["abc", 3, {"c": "z"}, {"c": []}, {"c": "a", "x": 99}, {"c": "a", "x": math.nan}])
def test_a_launch_that_cannot_be_understood_counts_as_none(launched: object) -> None:
    study, space = study_of(launch=["c"]), {"c": CategoricalDistribution(["a", "b"]), **X}
    done(study, space, 1.0)
    trial = study.ask()
    trial.set_user_attr("infertune:launched", launched)
    assert trial.suggest_categorical("c", ["a", "b"]) in "ab" and 0 <= trial.suggest_int("x", 0, 20) <= 20
    study.ask(space)
    frozen = study.get_trials()[trial.number]
    [search] = study.sampler._searches.values()  # type: ignore[attr-defined]
    assert search._launched(frozen, []) is None


def test_a_text_is_no_list_of_names() -> None:
    with pytest.raises(ValueError, match="launch is a list of names, such as \\['dtype'\\], not the text 'dtype'"):
        InfertuneSampler(launch="dtype")


@pytest.mark.parametrize("first", ["asked", "enqueued"])
def test_more_choices_than_can_be_modelled_are_refused(first: str) -> None:
    def space(n: int) -> dict[str, Any]:
        return {"c": CategoricalDistribution(range(n))}

    study = study_of()
    assert len({done(study, space(200), 1.0).params["c"] for _ in range(3)}) == 3
    study = study_of()
    if first == "enqueued":
        study.enqueue_trial({"c": 7})
        done(study, space(20_000), 1.0)
    with pytest.raises(ValueError, match="the parameter 'c' has 20000 choices, and InfertuneSampler takes at most 200"):
        study.ask(space(20_000))


def test_it_can_be_pickled_and_goes_on() -> None:
    study = study_of()
    for n in range(4):
        done(study, SPACE, 1.0 + n)
    again = pickle.loads(pickle.dumps(study.sampler))
    first = study.ask(SPACE)
    study.tell(first, state=TrialState.FAIL)
    study.sampler = again
    assert study.ask(SPACE).params not in [trial.params for trial in study.trials[:-1]]


def test_it_goes_on_with_a_study_of_another_process(tmp_path: Any) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"
    for _ in range(2):
        study = optuna.create_study(
            study_name="s", storage=storage, load_if_exists=True, direction="maximize", sampler=InfertuneSampler(seed=1)
        )
        for n in range(5):
            done(study, SPACE, 1.0 + n)
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 10


def test_failed_trials_are_learned_from_before_one_has_completed() -> None:
    """Nothing runs: of 40 random points of 64, some fifteen would be tried again, and neighbours of failures too."""
    study = study_of()
    study.tell(study.ask(), state=TrialState.FAIL)  # before it asked for a parameter
    for _ in range(40):
        trial = study.ask({"x": IntDistribution(0, 7), "y": IntDistribution(0, 7)})
        study.tell(trial, state=TrialState.FAIL)
    tried = [tuple(trial.params.values()) for trial in study.trials[1:]]
    assert len(set(tried)) == 40


def best_of_branches(chosen: optuna.samplers.BaseSampler, n: int) -> float:
    """The best of some trials of an objective whose two branches have parameters of their own, peaks at 17 and 4."""
    study = optuna.create_study(direction="maximize", sampler=chosen)
    for _ in range(n):
        trial = study.ask()
        kind = trial.suggest_categorical("kind", ["a", "b"])
        names, peak = (("u", "v"), 17) if kind == "a" else (("w", "z"), 4)
        away = sum((trial.suggest_int(name, 0, 20) - peak) ** 2 for name in names)
        study.tell(trial, 1000.0 / (1 + away / 20))
    return float(study.best_value)


def test_parameters_of_a_branch_are_modelled_among_the_trials_that_have_them() -> None:
    ours = [best_of_branches(InfertuneSampler(seed=seed), 30) for seed in range(5)]
    at_random = [best_of_branches(optuna.samplers.RandomSampler(seed=seed), 30) for seed in range(5)]
    print(f"best of 1000, 30 trials: {sorted(map(round, ours))}; at random: {sorted(map(round, at_random))}")
    assert sorted(ours)[1] > 900 and sorted(at_random)[2] < 900


def test_a_trial_without_parameters_does_not_stop_it_from_learning() -> None:
    study = study_of()
    study.tell(study.ask(), 1.0)
    for n in range(4):
        done(study, SPACE, 1.0 + n)
    assert set(study.sampler.infer_relative_search_space(study, study.get_trials()[0])) == {"a", "b"}


def test_a_range_that_differs_between_trials_is_modelled_as_the_widest() -> None:
    """`b` may be at most `a`; values rise with both."""
    study = study_of()
    for _ in range(25):
        trial = study.ask()
        a = trial.suggest_int("a", 0, 20)
        study.tell(trial, 1.0 + a + trial.suggest_int("b", 0, a))
    assert study.best_value >= 38
    known = study.sampler.infer_relative_search_space(study, study.get_trials()[0])
    assert known["b"] == IntDistribution(0, max(trial.params["a"] for trial in study.trials))


@pytest.mark.parametrize("other", [IntDistribution(0, 8, step=2), IntDistribution(1, 9, step=3)])
def test_ranges_whose_steps_do_not_meet_are_drawn_at_random(other: IntDistribution) -> None:
    study = study_of()
    done(study, {"x": IntDistribution(1, 9, step=2)}, 1.0)
    done(study, {"x": other}, 2.0)
    assert study.sampler.infer_relative_search_space(study, study.get_trials()[0]) == {}
    assert other._contains(study.ask({"x": other}).params["x"])
