"""The strategies that are compared. Each is made anew for a problem and a seed."""

import math
import random
import warnings
from collections.abc import Callable, Iterable

import optuna

from infertune.domain.device import Device
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.models import Model
from infertune.domain.workload import parse_workload
from infertune.search import InfertuneSampler, Result, Searcher, make_searcher
from infertune.search.model_based import ModelSearcher, Parts
from infertune.search.roofline import Peaks, Roofline, demand_of, peaks_of
from tests.benchmarks.search.problems import Problem

Strategy = Callable[[Problem, int], Searcher]

# The result of `peaks_of` on the idle processor that recorded the landscapes, with one thread. It is fixed here so that
# two replays do not differ by other load on the machine.
_RECORDER = Peaks(bytes_per_s=2.0**34, flop_per_s=2.0**36, overhead_s=1e-3)


def ours(parts: Parts | None = None, *, predicted: bool = True) -> Strategy:
    """The strategy of `--sampler auto`, complete or with parts removed."""

    def make(problem: Problem, seed: int) -> Searcher:
        predictor = predictor_of(problem) if predicted else None
        return ModelSearcher(problem.space, seed=seed, predictor=predictor, parts=parts)

    return make


def predictor_of(problem: Problem) -> Roofline | None:
    """The roofline that the product would use: of a recorded run's model and device; none without."""
    if not problem.header:
        return None
    device = Device.model_validate(problem.header["device"])
    model = Model.model_validate(problem.header["model"])
    asked = problem.header["workload"]
    workload = parse_workload(asked["spec"], asked["n_requests"], asked["seed"])
    peaks = peaks_of(device) if device.kind == "gpu" else _RECORDER
    demand = demand_of(model, device, workload, peaks)
    return Roofline(problem.space, demand) if demand else None


def sampler(name: str) -> Strategy:
    """One of the product's other samplers."""
    return lambda problem, seed: make_searcher(problem.space, sampler=name, trials=24, seed=seed)


class Default:
    """The engine's default and nothing else."""

    def __init__(self, space: SearchSpace) -> None:
        self._config: Config | None = space.repair(space.default)

    def ask(self, launched: Config | None) -> Config | None:
        """Once."""
        config, self._config = self._config, None
        return config

    def tell(self, result: Result) -> None:
        """Nothing to learn."""

    def recall(self, results: Iterable[Result]) -> None:
        """Nothing to learn."""

    def exhausted(self) -> bool:
        """Never says."""
        return False


class OneKnobAtATime:
    """What people do by hand: every value of one knob with the others at their best so far, knob after knob."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._best, self._score = space.repair(space.default), float("-inf")
        self._told: set[Config] = set()
        self._knobs = [knob for knob in space.knobs if len(knob.values) > 1]
        random.Random(seed).shuffle(self._knobs)
        self._plan = [self._best]

    def ask(self, launched: Config | None) -> Config | None:
        """The next value of the knob in turn."""
        for _ in range(3 * len(self._knobs)):
            while self._plan:
                if (config := self._plan.pop(0)) not in self._told:
                    return config
            knob = self._knobs.pop(0)
            self._knobs.append(knob)
            self._plan = [self._space.repair(self._best.updated({knob.name: value})) for value in knob.values]
        return None

    def tell(self, result: Result) -> None:
        """Move to what is better."""
        self._told.add(result.config)
        if result.score is not None and result.score > self._score:
            self._best, self._score = result.config, result.score

    def recall(self, results: Iterable[Result]) -> None:
        """Not needed here."""

    def exhausted(self) -> bool:
        """Never says."""
        return False


class PlainOptuna:
    """Optuna as most people use it: every knob a categorical or an integer, a failure told as a failed trial."""

    def __init__(self, space: SearchSpace, sampler: optuna.samplers.BaseSampler) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore")
        self._space = space
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        default = space.repair(space.default)
        self._knobs = [knob for knob in space.knobs if len(knob.values) > 1]
        self._study.enqueue_trial({knob.name: knob.values.index(default[knob.name]) for knob in self._knobs})
        self._trial: optuna.trial.Trial | None = None

    def ask(self, launched: Config | None) -> Config | None:
        """Whatever the sampler proposes, mended."""
        self._trial = self._study.ask()
        chosen = {}
        for knob in self._space.knobs:
            if knob not in self._knobs:
                chosen[knob.name] = knob.values[0]
            elif knob.ordinal:
                chosen[knob.name] = knob.values[self._trial.suggest_int(knob.name, 0, len(knob.values) - 1)]
            else:
                chosen[knob.name] = knob.values[self._trial.suggest_categorical(knob.name, range(len(knob.values)))]
        return self._space.repair(Config(chosen))

    def tell(self, result: Result) -> None:
        """Tell it."""
        assert self._trial
        if result.score is None:
            self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(self._trial, result.score)

    def recall(self, results: Iterable[Result]) -> None:
        """Not needed here."""

    def exhausted(self) -> bool:
        """Never says."""
        return False


class AsSampler:
    """infertune's strategy in anybody's study: costs and the loaded launch through attributes, failures as they are."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._knobs = [knob for knob in space.knobs if len(knob.values) > 1]
        chosen = InfertuneSampler(seed=seed, launch=space.launch_names)
        self._study = optuna.create_study(direction="maximize", sampler=chosen)
        self._study.enqueue_trial(self._positions(space.repair(space.default)))

    def ask(self, launched: Config | None) -> Config | None:
        """Whatever the sampler proposes, mended."""
        self._trial = self._study.ask()
        self._trial.set_user_attr("infertune:launched", {} if launched is None else self._positions(launched))
        chosen = {knob.name: knob.values[0] for knob in self._space.knobs}
        for knob in self._knobs:
            places = range(len(knob.values))
            if knob.ordinal:
                place = self._trial.suggest_int(knob.name, 0, places[-1])
            else:
                place = self._trial.suggest_categorical(knob.name, places)
            chosen[knob.name] = knob.values[place]
        return self._space.repair(Config(chosen))

    def tell(self, result: Result) -> None:
        """Tell it."""
        self._trial.set_user_attr("infertune:launch_s", result.launch_s)
        self._trial.set_user_attr("infertune:run_s", result.run_s)
        if result.score is None:
            self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(self._trial, math.exp(result.score))

    def recall(self, results: Iterable[Result]) -> None:
        """Not needed here."""

    def exhausted(self) -> bool:
        """Never says."""
        return False

    def _positions(self, config: Config) -> dict[str, int]:
        return {knob.name: knob.values.index(config[knob.name]) for knob in self._knobs}


STRATEGIES: dict[str, Strategy] = {
    "default": lambda problem, seed: Default(problem.space),
    "random": sampler("random"),
    "one knob at a time": lambda problem, seed: OneKnobAtATime(problem.space, seed),
    "Optuna TPE": lambda problem, seed: PlainOptuna(problem.space, optuna.samplers.TPESampler(seed=seed)),
    "Optuna GP": lambda problem, seed: PlainOptuna(problem.space, optuna.samplers.GPSampler(seed=seed)),
    "sampler tpe": sampler("tpe"),
    "ours": ours(),
    "ours, no prediction": ours(predicted=False),
    "ours, as a sampler": lambda problem, seed: AsSampler(problem.space, seed),
    "ours, per trial": ours(Parts(costs=0.0)),
    "ours, failures ignored": ours(Parts(feasibility=False)),
}
