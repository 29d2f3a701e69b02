"""The static pictures of a report, for GitHub and for readers without scripts."""

from collections.abc import Callable

from infertune.domain.knobs import Knob, format_scalar
from infertune.domain.trial import EXPLORING
from infertune.report.answer import Contender, contenders_of
from infertune.report.data import page_data
from infertune.report.findings import Findings
from infertune.report.quality_picture import quality
from infertune.report.serving_picture import serving
from infertune.report.svg import Drawing, tick_text, ticks, viridis
from infertune.units import format_rate

NAMES = ("answer", "serving", "landscape", "importance", "progress", "energy", "quality")
_MARKS = {"search": "a", "grid": "a", "bench": "a", "device": "o", "confirm": "o", "final": "g"}


def drawn(found: Findings) -> dict[str, tuple[str, str]]:
    """The pictures of a run in reading order, name → caption and SVG; without those that would be empty."""
    pictures: dict[str, tuple[str, Callable[[Findings], str | None]]] = {
        "answer": (f"{found.summary.base_name} against the candidate, one dot a launch, with 95% intervals", answer),
        "serving": ("what requests take against the rate at which they come, one dot a load", serving),
        "landscape": ("the best that was measured for each pair of values; × failed", landscape),
        "importance": ("what each knob decides", importance),
        "progress": ("every trial in order, with the best so far", progress),
        "energy": ("throughput against energy, with the Pareto front", energy),
        "quality": ("what was measured against what it does to the perplexity of the answers", quality),
    }
    made = {name: (caption, draw(found)) for name, (caption, draw) in pictures.items()}
    return {name: (caption, text) for name, (caption, text) in made.items() if text}


def answer(found: Findings) -> str:
    """Default and candidate: means with intervals as bars, launches as dots."""
    rows = [(contender.name, contender) for contender in contenders_of(found)]
    return intervals(rows, found.summary.unit, f"{found.summary.base_name.capitalize()} against the best configuration")


def intervals(rows: list[tuple[str, Contender]], unit: str, title: str, width: int = 420) -> str:
    """Bars of the contenders on one axis that starts at zero; those without a figure are left out."""
    known = [(name, contender, contender.estimate) for name, contender in rows if contender.estimate]
    left = 20 + 7.2 * max((len(row[0]) for row in known), default=0)
    drawing = Drawing(width, 56 + 52 * max(1, len(known)), title)
    if not known:
        drawing.text(20, 60, "nothing was measured", "quiet")
        return str(drawing)
    top = 1.04 * max(max((e.high or e.mean, *contender.samples)) for _, contender, e in known)
    bottom = 12 + 52 * len(known)

    def x(value: float) -> float:
        return left + (width - 16 - left) * value / top

    for tick in ticks(0, top, 4):
        drawing.line(x(tick), 8, x(tick), bottom, "grid")
        drawing.text(x(tick), bottom + 17, tick_text(tick), "quiet small", "middle")
    drawing.text(width - 8, bottom + 36, unit, "quiet small", "end")
    for n, (name, contender, estimate) in enumerate(known):
        y = 42 + 52 * n
        drawing.text(left - 12, y + 1, name, "bold", "end")
        drawing.bar(x(0), y - 13, x(estimate.mean) - x(0), 19, contender.colour)
        for at, sample in enumerate(contender.samples[:30]):
            drawing.dot(x(sample), y + 15 + (at % 2) * 3, 2.4, contender.colour, 0.75)
        if estimate.low is not None and estimate.high is not None:
            low, high = x(estimate.low), x(estimate.high)
            for x1, y1, x2, y2 in (
                (low, y - 3.5, high, y - 3.5), (low, y - 9, low, y + 2), (high, y - 9, high, y + 2)
            ):  # fmt: skip
                drawing.line(x1, y1, x2, y2, "axis-strong", 2)
        label = format_rate(estimate.mean)
        if x(estimate.mean) - x(0) > 16 + 8 * len(label):
            drawing.text(x(0) + 8, y + 1, label, "on-bar bold")
        else:
            drawing.text(x(estimate.high or estimate.mean) + 8, y + 1, label, "bold")
    return str(drawing)


