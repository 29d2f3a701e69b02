"""Small drawings as SVG text: no font files, no scripts, legible in light and dark wherever an image is shown."""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from infertune.report.escaping import one_line

_STYLE = """
.pic text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",Arial,sans-serif;fill:#1b1f24}
.pic .quiet{fill:#57606a}.pic .small{font-size:11.5px}.pic .bold{font-weight:600}
.pic .axis{stroke:#c4cad1;stroke-width:1}.pic .grid{stroke:#e3e6ea;stroke-width:1}
.pic .a{fill:#0b5cad}.pic .a-line{stroke:#0b5cad;fill:none}.pic .g{fill:#00703c}.pic .g-line{stroke:#00703c;fill:none}
.pic .axis-strong{stroke:#1b1f24}.pic .on-bar{fill:#fff}.pic text.on-dark{fill:#fff}.pic text.on-light{fill:#000}
.pic .d{fill:#6b7480}.pic .d-line{stroke:#6b7480;fill:none}.pic .b-line{stroke:#b3400a;fill:none}.pic .o{fill:#6b4aa0}
@media screen and (prefers-color-scheme:dark){.pic text{fill:#e7eaee}.pic .quiet{fill:#a3adb8}
.pic .axis{stroke:#46515d}.pic .axis-strong{stroke:#fff}.pic .on-bar{fill:#0f1317}.pic .grid{stroke:#2a323b}
.pic .a{fill:#6cb4ff}.pic .a-line{stroke:#6cb4ff}.pic .g{fill:#4fd08b}.pic .g-line{stroke:#4fd08b}
.pic .d{fill:#9aa5b1}.pic .d-line{stroke:#9aa5b1}.pic .b-line{stroke:#ff9b5e}.pic .o{fill:#c3a6f5}}
"""
# Ten colours of matplotlib's viridis: its lightness rises evenly, so it is read without colour vision too.
_VIRIDIS = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
)  # fmt: skip


class Drawing:
    """An SVG picture under construction; coordinates in pixels from the top left."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self._size = (width, height)
        self._title = title
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, classes: str = "", anchor: str = "start", turn: int = 0) -> None:
        """A line of text on its baseline."""
        shown = escape(one_line(text))
        turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}" text-anchor="{anchor}"{turned}>{shown}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, classes: str, width: float = 1, dash: str = "") -> None:
        """A straight line."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{classes}" '
            f'stroke-width="{width:g}"{dashed}/>'
        )

    def path(self, points: Sequence[tuple[float, float]], classes: str, width: float = 2) -> None:
        """A line through points."""
        if points:
            drawn = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            self._parts.append(f'<path d="M{drawn}" class="{classes}" stroke-width="{width:g}"/>')

    def dot(self, x: float, y: float, radius: float, classes: str, opacity: float = 1) -> None:
        """A disc."""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{classes}" fill-opacity="{opacity:g}"/>'
        )

    def ring(self, x: float, y: float, radius: float) -> None:
        """A white circle with a black edge, seen on every colour: the mark of the best."""
        if radius > 0:
            for width, colour in ((4, "#000"), (2, "#fff")):
                self._parts.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="none" stroke="{colour}" '
                    f'stroke-width="{width}"/>'
                )

    def cross(self, x: float, y: float, size: float = 4) -> None:
        """A cross: the mark of a failure."""
        self.line(x - size, y - size, x + size, y + size, "b-line", 2)
        self.line(x - size, y + size, x + size, y - size, "b-line", 2)

    def bar(self, x: float, y: float, width: float, height: float, classes: str = "", fill: str = "") -> None:
        """A filled rectangle, in the colour of a class or in a given one."""
        look = f'fill="{fill}"' if fill else f'class="{classes}"'
        self._parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {look}/>')

    def __str__(self) -> str:
        width, height = self._size
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
            f'aria-label="{escape(one_line(self._title), {chr(34): "&quot;"})}"><style>{_STYLE.strip()}</style>'
            f'<g class="pic">{"".join(self._parts)}</g></svg>'
        )


def viridis(share: float) -> tuple[str, str]:
    """The colour of a share between 0 and 1, and the class of legible text on it."""
    at = min(len(_VIRIDIS) - 1, max(0, round(share * (len(_VIRIDIS) - 1))))
    return _VIRIDIS[at], "on-dark" if at < 5 else "on-light"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from low to high."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def tick_text(value: float) -> str:
    """A tick's label."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
