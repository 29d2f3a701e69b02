"""The matrix of porting: from row to column, what retuning gains."""

from collections.abc import Sequence

from infertune.report.study.porting import Travel
from infertune.report.svg import Drawing, viridis

_FULL_COLOUR_PERCENT = 50.0  # gains beyond it look alike (judgement)
_CUT = 26


def matrix(travels: Sequence[Travel], title: str) -> str:
    """A square for every ordered pair: the mean gain of retuning in percent, and how many failed or were not there."""
    names = list(dict.fromkeys(name for travel in travels for name in (travel.there, travel.here)))
    found = {(travel.there, travel.here): travel for travel in travels}
    side = 84 if len(names) <= 8 else 44
    left = 26 + 7.0 * max(len(cut(name)) for name in names)
    top = 20 if len(names) <= 4 else 8
    labels = 26 if len(names) <= 4 else 6.0 * max(len(cut(name)) for name in names) * 0.75 + 20
    width = max(left + max(side, 150 if len(names) <= 4 else side) * len(names) + 20, 720)
    step = max(side, 150) if len(names) <= 4 else side
    tall = min(side, 60)
    drawing = Drawing(width, top + tall * len(names) + labels + 26, title)
    most = max((travel.mean or 0 for travel in travels), default=0)
    full = min(max(most, 5.0), _FULL_COLOUR_PERCENT)
    for row, there in enumerate(names):
        y = top + tall * row
        drawing.text(left - 8, y + tall / 2 + 4, cut(there), "small", "end")
        for column, here in enumerate(names):
            x = left + step * column
            travel = found.get((there, here))
            if there == here:
                drawing.text(x + step / 2, y + tall / 2 + 4, "–", "quiet small", "middle")
                continue
            if travel is None:
                continue
            apart = len(travel.ports) - len(travel.gains)
            if travel.mean is None:
                drawing.cross(x + step / 2, y + tall / 2 - (4 if side > 50 else 0), 5)
                if side > 50:
                    drawing.text(x + step / 2, y + tall / 2 + 18, f"{apart} apart", "quiet small", "middle")
                continue
            fill, ink = viridis(max(0.0, travel.mean) / full)
            drawing.bar(x + 1, y + 1, step - 2, tall - 2, fill=fill)
            shown = f"{travel.mean:+.1f}%" if side > 50 else f"{travel.mean:.0f}"
            up = 4 if apart and side > 50 else 0
            drawing.text(x + step / 2, y + tall / 2 + 4 - up, shown, f"small {ink}", "middle")
            if apart and side > 50:
                drawing.text(x + step / 2, y + tall / 2 + 15, f"{apart} apart", f"small {ink}", "middle")
    below = top + tall * len(names)
    for column, here in enumerate(names):
        x = left + step * (column + 0.5)
        if len(names) <= 4:
            drawing.text(x, below + 18, cut(here), "small", "middle")
        else:
            drawing.text(x + 4, below + 12, cut(here), "small", "end", -45)
    legend = "mean gain of retuning in percent, from row to column; apart: fails there, or was not measured (×: all)"
    drawing.text(min(left, 60), below + labels + 18, legend, "quiet small")
    return str(drawing)


def cut(name: str, most: int = _CUT) -> str:
    """A label of at most so many characters: its start and its end."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - most // 2 - 1) :]}"
