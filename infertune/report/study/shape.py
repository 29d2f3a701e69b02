"""The shape of each cell: its best, edges, steps, plateau, scaling over GPUs, and energy."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infertune.domain.knobs import Scalar
from infertune.report.study.cell import Cell, Point

_PLATEAU = 0.98  # of the best: within 2% of it, as in a run's own report
_DROP = 0.98  # a step down by more than 2% is a drop (judgement: less is the noise of a good measurement)


@dataclass(frozen=True)
class Jump:
    """The largest change between two neighbouring values of a knob, everything else the same.

    Attributes:
        knob: The knob.
        low: The lower value.
        high: The higher value.
        ratio: Goodness at the higher value over that at the lower one.
    """

    knob: str
    low: Scalar
    high: Scalar
    ratio: float


@dataclass(frozen=True)
class Edge:
    """Where the best lies on a ladder: `low` or `high` at an end of what ran, `inside` else."""

    knob: str
    place: str


@dataclass(frozen=True)
class Scale:
    """The best with one number of GPUs.

    Attributes:
        gpus: How many.
        point: The best configuration with so many.
        efficiency: Goodness a GPU over that with the fewest GPUs that ran; 1 is perfect scaling.
    """

    gpus: int
    point: Point
    efficiency: float

    @property
    def per_gpu(self) -> float:
        """Goodness a GPU."""
        return self.point.goodness / self.gpus


@dataclass(frozen=True)
class Shape:
    """What is to be said of one cell.

    Attributes:
        cell: The cell.
        edges: For each ordinal tuned knob.
        rise: The steepest rise; None if there is none.
        fall: The steepest fall.
        steps: Steps along the batch size between configurations that ran.
        drops: Those that fall by more than 2%.
        starts_failing: Where configurations begin to fail going up a ladder: knob and value, with how often.
        plateau: Configurations within 2% of the best.
        peaks: Configurations better than all their neighbours; None where less than half of the grid was visited.
        real_peaks: Those that stand out beyond noise; None without repeats.
        failed: Configurations of which a repeat failed, by kind.
        scaling: The best for each number of GPUs, in order; empty without such a knob.
        thriftiest: The configuration with the fewest joules a token; None without energy.
    """

    cell: Cell
    edges: tuple[Edge, ...]
    rise: Jump | None
    fall: Jump | None
    steps: int
    drops: int
    starts_failing: tuple[tuple[str, Scalar, int], ...]
    plateau: int
    peaks: int | None
    real_peaks: int | None
    failed: Counter[str]
    scaling: tuple[Scale, ...]
    thriftiest: Point | None

    @property
    def gain(self) -> float | None:
        """The best over the default; None where one of them did not run."""
        best, default = self.cell.best, self.cell.default_point
        return best.goodness / default.goodness if best and default else None

    @property
    def at_edge(self) -> bool:
        """Whether the best lies at an end of any ladder."""
        return any(edge.place != "inside" for edge in self.edges)


def shape_of(cell: Cell) -> Shape:
    """The shape of one cell."""
    jumps, begins = _neighbours(cell)
    batch = cell.batch
    along = [jump for jump in jumps if batch is not None and jump.knob == batch.name]
    terrain, best = cell.terrain, cell.best
    energy = [point for point in cell.running if point.j_per_output_token]
    return Shape(
        cell=cell,
        edges=_edges(cell),
        rise=max((jump for jump in jumps if jump.ratio > 1), key=lambda jump: jump.ratio, default=None),
        fall=min((jump for jump in jumps if jump.ratio < 1), key=lambda jump: jump.ratio, default=None),
        steps=len(along),
        drops=sum(jump.ratio < _DROP for jump in along),
        starts_failing=tuple((name, value, count) for (name, value), count in begins.items()),
        plateau=sum(point.goodness >= _PLATEAU * best.goodness for point in cell.running) if best else 0,
        peaks=len(terrain.peaks) if terrain.peaks else None,
        real_peaks=sum(peak.real or False for peak in terrain.peaks) if terrain.peaks and terrain.noise else None,
        failed=Counter(point.failures[0] for point in cell.points.values() if point.failures),
        scaling=_scaling(cell),
        thriftiest=min(energy, key=lambda point: point.j_per_output_token or math.inf, default=None),
    )


def _neighbours(cell: Cell) -> tuple[list[Jump], Counter[tuple[str, Scalar]]]:
    """Changes between neighbours that both ran, and where failures begin going up a ladder."""
    jumps = []
    begins: Counter[tuple[str, Scalar]] = Counter()
    for knob in cell.tuned:
        if not knob.ordinal:
            continue
        tried = cell.values_of(knob.name)
        above = dict(zip(tried, tried[1:], strict=False))
        for point in cell.points.values():
            low = point.config[knob.name]
            other = cell.points.get(point.config.updated({knob.name: above[low]})) if low in above else None
            if other is None or not point.ran:
                continue
            if other.ran:
                jumps.append(Jump(knob.name, low, above[low], other.goodness / point.goodness))
            else:
                begins[knob.name, above[low]] += 1
    return jumps, begins


def _edges(cell: Cell) -> tuple[Edge, ...]:
    best = cell.best
    if best is None:
        return ()
    found = []
    for knob in cell.tuned:
        ran = {point.config[knob.name] for point in cell.running}
        ladder = [value for value in cell.values_of(knob.name) if value in ran]
        if knob.ordinal and len(ladder) > 1:
            at = ladder.index(best.config[knob.name])
            found.append(Edge(knob.name, "low" if at == 0 else "high" if at == len(ladder) - 1 else "inside"))
    return tuple(found)


def _scaling(cell: Cell) -> tuple[Scale, ...]:
    if cell.gpus is None or cell.gpus.name not in {knob.name for knob in cell.tuned}:
        return ()
    name = cell.gpus.name
    best: dict[int, Point] = {}
    for point in cell.running:
        gpus = point.config[name]
        if isinstance(gpus, int) and gpus > 0 and (gpus not in best or point.goodness > best[gpus].goodness):
            best[gpus] = point
    if not best:
        return ()
    fewest = min(best)
    one = best[fewest].goodness / fewest
    return tuple(Scale(gpus, best[gpus], best[gpus].goodness / gpus / one) for gpus in sorted(best))


def edge_counts(shapes: Iterable[Shape]) -> dict[str, Counter[str]]:
    """Knob → how often the best lies low, high or inside."""
    counts: dict[str, Counter[str]] = {}
    for shape in shapes:
        for edge in shape.edges:
            counts.setdefault(edge.knob, Counter())[edge.place] += 1
    return counts


def scaling_means(shapes: Sequence[Shape]) -> dict[tuple[str, int], list[float]]:
    """Engine and number of GPUs → efficiencies of the cells that start at one GPU."""
    found: dict[tuple[str, int], list[float]] = {}
    for shape in shapes:
        if shape.scaling and shape.scaling[0].gpus == 1:
            for scale in shape.scaling:
                found.setdefault((shape.cell.labels["engine"], scale.gpus), []).append(scale.efficiency)
    return found
