"""The gate: load a profile, check its fingerprint, launch base and candidate in turn, judge."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack

from infertune.bench.bench import Bench
from infertune.bench.channel import Plan
from infertune.bench.locks import device_lock
from infertune.bench.serving import ServePlan
from infertune.domain.figures import ENERGY_FIGURES, FIGURES, energy_origins
from infertune.domain.measurement import Measurement, describe
from infertune.domain.request import GateRequest
from infertune.domain.trial import Phase, Trial
from infertune.errors import BenchmarkError, InterruptedRunError, UsageError
from infertune.gating.answers import answers_alone, check_flags, with_answers
from infertune.gating.check import check_can_judge, run_check
from infertune.gating.comparison import QUALITY, RATE, Arm, Comparison, compared
from infertune.gating.history import History
from infertune.gating.loads import (
    GOODPUT,
    check_answered,
    check_kept,
    check_on_time,
    guessed,
    length_of,
    lost,
    newly_lost,
)
from infertune.gating.result import (
    ArmRecord,
    GateResult,
    MetricResult,
    StoredRun,
    exit_code,
    gain,
    is_judged,
    paired_metrics,
    save_json,
    stored_gain,
    stored_metrics,
)
from infertune.gating.verdict import (
    FEWEST_RUNS,
    LOOKS,
    Judgement,
    calibrate,
    judge_pairs,
    judge_stored,
    pair_order,
    with_withheld,
)
from infertune.profiles.fingerprint import fingerprint_of
from infertune.profiles.profile import changed_settings
from infertune.runs.job import Job
from infertune.runs.ledger import Ledger, now
from infertune.runs.observer import Observer
from infertune.stats import mean_with_zeros
from infertune.version import __version__
from infertune.writing import check_inside

RESULT_NAME = "gate.json"
_CHECK_LAUNCH = 1000  # its launches are numbered from here: their logs lie beside those of the pairs
_ENERGY_NAMES = " and ".join(ENERGY_FIGURES)


def gate_request(request: GateRequest, observer: Observer | None = None) -> GateResult:
    """Measure a profile's configuration again and say whether it has become worse.

    Args:
        request: Which profile, and what it is compared with.
        observer: Is told of every step.

    Returns:
        The verdict with its samples; it is in the run's folder too.

    Raises:
        UsageError: The request cannot be; nothing was touched.
        MismatchError: The profile does not hold here; nothing was touched.
        BenchmarkError: Base or candidate could not be measured, the device is busy, or the disk is full.
        InterruptedRunError: Ctrl-C. The engines are gone; what was measured is in the run's folder.
    """
    observer = observer or Observer()
    check_flags(request)
    comparison = compared(request)
    if QUALITY in request.metric:
        check_can_judge(comparison.candidate.job)
    history = History(request, comparison)
    job = comparison.candidate.job
    with (
        device_lock(job.lock_names, wait=request.wait, on_note=observer.note),
        _new_ledger(job) as ledger,
    ):
        observer.run_starts(ledger.folder, job.engine_defaults)
        for note in (*comparison.notes, *history.notes):
            observer.note(note)
        try:
            with ExitStack() as open_benches:
                run = _Run(request, comparison, ledger, observer, open_benches, history.n_runs)
                if request.mode == "stored":
                    result = run.against_history(history)
                elif request.calibrate:
                    result = run.calibration()
                elif comparison.metrics:
                    result = run.in_pairs()
                else:
                    result = answers_alone(comparison, request, ledger)
            if QUALITY in request.metric:
                base, candidate = comparison.base, comparison.candidate
                check = run_check(request, base, candidate, ledger.folder, observer, first_launch=_CHECK_LAUNCH)
                result = with_answers(result, check, request)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted after {len(ledger.trials)} launches, without a verdict; they are in {ledger.folder}"
            ) from None
        ledger.finish(result.answer or "calibrated")
        try:
            save_json(ledger.folder, RESULT_NAME, result)
        except UsageError as error:  # the ledger has all samples; the verdict must be returned all the same
            observer.note(str(error))
        return result


def _new_ledger(job: Job) -> Ledger:
    folder = job.new_folder()
    check_inside(folder, (RESULT_NAME,), "result")
    return Ledger.create(folder, job.header("gate"))


class _Run:
    """The launches of a gate over one ledger, only one engine alive at a time."""

    def __init__(
        self,
        request: GateRequest,
        comparison: Comparison,
        ledger: Ledger,
        observer: Observer,
        benches: ExitStack,
        n_runs_before: int,
    ) -> None:
        self._request = request
        self._comparison = comparison
        self._ledger = ledger
        self._observer = observer
        self._job = comparison.candidate.job
        self._size = ""  # where a job's size comes from, for people
        # A simulated engine's noise depends on the launch number: successive runs must not repeat it.
        self._next_launch = n_runs_before * (request.launches + 1)
        self._candidate_bench = benches.enter_context(self._bench(comparison.candidate))
        self._base_bench = self._candidate_bench
        if not comparison.one_engine:
            self._base_bench = benches.enter_context(self._bench(comparison.base))

    def in_pairs(self) -> GateResult:
        """Launch base and candidate in turn until a look decides or the last look is reached."""
        judgement = self._pairs(judge=True)
        base, candidate = self._figures("base"), self._figures("new")
        metrics = paired_metrics(base, candidate, judgement, self._request.margin, self._withheld())
        result = self._result(judgement, metrics=metrics, pairs=len(candidate[RATE]))
        promised = self._comparison.profile.gain
        name = {"throughput": RATE, "goodput": GOODPUT}.get(self._comparison.profile.objective)
        rate = next((metric for metric in metrics if metric.name == name), None)
        if self._comparison.against_default and promised and rate and (name == RATE or rate.gated):
            result = result.model_copy(update={"stored_gain": stored_gain(promised, rate)})
        return result

    def calibration(self) -> GateResult:
        """Compare the profile's configuration with itself over the largest number of pairs."""
        self._pairs(judge=False)
        base, candidate = self._figures("base"), self._figures("new")
        metrics = paired_metrics(base, candidate, None, self._request.margin, self._withheld())
        name = self._comparison.metrics[0]
        found = calibrate(self._gains(base, candidate)[name], self._request.margin)
        return self._result(None, metrics=metrics, pairs=len(candidate[RATE])).model_copy(update={"calibration": found})

    def against_history(self, history: History) -> GateResult:
        """Compare one run of a few launches with earlier runs."""
        request = self._request
        n_requests = self._job_size(history.n_requests)
        self._observer.phase("stored", request.launches)
        for number in range(request.launches):
            self._measure("new", self._job.plan("final", n_requests, number), number)
        unknown = lost(self._measurements("new"), "")
        candidate = {name: samples for name, samples in self._figures("new").items() if name not in unknown}
        self._check_known(candidate)
        today = {name: mean_with_zeros(samples) for name, samples in candidate.items()}
        energy = self._one_energy()
        earlier = {
            name: [gain(name, run.samples[name]) for run in history.runs if run.compares(name, energy)]
            for name in self._comparison.metrics
        }
        judgement = judge_stored({name: gain(name, today[name]) for name in self._comparison.metrics}, earlier)
        metrics = stored_metrics(history.runs, candidate, judgement, energy)
        notes = list(history.notes)
        if judgement.answer == "inconclusive":
            fewest = min(map(len, earlier.values()))
            notes.append(f"{fewest} of the {FEWEST_RUNS} earlier runs that a verdict needs are there")
        others = sum(run.energy != energy for run in history.runs)
        if others and any(name in ENERGY_FIGURES for name in candidate):
            notes.append(
                f"{_ENERGY_NAMES} are not compared with {others} earlier runs, whose energy is of something else"
            )
        label = f"{len(history.runs)} earlier runs"
        result = self._result(judgement, metrics=metrics, pairs=request.launches, notes=notes, base_label=label)
        history.add(
            StoredRun(
                fingerprint=result.fingerprint,
                config=self._comparison.candidate.config,
                n_requests=result.n_requests,
                window_s=None if request.requests else request.window,
                load=length_of(self._job.serving),
                launches=request.launches,
                samples=today,
                energy=energy,
                answer=judgement.answer,
                run=self._ledger.folder.name,
                created_at=result.created_at,
            )
        )
        return result

    def _pairs(self, *, judge: bool) -> Judgement | None:
        """Launch pairs up to the first look that decides; without judging, up to the last look."""
        judgement = None
        n_requests = self._job_size(None)
        self._observer.phase("pairs", 2 * LOOKS[-1])
        for number, candidate_first in enumerate(pair_order(self._order_seed())):
            plan = self._job.plan("final", n_requests, number)
            for phase in ("new", "base") if candidate_first else ("base", "new"):
                self._measure(phase, plan, number)
                self._check_known(self._figures(phase))
            if judge and number + 1 in LOOKS:
                gains = self._gains(self._figures("base"), self._figures("new"))
                reasons = self._withheld()
                withheld = [name for name in self._comparison.metrics if name in reasons]
                judged = {name: gains[name] for name in self._comparison.metrics if name not in withheld}
                failing = newly_lost(self._measurements("base"), self._measurements("new"))
                judgement = with_withheld(judge_pairs(judged, self._request.margin), withheld, failing)
                if judgement.answer != "inconclusive" or not judged:
                    break
        return judgement

    def _order_seed(self) -> str:
        """The seed of the launch order; without `--seed` it differs from gate to gate, so no periodic drift fits it."""
        given = "seed" in self._request.model_fields_set
        return str(self._request.seed) if given else self._ledger.header.created_at

    def _job_size(self, of_history: int | None) -> int:
        """Requests in every job: as asked for, else as many as fill one window of the base, found by a launch."""
        if serving := self._job.serving:
            self._size = f", {length_of(serving)}"
            return 1
        sources = (
            (self._request.requests, "--requests asks"),
            (of_history, "the earlier runs have"),
            (self._job.request.requests, "the profile has"),
        )
        for n_requests, whose in sources:
            if n_requests is not None:
                self._size = f" as {whose}"
                return n_requests
        self._size = f" fill {self._job.window_s:g} s of {self._comparison.base.label}"
        self._observer.phase("sizing the job", 1)
        trial = self._measure("search", self._job.plan("search", None), 0)
        assert trial.measurement
        return trial.measurement.n_requests

    def _measure(self, phase: Phase, plan: Plan | ServePlan, number: int) -> Trial:
        """Launch and measure base or candidate once.

        Raises:
            BenchmarkError: It could not be measured.
        """
        of_candidate = phase == "new"
        arm = self._comparison.candidate if of_candidate else self._comparison.base
        bench = self._candidate_bench if of_candidate else self._base_bench
        bench.next_launch = self._next_launch
        if isinstance(plan, ServePlan):
            plan = guessed(plan, self._measurements(phase), self._comparison.profile, of_profile=of_candidate)
        self._observer.trial_starts(arm.config, live=False)
        started_at = now()
        attempt = bench.measure(arm.config, plan, fresh=True)
        bench.close()
        self._next_launch = bench.next_launch
        trial = Trial.of(len(self._ledger.trials), phase, number, arm.config, started_at, attempt)
        self._ledger.append(trial, attempt.rows)
        figure = trial.measurement.output_tokens_per_s if trial.measurement else None
        self._observer.trial_ends(trial, figure=figure, best=None, default=None)
        if trial.measurement is None:
            raise BenchmarkError(
                f"{arm.label} could not be measured: {describe(trial.outcome)}; "
                f"its log is in {self._ledger.folder / 'logs'}"
            )
        check_on_time(trial.measurement, arm.label)
        if GOODPUT in self._comparison.metrics:
            check_kept(trial.measurement, arm.label)
        if self._request.mode == "stored" or self._request.calibrate:
            check_answered(trial.measurement, arm.label, self._comparison.metrics)
        return trial

    def _bench(self, arm: Arm) -> Bench:
        return arm.job.bench(self._ledger.folder, on_note=self._observer.note)

    def _measurements(self, phase: Phase) -> list[Measurement]:
        return [trial.measurement for trial in self._ledger.trials if trial.phase == phase and trial.measurement]

    def _figures(self, phase: Phase) -> dict[str, list[float]]:
        """Metric → one figure a launch of a phase; metrics that some launch lacks are left out."""
        measurements = self._measurements(phase)
        found: dict[str, list[float]] = defaultdict(list)
        for measurement in measurements:
            for name, figure in FIGURES.items():
                value = figure.of(measurement)
                if value is not None and is_judged(name, value):
                    found[name].append(value)
        return {name: values for name, values in found.items() if len(values) == len(measurements)}

    def _withheld(self) -> dict[str, str]:
        """Metric → why base and candidate are not compared in it.

        Joules of a GPU and of a processor do not compare, nor do quantiles of requests of which too many failed.
        """
        base, new = self._measurements("base"), self._measurements("new")
        withheld = {**lost(base, self._comparison.base.label), **lost(new, self._comparison.candidate.label)}
        found = energy_origins([*base, *new])
        if len(found) > 1:
            withheld |= dict.fromkeys(ENERGY_FIGURES, f"energy is of {' here, of '.join(found)} there")
        return withheld

    def _one_energy(self) -> str:
        """The source of the energy of today's launches; empty if the launches differ."""
        found = energy_origins(self._measurements("new"))
        return found[0] if len(found) == 1 else ""

    def _check_known(self, figures: dict[str, list[float]]) -> None:
        """Refuse to go on for a metric that this engine or machine does not give."""
        if missing := [name for name in self._comparison.metrics if name not in figures]:
            raise BenchmarkError(f"--metric {missing[0]} cannot be measured here; available are {', '.join(figures)}")

    def _gains(self, base: dict[str, list[float]], candidate: dict[str, list[float]]) -> dict[str, list[float]]:
        known = [name for name in self._comparison.metrics if name in base and name in candidate]
        return {name: [gain(name, n, b) for n, b in zip(candidate[name], base[name], strict=True)] for name in known}

    def _result(
        self,
        judgement: Judgement | None,
        metrics: tuple[MetricResult, ...],
        pairs: int,
        notes: Sequence[str] = (),
        base_label: str = "",
    ) -> GateResult:
        request, comparison = self._request, self._comparison
        answer = judgement.answer if judgement else None
        candidate, base = self._measurements("new"), self._measurements("base")
        n_requests = candidate[0].n_requests
        notes = [
            *comparison.notes,
            *notes,
            f"{n_requests} requests in a {'load' if self._job.serving else 'job'}{self._size}",
        ]
        if request.mode != "stored":
            reasons = {metric.withheld: metric.name in ENERGY_FIGURES for metric in metrics if metric.withheld}
            for reason, of_energy in reasons.items():
                what = f"{_ENERGY_NAMES} have no verdict" if of_energy else "quantiles of times are not compared"
                notes.append(f"{what}: {reason}")
        return GateResult(
            infertune_version=__version__,
            answer=answer,
            exit_code=exit_code(answer, request.on_inconclusive),
            mode="calibrate" if request.calibrate else request.mode,
            question=comparison.question,
            profile=str(request.profile),
            margin=None if request.mode == "stored" else request.margin,
            pairs=pairs,
            base=_record(comparison.base, base or candidate, base_label),
            new=_record(comparison.candidate, candidate),
            metrics=metrics,
            fingerprint=fingerprint_of(self._job),
            n_requests=n_requests,
            notes=tuple(dict.fromkeys(notes)),
            run=str(self._ledger.folder),
            created_at=self._ledger.header.created_at,
        )


def _record(arm: Arm, launches: Sequence[Measurement], label: str = "") -> ArmRecord:
    job = arm.job
    return ArmRecord(
        label=label or arm.label,
        engine=f"{job.engine.name} {job.availability.version}",
        versions=launches[0].facts.versions,
        model=job.model.spec if job.model else None,
        config=arm.config,
        changed=changed_settings(arm.config, job.engine_defaults),
        energy=energy_origins(launches),
    )
