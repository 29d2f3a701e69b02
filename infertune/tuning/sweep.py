"""Measure configurations without searching: one of them (`bench`), or every point of a grid (`landscape`)."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import field_validator

from infertune.bench.locks import device_lock
from infertune.bench.remote.crew import RemoteCrew
from infertune.bench.serving import MOST_LOADS
from infertune.domain.figures import FIGURES
from infertune.domain.knobs import Config
from infertune.domain.measurement import Frozen, describe
from infertune.domain.objective import get_objective, objective_of
from infertune.domain.request import Launches, StaffedRequest
from infertune.domain.service import LoadCounts
from infertune.domain.trial import Phase, Trial
from infertune.errors import BenchmarkError, InterruptedRunError, UsageError
from infertune.report import Findings, check_place, find, write_found
from infertune.runs.continuing import continued
from infertune.runs.job import Job, prepare
from infertune.runs.ledger import Ledger
from infertune.runs.observer import Observer
from infertune.runs.serving import LoadRequest, on_target
from infertune.runs.staff import workers_of
from infertune.runs.summary import figures, requests_of
from infertune.sequential import TRUST, looks_within, narrow_mean
from infertune.stats import Estimate, mean_with_zeros
from infertune.tuning.points import measure_points

_TRUST = TRUST["normal"]
_THROUGHPUT = get_objective("throughput")
_MOST_POINTS = 100_000
_MAY_CHANGE = {"repeats", "wait", "workers", "load_timeout", "run_timeout"}


class BenchRequest(LoadRequest):
    """What `infertune bench` takes besides.

    Attributes:
        launches: Fewest and most launches; in between, it ends at a look where the interval is narrow enough.
        windows: Windows on each launch.
    """

    launches: tuple[Launches, Launches] = (3, 12)
    windows: Launches = 2

    @field_validator("launches")
    @classmethod
    def _launches(cls, given: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= given[0] <= given[1]:
            raise ValueError("the most launches must not be below the least, which is 1 or more")
        return given


class LandscapeRequest(StaffedRequest):
    """What `infertune landscape` takes besides.

    Attributes:
        repeats: Rounds over the whole grid; every second round runs in reverse order, against drift.
        relaunch: Every round begins with a fresh launch, so that repeats are launches of their own.
    """

    repeats: Launches = 3
    relaunch: bool = False


class BenchResult(Frozen):
    """One configuration measured properly.

    Attributes:
        config: Every knob's value.
        output_tokens_per_s: Over launches.
        samples: One rate a launch, in tokens per second.
        figures: Of a server's loads: every figure that is known, over launches.
        loads: Of a server's loads: how many kept the limits; None of offline jobs.
        n_sent: Of a server's loads: requests that were sent.
        n_failed: Of them, those that failed, were cut or came back short.
        failures: What went wrong in the first load with failures, a line each with how often.
        run: The run's folder.
    """

    config: Config
    output_tokens_per_s: Estimate
    samples: tuple[float, ...]
    figures: dict[str, Estimate] = {}
    loads: LoadCounts | None = None
    n_sent: int = 0
    n_failed: int = 0
    failures: tuple[str, ...] = ()
    run: str


def bench_request(request: BenchRequest, observer: Observer | None = None) -> BenchResult:
    """Measure one configuration on fresh launches until its interval is narrow.

    Raises:
        UsageError: The request cannot be; nothing was touched.
        BenchmarkError: The configuration could not be measured.
        InterruptedRunError: Ctrl-C.
    """
    observer = observer or Observer()
    request = on_target(request)
    job = prepare(request)
    if job.serving and request.windows > MOST_LOADS:
        raise UsageError(
            f"--windows {request.windows}: a launch takes at most {MOST_LOADS} loads of a server; give more --launches"
        )
    config = job.space.repair(job.space.default)
    if broken := job.space.violations(config):
        raise UsageError(f"these settings cannot be together: {'; '.join(broken)}")
    with (
        device_lock(job.lock_names, wait=request.wait, on_note=observer.note),
        _new_ledger(job, "bench", observer) as ledger,
    ):
        return _bench(job, request, config, observer, ledger)


def _bench(job: Job, request: BenchRequest, config: Config, observer: Observer, ledger: Ledger) -> BenchResult:
    observer.run_starts(ledger.folder, job.space.default)
    least, most = request.launches
    n_requests = request.requests
    observer.phase("bench", most)
    samples: list[float] = []
    looks = looks_within(_TRUST, least, most)
    ending = f"all {most} launches were made"
    for number in range(most):
        trial = _measure(job, ledger, observer, [(config, number)], "bench", n_requests, request.windows)[0]
        if trial.measurement is None:
            ledger.finish("the configuration could not be measured")
            _report(job, ledger)
            raise BenchmarkError(f"{config}: {describe(trial.outcome)}; its log is in {ledger.folder / 'logs'}")
        n_requests = trial.measurement.n_requests
        samples = figures(ledger.trials, config, _THROUGHPUT)
        estimate = narrow_mean([math.log(sample) for sample in samples], _TRUST)
        if number + 1 in looks and estimate.half_width <= _TRUST.half_width:
            ending = f"the 95% interval is within ±{_TRUST.half_width:.0%}"
            break
    ledger.finish(ending)
    _report(job, ledger)
    windows = [window for trial in ledger.trials if trial.measurement for window in trial.measurement.windows]
    loads = [window.service for window in windows if window.service]
    return BenchResult(
        config=config,
        output_tokens_per_s=narrow_mean([math.log(sample) for sample in samples], _TRUST),
        samples=tuple(samples),
        figures=_figures(ledger, config) if job.serving else {},
        loads=LoadCounts.of(loads) if job.serving else None,
        n_sent=sum(window.n_requests for window in windows if window.service),
        n_failed=sum(load.n_failed for load in loads),
        failures=next((load.failures for load in loads if load.failures), ()),
        run=str(ledger.folder),
    )


def _figures(ledger: Ledger, config: Config) -> dict[str, Estimate]:
    """Every figure that is known on every launch; without an interval where one is 0, as a share may be."""
    launches = [trial.measurement for trial in ledger.trials if trial.measurement and trial.config == config]
    found = {name: [figure.of(launch) for launch in launches] for name, figure in FIGURES.items()}
    known = {name: [value for value in values if value is not None] for name, values in found.items()}
    return {name: _over_launches(values) for name, values in known.items() if len(values) == len(launches)}


def _over_launches(values: Sequence[float]) -> Estimate:
    if all(values):
        return narrow_mean([math.log(value) for value in values], _TRUST)
    return Estimate(mean=mean_with_zeros(values), low=None, high=None, n=len(values), level=0.95)


def landscape_request(
    request: LandscapeRequest, observer: Observer | None = None, resume: Path | None = None
) -> Findings:
    """Measure every point of a grid, in interleaved rounds, and report the landscape.

    Raises:
        UsageError: The request cannot be, or the grid has too many points; nothing was touched.
        BenchmarkError: The device is busy or the disk is full.
        InterruptedRunError: Ctrl-C; `resume` continues.
    """
    observer = observer or Observer()
    with workers_of(request, observer.note) as workers:
        return _landscape_of(request, observer, resume, workers, None)


def landscapes(
    request: LandscapeRequest, observer: Observer | None = None, resume: Path | None = None
) -> tuple[Findings, ...]:
    """The same; of workers with devices of several models one landscape each, in a folder named after the model.

    Raises:
        UsageError: The request cannot be, or the grid has too many points; nothing was touched.
        BenchmarkError: The device is busy or the disk is full.
        InterruptedRunError: Ctrl-C; `resume` continues one of them.
    """
    observer = observer or Observer()
    with workers_of(request, observer.note) as workers:
        if workers is None or resume or len(workers.models) < 2:
            return (_landscape_of(request, observer, resume, workers, None),)
        found = []
        for slug in workers.models:
            own = request.model_copy(update={"out": request.out / slug}) if request.out else request
            found.append(_landscape_of(own, observer, None, workers, slug))
        return tuple(found)


def _landscape_of(
    request: LandscapeRequest, observer: Observer, resume: Path | None, workers: RemoteCrew | None, slug: str | None
) -> Findings:
    """One landscape; of the workers' devices of a model, where there are several: of a resumed run, its own."""
    if resume and workers and (own := Ledger.open(resume).header.device.slug) in workers.models:
        slug = own
    job = prepare(request, device=workers.device(slug) if workers else None)
    check_grid(job, job.space.size)
    with (
        device_lock(() if workers else job.lock_names, wait=request.wait, on_note=observer.note),
        _resumed(job, resume) if resume else _new_ledger(job, "landscape", observer) as ledger,
    ):
        return _landscape(job, request, observer, ledger, workers)