def landscape(found: Findings) -> str | None:
    """Heatmap over the two knobs that matter most: each cell shows the best that was measured there."""
    knobs = {knob.name: knob for knob in found.terrain.knobs}
    names = [name for name in found.knobs_that_matter if name in knobs][:2]
    if len(names) < 2 or not found.terrain.measured:
        return None
    across, up = knobs[names[0]], knobs[names[1]]
    if len(up.values) > len(across.values):
        across, up = up, across
    cells, failed = _cells(found, across, up)
    columns, rows = len(across.values), len(up.values)
    left = 34 + 7.2 * max(len(format_scalar(value)) for value in up.values)
    wide, tall = (700 - left) / columns, 34
    drawing = Drawing(720, 74 + tall * rows, f"Best figure for each {across.name} and {up.name}")
    low, high = min(cells.values()), max(cells.values())
    for i in range(rows):
        y = 12 + tall * (rows - 1 - i)
        drawing.text(left - 8, y + 22, format_scalar(up.values[i]), "small", "end")
        for j in range(columns):
            x = left + wide * j
            if (i, j) in cells:
                figure = cells[i, j]
                share = (figure - low) / (high - low) if high > low else 1.0
                fill, ink = viridis(1 - share if found.objective.lower_is_better else share)
                drawing.bar(x + 1, y + 1, wide - 2, tall - 2, fill=fill)
                drawing.text(x + wide / 2, y + 22, format_rate(figure), f"small {ink}", "middle")
            elif (i, j) in failed:
                drawing.cross(x + wide / 2, y + tall / 2, 5)
    for j, value in enumerate(across.values):
        drawing.text(left + wide * (j + 0.5), 28 + tall * rows, format_scalar(value), "small", "middle")
    below = f"{across.name}; numbers in {found.objective.unit}"
    drawing.text(left + wide * columns / 2, 52 + tall * rows, below, "quiet small", "middle")
    drawing.text(15, 12 + tall * rows / 2, up.name, "quiet small", "middle", -90)
    return str(drawing)


def _cells(found: Findings, across: Knob, up: Knob) -> tuple[dict[tuple[int, int], float], set[tuple[int, int]]]:
    """The best figure of each pair of values, and the pairs that failed."""
    scores: dict[tuple[int, int], float] = {}
    failed = set()
    for spot in found.terrain.spots:
        place = tuple(
            next(n for n, v in enumerate(k.values) if repr(v) == repr(spot.config[k.name])) for k in (up, across)
        )
        key = (place[0], place[1])
        if spot.scores:
            scores[key] = max(scores.get(key, spot.score), spot.score)
        else:
            failed.add(key)
    return {key: found.figure_of(score) for key, score in scores.items()}, failed


def importance(found: Findings) -> str | None:
    """Bars of each knob's importance by both methods."""
    rows = page_data(found).importance
    if not rows:
        return None
    left = 20 + 7.4 * max(len(row.knob) for row in rows)
    drawing = Drawing(720, 62 + 42 * len(rows), "Importance of each knob")
    top = max(max(row.ped_anova or 0, row.share or 0) for row in rows) or 1.0
    for n, row in enumerate(rows):
        y = 14 + 42 * n
        drawing.text(left - 10, y + 19, row.knob, "", "end")
        for value, shade, shift in ((row.ped_anova, "a", 0), (row.share, "d", 15)):
            if value is not None:
                drawing.bar(left, y + shift, max(1.0, (640 - left) * value / top), 13, shade)
                drawing.text(left + max(1.0, (640 - left) * value / top) + 6, y + shift + 11, f"{value:.1%}", "small")
    y = 24 + 42 * len(rows)
    for x, shade, text in ((left, "a", "PED-ANOVA: being among the best"), (left + 250, "d", "variance explained")):
        drawing.bar(x, y + 8, 12, 12, shade)
        drawing.text(x + 18, y + 18, text, "quiet small")
    return str(drawing)


