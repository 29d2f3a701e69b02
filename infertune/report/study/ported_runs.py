"""What porting between existing runs costs: `porting.html`, `porting.md`, `porting.csv`."""

from collections.abc import Sequence
from pathlib import Path

from infertune.errors import UsageError
from infertune.report.compare import run_names
from infertune.report.findings import Findings
from infertune.report.study.cell import told_apart
from infertune.report.study.porting import Port, Travel, ports_between, travels
from infertune.report.study.porting_section import porting_section, ports_frame
from infertune.report.study.runs import cells_of_runs
from infertune.report.study.sections import Page, Section, Table
from infertune.report.study.write import write_page
from infertune.units import format_rate


def write_porting(runs: Sequence[Findings], folder: Path) -> tuple[Path, list[Travel], list[Port]]:
    """Write what is lost where the best of one run is used in another.

    Pairs of runs that differ in one thing only are compared; all pairs, if there is none such.

    Raises:
        UsageError: No two runs have a tuned knob in common, or a file cannot be written.
    """
    names = run_names(runs)
    cells, same = told_apart(cells_of_runs(runs, names))
    ports = ports_between(cells) or ports_between(cells, lambda axes: True)
    if not ports:
        raise UsageError(
            "--port: no two of these runs tuned the same knob, so nothing can be brought from one to another"
        )
    found = travels(cells, ports)
    rows = tuple(
        (
            name,
            cell.name,
            format_rate(cell.best.goodness) if cell.best else "nothing ran",
            cell.short(cell.best.config) if cell.best else "–",
            format_rate(cell.default_point.goodness) if cell.default_point else "did not run",
            str(min((len(point.samples) for point in cell.running), default=0)),
        )
        for name, cell in zip(names, cells, strict=True)
    )
    unit = cells[0].unit
    headings = ("run", "of", f"best, {unit}", "at", f"default, {unit}", "launches of each configuration, at least")
    page = Page(
        title=f"Porting between {len(runs)} runs",
        tags=tuple(same.values()),
        warnings=tuple(f"{name}: {note}." for name, cell in zip(names, cells, strict=True) for note in cell.notes),
        sections=(
            porting_section(found, ports, "What porting costs", told=True),
            Section("The runs", tables=(Table(headings, rows),)),
        ),
    )
    return write_page(folder, "porting", page, {"porting.csv": ports_frame(ports)}), found, ports
