"""The search of a tune: measure configurations, the base first, until the budget ends."""

import math
from collections.abc import Callable

from infertune.bench.channel import Plan
from infertune.domain.knobs import SearchSpace
from infertune.domain.measurement import describe
from infertune.domain.trial import Trial
from infertune.errors import BenchmarkError, UsageError
from infertune.search import Searcher
from infertune.tuning.answers import Answers
from infertune.tuning.budget import Budget
from infertune.tuning.trials import Trials

_RACING_SHARE = 0.7  # of the best rate: a slower first window gets no second one (MEASURING.md, racing)
_GAIN_WORTH_PATIENCE = math.log(1.01)


class SearchPhase:
    """The search; it continues where the ledger ends."""

    def __init__(self, trials: Trials, budget: Budget, answers: Answers) -> None:
        self._trials = trials
        self._answers = answers
        self._budget = budget
        self._request = trials.request
        self._plan: Plan | None = None

    def run(self, searcher_of: Callable[[SearchSpace], Searcher]) -> str:
        """Ask, measure and tell until the search ends; why it ended, in words.

        Args:
            searcher_of: Makes a strategy for a space; called again where a ladder is lengthened.

        Raises:
            BenchmarkError: The base cannot be measured.
            UsageError: This machine cannot measure what is tuned for.
        """
        trials, most = self._trials, self._request.most_trials
        trials.widen()
        searcher = self._recalling(searcher_of)
        trials.observer.phase("search", most, self._budget.search_s())
        while True:
            done = trials.of("search")
            if most is not None and len(done) >= most:
                return f"all {most} trials were made"
            if self._budget.search_is_over():
                return "the time budget was used up"
            if self._may_end_early() and self._out_of_patience(done):
                return f"{self._request.patience} trials in a row gained less than 1%"
            config = searcher.ask(trials.bench.launched)
            if config is None:
                return "every configuration was measured"
            if self._may_end_early() and searcher.exhausted():
                return "nothing that is left is likely to gain 1%"
            trial = trials.measure("search", config, self._next_plan(), fresh=False)
            searcher.tell(trials.result(trial))
            self._check_first(trial)
            if trial.number == 0 and trial.measurement:
                self._answers.refer()  # while the base is loaded
            spoiled = self._answers.spoils(trial)
            if trials.widen() or spoiled:
                searcher = self._recalling(searcher_of)

    def _recalling(self, searcher_of: Callable[[SearchSpace], Searcher]) -> Searcher:
        """A strategy for the space as it is now, told of everything so far."""
        searcher = searcher_of(self._trials.space)
        searcher.recall([self._trials.result(trial) for trial in self._trials.of("search")])
        return searcher

    def _next_plan(self) -> Plan:
        """The same job for every configuration; a second window only for those that may still win."""
        trials = self._trials
        if self._plan is None or self._plan.window_s is not None:
            self._plan = trials.job.plan("search", trials.n_requests, windows=2)
        best = trials.best()
        if trials.objective.name != "throughput" or best is None:
            return self._plan  # racing is by rate: it is no guide where something else is tuned for
        return self._plan.model_copy(update={"floor_output_tokens_per_s": _RACING_SHARE * best[1]})

    def _check_first(self, trial: Trial) -> None:
        """A base that crashes, or of which the objective is unknown, ends the run."""
        trials = self._trials
        if trial.number == 0 and trial.outcome.kind in ("crashed", "timed_out"):
            raise BenchmarkError(
                f"{self._what_is_beaten()} could not be measured: {describe(trial.outcome)}; "
                f"its log is in {trials.ledger.folder / 'logs'}"
            )
        if trial.number == 0 and trial.measurement and (missing := trials.objective.unknown(trial.measurement)):
            raise UsageError(missing)

    def _what_is_beaten(self) -> str:
        default = self._trials.ledger.header.stock is None
        return "the engine's default configuration" if default else "the configuration that runs today"

    def _may_end_early(self) -> bool:
        """Not where the user asked for a number of trials, or for the whole grid."""
        return self._request.sampler != "grid" and (self._request.budget is not None or self._request.trials is None)

    def _out_of_patience(self, done: list[Trial]) -> bool:
        """Whether the last trials brought no gain over 1%."""
        best, since = -math.inf, 0
        for trial in done:
            score = self._trials.score(trial)
            gained = score is not None and score > best + _GAIN_WORTH_PATIENCE
            best, since = (score if score is not None and gained else best), (0 if gained else since + 1)
        return since >= self._request.patience
