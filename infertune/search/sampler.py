"""infertune's strategy as a sampler for any Optuna study."""

import copy
import math
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from infertune.domain.knobs import Choice, Config, Int, Knob, Scalar, SearchSpace
from infertune.search.base import Result
from infertune.search.model_based import ModelSearcher

LAUNCH_S = "infertune:launch_s"
RUN_S = "infertune:run_s"
LAUNCHED = "infertune:launched"
_LONGEST_LADDER = 65  # values of a parameter that are all kept; judgement
_RUNGS = 33  # values that stand for a longer or a continuous range; judgement
_MOST_CHOICES = 200  # of a categorical parameter: the model holds a matrix of all pairs; judgement
_TYPICAL_SD = 0.3  # in ln(objective), of rates over an engine's configurations (tests/data/landscapes: 0.1 to 0.9)
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class InfertuneSampler(BaseSampler):
    """Bayesian optimisation with costs and learned feasibility, made for a few dozen expensive trials.

    Parameters are modelled in their order: integers and floats as ladders of values (all of them up to 65, else 33
    that are spread evenly, in logarithms where the distribution says `log`), categories without an order. A trial that
    ends as failed, or with a constraint above 0 (`trial.set_constraint`), lowers the probability that its neighbours
    run. Trials that are running count as measured, with what is expected of them; trials that were pruned count with
    the last finite value that they reported, or else as those that are running. Trials that fall on one value of a
    ladder count as one, with the mean of those that ran. A categorical parameter may have 200 choices at most. Values
    above 0 are modelled in logarithms, as rates, times and costs are; others as they are. The first trial is random
    unless you enqueue one, such as the default.

    Parameters that only some trials have, in one branch of an objective for instance, are modelled among these trials,
    as `TPESampler(group=True)` does it: parameters that the same trials have are one group with a model of its own.
    A range that differs between trials is modelled as the widest. Random are the values of a parameter until a trial
    that had it has completed, those that the model would choose outside of a trial's own range, and those of a group
    all of whose values were tried, such as the one that chooses the branch.

    Costs are optional. Name the parameters that need a new launch (of a server, a cluster, a build) in `launch`, and
    set user attributes of each trial: `infertune:launch_s`, the seconds that its launch took, 0 where it ran on a
    loaded one; `infertune:run_s`, the seconds of the rest. The sampler then looks for the largest expected improvement
    per second, and so stays on a launch while that is worth it. The launch of the last trial that ended is taken to be
    loaded. Where several workers have launches of their own, set `infertune:launched` to the parameters of the asking
    worker's launch, a dictionary, between `study.ask()` and the first `suggest`.

    Args:
        seed: Of its draws; None for another one in each process.
        launch: Names of the parameters that need a new launch when they change.

    Raises:
        ValueError: `launch` is a text instead of a list of names.

    Example:
        >>> import optuna
        >>> from infertune.search import InfertuneSampler
        >>> def tokens_per_second(trial: optuna.Trial) -> float:
        ...     slots = 2 ** trial.suggest_int("log2_slots", 0, 9)
        ...     length = trial.suggest_int("length", 1024, 8192, step=1024)
        ...     dtype = trial.suggest_categorical("dtype", ["bfloat16", "float16"])
        ...     trial.set_constraint("memory", slots * length / 2**20 - 1)  # above 0: it does not fit
        ...     trial.set_user_attr("infertune:launch_s", 40.0)
        ...     trial.set_user_attr("infertune:run_s", 10.0)
        ...     return 9000 * slots / (slots + 48) * (1.1 if dtype == "float16" else 1.0)
        >>> sampler = InfertuneSampler(seed=0, launch=["length", "dtype"])
        >>> study = optuna.create_study(direction="maximize", sampler=sampler)
        >>> study.enqueue_trial({"log2_slots": 4, "length": 4096, "dtype": "bfloat16"})
        >>> study.optimize(tokens_per_second, n_trials=24)
        >>> study.best_params["log2_slots"], study.best_params["dtype"]
        (9, 'float16')
    """

    def __init__(self, *, seed: int | None = None, launch: Collection[str] = ()) -> None:
        if isinstance(launch, str):
            raise ValueError(f"launch is a list of names, such as [{launch!r}], not the text {launch!r}")
        self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self._launch = frozenset(launch)
        self._random = RandomSampler(seed=self._seed)
        self._searches: dict[tuple[str, ...], _Search] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_searches")}

    def __setstate__(self, state: dict[str, Any]) -> None:  # the copy learns anew from the study that it is used on
        self.__dict__.update(state, _lock=threading.Lock(), _searches={})

    def reseed_rng(self) -> None:
        """Other draws from here on."""
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that some completed trial had; before there is one, those of failed and pruned ones."""
        return {name: distribution for group in _groups(study) for name, distribution in group.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The values with the largest expected improvement per second, group by group; at random once all were tried.

        Raises:
            ValueError: The study has several objectives, or a parameter has too many choices.
        """
        self._raise_error_if_multi_objective(study)
        for name, distribution in search_space.items():
            _check_choices(name, distribution)
        values: dict[str, Any] = {}
        with self._lock:
            kept, self._searches = self._searches, {}
            for space in _groups(study):
                space = {name: distribution for name, distribution in space.items() if name in search_space}
                if not space:
                    continue
                search = kept.get(tuple(space))
                if search is None or not search.is_of(study, space):
                    search = _Search(study, space, self._launch, self._seed)
                self._searches[tuple(space)] = search
                values |= search.ask(study, trial) or {}
        rest = {name: distribution for name, distribution in search_space.items() if name not in values}
        return values | {n: self._random.sample_independent(study, trial, n, d) for n, d in rest.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value, for a parameter that is not modelled, or that the model would choose out of its range.

        Raises:
            ValueError: The study has several objectives, or the parameter has too many choices.
        """
        self._raise_error_if_multi_objective(study)
        _check_choices(param_name, param_distribution)
        return self._random.sample_independent(study, trial, param_name, param_distribution)


@dataclass(frozen=True)
class _Ladder:
    """The values of a distribution that are looked at, and how to find a value's place among them."""

    name: str
    distribution: BaseDistribution
    values: tuple[Any, ...]

    @classmethod
    def of(cls, name: str, distribution: BaseDistribution) -> "_Ladder":
        if isinstance(distribution, CategoricalDistribution):
            return cls(name, distribution, tuple(distribution.choices))
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        low, high, step, log = distribution.low, distribution.high, distribution.step, distribution.log
        last = math.inf if step is None else round((high - low) / step)
        if step is not None and last < _LONGEST_LADDER:
            values = [low + step * n for n in range(int(last) + 1)]
        elif log:
            values = np.geomspace(low, high, _RUNGS).tolist()
        else:
            values = np.linspace(low, high, _RUNGS).tolist()
            values = values if step is None else [low + step * round((value - low) / step) for value in values]
        values = [min(max(value, low), high) for value in values]
        if isinstance(distribution, IntDistribution):
            values = [round(value) for value in values]
        return cls(name, distribution, tuple(dict.fromkeys(values)))

    def knob(self, default: int, *, launch: bool) -> Knob:
        """The places on the ladder as a knob."""
        make = Choice if isinstance(self.distribution, CategoricalDistribution) else Int
        return make(self.name, tuple(range(len(self.values))), default, scope="launch" if launch else "live")

    def at(self, position: Scalar) -> Any:
        """The value at a place."""
        assert isinstance(position, int)
        return self.values[position]

    def takes(self, value: Any) -> bool:
        """Whether it is a value of the distribution."""
        try:
            return self.distribution._contains(self.distribution.to_internal_repr(value))
        except (TypeError, ValueError, OverflowError):
            return False

    def position(self, value: Any) -> int:
        """The place of a value, or of the nearest one."""
        if isinstance(self.distribution, CategoricalDistribution):
            return int(self.distribution.to_internal_repr(value))
        assert isinstance(self.distribution, IntDistribution | FloatDistribution)
        ladder, place = np.array(self.values, dtype=float), float(value)
        if self.distribution.log:
            ladder, place = np.log(ladder), math.log(max(place, 1e-300))
        return int(np.abs(ladder - place).argmin())


class _Search:
    """The strategy on one study and one set of parameters; it is told what is new whenever it is asked."""

    def __init__(self, study: Study, space: dict[str, BaseDistribution], launch: frozenset[str], seed: int) -> None:
        self._of = (study._study_id, study.study_name, study.direction, dict(space))
        self._storage = study._storage
        self._seed = seed
        self._ladders = {name: _Ladder.of(name, distribution) for name, distribution in space.items()}
        self._launch = [name for name in space if name in launch]
        self._sign = -1.0 if study.direction.name == "MINIMIZE" else 1.0
        self._start(study)

    def _start(self, study: Study) -> None:
        """Begin with nothing told."""
        first = next((trial.params for trial in study.get_trials(deepcopy=False) if self._has_all(trial)), None)
        at = {name: ladder.position(first[name]) if first else 0 for name, ladder in self._ladders.items()}
        knobs = tuple(ladder.knob(at[name], launch=name in self._launch) for name, ladder in self._ladders.items())
        self._searcher = ModelSearcher(SearchSpace(knobs), seed=self._seed)
        self._told: dict[Config, Result] = {}
        self._asked: dict[int, Config] = {}

    def is_of(self, study: Study, space: dict[str, BaseDistribution]) -> bool:
        """Whether it can go on."""
        of = (study._study_id, study.study_name, study.direction, space)
        return self._storage is study._storage and self._of == of

    def ask(self, study: Study, trial: FrozenTrial) -> dict[str, Any] | None:
        """The next values; None if all were tried."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        finished = [other for other in others if other.state in _FINISHED]
        results = self._results(finished)
        if not self._told.keys() <= results.keys():  # the study was deleted, and made anew under its name
            self._start(study)
        self._learn(results)
        running = {other.number: other for other in others if other.state == TrialState.RUNNING}
        self._asked = {number: config for number, config in self._asked.items() if number in running}
        pending = {n: self._config(other.params) for n, other in running.items() if self._has_all(other)}
        pruned = [other for other in finished if other.state == TrialState.PRUNED and self._has_all(other)]
        unknown = [at for at in dict.fromkeys(self._config(other.params) for other in pruned) if at not in results]
        config = self._searcher.ask(self._launched(trial, finished), [*unknown, *(self._asked | pending).values()])
        if config is None:
            return None
        self._asked[trial.number] = config  # its parameters are not in the study yet
        return {name: ladder.at(config[name]) for name, ladder in self._ladders.items()}

    def _learn(self, results: dict[Config, Result]) -> None:
        """Tell what is new: one result, or many; all of them where the values' scale has changed."""
        new = [result for config, result in results.items() if self._told.get(config) != result]
        if len(new) == 1:
            self._searcher.tell(new[0])
        elif new:
            self._searcher.recall(new)
        self._told = results

    def _results(self, finished: Sequence[FrozenTrial]) -> dict[Config, Result]:
        """The result of each configuration; none where its trials were pruned before they reported anything."""
        values = {trial.number: value for trial in finished if (value := _value(trial)) is not None}
        logarithms = all(value > 0 for value in values.values())
        mean, sd = (np.mean([*values.values()]), np.std([*values.values()])) if values else (0.0, 1.0)
        found: dict[Config, list[Result]] = {}
        for trial in finished:
            if not self._has_all(trial):
                continue
            score = None
            if trial.number in values:
                value = values[trial.number]
                score = math.log(value) if logarithms else float(_TYPICAL_SD * (value - mean) / (sd or 1.0))
            if score is None and trial.state == TrialState.PRUNED and not _broken(trial):
                continue
            launch_s, run_s = (_seconds(trial.user_attrs.get(name)) for name in (LAUNCH_S, RUN_S))
            config = self._config(trial.params)
            found.setdefault(config, []).append(Result(config, score and self._sign * score, launch_s, run_s))
        return {config: _merged(results) for config, results in found.items()}

    def _launched(self, trial: FrozenTrial, finished: Sequence[FrozenTrial]) -> Config | None:
        """The launch that is loaded, as a configuration of which the launch settings count."""
        params = trial.user_attrs.get(LAUNCHED)
        if params is None:
            last = max(finished, key=lambda t: t.datetime_complete or datetime.min, default=None)
            params = last.params if last is not None and _value(last) is not None else {}
        if not isinstance(params, dict) or any(name not in params for name in self._launch):
            return None
        params = {name: params.get(name, ladder.values[0]) for name, ladder in self._ladders.items()}
        understood = all(ladder.takes(params[name]) for name, ladder in self._ladders.items())
        return self._config(params) if understood else None

    def _config(self, params: dict[str, Any]) -> Config:
        return Config({name: ladder.position(params[name]) for name, ladder in self._ladders.items()})

    def _has_all(self, trial: FrozenTrial) -> bool:
        return self._ladders.keys() <= trial.params.keys()


def _value(trial: FrozenTrial) -> float | None:
    """The value of a trial that ran and kept its constraints."""
    if _broken(trial):
        return None
    value = trial.value if trial.state == TrialState.COMPLETE else None
    if trial.state == TrialState.PRUNED:
        reported = [value for _, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)]
        value = reported[-1] if reported else None
    return value if value is not None and math.isfinite(value) else None


