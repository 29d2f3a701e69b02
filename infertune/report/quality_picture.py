"""The picture of what was checked: the objective's figure against the change of perplexity."""

from typing import NamedTuple

from infertune.domain.knobs import Config
from infertune.domain.quality import Interval, Verdict
from infertune.report.findings import Findings
from infertune.report.svg import Drawing, tick_text, ticks
from infertune.runs.rejection import lossy_settings
from infertune.runs.summary import figures
from infertune.stats import geometric_mean
from infertune.units import format_percent, shortened

_COLOURS: dict[Verdict | None, str] = {None: "d", "pass": "g", "fail": "o", "open": "o", "not checked": "o"}
_LABEL_CHARACTERS = 44
_LETTER = 6.3  # pixels of a small letter, about


class _Spot(NamedTuple):
    """A configuration in the picture; the reference has no verdict."""

    name: str
    figure: float
    perplexity: Interval
    verdict: Verdict | None


def quality(found: Findings) -> str | None:
    """What the search measured against the increase of perplexity; None where nothing lossy was checked.

    The reference stands at its own second scores, the noise floor.
    """
    spots, summary = _spots(found), found.summary
    limits = [check.limits.max_loss for check in summary.checks if check.figures]
    if not spots or not any(lossy_settings(found.ledger, check.checked).root for check in summary.checks):
        return None
    limit = limits[-1]
    ends = [end for spot in spots for end in (spot.perplexity.mean, spot.perplexity.low, spot.perplexity.high)]
    known = [end for end in ends if end is not None]
    left, right = min(0.0, *known), max(1.4 * limit, *known)
    left, right = left - 0.06 * (right - left), right + 0.06 * (right - left)
    low, high = 0.0, 1.12 * max(spot.figure for spot in spots)
    drawing = Drawing(720, 330, "Figure against the change of perplexity")

    def place(share: float, figure: float) -> tuple[float, float]:
        return 70 + 636 * (share - left) / (right - left), 12 + 262 * (high - figure) / (high - low)

    for tick in ticks(low, high):
        drawing.line(70, place(left, tick)[1], 706, place(left, tick)[1], "grid")
        drawing.text(62, place(left, tick)[1] + 4, tick_text(tick), "quiet small", "end")
    for tick in ticks(100 * left, 100 * right, 7):
        drawing.text(place(tick / 100, low)[0], 291, f"{tick_text(tick)}%", "quiet small", "middle")
    at_limit = place(limit, low)[0]
    drawing.line(at_limit, 12, at_limit, 274, "d-line", 1.5, "6 4")
    drawing.text(at_limit + 6, 270, f"limit {format_percent(1 + limit)}", "quiet small")
    for spot in spots:
        colour = _COLOURS[spot.verdict]
        x, y = place(spot.perplexity.mean, spot.figure)
        if spot.perplexity.low is not None and spot.perplexity.high is not None:
            drawing.line(place(spot.perplexity.low, 0)[0], y, place(spot.perplexity.high, 0)[0], y, "axis-strong", 1.5)
        drawing.dot(x, y, 5, colour)
        beside = x + 10 + _LETTER * len(spot.name) > 716
        drawing.text(x - 10 if beside else x + 10, y - 7, spot.name, "small", "end" if beside else "start")
    drawing.text(706, 314, f"{found.objective.unit} by change of perplexity, 95% intervals", "quiet small", "end")
    return str(drawing)


def _spots(found: Findings) -> list[_Spot]:
    """The reference and every configuration that was scored and measured by the search; empty without both."""
    summary = found.summary
    checks = [check for check in summary.checks if check.figures and check.floor]
    base = _figure(found, summary.default_config)
    if not checks or base is None or checks[0].floor is None:
        return []
    spots = [_Spot(summary.base_name, base, checks[0].floor.perplexity_increase, None)]
    for check in checks:
        figure = _figure(found, check.checked)
        if figure is not None and check.figures is not None:
            name = shortened(str(found.changed(check.checked)), _LABEL_CHARACTERS)
            spots.append(_Spot(name, figure, check.figures.perplexity_increase, check.verdict))
    return spots if len(spots) > 1 else []


def _figure(found: Findings, config: Config) -> float | None:
    """What the search measured: the same job for every configuration."""
    samples = figures(found.ledger.trials, config, found.objective)
    return geometric_mean(samples) if samples else None
