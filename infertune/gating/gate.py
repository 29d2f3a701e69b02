"""The gate: load a profile, check its fingerprint, launch base and candidate in turn, judge."""

from collections.abc import Sequence
from contextlib import ExitStack

from infertune.bench.locks import device_lock
from infertune.domain.figures import ENERGY_FIGURES
from infertune.domain.request import GateRequest
from infertune.errors import InterruptedRunError, UsageError
from infertune.gating.answers import answers_alone, check_flags, with_answers
from infertune.gating.check import check_can_judge, run_check
from infertune.gating.comparison import QUALITY, RATE, Comparison, compared
from infertune.gating.history import History, StoredRun
from infertune.gating.launches import Launches
from infertune.gating.loads import GOODPUT, length_of, lost, newly_lost, requests_behind
from infertune.gating.metrics import gain, paired_metrics, stored_gain, stored_metrics
from infertune.gating.result import GateResult, MetricResult, exit_code, record_of, save_json
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
from infertune.runs.job import Job
from infertune.runs.ledger import Ledger
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
            with ExitStack() as benches:
                launches = Launches(request, comparison, ledger, observer, benches, history.n_runs)
                run = _Run(request, comparison, launches, observer)
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
    """What a gate asks of its launches: a verdict in pairs, one against earlier runs, or what it could detect."""

    def __init__(self, request: GateRequest, comparison: Comparison, launches: Launches, observer: Observer) -> None:
        self._request = request
        self._comparison = comparison
        self._launches = launches
        self._observer = observer
        self._job = comparison.candidate.job
        self._size = ""  # where a job's size comes from, for people

    def in_pairs(self) -> GateResult:
        """Launch base and candidate in turn until a look decides or the last look is reached."""
        result = self._of_pairs(self._pairs(judge=True))
        promised = self._comparison.profile.gain
        name = {"throughput": RATE, "goodput": GOODPUT}.get(self._comparison.profile.objective)
        rate = next((metric for metric in result.metrics if metric.name == name), None)
        if self._comparison.against_default and promised and rate and (name == RATE or rate.gated):
            result = result.model_copy(update={"stored_gain": stored_gain(promised, rate)})
        return result

    def calibration(self) -> GateResult:
        """Compare the profile's configuration with itself over the largest number of pairs."""
        self._pairs(judge=False)
        found = calibrate(self._launches.gains()[self._comparison.metrics[0]], self._request.margin)
        return self._of_pairs(None).model_copy(update={"calibration": found})

    def against_history(self, history: History) -> GateResult:
        """Compare one run of a few launches with earlier runs."""
        request, launches, gated = self._request, self._launches, self._comparison.metrics
        n_requests = self._job_size(history.n_requests)
        self._observer.phase("stored", request.launches)
        for number in range(request.launches):
            launches.measure("new", self._job.plan("final", n_requests, number), number)
        unknown = lost(launches.measurements("new"), "")
        candidate = {name: samples for name, samples in launches.figures("new").items() if name not in unknown}
        launches.check_known(candidate)
        today = {name: mean_with_zeros(samples) for name, samples in candidate.items()}
        energy = launches.energy()
        earlier = history.figures(energy)
        n_worth = requests_behind(launches.measurements("new"))
        judgement = judge_stored(
            {name: gain(name, today[name]) for name in gated},
            {name: [gain(name, figure) for figure in earlier[name]] for name in gated},
            history.shares(today, n_worth),
        )
        metrics = stored_metrics(earlier, candidate, judgement)
        notes = list(history.notes)
        if judgement.answer == "inconclusive":
            fewest = min(len(earlier[name]) for name in gated)
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
                n_worth=n_worth,
                answer=judgement.answer,
                run=launches.ledger.folder.name,
                created_at=result.created_at,
            )
        )
        return result

    def _pairs(self, *, judge: bool) -> Judgement | None:
        """Launch pairs up to the first look that decides; without judging, up to the last look."""
        judgement = None
        launches = self._launches
        n_requests = self._job_size(None)
        self._observer.phase("pairs", 2 * LOOKS[-1])
        for number, candidate_first in enumerate(pair_order(self._order_seed())):
            plan = self._job.plan("final", n_requests, number)
            for phase in ("new", "base") if candidate_first else ("base", "new"):
                launches.measure(phase, plan, number)
                launches.check_known(launches.figures(phase))
            if judge and number + 1 in LOOKS:
                gains, reasons = launches.gains(), launches.withheld()
                withheld = [name for name in self._comparison.metrics if name in reasons]
                judged = {name: gains[name] for name in self._comparison.metrics if name not in withheld}
                failing = newly_lost(launches.measurements("base"), launches.measurements("new"))
                judgement = with_withheld(judge_pairs(judged, self._request.margin), withheld, failing)
                if judgement.answer != "inconclusive" or not judged:
                    break
        return judgement

    def _order_seed(self) -> str:
        """The seed of the launch order; without `--seed` it differs from gate to gate, so no periodic drift fits it."""
        given = "seed" in self._request.model_fields_set
        return str(self._request.seed) if given else self._launches.ledger.header.created_at

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
        trial = self._launches.measure("search", self._job.plan("search", None), 0)
        assert trial.measurement
        return trial.measurement.n_requests

    def _of_pairs(self, judgement: Judgement | None) -> GateResult:
        """The result of the pairs that were launched."""
        base, candidate = self._launches.figures("base"), self._launches.figures("new")
        metrics = paired_metrics(base, candidate, judgement, self._request.margin, self._launches.withheld())
        return self._result(judgement, metrics=metrics, pairs=len(candidate[RATE]))

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
        candidate, base = self._launches.measurements("new"), self._launches.measurements("base")
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
            base=record_of(comparison.base, base or candidate, base_label),
            new=record_of(comparison.candidate, candidate),
            metrics=metrics,
            fingerprint=fingerprint_of(self._job),
            n_requests=n_requests,
            notes=tuple(dict.fromkeys(notes)),
            run=str(self._launches.ledger.folder),
            created_at=self._launches.ledger.header.created_at,
        )
