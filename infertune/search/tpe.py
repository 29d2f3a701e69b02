"""Search in three steps: live knobs on the default's launch, launch knobs one at a time, then Optuna's TPE.

One launch answers several live questions, so the first step is cheap, and the second starts from a good live setting.
Then multivariate TPE proposes, a few live configurations a launch.

A failing configuration is told as a completed trial with a violated constraint: samplers ignore failed trials, and so
walk into the same wall again and again (60 simulated trials with a hidden out-of-memory region: 12-34 crashes when told
as failed, 5.8 when told by constraint). Optuna sees each ordinal knob as its position on the ladder of values.
"""

import math
import random as stdlib_random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from infertune.knobs import Config, Scalar, SearchSpace

_LIVE_TRIALS_PER_LAUNCH = 3
_FIRST_LIVE_TRIALS = 6
_ATTEMPTS = 20
_MOST_TOLD = 2000  # of a ledger at once: more cost seconds to hand over and add nothing to a density estimate
_FEASIBILITY = "feasible"


class OptunaSearcher:
    """Ask and tell over an Optuna study in memory."""

    def __init__(
        self, space: SearchSpace, *, random: bool, trials: int | None, seed: int, seeds: Sequence[Config]
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._space = space
        self._rng = stdlib_random.Random(seed)
        self._sampler: BaseSampler = RandomSampler(seed=seed)
        if not random:
            startup = 10 if trials is None else min(10, max(4, trials // 4))
            self._sampler = TPESampler(seed=seed, multivariate=True, n_startup_trials=startup)
        self._study = optuna.create_study(direction="maximize", sampler=self._sampler)
        self._distributions: dict[str, BaseDistribution] = {
            knob.name: IntDistribution(0, len(knob.values) - 1)
            if knob.ordinal
            else CategoricalDistribution(range(len(knob.values)))
            for knob in space.knobs
            if len(knob.values) > 1
        }
        self._first = [space.repair(space.default), *map(space.repair, seeds)]
        self._told: set[Config] = set()
        self._worst = math.inf
        self._scores: dict[Config, float] = {}
        self._asked_of_launch = 0
        self._launch_key = ""
        self._live_names = set(self._distributions) - space.launch_names
        self._live_asked = 0
        few = 10**6 if trials is None else trials
        self._first_live_trials = 0 if random else min(_FIRST_LIVE_TRIALS, few // 4)
        self._single_changes = (
            [] if random else _single_changes(space, most=few // 2, places=2 if self._live_names else 1)
        )

    def ask(self, launched: Config | None) -> Config | None:
        """The default and the seeds first, then the three steps; never the same configuration again."""
        config = self._next_first() or self._next_single_change()
        if config is None:
            fixed = self._launch_to_keep(launched)
            config = self._propose(fixed) or (self._propose({}) if fixed else None) or self._any_left()
        if config is not None:
            key = self._space.launch_key(config)
            self._launch_key, self._asked_of_launch = key, 1 + (self._asked_of_launch if key == self._launch_key else 0)
        return config

    def tell(self, config: Config, score: float | None) -> None:
        """Remember a result."""
        self.recall([(config, score)])

    def recall(self, results: Iterable[tuple[Config, float | None]]) -> None:
        """Remember results; one that cannot run counts as badly as the worst that could."""
        told = []
        for config, score in results:
            if score is not None:
                self._worst = min(self._worst, score)
                self._scores[config] = score
            self._told.add(config)
            told.append((config, score, self._worst if math.isfinite(self._worst) else 0.0))
        self._study.add_trials([self._frozen(*result) for result in told[-_MOST_TOLD:]])

    def _frozen(self, config: Config, score: float | None, worst: float) -> optuna.trial.FrozenTrial:
        """A result as Optuna takes it."""
        return optuna.trial.create_trial(
            params=self._parameters(config),
            distributions=self._distributions,
            value=worst if score is None else score,
            constraints={_FEASIBILITY: 1.0 if score is None else -1.0},
        )

    def _next_first(self) -> Config | None:
        """The default, then the seeds, then live settings on the default's launch."""
        while self._first:
            config = self._first.pop(0)
            if config not in self._told:
                return config
        default = self._space.repair(self._space.default)
        if self._live_names and self._live_asked < self._first_live_trials:
            self._live_asked += 1
            return self._propose(self._launch_parameters(default))
        return None

    def _next_single_change(self) -> Config | None:
        """Each launch knob changed alone, in the best live setting so far and, for no further launch, the runner-up.

        Two live settings, because the best one may be best only without the change: a compiled model may fall off a
        cliff at a batch size that suits an eager one.
        """
        while self._single_changes:
            name, value, place = self._single_changes.pop(0)
            bases = self._best_live()
            config = self._space.repair(bases[min(place, len(bases) - 1)].updated({name: value}))
            if config not in self._told:
                return config
        return None

    def _best_live(self) -> list[Config]:
        """The best configuration of the default's launch, and the best of those that share no live value with it."""
        default = self._space.repair(self._space.default)
        key = self._space.launch_key(default)
        order = sorted(self._scores, key=lambda config: -self._scores[config])
        near = [config for config in order if self._space.launch_key(config) == key] or [default]
        apart = [c for c in near if all(c[name] != near[0][name] for name in self._live_names)]
        return near[:1] + apart[:1]

    def _launch_to_keep(self, launched: Config | None) -> dict[str, Any]:
        """The launch settings to stay with, empty if it is time for others."""
        if launched is None or not self._live_names or self._asked_of_launch >= _LIVE_TRIALS_PER_LAUNCH:
            return {}
        return self._launch_parameters(launched) if self._space.launch_key(launched) == self._launch_key else {}

    def _launch_parameters(self, config: Config) -> dict[str, Any]:
        return {name: v for name, v in self._parameters(config).items() if name in self._space.launch_names}

    def _propose(self, fixed: Mapping[str, Any]) -> Config | None:
        """A new configuration from the sampler, or None if it keeps proposing known ones."""
        for _ in range(_ATTEMPTS):
            self._study.sampler = PartialFixedSampler(dict(fixed), self._sampler) if fixed else self._sampler
            trial = self._study.ask(self._distributions)
            # The proposal only: what was measured is added as a trial of its own, mended and with its constraint.
            self._study.tell(trial, state=TrialState.FAIL)
            chosen = {
                knob.name: knob.values[trial.params[knob.name]] if knob.name in trial.params else knob.values[0]
                for knob in self._space.knobs
            }
            config = self._space.repair(Config(chosen))
            if config not in self._told:
                return config
        return None

    def _any_left(self) -> Config | None:
        """Some configuration that was not told yet: near the space's corners a sampler repeats itself."""
        for _ in range(200):
            values = {knob.name: self._rng.choice(knob.values) for knob in self._space.knobs}
            config = self._space.repair(Config(values))
            if config not in self._told:
                return config
        if self._space.size > 100_000:
            return None
        return next((config for config in self._space.grid() if config not in self._told), None)

    def _parameters(self, config: Config) -> dict[str, Any]:
        return {name: self._space[name].values.index(config[name]) for name in self._distributions}


def _single_changes(space: SearchSpace, *, most: int, places: int) -> list[tuple[str, Scalar, int]]:
    """Other values of every launch knob, the nearest to each default first, each in so many live settings."""
    ladders = []
    for knob in space.knobs:
        if knob.scope == "launch":
            at = knob.values.index(knob.default)
            ladders.append([(knob.name, knob.values[i]) for i in _by_distance(len(knob.values), at)])
    deepest = max(map(len, ladders), default=0)
    in_turn = [ladder[depth] for depth in range(deepest) for ladder in ladders if depth < len(ladder)]
    return [(name, value, place) for name, value in in_turn[: most // places] for place in range(places)]


def _by_distance(n: int, at: int) -> list[int]:
    """Positions of a ladder other than one, the nearest to it first."""
    return sorted((i for i in range(n) if i != at), key=lambda i: abs(i - at))
