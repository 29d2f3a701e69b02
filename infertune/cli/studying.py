"""The command `study`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infertune.cli.options import Json, Progress
from infertune.cli.printing import console, print_json, say
from infertune.errors import EXIT_CANNOT_RUN

if TYPE_CHECKING:
    from infertune.tuning.study.run import StudyResult


def study(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="What to measure, and which tables to read.")],
    out: Annotated[Path | None, typer.Option(help="The study's folder; else reports/study-PLAN.")] = None,
    as_json: Json = False,
) -> None:
    """Measure models × engines × workloads × devices, and report on all of them.

    What is measured already is not measured again: after an interruption the same command goes on.
    """
    from infertune.tuning.study.run import study as make

    with Progress() as observer:
        made = make(plan, out, observer)
    failed = [cell for cell in made.record.cells if cell.state == "failed"]
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "study": str(made.folder),
                "report": None if made.page is None else str(made.page),
                "cells": [cell.model_dump(mode="json") for cell in made.record.cells],
                "sentences": _sentences(made),
            }
        )
    else:
        for sentence in _sentences(made):
            say(console(), sentence)
        for cell in failed:
            labels = (cell.device, cell.engine, cell.model, cell.workload)
            say(console(), f"failed: {' · '.join(filter(None, labels))}: {cell.why}", style="yellow")
        if made.page is not None:
            say(console(), f"report:  {made.page}")
            say(console(), f"tables:  {made.folder / 'cells.csv'}, points.csv, ports.csv")
    if made.page is None:
        raise typer.Exit(EXIT_CANNOT_RUN)


def _sentences(made: "StudyResult") -> list[str]:
    from infertune.report.study.page import summary_lines

    return [] if made.findings is None else summary_lines(made.findings)
