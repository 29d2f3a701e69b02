"""The commands that measure nothing: `space`, `report`, `doctor`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infertune.cli.options import (
    Device,
    Engine,
    EngineBinary,
    EnginePython,
    Ignore,
    Json,
    Knob,
    Model,
    Set,
    Table,
    Weights,
    Workers,
    Workload,
    flags_of,
    request_of,
)
from infertune.cli.printing import console, print_json, say

if TYPE_CHECKING:
    from infertune.cli.doctor import Diagnosis
    from infertune.runs.job import ModelRefusedError


def space(
    model: Model = None,
    engine: Engine = None,
    device: Device = None,
    workload: Workload = None,
    weights: Weights = None,
    set_: Set = None,
    knob: Knob = None,
    table: Table = None,
    ignore: Ignore = None,
    engine_python: EnginePython = None,
    engine_binary: EngineBinary = None,
    as_json: Json = False,
) -> None:
    """Print the knobs of an engine for MODEL.

    For each its values, its default, whether it needs a launch, and why it matters.
    """
    flags = flags_of(locals())
    from infertune.domain.request import JobRequest
    from infertune.runs.job import ModelRefusedError, prepare

    try:
        job = prepare(request_of(JobRequest, flags, None), measures=False)
    except ModelRefusedError as refusal:  # its size is still known
        _say_refused(refusal, as_json=as_json)
        return
    if as_json:
        model_sizes = job.model and job.model.model_dump(mode="json")
        record = job.space.record().model_dump(mode="json")
        print_json({"schema_version": 1, "engine": job.engine.name, "model": model_sizes, **record})
        return
    from infertune.cli.terminal import space_table
    from infertune.cli.terminal_models import size_lines

    terminal = console()
    say(terminal, f"{job.engine.name} {job.availability.version} on {job.device}")
    for line in size_lines(job.model) if job.model else ():
        say(terminal, line)
    terminal.print(space_table(job.space))
    for line in (*(f"rule: {rule}" for rule in job.space.record().rules), *(f"note: {note}" for note in job.notes)):
        say(terminal, line, style="dim")


def _say_refused(refusal: "ModelRefusedError", *, as_json: bool) -> None:
    """Print the size of a model that has no knobs here.

    Raises:
        ModelRefusedError: For another reason than this machine's memory.
    """
    from infertune.errors import DoesNotFitError

    fits = not isinstance(refusal.__cause__, DoesNotFitError)
    if as_json:
        sizes = refusal.model.model_dump(mode="json")
        nothing: dict[str, list[str]] = {"knobs": [], "rules": [], "notes": [str(refusal)]}
        print_json({"schema_version": 1, "engine": refusal.engine, "model": sizes, **nothing})
    else:
        from infertune.cli.terminal_models import size_lines

        for line in size_lines(refusal.model):
            say(console(), line)
        if not fits:
            say(console(), f"note: {refusal}", style="dim")
    if fits:
        raise refusal


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="A run's folder; several are compared.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison of several runs.")] = None,
    to_optuna: Annotated[
        str | None, typer.Option(metavar="URL", help="Write the search as an Optuna study, such as sqlite:///runs.db.")
    ] = None,
    port: Annotated[
        bool, typer.Option("--port", help="Of several runs: what is lost where the best of one is used in another.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a run's report again, or compare several runs.

    Everything is read from the ledgers; nothing is measured.
    """
    from infertune.search.storage import shown_storage
    from infertune.tuning.afterwards import check_report, compare_runs, port_runs, report_again
    from infertune.tuning.afterwards import to_optuna as export

    check_report(runs, out, to_optuna, port=port)
    if out is not None and port:
        page, sentences = port_runs(runs, out)
        if as_json:
            print_json({"schema_version": 1, "report": str(page), "porting": sentences})
            return
        for sentence in sentences:
            say(console(), sentence)
        say(console(), f"report:  {page}")
        return
    if out is not None:
        page = compare_runs(runs, out)
        print_json({"schema_version": 1, "report": str(page)}) if as_json else say(console(), str(page))
        return
    if to_optuna is not None:
        name, n = export(runs[0], to_optuna)
        place = shown_storage(to_optuna)
        if as_json:
            print_json({"schema_version": 1, "study": name, "trials": n, "storage": place})
        else:
            say(console(), f"study {name}: {n} trials in {place}")
        return
    found, page = report_again(runs[0])
    if as_json:
        print_json({"schema_version": 1, **found.summary.model_dump(mode="json"), "report": str(page)})
        return
    from infertune.cli.terminal import print_findings

    print_findings(console(), found)
    say(console(), f"report:  {page}")


def doctor(workers: Workers = None, as_json: Json = False) -> None:
    """Show the device, the engines and the energy sources.

    Says what to install for what is missing. With --workers, of every node of a Ray cluster too.
    """
    from infertune.cli.doctor import diagnose, diagnose_nodes

    found = diagnose()
    nodes = diagnose_nodes(workers) if workers is not None else ()
    if as_json:
        listed = {"nodes": [node.model_dump(mode="json") for node in nodes]} if workers is not None else {}
        print_json({"schema_version": 1, **found.model_dump(mode="json"), **listed})
        return
    _print_diagnosis(found)
    for node in nodes:
        say(console())
        say(console(), f"node      {node.address}: {node.gpus} GPUs, room for {node.workers} workers without a GPU")
        if node.fault:
            say(console(), ("✗", "red"), f" {node.fault}")
        if node.found:
            _print_diagnosis(node.found)


def _print_diagnosis(found: "Diagnosis") -> None:
    terminal = console()
    say(terminal, f"infertune {found.infertune_version}, Python {found.python}")
    say(terminal, f"device    {found.device}")
    for note in found.notes:
        say(terminal, f"note      {note}")
    for engine in found.engines:
        mark = ("✓", "green") if engine.usable else ("✗", "red")
        say(terminal, mark, f" {engine.name:8} {engine.version or '':12} {engine.what}")
    for source in found.energy:
        what = ", ".join(filter(None, (source.kind, source.resolution, source.reason)))
        say(terminal, f"energy    {source.name}: {what}")
