"""infertune's strategy as a sampler for any Optuna study."""

import math
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
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
        self._search: _Search | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_search")}

    def __setstate__(self, state: dict[str, Any]) -> None:  # the copy learns anew from the study that it is used on
        self.__dict__.update(state, _lock=threading.Lock(), _search=None)

    def reseed_rng(self) -> None:
        """Other draws from here on."""
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that every completed trial had; before there is one, that every failed or pruned one had."""
        trials = study.get_trials(deepcopy=False)
        known = intersection_search_space(trials)
        if not any(one.state == TrialState.COMPLETE for one in trials):
            known = _in_all([one.distributions for one in trials if one.state.is_finished() and one.distributions])
        return {name: distribution for name, distribution in known.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The values with the largest expected improvement per second; at random once all were tried.

        Raises:
            ValueError: The study has several objectives, or a parameter has too many choices.
        """
        self._raise_error_if_multi_objective(study)
        if not search_space:
            return {}
        for name, distribution in search_space.items():
            _check_choices(name, distribution)
        with self._lock:
            if self._search is None or not self._search.is_of(study, search_space):
                self._search = _Search(study, search_space, self._launch, self._seed)
            found = self._search.ask(study, trial)
        if found is not None:
            return found
        return {name: self._random.sample_independent(study, trial, name, d) for name, d in search_space.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value, for a parameter that some trial lacked.

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


def _in_all(each: Sequence[Mapping[str, BaseDistribution]]) -> dict[str, BaseDistribution]:
    """The parameters that are in all of some trials, with the same distribution."""
    first, *others = each or [{}]
    return {name: one for name, one in sorted(first.items()) if all(other.get(name) == one for other in others)}


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
