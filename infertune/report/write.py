"""The files of a report: `report.html`, `report.md` with its pictures, and `landscape.csv`."""

import shutil
from pathlib import Path

from infertune.ledger import Ledger
from infertune.objective import Objective
from infertune.report import pictures
from infertune.report.findings import Findings, find
from infertune.report.markdown import PICTURES, to_markdown
from infertune.report.page import to_html
from infertune.report.table import write_table


def write_report(ledger: Ledger, objective: Objective) -> Path:
    """Write every file of a run's report into its folder; the page's path.

    Raises:
        OSError: The folder cannot be written.
    """
    return write_found(find(ledger, objective))


def write_found(found: Findings) -> Path:
    """The same, of what was computed already."""
    folder = found.ledger.folder
    write_table(found.ledger)
    write_pictures(folder / PICTURES, {name: text for name, (_, text) in pictures.drawn(found).items()})
    (folder / "report.md").write_text(to_markdown(found), encoding="utf-8")
    page = folder / "report.html"
    page.write_text(to_html(found), encoding="utf-8")
    return page


def write_pictures(folder: Path, made: dict[str, str]) -> None:
    """Pictures, and no others of an earlier report."""
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir()
    for name, text in made.items():
        (folder / f"{name}.svg").write_text(text, encoding="utf-8")
