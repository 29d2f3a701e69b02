"""The picture of serving: what requests take against the rate at which they come, with the limits as lines."""

from infertune.domain.promise import Promise, RequestFigure, RequestLimit
from infertune.domain.service import LEVELS, Service, Sketch
from infertune.report.findings import Findings
from infertune.report.serving import looks_of, served_configs
from infertune.report.svg import Drawing, tick_text, ticks

_PANEL = 190  # pixels of a panel's height
_OVER = 2.0  # times the limit: what is beyond is drawn as a cross at the edge; judgement
_COLOURS = {"default": "d", "current": "d", "measured": "a", "tuned": "g"}


def serving(found: Findings) -> str | None:
    """A panel for each limit: every load of default and candidate, by its rate; None for offline jobs."""
    series = [(name, [look for look in looks_of(found, config) if look.rate_per_s and not look.late])
              for name, config in served_configs(found)]  # fmt: skip
    series = [(name, some) for name, some in series if some]  # a default that cannot run has no loads
    looks = [look for _, some in series for look in some]
    promise = looks[0].promise if looks else Promise()
    limits = promise.limits
    rates = [look.rate_per_s or 0.0 for look in looks]
    if not limits or len(set(rates)) < 2:
        return None
    left, right = 0.9 * min(rates), 1.04 * max(rates)
    drawing = Drawing(720, 40 + _PANEL * len(limits), "What requests take, by the rate at which they come")
    for number, limit in enumerate(limits):
        _panel(drawing, 12 + _PANEL * number, limit, limit.share or promise.attain, series, left, right)
    bottom = 18 + _PANEL * len(limits)
    x = 70.0
    for name, _ in series:
        drawing.dot(x + 5, bottom + 8, 4, _COLOURS.get(name, "a"))
        drawing.text(x + 15, bottom + 12, name, "quiet small")
        x += 32 + 6.6 * len(name)
    drawing.line(x, bottom + 8, x + 24, bottom + 8, "b-line", 1.5, "6 4")
    drawing.text(x + 30, bottom + 12, "limit; × beyond the picture", "quiet small")
    drawing.text(706, bottom + 12, "requests a second", "quiet small", "end")
    return str(drawing)


def _panel(
    drawing: Drawing,
    top: float,
    limit: RequestLimit,
    share: float,
    series: list[tuple[str, list[Service]]],
    left: float,
    right: float,
) -> None:
    high, tall = _OVER * limit.most_s, _PANEL - 50

    def place(rate: float, value: float) -> tuple[float, float]:
        return 70 + 636 * (rate - left) / (right - left), top + 14 + tall * (1 - min(value, high) / high)

    for tick in ticks(0.0, high, 4):
        drawing.line(70, place(left, tick)[1], 706, place(left, tick)[1], "grid")
        drawing.text(62, place(left, tick)[1] + 4, tick_text(tick), "quiet small", "end")
    for tick in ticks(left, right, 8):
        drawing.text(place(tick, 0)[0], top + 30 + tall, tick_text(tick), "quiet small", "middle")
    at = place(left, limit.most_s)[1]
    drawing.line(70, at, 706, at, "b-line", 1.5, "6 4")
    for name, looks in series:
        colour = _COLOURS.get(name, "a")
        for look in looks:
            value = _value(look, limit)
            if value is None or look.rate_per_s is None:
                continue
            if value > high:
                drawing.cross(*place(look.rate_per_s, high), 4)
            else:
                drawing.dot(*place(look.rate_per_s, value), 3.5, colour, 0.8)
    drawing.text(70, top + 6, f"{limit.figure[:-2]} of {100 * _level(share):g}% of the requests, in seconds", "small")


def _value(look: Service, limit: RequestLimit) -> float | None:
    """The figure at the share of requests that must keep the limit, or the nearest that is known."""
    sketch: Sketch | None = _sketch(look, limit.figure)
    return None if sketch is None else sketch.at(_level(limit.share or look.promise.attain))


def _level(share: float) -> float:
    return min(LEVELS, key=lambda level: abs(level - share))


def _sketch(look: Service, figure: RequestFigure) -> Sketch | None:
    return {"ttft_s": look.ttft_s, "tpot_s": look.tpot_s, "itl_s": look.itl_s, "latency_s": look.latency_s}[figure]
