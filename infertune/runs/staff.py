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
from infertune.domain.knobs import Scalar
from infertune.domain.request import StaffedRequest
from infertune.engines import default_engine_name
from infertune.engines.asking import canonical
from infertune.engines.base import Engine
from infertune.runs.job import LOGS, Job, engine_of
from infertune.writing import write_inside


@contextlib.contextmanager
def workers_of(request: StaffedRequest, on_note: Callable[[str], None]) -> Iterator[RemoteCrew | None]:
    """The workers that a request asks for, not open yet; None if it asks for none.

    Args:
        request: What is asked.
        on_note: Is told what the user should know.

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
        gpus=_gpus_of(engine, request),
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

    def keep_log(name: str, text: str) -> None:
        write_inside(folder, f"{LOGS}/{name}", text, "log")

    try:
        workers.open(job.device.slug, blueprint, first_launch, keep_log)
        yield workers
    except BaseException:
        workers.close()
        raise
    workers.rest()


def _gpus_of(engine: Engine, request: StaffedRequest) -> int:
    """GPUs that one trial needs: the product of the engine's parallel sizes, the largest that are searched."""
    names = getattr(engine, "parallel", ())  # an engine of a third party may not say
    given: dict[str, tuple[Scalar, ...]] = {canonical(name): (value,) for name, value in request.set.items()}
    given |= {canonical(name): values for name, values in request.knob.items()}
    sizes = (given.get(name, (1,)) for name in names)
    return math.prod(max([1, *(int(v) for v in of if isinstance(v, int | float))]) for of in sizes)