def progress(found: Findings) -> str | None:
    """The figure of every trial in order, with the best so far."""
    if not found.searched:
        return None
    trials = page_data(found).trials
    kept = [(trial.n, trial.figure, trial.phase) for trial in trials if trial.figure is not None]
    if len(kept) < 2:
        return None
    figures = [figure for _, figure, _ in kept]
    low, high = min(figures), max(figures)
    low, high = (low - 0.1 * (high - low or low), high + 0.06 * (high - low or high))
    drawing = Drawing(720, 330, "Every trial in order")

    def place(n: float, figure: float) -> tuple[float, float]:
        return 70 + 636 * n / max(1, len(trials) - 1), 16 + 244 * (high - figure) / (high - low)

    for tick in ticks(low, high):
        drawing.line(70, place(0, tick)[1], 706, place(0, tick)[1], "grid")
        drawing.text(62, place(0, tick)[1] + 4, tick_text(tick), "quiet small", "end")
    for tick in ticks(0, len(trials) - 1, 8):
        drawing.text(place(tick, low)[0], 279, tick_text(tick), "quiet small", "middle")
    if (default := found.summary.default) is not None and low < default.mean < high:
        drawing.line(70, place(0, default.mean)[1], 706, place(0, default.mean)[1], "d-line", 1.5, "6 4")
    line: list[tuple[float, float]] = []
    best = None
    for trial in trials:
        if trial.phase not in EXPLORING:
            continue
        if trial.status == "measured" and trial.figure is not None:
            if best is not None:
                line.append(place(trial.n, best))
            wins = best is None or (trial.figure < best if found.objective.lower_is_better else trial.figure > best)
            best = trial.figure if wins else best
        if best is not None:
            line.append(place(trial.n, best))
    drawing.path(line, "a-line")
    for n, figure, phase in kept:
        drawing.dot(*place(n, figure), 3.2 if len(kept) < 400 else 2, _MARKS[phase], 0.8)
    for trial in trials:
        if trial.figure is None:
            drawing.cross(place(trial.n, low)[0], 254)
    x = 70.0
    for shade, text in (("a", "search, and best so far"), ("o", "confirmation"), ("g", "final comparison")):
        drawing.dot(x + 5, 309, 4, shade)
        drawing.text(x + 15, 313, text, "quiet small")
        x += 30 + 6.6 * len(text)
    drawing.line(x, 309, x + 24, 309, "d-line", 1.5, "6 4")
    drawing.text(x + 30, 313, found.summary.base_name, "quiet small")
    drawing.text(706, 296, f"{found.objective.unit} by trial", "quiet small", "end")
    return str(drawing)


def energy(found: Findings) -> str | None:
    """Throughput against J per token."""
    spots = [(spot.j, spot.tps, spot.front) for spot in page_data(found).spots if spot.j and spot.tps]
    if len(spots) < 2:
        return None
    joules, rates = [s[0] for s in spots if s[0]], [s[1] for s in spots if s[1]]
    left, right, low, high = min(joules), max(joules), 0.0, 1.06 * max(rates)
    left, right = left - 0.08 * (right - left or left), right + 0.05 * (right - left or right)
    drawing = Drawing(720, 330, "Throughput against energy")

    def place(j: float, rate: float) -> tuple[float, float]:
        return 70 + 636 * (j - left) / (right - left), 12 + 262 * (high - rate) / (high - low)

    for tick in ticks(low, high):
        drawing.line(70, place(left, tick)[1], 706, place(left, tick)[1], "grid")
        drawing.text(62, place(left, tick)[1] + 4, tick_text(tick), "quiet small", "end")
    for tick in ticks(left, right, 7):
        drawing.text(place(tick, low)[0], 291, tick_text(tick), "quiet small", "middle")
    front = sorted((j, rate) for j, rate, on in spots if on and j and rate)
    drawing.path([place(j, rate) for j, rate in front], "g-line")
    for j, rate, on in spots:
        if j and rate:
            drawing.dot(*place(j, rate), 4.5 if on else 3, "g" if on else "d", 1 if on else 0.55)
    drawing.text(706, 314, "tok/s by J per output token", "quiet small", "end")
    return str(drawing)