def check_grid(job: Job, points: int) -> None:
    """Refuse a grid of so many points that cannot be measured.

    Raises:
        UsageError: Its settings cannot be together, or it has too many points.
    """
    if broken := job.space.violations(job.space.repair(job.space.default)):
        raise UsageError(f"these settings cannot be together: {'; '.join(broken)}")
    if points > _MOST_POINTS:
        raise UsageError(f"the grid has {points} points; restrict it with --knob NAME=values or --set NAME=VALUE")


def _landscape(
    job: Job, request: LandscapeRequest, observer: Observer, ledger: Ledger, workers: RemoteCrew | None
) -> Findings:
    points = list(job.space.grid())
    observer.run_starts(ledger.folder, job.space.default)
    observer.phase("landscape", len(points) * request.repeats)
    done = {(trial.config, trial.round_number) for trial in ledger.trials}
    rounds = [[(c, r) for c in (points if r % 2 == 0 else reversed(points))] for r in range(request.repeats)]
    for part in rounds if request.relaunch else [list(chain.from_iterable(rounds))]:
        known = requests_of(ledger.trials) or request.requests
        _measure(job, ledger, observer, [point for point in part if point not in done], "grid", known, 1, workers)
    ledger.finish("every point was measured")
    return _report(job, ledger)


