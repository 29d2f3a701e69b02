"""Is it still as fast? Load a profile, check its fingerprint, launch in turn, judge, answer with an exit code."""

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack

from infertune.bench.bench import Bench
from infertune.bench.channel import Plan
from infertune.bench.isolation import device_lock
from infertune.domain.figures import ENERGY_FIGURES, FIGURES, energy_origins
from infertune.domain.measurement import Measurement, describe
from infertune.domain.request import GateRequest
from infertune.domain.trial import Phase, Trial
from infertune.errors import BenchmarkError, InterruptedRunError, UsageError
from infertune.gating.result import (
    GateResult,
    MetricResult,
    SideRecord,
    StoredRun,
    comparable,
    exit_code,
    gain,
    paired_metrics,
    read_history,
    save_json,
    stored_gain,
    stored_metrics,
)
from infertune.gating.sides import RATE, Comparison, Side, compared
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
from infertune.runs.ledger import Ledger, now
from infertune.runs.observer import Observer
from infertune.stats import geometric_mean
from infertune.version import __version__

RESULT_NAME = "gate.json"
_ENERGY_NAMES = " and ".join(ENERGY_FIGURES)


def gate_request(request: GateRequest, observer: Observer | None = None) -> GateResult:
    """Measure a profile's configuration again and say whether it has become worse.

    Args:
        request: Which profile, and what it is held against.
        observer: Is told of every step.

    Returns:
        The verdict with its samples; it is in the run's folder too.

    Raises:
        UsageError: The request cannot be; nothing was touched.
        MismatchError: The profile does not hold here; nothing was touched.
        BenchmarkError: A side could not be measured, the device is busy, or the disk is full.
        InterruptedRunError: Ctrl-C. The engines are gone; what was measured is in the run's folder.
    """
    observer = observer or Observer()
    comparison = compared(request)
    history = _History(request, comparison)
    job = comparison.new.job
    with device_lock(job.lock_names, wait=request.wait, on_note=observer.note):
        ledger = Ledger.create(job.new_folder(), job.header("gate"))
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
                else:
                    result = run.in_pairs()
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted after {len(ledger.trials)} launches, without a verdict; they are in {ledger.folder}"
            ) from None
    ledger.finish(result.answer or "calibrated")
    try:
        save_json(ledger.folder / RESULT_NAME, result)
    except UsageError as error:  # the ledger holds everything, and the verdict is worth more than its copy
        observer.note(str(error))
    return result


