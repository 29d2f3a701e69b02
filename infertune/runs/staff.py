"""Who measures for a run: the bench of this process, or workers that `--workers` hires."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from infertune.bench import locks
from infertune.bench.crew import Crew, OneBench
from infertune.bench.remote.crew import RemoteCrew
from infertune.bench.remote.hire import Wanted, hired
from infertune.bench.remote.terms import Blueprint, Offer
from infertune.domain.request import StaffedRequest
from infertune.engines import default_engine_name
from infertune.engines.asking import canonical
from infertune.engines.base import Engine
from infertune.errors import UsageError
from infertune.runs.asked import Current
from infertune.runs.job import LOGS, Job, engine_of
from infertune.writing import write_inside


@contextlib.contextmanager
def workers_of(
    request: StaffedRequest, on_note: Callable[[str], None], current: Current | None = None
) -> Iterator[RemoteCrew | None]:
    """The workers that a request asks for, not open yet; None if it asks for none.

    Args:
        request: What is asked.
        on_note: Is told what the user should know.
        current: What runs today: a trial needs the GPUs that it has.

    Raises:
        UsageError: Ray is not installed, nobody answers at the address, or no node has room.
        MismatchError: A worker has another version of infertune or of the engine.
        BenchmarkError: No worker can measure.
    """
    if request.workers is None:
        yield None
        return
    spec = request.engine or default_engine_name()
    engine, options = engine_of(request, spec)
    wanted = Wanted(
        text=request.workers,
        offer=Offer(engine=spec, options=options, device=request.device),
        engine_version=engine.available().version,
        simulated=engine.simulated,
        gpus=_gpus_of(engine, request, current),
    )
    with hired(wanted, on_note) as crew:
        yield crew


@contextlib.contextmanager
def crew_of(
    job: Job, folder: Path, first_launch: int, on_note: Callable[[str], None], workers: RemoteCrew | None
) -> Iterator[Crew]:
    """The crew of a run; when the context ends, no engine of it is left.

    Args:
        job: The run's.
        folder: The run's.
        first_launch: Number of the first launch.
        on_note: Is told what the user should know.
        workers: Hired ones; None takes the bench of this process.
    """
    if workers is None:
        with job.bench(folder, first_launch, on_note) as bench:
            yield OneBench(bench)
        return
    workers.deadlines = job.deadlines
    blueprint = Blueprint(
        model=job.model,
        knobs=job.space.knobs,
        options=job.options,
        engine_defaults=job.engine_defaults,
        seed=job.request.seed,
        carbon=job.carbon,
        wait=job.request.wait,
        lock_namespace=locks.NAMESPACE,
    )

    told: list[str] = []

    def keep_log(name: str, text: str) -> None:
        try:
            write_inside(folder, f"{LOGS}/{name}", text, "log")
        except UsageError as error:  # what was measured counts all the same
            if not told:
                told.append(name)
                on_note(f"{error}; the run goes on without its logs")

    try:
        workers.open(job.device.slug, blueprint, first_launch, keep_log)
        yield workers
    except BaseException:
        workers.close()
        raise
    workers.rest()


def _gpus_of(engine: Engine, request: StaffedRequest, current: Current | None) -> int:
    """GPUs that one trial needs: the product of the engine's parallel sizes, the largest that are searched."""
    names = getattr(engine, "parallel", ())  # an engine of a third party may not say
    given: dict[str, tuple[object, ...]] = {name: (value,) for name, value in _of_today(current).items()}
    for name, values in request.knob.items():
        given[canonical(name)] = (*given.get(canonical(name), ()), *values)
    given |= {canonical(name): (value,) for name, value in request.set.items()}
    return math.prod(max([1, *map(_size, given.get(name, ()))]) for name in names)


def _of_today(current: Current | None) -> dict[str, object]:
    """What runs today sets: a profile's settings, or the words `--NAME=VALUE` of a command."""
    if current is None or current.command is None:
        return dict(current.settings.root) if current else {}
    words = (word.partition("=") for word in current.command.settings)
    return {canonical(flag): value for flag, _, value in words}


def _size(value: object) -> int:
    """A parallel size; 1 where it is none, which is refused when the engine looks at it."""
    try:
        return int(str(value))
    except ValueError:
        return 1
