"""Landscapes side by side: every cell a small map on the same scale."""

import math
from collections.abc import Callable, Sequence

from infertune.domain.knobs import Scalar, format_scalar
from infertune.report.study.cell import Cell, Point
from infertune.report.study.matrix import cut
from infertune.report.svg import Drawing, viridis
from infertune.units import format_rate

_COLUMNS = 4
_WIDE, _TALL = 240, 118
_LEFT, _TOP = 46, 38
_LEGEND = 44


def relative(cells: Sequence[Cell]) -> str:
    """Every configuration as a share of its cell's best: shapes compare, whatever the speed."""

    def share(cell: Cell, point: Point) -> float:
        return point.goodness / cell.best.goodness if cell.best else 0.0

    return _maps(cells, "Landscapes as shares of each cell's best", share, ("0%", "100% of the cell's best"))


def absolute(every: Sequence[Cell], cells: Sequence[Cell]) -> str:
    """Every configuration of some cells on one logarithmic scale over all cells of a study: speeds compare."""
    goodness = [point.goodness for cell in every for point in cell.running]
    low, high = (math.log(min(goodness)), math.log(max(goodness))) if goodness else (0.0, 1.0)

    def share(cell: Cell, point: Point) -> float:
        return (math.log(point.goodness) - low) / (high - low) if high > low else 1.0

    ends = (format_rate(math.exp(low)), f"{format_rate(math.exp(high))} {cells[0].unit if cells else ''}, logarithmic")
    return _maps(cells, "Landscapes on one scale", share, ends)


def axes_of(cell: Cell) -> tuple[str | None, str | None]:
    """The two knobs that a map is drawn over: the batch size across and GPUs up where there are such, else the first.

    The knob across is the one with more values.
    """
    tuned = sorted(cell.tuned, key=lambda knob: -len(cell.values_of(knob.name)))
    usual = [knob for knob in (cell.batch, cell.gpus) if knob is not None and knob in tuned]
    names = [knob.name for knob in dict.fromkeys((*usual, *tuned))][:2]
    names.sort(key=lambda name: -len(cell.values_of(name)))
    return names[0] if names else None, names[1] if len(names) > 1 else None


def _maps(cells: Sequence[Cell], title: str, share: Callable[[Cell, Point], float], ends: tuple[str, str]) -> str:
    columns = min(_COLUMNS, max(1, len(cells)))
    rows = math.ceil(len(cells) / columns)
    width = max(columns * _WIDE, 420)
    drawing = Drawing(width, rows * (_TALL + _TOP + 22) + _LEGEND, title)
    for number, cell in enumerate(cells):
        _map(drawing, cell, (number % columns) * _WIDE, (number // columns) * (_TALL + _TOP + 22), share)
    y = rows * (_TALL + _TOP + 22) + 12
    drawing.text(6, y + 11, ends[0], "quiet small")
    start = 12 + 7 * len(ends[0])
    for step in range(10):
        drawing.bar(start + 14 * step, y, 14, 14, fill=viridis(step / 9)[0])
    drawing.text(start + 150, y + 11, f"{ends[1]}; ○ best, × failed", "quiet small")
    return str(drawing)


def _map(drawing: Drawing, cell: Cell, left: float, top: float, share: Callable[[Cell, Point], float]) -> None:
    device, _, rest = cell.name.partition(" · ")
    drawing.text(left + 6, top + 15, cut(device, 31), "small bold")
    drawing.text(left + 6, top + 29, cut(rest, 34), "small")
    across, up = axes_of(cell)
    if across is None:
        drawing.text(left + 6, top + 40, "a single configuration", "quiet small")
        return
    columns = cell.values_of(across)
    rows: tuple[Scalar, ...] = cell.values_of(up) if up else (None,)
    best: dict[tuple[int, int], Point] = {}
    failed: set[tuple[int, int]] = set()
    for point in cell.points.values():
        at = (columns.index(point.config[across]), rows.index(point.config[up]) if up else 0)
        if not point.ran:
            failed.add(at)
        elif at not in best or point.goodness > best[at].goodness:
            best[at] = point
    edge = _LEFT if up is None else min(90.0, 14 + 6.4 * max(len(format_scalar(value)) for value in rows))
    wide = (_WIDE - edge - 12) / len(columns)
    tall = min((_TALL - 24) / len(rows), 34.0)
    bottom = top + _TOP + tall * len(rows)
    for row, value in enumerate(rows):
        y = bottom - tall * (row + 1)
        if up and (len(rows) <= 6 or row % 2 == 0):
            drawing.text(left + edge - 5, y + tall / 2 + 4, cut(format_scalar(value), 12), "quiet small", "end")
        for column in range(len(columns)):
            x = left + edge + wide * column
            shown = best.get((column, row))
            if shown is not None:
                drawing.bar(x + 0.5, y + 0.5, wide - 1, tall - 1, fill=viridis(share(cell, shown))[0])
                if shown is cell.best:
                    drawing.ring(x + wide / 2, y + tall / 2, min(wide, tall) / 2 - 2)
            elif (column, row) in failed:
                drawing.cross(x + wide / 2, y + tall / 2, min(3.5, wide / 3))
    every = max(1, math.ceil(len(columns) * 26 / (_WIDE - edge)))
    for column in range(0, len(columns), every):
        text = cut(format_scalar(columns[column]), 9)
        drawing.text(left + edge + wide * (column + 0.5), bottom + 13, text, "quiet small", "middle")
    drawing.text(left + edge, bottom + 27, cut(f"{across}{f' × {up}' if up else ''}", 28), "quiet small")
