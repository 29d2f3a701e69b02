"""The files of a report: `report.html`, `report.md` with its pictures, and `landscape.csv`."""

from collections.abc import Sequence
from pathlib import Path

from infertune.domain.objective import Objective
from infertune.report import pictures
from infertune.report.compare import compare, comparison_html, comparison_markdown, comparison_picture
from infertune.report.findings import Findings, find
from infertune.report.markdown import PICTURES, to_markdown
from infertune.report.page import to_html
from infertune.report.table import TABLE, write_table
from infertune.runs.ledger import Ledger
from infertune.writing import check_inside, remove_inside, write_inside

PAGE = "report.html"
TEXT = "report.md"
_DRAWINGS = tuple(f"{PICTURES}/{name}.svg" for name in pictures.NAMES)
_COMPARISON = ("comparison.svg", "comparison.md", "comparison.html")
_WHAT = "report"


def write_report(ledger: Ledger, objective: Objective) -> Path:
    """Write every file of a run's report into its folder; the page's path.

    Raises:
        UsageError: A file cannot be written, or its name is taken by a link or by something else than a file.
    """
    return write_found(find(ledger, objective))


def write_found(found: Findings) -> Path:
    """The same, of findings that were computed already."""
    folder = found.ledger.folder
    check_place(folder)
    write_table(found.ledger)
    made = {f"{PICTURES}/{name}.svg": text for name, (_, text) in pictures.drawn(found).items()}
    for name in _DRAWINGS:
        if name in made:
            write_inside(folder, name, made[name], _WHAT)
        else:  # of an earlier state of the run
            remove_inside(folder, name)
    write_inside(folder, TEXT, to_markdown(found), _WHAT)
    return write_inside(folder, PAGE, to_html(found), _WHAT)


def check_place(folder: Path) -> None:
    """Refuse a run's folder in which a report cannot be written, before anything is measured or written.

    Raises:
        UsageError: The name of one of a report's files is taken by a link or by something else than a file.
    """
    check_inside(folder, (TABLE, *_DRAWINGS, TEXT, PAGE), _WHAT)


def write_comparison(runs: Sequence[Findings], folder: Path) -> Path:
    """Write `comparison.html`, `comparison.md` and `comparison.svg` of several runs into a folder; the page's path.

    Raises:
        UsageError: A file cannot be written, or its name is taken by a link or by something else than a file.
    """
    check_inside(folder, _COMPARISON, _WHAT)
    compared = compare(runs)
    picture, text, page = _COMPARISON
    write_inside(folder, picture, comparison_picture(compared), _WHAT)
    write_inside(folder, text, comparison_markdown(compared), _WHAT)
    return write_inside(folder, page, comparison_html(compared), _WHAT)
