"""Scaling efficiency over the number of GPUs: one line a cell."""

import math
from collections.abc import Sequence

from infertune.report.study.shape import Shape
from infertune.report.svg import Drawing, ticks

_LINES = ("a-line", "b-line", "g-line", "d-line")


def scaling_picture(shapes: Sequence[Shape]) -> str:
    """Efficiency against GPUs on a logarithmic axis; colours are engines and devices."""
    drawing = Drawing(720, 340, "Scaling efficiency over the number of GPUs")
    counts = sorted({scale.gpus for shape in shapes for scale in shape.scaling})
    most = max(1.0, *(scale.efficiency for shape in shapes for scale in shape.scaling))
    low, high = math.log(counts[0]), math.log(counts[-1])

    def place(gpus: int, efficiency: float) -> tuple[float, float]:
        return 60 + 640 * (math.log(gpus) - low) / max(high - low, 1e-9), 20 + 240 * (1 - efficiency / most)

    for share in ticks(0, most):
        y = place(counts[0], share)[1]
        drawing.line(60, y, 700, y, "grid")
        drawing.text(52, y + 4, f"{share:.0%}", "quiet small", "end")
    for gpus in counts:
        drawing.text(place(gpus, 0)[0], 278, str(gpus), "quiet small", "middle")
    drawing.text(380, 298, "GPUs", "quiet small", "middle")
    groups = list(dict.fromkeys(_group(shape) for shape in shapes))
    for shape in shapes:
        classes = _LINES[groups.index(_group(shape)) % len(_LINES)]
        drawing.path([place(scale.gpus, scale.efficiency) for scale in shape.scaling], classes, 1.3)
    x = 60.0
    for number, group in enumerate(groups[: len(_LINES)]):
        drawing.line(x, 320, x + 18, 320, _LINES[number], 3)
        drawing.text(x + 24, 324, group, "quiet small")
        x += 40 + 6.6 * len(group)
    return str(drawing)


def _group(shape: Shape) -> str:
    return shape.cell.text_of(("device", "engine")) or "all"
