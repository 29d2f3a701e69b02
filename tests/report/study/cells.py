"""Cells for the tests of studies, made of rates."""

from collections.abc import Mapping, Sequence

from infertune.domain.knobs import Config, Int, Knob, Scalar
from infertune.landscape import Terrain
from infertune.report.study.cell import Cell, Point, in_grid_order

GPUS = (1, 2, 4, 8)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1028)
Result = float | str | Sequence[float]


def cell(results: Mapping[tuple[int, int], Result], default: tuple[int, int] = (1, 1), **labels: str) -> Cell:
    """A landscape over GPUs and batch sizes: a rate, several rates (repeats), or the kind of a failure at each."""
    knobs: tuple[Knob, ...] = (
        Int("n_gpus", tuple(sorted({gpus for gpus, _ in results})), default[0]),
        Int("batch_size", tuple(sorted({batch for _, batch in results})), default[1]),
    )
    points = [_point({"n_gpus": gpus, "batch_size": batch}, found) for (gpus, batch), found in results.items()]
    return Cell(
        labels={"device": "here", "engine": "engine", "model": "model", "workload": "work", **labels},
        knobs=knobs,
        points=in_grid_order(points, knobs),
        default=Config({"n_gpus": default[0], "batch_size": default[1]}),
        terrain=Terrain(knobs=knobs, spots=(), grid=len(points), noise=None, steps=(), plateau=None, peaks=()),
    )


def _point(values: Mapping[str, Scalar], found: Result) -> Point:
    config = Config(dict(values))
    if isinstance(found, str):
        return Point(config, (), (found,))
    return Point(config, tuple(found) if isinstance(found, Sequence) else (found,))
