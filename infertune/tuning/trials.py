"""The trials of a tune: measured, written down, told to whoever watches; what every phase of it shares."""

from infertune.bench.channel import Plan
from infertune.bench.crew import Crew, Done, Order, Worker
from infertune.bench.serving import ServePlan
from infertune.domain.knobs import Config
from infertune.domain.measurement import Measurement
from infertune.domain.objective import Objective
from infertune.domain.request import TuneRequest
from infertune.domain.trial import Phase, Trial
from infertune.landscape import shift_of
from infertune.runs.aiming import aimed
from infertune.runs.job import Job
from infertune.runs.ledger import Ledger, now
from infertune.runs.observer import Observer
from infertune.runs.rejection import rejected_by
from infertune.runs.summary import default_config, figures, ranked, requests_of
from infertune.runs.whole_rounds import failed_in, has_figure
from infertune.search import Result
from infertune.stats import geometric_mean
from infertune.tuning.growing import grown

_SLOWEST_SHARE = 5  # times what the base takes: slower configurations are ended; judgement
_SHORTEST_WARMUP_DEADLINE_S, _SHORTEST_RUN_DEADLINE_S = 60.0, 30.0  # judgement


class Trials:
    """A tune's ledger and who measures for it.

    Attributes:
        request: What was asked.
        job: It made concrete.
        ledger: Every trial so far.
        crew: Measures configurations.
        objective: What is tuned for.
        observer: Is told of every trial.
        base: What is to be beaten: the engine's default, or what runs today.
        space: The job's, with ladders as long as the search has made them.
        n_requests: Requests of a job; None until the first measurement where the request does not say.
    """

    def __init__(
        self, request: TuneRequest, job: Job, ledger: Ledger, crew: Crew, objective: Objective, observer: Observer
    ) -> None:
        self.request = request
        self.job = job
        self.ledger = ledger
        self.crew = crew
        self.objective = objective
        self.observer = observer
        self.base = default_config(ledger)
        self.space = job.space
        self.n_requests = requests_of(ledger.trials) or request.requests
        self._noted = set(job.notes)
        for trial in ledger.trials:
            self._set_deadlines(trial)

    def start(
        self,
        worker: Worker,
        phase: Phase,
        config: Config,
        plan: Plan | ServePlan,
        *,
        fresh: bool,
        round_number: int = 0,
        only_here: bool = False,
    ) -> None:
        """Give a free worker a configuration to measure.

        Args:
            worker: Who measures it.
            phase: What it is measured for.
            config: All knobs.
            plan: What to run.
            fresh: Whether it gets a launch of its own.
            round_number: The round of a confirmation or comparison.
            only_here: It belongs to a round on one device; no other worker takes it over.
        """
        self.observer.trial_starts(config, live=not fresh and worker.takes(config))
        if isinstance(plan, ServePlan):
            plan = aimed(plan, config, self.ledger.trials, self.space, closely=phase in ("confirm", "final"))
        self.crew.submit(worker, Order(phase, config, plan, fresh, now(), round_number, only_here))

    def write_down(self, done: Done) -> Trial:
        """What came of an order as a trial of the ledger.

        Args:
            done: An order that was measured.
        """
        order = done.order
        assert done.attempt
        trial = Trial.of(
            len(self.ledger.trials),
            order.phase,
            order.round_number,
            order.config,
            order.started_at,
            done.attempt,
            done.device_id,
        )
        self.ledger.append(trial, done.attempt.rows)
        if self.n_requests is None and trial.measurement:
            self.n_requests = trial.measurement.n_requests
        for note in trial.measurement.facts.notes if trial.measurement else ():
            if note not in self._noted:
                self._noted.add(note)
                self.observer.note(note)
        best = self.best()
        base = figures(self.ledger.trials, self.base, self.objective)
        self.observer.trial_ends(
            trial,
            figure=self.objective.figure(trial.measurement) if trial.measurement else None,
            best=best[1] if best else None,
            default=geometric_mean(base) if base else None,
        )
        self._set_deadlines(trial)
        return trial

    def widen(self) -> bool:
        """Lengthen the ladders at whose end the best of the search lies; whether one was lengthened."""
        wider = grown(self.job.space, self.of("search"), self.objective)
        if wider == self.space or self.request.sampler == "grid":
            return False
        for knob in wider.knobs:
            if len(knob.values) > len(self.space[knob.name].values):
                self.observer.note(f"the best lies at the end of {knob.name}: it may be {knob.values[-1]} too")
        self.space = wider
        self.crew.widen(wider)
        return True

    def of(self, *phases: Phase) -> list[Trial]:
        """The trials of some phases, in order."""
        return [trial for trial in self.ledger.trials if trial.phase in phases]

    def failed(self, *phases: Phase) -> set[Config]:
        """Configurations that failed in some phases."""
        return {trial.config for trial in self.of(*phases) if trial.measurement is None}

    def out(self, phase: Phase) -> set[Config]:
        """Configurations that are out of a confirmation or of a final comparison, since their launches failed in it."""
        return failed_in(self.of(phase), self.objective)

    def done(self, phase: Phase, round_number: int, config: Config, device_id: str | None) -> bool:
        """Whether a device has a figure of a configuration in a round already, as after a resume."""
        found = (trial for trial in self.of(phase) if trial.round_number == round_number)
        of_device = (trial for trial in found if trial.config == config and trial.device_id == device_id)
        return any(has_figure(trial, self.objective) for trial in of_device)

    def best(self) -> tuple[Config, float] | None:
        """The best configuration of the search with its figure, without those whose answers were found to be worse."""
        order = ranked(self.ledger.trials, self.objective)
        return next((pair for pair in order if not rejected_by(self.ledger, pair[0])), None)

    def score(self, trial: Trial) -> float | None:
        """ln(objective) of a trial, None if it failed, broke a limit, or its answers were found to be worse."""
        if trial.measurement is None or rejected_by(self.ledger, trial.config):
            return None
        return self.objective.score(trial.measurement)

    def result(self, trial: Trial, rounds: int = 0) -> Result:
        """A trial as a search strategy is told of it.

        Args:
            trial: The trial.
            rounds: Of the confirmation, from which its device is known beside the search. What was launched later
                stays out: a choice that is made once more, as after a resume, is then the same.
        """
        n_requests = trial.measurement.n_requests if trial.measurement else None
        launch = trial.launch_number
        score = self.score(trial)
        if score is not None:
            confirmed = (one for one in self.of("confirm") if one.round_number < rounds)
            score -= shift_of(trial.device_id, [*self.of("search", "device"), *confirmed], self.objective)
        return Result(trial.config, score, trial.launch_s, trial.run_s, n_requests, launch)

    def _set_deadlines(self, trial: Trial) -> None:
        """A configuration several times slower than the base is ended, unless the user set a deadline."""
        if self.request.run_timeout is None and trial.measurement and trial.config == self.base:
            deadlines = _deadlines_from(trial.measurement)
            self.crew.deadlines = self.crew.deadlines.model_copy(update=deadlines)


def _deadlines_from(measurement: Measurement) -> dict[str, float]:
    """Deadlines in seconds from a measurement of the base."""
    window_s = max(window.duration_s for window in measurement.windows)
    return {
        "warmup_s": max(_SHORTEST_WARMUP_DEADLINE_S, _SLOWEST_SHARE * measurement.warmup_s),
        "run_s": max(_SHORTEST_RUN_DEADLINE_S, _SLOWEST_SHARE * window_s * len(measurement.windows)),
    }