def resumed_landscape(folder: Path, flags: Mapping[str, Any]) -> LandscapeRequest:
    """The request that a run was started with; only its limits may be given anew.

    Args:
        folder: The run's folder.
        flags: Flags given beside `--resume`; None for those that were not.

    Raises:
        UsageError: The folder is not a run of `landscape`, or a flag would change what is measured.
    """
    header = Ledger.open(folder).header
    if header.command != "landscape":
        raise UsageError(f"{folder} is a run of `infertune {header.command}`, not of `infertune landscape`")
    return continued(LandscapeRequest, header, folder, flags, _MAY_CHANGE)


def _report(job: Job, ledger: Ledger) -> Findings:
    """Write a run's report.

    Raises:
        BenchmarkError: A file cannot be written; the ledger has every trial.
    """
    found = find(ledger, objective_of(job.request))
    try:
        write_found(found)
    except UsageError as error:
        raise BenchmarkError(
            f"{error}; the {len(ledger.trials)} trials are safe: make room, then infertune report {ledger.folder}"
        ) from None
    return found


def _new_ledger(job: Job, command: str, observer: Observer) -> Ledger:
    for note in job.notes:
        observer.note(note)
    folder = job.new_folder()
    check_place(folder)
    return Ledger.create(folder, job.header(command))


def _resumed(job: Job, folder: Path) -> Ledger:
    check_place(folder)
    return job.resume(folder)


def _measure(
    job: Job,
    ledger: Ledger,
    observer: Observer,
    points: list[tuple[Config, int]],
    phase: Phase,
    n_requests: int | None,
    windows: int,
    workers: RemoteCrew | None = None,
) -> list[Trial]:
    """Measure points in order: each on a fresh launch for `bench`, live where possible for a grid."""
    try:
        return measure_points(job, ledger, observer, points, phase, n_requests, windows, workers)
    except KeyboardInterrupt:
        kept = f"{len(ledger.trials)} measurements are in {ledger.folder}"
        try:
            observer.interrupted()
            _report(job, ledger)
        except KeyboardInterrupt:
            raise InterruptedRunError(f"interrupted twice; {kept}, without a report") from None
        except BenchmarkError as error:
            raise InterruptedRunError(f"interrupted; {kept}; {error}") from None
        raise InterruptedRunError(f"interrupted; {kept}") from None
