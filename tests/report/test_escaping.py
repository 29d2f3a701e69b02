"""Text from elsewhere inside Markdown and tables: read by the programs that will read it, it is text."""

import html
import io
import re

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from infertune.report.escaping import code_span, escaped, one_line, sentence, table_text

ANY_TEXT = st.text(
    st.one_of(st.sampled_from("\\`*_[]()<>&!|~#$@+-=.:;/\"' \t\n\r1aw\x1b\u202e\ud800"), st.characters())
)
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def text_of(rendered: str) -> str:
    """The text that a reader sees, and no element but a paragraph or a cell around it."""
    assert re.sub(r"</?(p|code|table|thead|tbody|tr|th|td)>", "", rendered).count("<") == 0, rendered
    return html.unescape(re.sub(r"<[^>]*>", "", rendered)).replace("\u2060", "").strip()


@given(ANY_TEXT)
@example("# large")
@example("12) listed")
@example("- item")
@example("---")
@example("\\|")
def test_escaped_text_is_read_as_the_same_text(text: str) -> None:
    assert text_of(MARKDOWN.render(escaped(text))) == one_line(text).replace("\u2060", "")
    assert "\n" not in escaped(text)


@given(ANY_TEXT, st.sampled_from([escaped, code_span]))
@example("a\\|b", code_span)
@example("", code_span)
def test_text_in_a_cell_stays_in_its_cell(text: str, write: object) -> None:
    assert callable(write)
    rendered = MARKDOWN.render(f"| a | b |\n| --- | --- |\n| {write(text)} | last |\n")
    cells = re.findall(r"<td>(.*?)</td>", rendered, re.DOTALL)
    assert len(cells) == 2 and cells[1] == "last"
    assert text_of(cells[0]).replace("`", "'") == one_line(text).replace("\u2060", "").replace("`", "'")


@given(ANY_TEXT)
def test_no_sentence_has_an_element_of_its_own(text: str) -> None:
    text_of(MARKDOWN.render(sentence(f"The best is `{text}`: keep {text}.")))


@pytest.mark.parametrize(
    "text", ["http://evil.example", "see www.evil.example", "@team", "a@b.example", "#12", "owner/name#12", "GH-7"]
)
def test_nothing_becomes_a_link_or_a_notification_on_github(text: str) -> None:
    assert text not in escaped(text) and escaped(text).replace("\u2060", "").replace("\\", "") == text


def test_a_formula_of_mathematics_is_no_formula_in_markdown() -> None:
    assert escaped("$x$") == r"\$x\$"


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        '=HYPERLINK("http://x";"y")',
        "a;=1",
    ],
)
def test_no_cell_is_a_formula(text: str) -> None:
    for cell in table_text(text).split(";"):
        assert not re.match(r"\s*[=+\-@\t\r]", cell)
    read = pd.read_csv(io.StringIO(pd.DataFrame({"a": [table_text(text)]}).to_csv(index=False)))
    assert read["a"][0].replace("'", "") == one_line(text).replace("'", "")


@pytest.mark.parametrize("text", ["-1", "+1", "-1.5e-3", "5", "auto", "a-b", "x=1", "a @ b"])
def test_numbers_and_plain_words_stay_as_they_are(text: str) -> None:
    assert table_text(text) == text
