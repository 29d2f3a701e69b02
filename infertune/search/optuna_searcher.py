"""Optuna's samplers, and those of third parties, by ask and tell on an Optuna study in memory.

A failed configuration is told as a completed trial with a violated constraint. Optuna's samplers ignore failed trials
and would propose the same region again (60 simulated trials with a hidden out-of-memory region: 12-34 crashes when told
as failed, 5.8 when told by constraint). Optuna sees each ordinal knob as its position on the ladder of values.
"""

import math
import random
import warnings
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from infertune.domain.knobs import Config, SearchSpace
from infertune.errors import BenchmarkError
from infertune.search.base import Result
from infertune.search.third_party import foreign_code

_ATTEMPTS = 20  # proposals, before one without a result is drawn at random; judgement
_MOST_TOLD = 2000  # results handed over at once, the last of them: more would take seconds; judgement
_FEASIBILITY = "feasible"


class OptunaSearcher:
    """Ask and tell with a sampler of Optuna's interface. What is pending is a running trial to it."""

    def __init__(self, space: SearchSpace, sampler: BaseSampler, *, seed: int, seeds: Sequence[Config]) -> None:
        """A search with a sampler that has seen no study yet.

        Args:
            space: What to search.
            sampler: Proposes configurations; what breaks a rule of the space is repaired.
            seed: Of the draws that are made where the sampler repeats itself.
            seeds: Configurations to try first, after the default.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._space = space
        self._rng = random.Random(seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        # A sampler that has tried everything stops its study, which Optuna allows inside of `optimize` only.
        self._study.stop = lambda: None  # type: ignore[method-assign]
        self._distributions: dict[str, BaseDistribution] = {
            knob.name: IntDistribution(0, len(knob.values) - 1)
            if knob.ordinal
            else CategoricalDistribution(range(len(knob.values)))
            for knob in space.knobs
            if len(knob.values) > 1
        }
        self._first = [space.repair(space.default), *map(space.repair, seeds)]
        self._told: set[Config] = set()
        self._open: dict[Config, optuna.Trial] = {}  # asked for and not told
        self._worst = math.inf

    def ask(self, launched: Config | None, pending: Collection[Config] = ()) -> Config | None:
        """The default and the seeds first, then what the sampler proposes; never the same configuration again."""
        taken = self._told | set(pending)
        for config in [config for config in self._open if config not in taken]:  # lost, or asked for in vain
            self._end_in_vain(self._open.pop(config))
        for config in pending:
            if config not in self._open:
                self._study.enqueue_trial(self._parameters(config))
                with self._sampler_at_work():
                    self._open[config] = self._study.ask(self._distributions)
        first = next((config for config in self._first if config not in taken), None)
        return first or self._propose(taken) or self._any_left(taken)

    def tell(self, result: Result) -> None:
        """Add a result."""
        self.recall([result])

    def recall(self, results: Iterable[Result]) -> None:
        """Add results; a failed one gets the worst score so far."""
        told = []
        for result in results:
            if result.score is not None:
                self._worst = min(self._worst, result.score)
            self._told.add(result.config)
            if trial := self._open.pop(result.config, None):
                trial.set_constraint(_FEASIBILITY, self._violation(result))
                with self._sampler_at_work():
                    self._study.tell(trial, self._value(result))
            else:
                told.append(self._frozen(result))
        self._study.add_trials(told[-_MOST_TOLD:])

    def exhausted(self) -> bool:
        """False: it has no estimate of what is left to gain."""
        return False

    def _frozen(self, result: Result) -> optuna.trial.FrozenTrial:
        """A result as a trial of Optuna's."""
        return optuna.trial.create_trial(
            params=self._parameters(result.config),
            distributions=self._distributions,
            value=self._value(result),
            constraints={_FEASIBILITY: self._violation(result)},
        )

    def _value(self, result: Result) -> float:
        worst = self._worst if math.isfinite(self._worst) else 0.0
        return worst if result.score is None else result.score

    def _violation(self, result: Result) -> float:
        return 1.0 if result.score is None else -1.0

    def _propose(self, taken: Collection[Config]) -> Config | None:
        """A configuration without a result from the sampler; None if all its proposals have one."""
        for _ in range(_ATTEMPTS):
            with self._sampler_at_work():
                trial = self._study.ask(self._distributions)
                proposed = self._config(trial)
            config = self._space.repair(proposed)
            if config not in taken and config == proposed:
                self._open[config] = trial
                return config
            # The proposal ends as failed, which samplers ignore; `recall` adds the repaired configuration's result.
            self._end_in_vain(trial)
            if config not in taken:
                return config
        return None

    def _config(self, trial: optuna.Trial) -> Config:
        """What a trial proposes; a knob with one value has that."""
        chosen = {
            knob.name: knob.values[trial.params[knob.name]] if knob.name in trial.params else knob.values[0]
            for knob in self._space.knobs
        }
        return Config(chosen)

    def _end_in_vain(self, trial: optuna.Trial) -> None:
        """End a trial without a result."""
        with self._sampler_at_work():
            self._study.tell(trial, state=TrialState.FAIL)

    def _sampler_at_work(self) -> AbstractContextManager[None]:
        """Around every ask and tell of the study: the sampler, which may be anybody's code, is called by both.

        Raises:
            BenchmarkError: The sampler has failed.
        """
        name = type(self._study.sampler).__name__
        advice = "; the trials so far are in the run's ledger"
        return foreign_code(BenchmarkError, f"the sampler {name} failed", advice)

    def _any_left(self, taken: Collection[Config]) -> Config | None:
        """Any configuration without a result: a sampler may repeat itself, near the space's corners above all."""
        for _ in range(200):
            values = {knob.name: self._rng.choice(knob.values) for knob in self._space.knobs}
            config = self._space.repair(Config(values))
            if config not in taken:
                return config
        if self._space.size > 100_000:
            return None
        return next((config for config in self._space.grid() if config not in taken), None)

    def _parameters(self, config: Config) -> dict[str, Any]:
        return {name: self._space[name].values.index(config[name]) for name in self._distributions}
