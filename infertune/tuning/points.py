"""Measure given points, on whatever devices are free."""

from collections import deque
from collections.abc import Sequence

from infertune.bench.crew import Order
from infertune.bench.remote.crew import RemoteCrew
from infertune.domain.knobs import Config
from infertune.domain.trial import Phase, Trial
from infertune.runs.job import Job
from infertune.runs.ledger import Ledger, now
from infertune.runs.observer import Observer
from infertune.runs.staff import crew_of


def measure_points(
    job: Job,
    ledger: Ledger,
    observer: Observer,
    points: Sequence[tuple[Config, int]],
    phase: Phase,
    n_requests: int | None,
    windows: int,
    workers: RemoteCrew | None = None,
) -> list[Trial]:
    """Measure points in order: each on a fresh launch for `bench`, live where possible for a grid.

    Args:
        job: The run's.
        ledger: Is given each trial.
        observer: Is told of each.
        points: Configurations with their rounds.
        phase: What they are measured for.
        n_requests: Of a job; None lets the first point that runs decide, before others start.
        windows: On each launch.
        workers: Hired ones; None measures in this process.
    """
    first_launch = 1 + max((trial.launch_number for trial in ledger.trials), default=-1)
    waiting, trials = deque(points), []
    with crew_of(job, ledger.folder, first_launch, observer.note, workers) as crew:
        while waiting or crew.busy:
            for worker in crew.free():
                if not waiting or (n_requests is None and crew.busy):
                    break
                config, round_number = waiting.popleft()
                fresh = phase == "bench"
                observer.trial_starts(config, live=not fresh and worker.takes(config))
                # Of a grid every point runs the same requests; a launch of `bench` may find earlier ones in a cache.
                plan = job.plan("search", n_requests, round_number if fresh else 0, windows)
                crew.submit(worker, Order(phase, config, plan, fresh, now(), round_number))
            done = crew.next_done()
            if done is None or done.attempt is None:
                continue
            order = done.order
            trial = Trial.of(
                len(ledger.trials),
                phase,
                order.round_number,
                order.config,
                order.started_at,
                done.attempt,
                done.device_id,
            )
            ledger.append(trial, done.attempt.rows)
            trials.append(trial)
            if n_requests is None and trial.measurement:
                n_requests = trial.measurement.n_requests
            figure = trial.measurement.output_tokens_per_s if trial.measurement else None
            observer.trial_ends(trial, figure=figure, best=None, default=None)
    return trials
