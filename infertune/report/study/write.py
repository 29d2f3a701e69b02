"""The files of a study's report."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from infertune.report.study.sections import PICTURES, Page, page_html, page_markdown
from infertune.report.table import for_spreadsheets
from infertune.writing import check_inside, write_inside

_WHAT = "report"


def write_page(folder: Path, name: str, page: Page, tables: Mapping[str, pd.DataFrame]) -> Path:
    """Write `NAME.html`, `NAME.md` with its pictures, and CSV tables into a folder; the page's path.

    Args:
        folder: The folder.
        name: Of the page and its Markdown.
        page: The report.
        tables: File name → table.

    Raises:
        UsageError: A file cannot be written, or its name is taken by a link or by something else than a file.
    """
    check_inside(folder, (f"{name}.html", f"{name}.md", *tables), _WHAT)
    for file, table in tables.items():
        write_inside(folder, file, for_spreadsheets(table).to_csv(index=False), _WHAT)
    for picture in page.pictures:
        write_inside(folder, f"{PICTURES}/{picture.name}.svg", picture.svg, _WHAT)
    write_inside(folder, f"{name}.md", page_markdown(page), _WHAT)
    return write_inside(folder, f"{name}.html", page_html(page), _WHAT)
