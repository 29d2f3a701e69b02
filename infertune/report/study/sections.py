"""The parts of which a study's page and its Markdown are made: the same tables and pictures in both."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from infertune.report.escaping import escaped
from infertune.report.page.assembly import render

PICTURES = "pictures"
_FIGURE = re.compile(r"[+\-−×]?[\d.,]|–$|no intervals$|did not run$|failed$|not measured$")


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        headings: Of its columns.
        rows: Its cells.
        caption: What stands above it.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    @property
    def figures(self) -> list[bool]:
        """For each column, whether it holds figures; they stand at the right."""
        return [all(_FIGURE.match(row[n]) for row in self.rows) for n in range(len(self.headings))]


@dataclass(frozen=True)
class Picture:
    """A drawing.

    Attributes:
        name: Of its file, without the ending.
        caption: What it shows.
        svg: The drawing.
    """

    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        findings: What was found, one sentence each.
        text: Paragraphs on how.
        pictures: In order.
        tables: In order.
        details: Tables that the page folds away.
    """

    title: str
    findings: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    details: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: Its heading.
        tags: Short facts below it.
        warnings: What casts doubt on the figures.
        sections: In order.
    """

    title: str
    tags: tuple[str, ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> list[Picture]:
        """Every drawing."""
        return [picture for section in self.sections for picture in section.pictures]


def page_html(page: Page) -> str:
    """A report as one page without a request and without a script."""
    return render("study.html.j2", page=page)


def page_markdown(page: Page) -> str:
    """A report as GitHub-flavoured Markdown, its pictures in a folder beside it."""
    lines = [f"# {escaped(page.title)}", ""]
    if page.tags:
        lines += [" · ".join(map(escaped, page.tags)), ""]
    lines += [line for warning in page.warnings for line in (f"> {escaped(warning)}", "")]
    for section in page.sections:
        lines += [f"## {escaped(section.title)}", ""]
        lines += [*(f"- {escaped(text)}" for text in section.findings), *([""] if section.findings else [])]
        lines += [line for text in section.text for line in (escaped(text), "")]
        for picture in section.pictures:
            lines += [f"![{escaped(picture.caption)}]({PICTURES}/{picture.name}.svg)", "", escaped(picture.caption), ""]
        for table in section.tables:
            lines += [*_table(table), ""]
        for table in section.details:
            lines += [f"<details><summary>{escaped(table.caption)}</summary>", "", *_table(table), "", "</details>", ""]
    return "\n".join(lines)


def _table(table: Table) -> Sequence[str]:
    marks = ["---:" if figure else "---" for figure in table.figures]
    rows = [table.headings, *table.rows]
    cells = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    caption = [escaped(table.caption), ""] if table.caption else []
    return [*caption, cells[0], f"| {' | '.join(marks)} |", *cells[1:]]
