"""The search of a tune: measure configurations, the base first, until the budget ends."""

import math
from collections.abc import Callable

from infertune.bench.channel import Plan
from infertune.bench.crew import Worker
from infertune.bench.serving import ServePlan
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.measurement import describe
from infertune.domain.trial import Trial
from infertune.errors import BenchmarkError
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
        self._plan: Plan | ServePlan | None = None
        self._asked: list[Config] = []  # and not measured yet

    def run(self, searcher_of: Callable[[SearchSpace], Searcher]) -> str:
        """Ask, measure and tell until the search ends; why it ended, in words.

        A search whose proof has begun stays ended: another leader would make that proof one of two configurations.

        Args:
            searcher_of: Makes a strategy for a space; called again where a ladder is lengthened.

        Raises:
            BenchmarkError: The base cannot be measured, or not in what is tuned for.
        """
        trials, most = self._trials, self._request.most_trials
        for trial in trials.of("search")[:1]:  # a run that was refused is refused again when it is resumed
            self._check_first(trial)
        trials.widen()
        if trials.of("confirm", "final"):
            return self._over() or "it had ended before the run was resumed"
        searcher = self._recalling(searcher_of)
        trials.observer.phase("search", most, self._budget.search_s())
        while True:
            ended = self._occupy(searcher)
            if ended and not trials.crew.busy:
                return ended
            done = trials.crew.next_done()
            if done is None:  # a worker is free that was not there before
                continue
            trial = trials.write_down(done)
            if trial.phase != "search":
                continue
            self._asked.remove(trial.config)
            searcher.tell(trials.result(trial))
            self._check_first(trial)
            if trial.number == 0 and trial.measurement:
                self._answers.refer()  # while the base is loaded
            spoiled = self._answers.spoils(trial)
            if trials.widen() or spoiled:
                searcher = self._recalling(searcher_of)

    def _occupy(self, searcher: Searcher) -> str:
        """Give every free worker a configuration; in words why the search ends, empty while it does not."""
        trials = self._trials
        while not (ended := self._over()):
            worker = next(iter(trials.crew.free()), None)
            if worker is None or (self._asked and self._job_is_open()):
                return ""
            if self._needs_base(worker):
                trials.start(worker, "device", trials.base, self._next_plan(), fresh=False)
                continue
            config = searcher.ask(worker.launched, self._asked)
            if config is None:
                return "every configuration was measured"
            if self._may_end_early() and searcher.exhausted():
                return "nothing that is left is likely to gain 1%"
            if self._budget.search_is_over(next_is_live=worker.takes(config)):
                return "the time budget has no room for another trial beside the proof"
            self._asked.append(config)
            trials.start(worker, "search", config, self._next_plan(), fresh=False)
            if config == trials.base and self._job_is_open():  # the others measure it next, in a job of the size found
                trials.crew.launch_ahead(config)
        return ended

    def _over(self) -> str:
        """Why the search is over, whatever could be asked next; empty if it is not."""
        most, done = self._request.most_trials, self._trials.of("search")
        if most is not None and len(done) + len(self._asked) >= most:
            return f"all {most} trials were made"
        if self._budget.search_is_over():
            return "the time budget was used up"
        if self._may_end_early() and self._out_of_patience(done):
            return f"{self._request.patience} trials in a row gained less than 1%"
        return ""

    def _job_is_open(self) -> bool:
        """Whether the size of a job is not known: the base decides it, and the run ends if the base cannot run."""
        return not self._trials.of("search") or self._trials.n_requests is None

    def _needs_base(self, worker: Worker) -> bool:
        """Whether the base is to be measured on a further device first, so that devices can be compared."""
        trials = self._trials
        if worker.device_id is None or not trials.of("search") or trials.base in trials.failed("search", "device"):
            return False
        bases = [trial for trial in trials.of("search", "device") if trial.config == trials.base]
        return all(trial.device_id != worker.device_id for trial in bases)

    def _recalling(self, searcher_of: Callable[[SearchSpace], Searcher]) -> Searcher:
        """A strategy for the space as it is now, told of everything so far."""
        searcher = searcher_of(self._trials.space)
        searcher.recall([self._trials.result(trial) for trial in self._trials.of("search")])
        return searcher

    def _next_plan(self) -> Plan | ServePlan:
        """The same job for every configuration; a second window only for those that may still win."""
        trials = self._trials
        if self._plan is None or (isinstance(self._plan, Plan) and self._plan.window_s is not None):
            self._plan = trials.job.plan("search", trials.n_requests, windows=2)
        best = trials.best()
        if isinstance(self._plan, ServePlan) or trials.objective.name != "throughput" or best is None:
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
            raise BenchmarkError(missing)

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
