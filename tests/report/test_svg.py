"""Drawings as SVG: well formed whatever a text holds, and dark only on a screen."""

import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from infertune.report.escaping import one_line
from infertune.report.svg import Drawing, ticks, viridis

SVG = "{http://www.w3.org/2000/svg}"


@given(st.text(), st.text())
def test_a_drawing_is_well_formed_and_shows_the_text_on_one_line(title: str, text: str) -> None:
    drawing = Drawing(100, 50, title)
    drawing.text(1, 2, text)
    root = ElementTree.fromstring(str(drawing))
    assert root.get("aria-label") == one_line(title)
    [shown] = root.iter(f"{SVG}text")
    assert (shown.text or "") == one_line(text)


def test_the_dark_colours_are_for_screens_not_for_paper() -> None:
    assert "@media screen and (prefers-color-scheme:dark)" in str(Drawing(1, 1, "x"))


def test_ticks_are_round_numbers_within_their_range() -> None:
    assert ticks(0, 9.7) == [0, 2, 4, 6, 8]
    assert ticks(3, 3) == [3]


def test_text_on_a_colour_is_light_on_dark_and_dark_on_light() -> None:
    assert viridis(0) == ("#440154", "on-dark") and viridis(1) == ("#fde725", "on-light")
    assert viridis(-1) == viridis(0) and viridis(2) == viridis(1)