class _History:
    """The earlier runs that a stored gate is held against; none for the other modes."""

    def __init__(self, request: GateRequest, comparison: Comparison) -> None:
        self.folder = request.history or request.profile.with_suffix(".gate")
        self.runs: list[StoredRun] = []
        self.notes: list[str] = []
        self.n_runs = 0
        if request.mode == "stored":
            self._check_can_keep()
            new = comparison.new
            every = read_history(self.folder)
            self.n_runs = len(every)
            today = fingerprint_of(new.job)
            self.runs, self.notes = comparable(
                every, today, new.config, request.launches, comparison.metrics, request.requests, request.window
            )
            if len({run.created_at[:10] for run in self.runs}) == 1 and len(self.runs) >= FEWEST_RUNS:
                self.notes.append("all earlier runs are of one day: how much days differ is not in them")

    @property
    def n_requests(self) -> int | None:
        """Requests in a job of the earlier runs: today's must be as large."""
        return self.runs[-1].n_requests if self.runs else None

    def _check_can_keep(self) -> None:
        """Find out before the run, not after it, that it cannot be kept for later ones."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise UsageError(f"cannot write {self.folder}: {error.strerror}; choose another --history") from None

    def add(self, run: StoredRun) -> None:
        """Keep a run for later ones."""
        stamp = run.created_at.replace(":", "").replace("+0000", "Z")
        save_json(self.folder / f"{stamp}-{self.n_runs:04d}.json", run)


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
        self._job = comparison.new.job
        self._size = ""  # where a job's size comes from, for people
        # A simulated engine's noise comes from the launch's number: runs that follow each other have others.
        self._next_launch = n_runs_before * (request.launches + 1)
        self._new_bench = benches.enter_context(self._bench(comparison.new))
        self._base_bench = self._new_bench
        if not comparison.one_engine:
            self._base_bench = benches.enter_context(self._bench(comparison.base))

    def in_pairs(self) -> GateResult:
        """Base and new in turn until a look decides, or the last one does not."""
        judgement = self._pairs(judge=True)
        base, new = self._figures("base"), self._figures("new")
        metrics = paired_metrics(base, new, judgement, self._request.margin, self._withheld())
        result = self._result(judgement, metrics=metrics, pairs=len(new[RATE]))
        promised = self._comparison.profile.gain
        if self._comparison.against_default and promised and self._comparison.profile.objective == "throughput":
            rate = next(metric for metric in metrics if metric.name == RATE)
            result = result.model_copy(update={"stored_gain": stored_gain(promised, rate)})
        return result

    def calibration(self) -> GateResult:
        """The profile's configuration against itself, for every pair that a gate may have."""
        self._pairs(judge=False)
        base, new = self._figures("base"), self._figures("new")
        metrics = paired_metrics(base, new, None, self._request.margin, self._withheld())
        name = self._comparison.metrics[0]
        found = calibrate(self._gains(base, new)[name], self._request.margin)
        return self._result(None, metrics=metrics, pairs=len(new[RATE])).model_copy(update={"calibration": found})

    def against_history(self, history: _History) -> GateResult:
        """One run, of a few launches, against earlier runs."""
        request = self._request
        n_requests = self._job_size(history.n_requests)
        self._observer.phase("stored", request.launches)
        for number in range(request.launches):
            self._measure("new", self._job.plan("final", n_requests, number), number)
        new = self._figures("new")
        self._check_known(new)
        today = {name: geometric_mean(samples) for name, samples in new.items()}
        energy = self._one_energy()
        earlier = {
            name: [gain(name, run.samples[name]) for run in history.runs if run.compares(name, energy)]
            for name in self._comparison.metrics
        }
        judgement = judge_stored({name: gain(name, today[name]) for name in self._comparison.metrics}, earlier)
        metrics = stored_metrics(history.runs, new, judgement, energy)
        notes = list(history.notes)
        if judgement.answer == "inconclusive":
            fewest = min(map(len, earlier.values()))
            notes.append(f"{fewest} of the {FEWEST_RUNS} earlier runs that a verdict needs are there")
        others = sum(run.energy != energy for run in history.runs)
        if others and any(name in ENERGY_FIGURES for name in new):
            notes.append(
                f"{_ENERGY_NAMES} are not compared with {others} earlier runs, whose energy is of something else"
            )
        label = f"{len(history.runs)} earlier runs"
        result = self._result(judgement, metrics=metrics, pairs=request.launches, notes=notes, base_label=label)
        history.add(
            StoredRun(
                fingerprint=result.fingerprint,
                config=self._comparison.new.config,
                n_requests=n_requests,
                window_s=None if request.requests else request.window,
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
        """Launch pairs up to the first look that decides; without a judge, up to the last."""
        judgement = None
        n_requests = self._job_size(None)
        self._observer.phase("pairs", 2 * LOOKS[-1])
        for number, new_first in enumerate(pair_order(self._order_seed())):
            plan = self._job.plan("final", n_requests, number)
            for side in ("new", "base") if new_first else ("base", "new"):
                self._measure(side, plan, number)
            self._check_known(self._figures("new"), self._figures("base"))
            if judge and number + 1 in LOOKS:
                gains = self._gains(self._figures("base"), self._figures("new"))
                withheld = [name for name in self._comparison.metrics if name in self._withheld()]
                judged = {name: gains[name] for name in self._comparison.metrics if name not in withheld}
                judgement = with_withheld(judge_pairs(judged, self._request.margin), withheld)
                if judgement.answer != "inconclusive" or not judged:
                    break
        return judgement

    def _order_seed(self) -> str:
        """Without a seed every gate has another order of launches, so that no habit of a machine fits them all."""
        given = "seed" in self._request.model_fields_set
        return str(self._request.seed) if given else self._ledger.header.created_at

    def _job_size(self, of_history: int | None) -> int:
        """Requests in every job: as asked for, or as many as fill a window of the base on one launch of its own."""
        sources = (
            (self._request.requests, "--requests asks"),
            (of_history, "the earlier runs have"),
            (self._job.request.requests, "the profile has"),
        )
        for n_requests, whose in sources:
            if n_requests is not None:
                self._size = f"as {whose}"
                return n_requests
        self._size = f"fill {self._job.window_s:g} s of {self._comparison.base.label}"
        self._observer.phase("sizing the job", 1)
        trial = self._measure("search", self._job.plan("search", None), 0)
        assert trial.measurement
        return trial.measurement.n_requests

    def _measure(self, phase: Phase, plan: Plan, number: int) -> Trial:
        """One fresh launch of a side.

        Raises:
            BenchmarkError: It could not be measured.
        """
        of_new = phase == "new"
        side = self._comparison.new if of_new else self._comparison.base
        bench = self._new_bench if of_new else self._base_bench
        bench.next_launch = self._next_launch
        self._observer.trial_starts(side.config, live=False)
        started_at = now()
        attempt = bench.measure(side.config, plan, fresh=True)
        bench.close()
        self._next_launch = bench.next_launch
        trial = Trial.of(len(self._ledger.trials), phase, number, side.config, started_at, attempt)
        self._ledger.append(trial)
        figure = trial.measurement.output_tokens_per_s if trial.measurement else None
        self._observer.trial_ends(trial, figure=figure, best=None, default=None)
        if trial.measurement is None:
            raise BenchmarkError(
                f"{side.label} could not be measured: {describe(trial.outcome)}; "
                f"its log is in {self._ledger.folder / 'logs'}"
            )
        return trial

    def _bench(self, side: Side) -> Bench:
        return side.job.bench(self._ledger.folder, on_note=self._observer.note)

    def _measurements(self, phase: Phase) -> list[Measurement]:
        return [trial.measurement for trial in self._ledger.trials if trial.phase == phase and trial.measurement]

    def _figures(self, phase: Phase) -> dict[str, list[float]]:
        """Metric → one figure a launch of a side, of those that every launch knows."""
        measurements = self._measurements(phase)
        found: dict[str, list[float]] = defaultdict(list)
        for measurement in measurements:
            for name, figure in FIGURES.items():
                value = figure.of(measurement)
                if value is not None and value > 0:
                    found[name].append(value)
        return {name: values for name, values in found.items() if len(values) == len(measurements)}

    def _withheld(self) -> dict[str, str]:
        """Metric → why its sides are not compared: joules of a GPU and of a processor are not of one thing."""
        found = energy_origins([*self._measurements("base"), *self._measurements("new")])
        if len(found) < 2:
            return {}
        return dict.fromkeys(ENERGY_FIGURES, f"energy is of {' here, of '.join(found)} there")

    def _one_energy(self) -> str:
        """What the energy of today's launches is of; empty if they differ."""
        found = energy_origins(self._measurements("new"))
        return found[0] if len(found) == 1 else ""

    def _check_known(self, *sides: dict[str, list[float]]) -> None:
        """Refuse to go on for a metric that this engine or machine does not give."""
        known = [name for name in FIGURES if all(name in side for side in sides)]
        if missing := [name for name in self._comparison.metrics if name not in known]:
            raise UsageError(f"--metric {missing[0]} cannot be measured here; available are {', '.join(known)}")

    def _gains(self, base: dict[str, list[float]], new: dict[str, list[float]]) -> dict[str, list[float]]:
        known = [name for name in self._comparison.metrics if name in base and name in new]
        return {name: [gain(name, n, b) for n, b in zip(new[name], base[name], strict=True)] for name in known}

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
        new, base = self._measurements("new"), self._measurements("base")
        n_requests = new[0].n_requests
        notes = [*comparison.notes, *notes, f"{n_requests} requests in a job {self._size}"]
        if (withheld := {metric.withheld for metric in metrics} - {""}) and request.mode != "stored":
            notes.append(f"{_ENERGY_NAMES} have no verdict: {withheld.pop()}")
        return GateResult(
            infertune_version=__version__,
            answer=answer,
            exit_code=exit_code(answer, request.on_inconclusive),
            mode="calibrate" if request.calibrate else request.mode,
            question=comparison.question,
            profile=str(request.profile),
            margin=None if request.mode == "stored" else request.margin,
            pairs=pairs,
            base=_record(comparison.base, base or new, base_label),
            new=_record(comparison.new, new),
            metrics=metrics,
            fingerprint=fingerprint_of(self._job),
            n_requests=n_requests,
            notes=tuple(dict.fromkeys(notes)),
            run=str(self._ledger.folder),
            created_at=self._ledger.header.created_at,
        )


def _record(side: Side, launches: Sequence[Measurement], label: str = "") -> SideRecord:
    job = side.job
    return SideRecord(
        label=label or side.label,
        engine=f"{job.engine.name} {job.availability.version}",
        versions=launches[0].facts.versions,
        model=job.model.spec if job.model else None,
        config=side.config,
        changed=changed_settings(side.config, job.engine_defaults),
        energy=energy_origins(launches),
    )
