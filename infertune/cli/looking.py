"""The commands that look and measure nothing: `space`, `report`, `doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from infertune.cli.options import (
    Engine,
    EnginePython,
    Ignore,
    Json,
    Model,
    Table,
    Weights,
    Workload,
    console,
    flags_of,
    print_json,
    request_of,
)


def space(
    model: Model = None,
    engine: Engine = None,
    workload: Workload = None,
    weights: Weights = None,
    table: Table = None,
    ignore: Ignore = None,
    engine_python: EnginePython = None,
    as_json: Json = False,
) -> None:
    """Print the knobs of an engine for MODEL: values, default, scope and why each matters."""
    flags = flags_of(locals())
    from infertune.domain.request import JobRequest
    from infertune.runs.job import prepare

    job = prepare(request_of(JobRequest, flags, None))
    if as_json:
        print_json({"schema_version": 1, "engine": job.engine.name, **job.space.record().model_dump(mode="json")})
        return
    from infertune.cli.terminal import space_table

    terminal = console()
    terminal.print(f"{job.engine.name} {job.availability.version} on {job.device}", highlight=False)
    terminal.print(space_table(job.space))
    for line in (*(f"rule: {rule}" for rule in job.space.record().rules), *(f"note: {note}" for note in job.notes)):
        terminal.print(line, style="dim", highlight=False, soft_wrap=True)


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="A run's folder; several are compared.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison of several runs.")] = None,
    to_optuna: Annotated[
        str | None, typer.Option(metavar="URL", help="Write the search as an Optuna study, such as sqlite:///runs.db.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a run's report again, from its ledger alone; or set several runs beside each other."""
    from infertune.tuning.afterwards import check_report, compare_runs, report_again
    from infertune.tuning.afterwards import to_optuna as export

    check_report(runs, out, to_optuna)
    if out is not None:
        page = compare_runs(runs, out)
        print_json({"schema_version": 1, "report": str(page)}) if as_json else _say(str(page))
        return
    if to_optuna is not None:
        name, n = export(runs[0], to_optuna)
        if as_json:
            print_json({"schema_version": 1, "study": name, "trials": n, "storage": to_optuna})
        else:
            _say(f"study {name}: {n} trials in {to_optuna}")
        return
    found, page = report_again(runs[0])
    if as_json:
        print_json({"schema_version": 1, **found.summary.model_dump(mode="json"), "report": str(page)})
        return
    from infertune.cli.terminal import print_findings

    print_findings(console(), found)
    _say(f"report:  {page}")


def _say(line: str) -> None:
    console().print(line, highlight=False, soft_wrap=True, markup=False)


def doctor(as_json: Json = False) -> None:
    """Show the device, the engines found, the energy sources, and what to install for what is missing."""
    from infertune.cli.doctor import diagnose

    found = diagnose()
    if as_json:
        print_json({"schema_version": 1, **found.model_dump(mode="json")})
        return
    terminal = console()
    terminal.print(f"infertune {found.infertune_version}, Python {found.python}", highlight=False, soft_wrap=True)
    terminal.print(f"device    {found.device}", highlight=False)
    for engine in found.engines:
        mark = "[green]✓[/green]" if engine.usable else "[red]✗[/red]"
        terminal.print(
            f"{mark} {engine.name:7} {engine.version or '':12} {engine.what}", highlight=False, soft_wrap=True
        )
    for source in found.energy:
        what = ", ".join(filter(None, (source.kind, source.resolution, source.reason)))
        terminal.print(f"energy    {source.name}: {what}", highlight=False, soft_wrap=True)
