"""The three phases of a tune over one ledger: the search, the confirmation of its finalists, the final comparison."""

import math
from collections import defaultdict
from collections.abc import Sequence

from infertune.bench.bench import Bench
from infertune.bench.channel import Plan
from infertune.domain.knobs import Config
from infertune.domain.measurement import Measurement, describe
from infertune.domain.objective import Objective
from infertune.domain.request import TuneRequest
from infertune.domain.trial import Phase, Trial
from infertune.errors import BenchmarkError, UsageError
from infertune.runs.job import Job
from infertune.runs.ledger import Ledger, now
from infertune.runs.observer import Observer
from infertune.runs.summary import confirmed, default_config, figures, final_rounds, ranked, requests_of
from infertune.search import Predictor, Result, Searcher, believed
from infertune.stats import ENOUGH_HALF_WIDTH, geometric_mean, is_settled
from infertune.tuning.budget import Budget

LEADERS = 2  # of the confirmation at half-time

_RACING_SHARE = 0.7
_SLOWEST_SHARE = 5
_GAIN_WORTH_PATIENCE = math.log(1.01)


class Phases:
    """A tune at work; each phase continues where the ledger ends."""

    def __init__(
        self,
        request: TuneRequest,
        job: Job,
        ledger: Ledger,
        bench: Bench,
        objective: Objective,
        observer: Observer,
        predictor: Predictor | None = None,
    ) -> None:
        self._request = request
        self._job = job
        self._ledger = ledger
        self._bench = bench
        self._objective = objective
        self._observer = observer
        self._predictor = predictor
        self._default = default_config(ledger)
        self._n_requests = requests_of(ledger.trials) or request.requests
        self._plan: Plan | None = None
        self._noted = set(job.notes)
        self._budget = Budget(request, ledger)
        for trial in ledger.trials:
            self._set_deadlines(trial)

    def search(self, searcher: Searcher) -> str:
        """Measure configurations until the budget ends, the default first; why it ended."""
        searcher.recall(self._searched())
        most = self._request.most_trials
        self._observer.phase("search", most, self._budget.search_s())
        while True:
            done = [trial for trial in self._ledger.trials if trial.phase == "search"]
            if most is not None and len(done) >= most:
                return f"all {most} trials were made"
            if self._budget.search_is_over():
                return "the time budget was used up"
            if self._may_end_early() and self._out_of_patience(done):
                return f"{self._request.patience} trials in a row gained less than 1%"
            config = searcher.ask(self._bench.launched)
            if config is None:
                return "every configuration was measured"
            if self._may_end_early() and searcher.exhausted():
                return "nothing that is left is likely to gain 1%"
            trial = self._measure("search", config, self._search_plan(), fresh=False)
            searcher.tell(self._result(trial))
            self._after(trial)

    def confirm(self) -> Config | None:
        """Measure the best and the default again, on fresh launches in turn and on unseen prompts; the winner.

        After the first half of the rounds the two best share the launches of the rest: successive halving, once
        (Karnin, Koren and Somekh, Almost optimal exploration in multi-armed bandits, ICML 2013). None if nothing looks
        better than the default. A single finalist needs no confirmation: it is compared at once.
        """
        finalists = self._finalists()
        n_finalists, rounds = self._budget.affordable(len(finalists))
        finalists = finalists[:n_finalists]
        if len(finalists) <= 1:
            return finalists[0] if finalists else None
        configs = [self._default, *finalists]
        self._observer.phase("confirm", rounds * len(configs))
        first, more = halved(len(configs), rounds)
        self._confirm(configs, range(first))
        order = self._believed_best(first)
        if more:
            self._confirm(order[:LEADERS], range(first, first + more))
            order = self._believed_best(first + more)
        return order[0] if order and order[0] != self._default else None

    def compare(self, winner: Config | None) -> None:
        """The winner against the default once more, on further unseen prompts: the number that is reported.

        A configuration that was brought from elsewhere is launched in turn with both, and so is the engine's default
        where another configuration runs today.
        """
        others = [config for config in (*self._beside(), winner) if config not in (None, self._default)]
        configs = list(dict.fromkeys([self._default, *others]))
        if len(configs) == 1:
            return
        least, most = self._request.final_launches
        self._observer.phase("final comparison", len(configs) * most)
        for number in range(most):
            plan = self._job.plan("final", self._n_requests, number)
            for config in configs if number % 2 == 0 else reversed(configs):
                if not self._failed("final") and not self._done("final", number, config):
                    self._measure("final", config, plan, fresh=True, round_number=number)
            if self._failed("final"):
                return
            final = final_rounds(self._ledger, self._objective)
            if final and number + 1 >= least:
                settled = is_settled(final.candidate_samples, final.default_samples, ENOUGH_HALF_WIDTH)
                if settled or self._budget.left_s() <= 0:
                    return

    def _confirm(self, configs: Sequence[Config], rounds: range) -> None:
        """Rounds of fresh launches in turn; what failed in one is out."""
        for number in rounds:
            plan = self._job.plan("confirm", self._n_requests, number)
            for config in configs if number % 2 == 0 else reversed(configs):
                if config not in self._failed("confirm") and not self._done("confirm", number, config):
                    self._measure("confirm", config, plan, fresh=True, round_number=number)

    def _beside(self) -> list[Config]:
        """What is compared besides, if it runs here: what was best elsewhere, and the engine's default."""
        header = self._ledger.header
        ran = {trial.config for trial in self._ledger.trials if trial.measurement}
        return [config for config in (header.ported, header.stock) if config in ran]

    def _failed(self, phase: Phase) -> set[Config]:
        """Configurations that failed in a phase: they are not tried in it again."""
        return {trial.config for trial in self._ledger.trials if trial.phase == phase and trial.measurement is None}

    def _measure(self, phase: Phase, config: Config, plan: Plan, *, fresh: bool, round_number: int = 0) -> Trial:
        self._observer.trial_starts(config, live=not fresh and self._bench.takes(config))
        started_at = now()
        attempt = self._bench.measure(config, plan, fresh=fresh)
        trial = Trial.of(len(self._ledger.trials), phase, round_number, config, started_at, attempt)
        self._ledger.append(trial)
        if self._n_requests is None and trial.measurement:
            self._n_requests = trial.measurement.n_requests
        for note in trial.measurement.facts.notes if trial.measurement else ():
            if note not in self._noted:
                self._noted.add(note)
                self._observer.note(note)
        order = ranked(self._ledger.trials, self._objective)
        default = figures(self._ledger.trials, self._default, self._objective)
        self._observer.trial_ends(
            trial,
            figure=self._objective.figure(trial.measurement) if trial.measurement else None,
            best=order[0][1] if order else None,
            default=geometric_mean(default) if default else None,
        )
        return trial

    def _search_plan(self) -> Plan:
        """The same job for every configuration; a second window only for those that may still win."""
        if self._plan is None or self._plan.window_s is not None:
            self._plan = self._job.plan("search", self._n_requests, windows=2)
        order = ranked(self._ledger.trials, self._objective)
        if self._objective.name != "throughput" or not order:
            return self._plan  # racing is by rate: it is no guide where something else is tuned for
        return self._plan.model_copy(update={"floor_output_tokens_per_s": _RACING_SHARE * order[0][1]})

    def _after(self, trial: Trial) -> None:
        """A default that crashes, or of which the objective is unknown, ends the run."""
        if trial.number == 0 and trial.outcome.kind in ("crashed", "timed_out"):
            raise BenchmarkError(
                f"{self._what_is_beaten()} could not be measured: {describe(trial.outcome)}; "
                f"its log is in {self._ledger.folder / 'logs'}"
            )
        if trial.number == 0 and trial.measurement and (missing := self._objective.unknown(trial.measurement)):
            raise UsageError(missing)
        self._set_deadlines(trial)

    def _what_is_beaten(self) -> str:
        default = self._ledger.header.stock is None
        return "the engine's default configuration" if default else "the configuration that runs today"

    def _set_deadlines(self, trial: Trial) -> None:
        """A configuration that is several times slower than the default is ended, unless the user set a deadline."""
        if self._request.run_timeout is None and trial.measurement and trial.config == self._default:
            self._bench.deadlines = self._bench.deadlines.model_copy(update=_deadlines_from(trial.measurement))

    def _finalists(self) -> list[Config]:
        """The best of the search that look better than the default, best first, by a model of all its trials."""
        order = believed(self._job.space, self._searched(), predictor=self._predictor)
        default = dict(order).get(self._default, -math.inf)
        better = [config for config, score in order if score > default]
        return better[: self._request.finalists]

    def _believed_best(self, rounds: int) -> list[Config]:
        """What kept the limits in all of the first rounds of the confirmation, best first by a model of all trials."""
        trials = [trial for trial in self._ledger.trials if trial.phase != "confirm" or trial.round_number < rounds]
        kept = {config for config, _ in confirmed(trials, self._objective)}
        by_round: dict[int, list[Result]] = defaultdict(list)
        for trial in trials:
            if trial.phase == "confirm":
                by_round[trial.round_number].append(self._result(trial))
        order = believed(self._job.space, self._searched(), by_round.values(), self._predictor)
        return [config for config, _ in order if config in kept]

    def _searched(self) -> list[Result]:
        return [self._result(trial) for trial in self._ledger.trials if trial.phase == "search"]

    def _score(self, trial: Trial) -> float | None:
        return self._objective.score(trial.measurement) if trial.measurement else None

    def _result(self, trial: Trial) -> Result:
        n_requests = trial.measurement.n_requests if trial.measurement else None
        return Result(trial.config, self._score(trial), trial.launch_s, trial.run_s, n_requests)

    def _done(self, phase: Phase, round_number: int, config: Config) -> bool:
        return any(
            t.phase == phase and t.round_number == round_number and t.config == config for t in self._ledger.trials
        )

    def _may_end_early(self) -> bool:
        """Not where the user asked for a number of trials, or for the whole grid."""
        return self._request.sampler != "grid" and (self._request.budget is not None or self._request.trials is None)

    def _out_of_patience(self, done: list[Trial]) -> bool:
        """Whether the last trials brought no gain over 1%."""
        best, since = -math.inf, 0
        for trial in done:
            score = self._score(trial)
            gained = score is not None and score > best + _GAIN_WORTH_PATIENCE
            best, since = (score if score is not None and gained else best), (0 if gained else since + 1)
        return since >= self._request.patience


def halved(configs: int, rounds: int) -> tuple[int, int]:
    """Rounds of a confirmation for all configurations, and then for the two best, in as many launches as without.

    With three or fewer there is nothing to be gained by halving them.
    """
    if configs <= LEADERS + 1:
        return rounds, 0
    first = (rounds + 1) // 2
    return first, (rounds - first) * configs // LEADERS


def _deadlines_from(measurement: Measurement) -> dict[str, float]:
    """Deadlines from a measurement of the default."""
    window_s = max(window.duration_s for window in measurement.windows)
    return {
        "warmup_s": max(60.0, _SLOWEST_SHARE * measurement.warmup_s),
        "run_s": max(30.0, _SLOWEST_SHARE * window_s * len(measurement.windows)),
    }