def _groups(study: Study) -> Iterator[dict[str, BaseDistribution]]:
    """The parameters by the trials that had them: those of every trial are a group, those of one branch another.

    Left out are those with one value alone, and those of which trials had ranges whose steps do not meet.
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished() and trial.distributions]
    trials = [trial for trial in trials if trial.state == TrialState.COMPLETE] or trials
    had: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        for name in trial.distributions:
            had.setdefault(name, []).append(trial)
    groups: dict[tuple[int, ...], dict[str, BaseDistribution]] = {}
    for name, among in sorted(had.items()):
        widest = _widest([trial.distributions[name] for trial in among])
        if widest is not None and not widest.single():
            groups.setdefault(tuple(trial.number for trial in among), {})[name] = widest
    yield from groups.values()


def _widest(each: Sequence[BaseDistribution]) -> BaseDistribution | None:
    """The distribution that holds all values of some; None where their steps do not meet.

    Optuna itself refuses a parameter whose kind, choices or `log` differ between trials.
    """
    found = copy.copy(each[0])
    ranges = [one for one in each if isinstance(one, IntDistribution | FloatDistribution)]
    if isinstance(found, IntDistribution | FloatDistribution):
        found.low, found.high = min(one.low for one in ranges), max(one.high for one in ranges)
    return found if all(one.step == ranges[0].step and found._contains(one.low) for one in ranges) else None


def _broken(trial: FrozenTrial) -> bool:
    return any(value > 0 for value in trial.constraints.values())


def _merged(results: Sequence[Result]) -> Result:
    """One result for the trials of one configuration: failed only if all of them failed."""
    scores = [result.score for result in results if result.score is not None]
    launches = [result.launch_s for result in results if result.launch_s > 0] or [0.0]
    run_s = float(np.mean([result.run_s for result in results]))
    return Result(results[0].config, float(np.mean(scores)) if scores else None, float(np.mean(launches)), run_s)


def _seconds(given: Any) -> float:
    """A cost that a trial names; 0 where it is no finite number from 0 up."""
    try:
        seconds = float(given)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return seconds if math.isfinite(seconds) and seconds >= 0 else 0.0


def _check_choices(name: str, distribution: BaseDistribution) -> None:
    """Refuse a categorical parameter with more choices than can be modelled.

    Raises:
        ValueError: It has more.
    """
    if isinstance(distribution, CategoricalDistribution) and len(distribution.choices) > _MOST_CHOICES:
        raise ValueError(
            f"the parameter {name!r} has {len(distribution.choices)} choices, and InfertuneSampler takes at most "
            f"{_MOST_CHOICES}; if they have an order, suggest an integer instead"
        )
