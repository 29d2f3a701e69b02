"""The command `gate`, which measures a profile again to detect a regression."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from infertune.cli.options import (
    CarbonIntensity,
    ConfigFile,
    Country,
    Device,
    EngineBinary,
    EnginePython,
    Ignore,
    Json,
    LoadTimeout,
    Out,
    Progress,
    Requests,
    Table,
    Wait,
    Window,
    flags_of,
    request_of,
)
from infertune.cli.printing import console, harmless, print_json
from infertune.errors import EXIT_INTERRUPTED, InfertuneError, UsageError


def gate(
    profile: Annotated[Path, typer.Argument(help="A profile: its configuration is the new side.")],
    margin: Annotated[str | None, typer.Option(help="The drop that must not pass; 5% unless given.")] = None,
    mode: Annotated[
        str | None, typer.Option(help="paired: base and new in turn. stored: against 8 or more earlier runs.")
    ] = None,
    calibrate: Annotated[
        bool | None, typer.Option("--calibrate", help="Measure the profile against itself: what can be seen here?")
    ] = None,
    against: Annotated[str | None, typer.Option(help="The base: default, or another profile.")] = None,
    baseline_python: Annotated[
        Path | None, typer.Option(help="The base's interpreter: another version of the engine, same settings.")
    ] = None,
    baseline_binary: Annotated[
        Path | None, typer.Option(help="The base's engine, an executable: another build, same settings.")
    ] = None,
    baseline_model: Annotated[str | None, typer.Option(help="The base's model, same settings.")] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Measure this server, which runs already, with the profile's load."),
    ] = None,
    baseline_target: Annotated[
        str | None, typer.Option(metavar="URL", help="With --target: the running server that it is compared with.")
    ] = None,
    baseline_set: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Change a setting of the base; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Allow a setting of the profile that can load code; with --target: served_model. Repeatable.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="What to gate on; output_tokens_per_s unless given; repeatable.")
    ] = None,
    history: Annotated[Path | None, typer.Option(help="The earlier runs' folder; else beside the profile.")] = None,
    launches: Annotated[int | None, typer.Option(help="Launches that make one stored run; 3 unless given.")] = None,
    on_inconclusive: Annotated[
        str | None, typer.Option(metavar="pass|fail", help="What no verdict counts as; else exit code 3.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a JUnit file.")] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", "-e", help="The profile's engine with a variant, NAME:VARIANT.")
    ] = None,
    device: Device = None,
    model: Annotated[str | None, typer.Option(help="Where the profile's model is, if not where it was.")] = None,
    workload: Annotated[str | None, typer.Option(help="Where the profile's workload is, if not where it was.")] = None,
    requests: Requests = None,
    seed: Annotated[int | None, typer.Option(help="Seeds the order of the launches; else the time does.")] = None,
    window: Window = None,
    table: Table = None,
    ignore: Ignore = None,
    engine_python: EnginePython = None,
    engine_binary: EngineBinary = None,
    load_timeout: LoadTimeout = None,
    run_timeout: Annotated[str | None, typer.Option(help="Deadline of one measurement; 10m unless given.")] = None,
    wait: Wait = None,
    country: Country = None,
    carbon_intensity: CarbonIntensity = None,
    out: Out = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> int:
    """Measure a profile again: is it still as fast?

    Ends with 0 (pass), 1 (regression) or 3 (inconclusive); 4 where the profile does not hold on this machine.
    """
    flags = flags_of(locals())
    from infertune.domain.request import GateRequest
    from infertune.gating.gate import gate_request
    from infertune.report.gate import annotation, junit_of_error, step_summary
    from infertune.report.gate import junit as junit_text
    from infertune.writing import append_named, check_named

    request = request_of(GateRequest, flags, config)
    if request.junit is not None:  # before the run, not after it
        check_named(request.junit, "--junit", regular=True)
    try:
        with Progress() as observer:
            result = gate_request(request, observer)
    except InfertuneError as error:
        if error.exit_code != EXIT_INTERRUPTED:
            _write(request.junit, junit_of_error(str(profile), str(error), type(error).__name__))
            _annotate_error(str(error))
        raise
    _write(request.junit, junit_text(result))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        print(annotation(result), file=sys.stderr)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with contextlib.suppress(UsageError):  # a summary that cannot be written changes no verdict
            append_named(Path(summary), step_summary(result), "step summary")
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        from infertune.cli.terminal_gate import print_gate

        print_gate(console(), result)
    return result.exit_code


def _annotate_error(message: str) -> None:
    from infertune.report.gate import command

    if os.environ.get("GITHUB_ACTIONS") == "true":
        print(command("error", message), file=sys.stderr)


def _write(path: Path | None, text: str) -> None:
    """Write a file, whole or not at all. A failure is printed and leaves the verdict as it is."""
    if path is None:
        return
    from infertune.writing import write_named

    try:
        write_named(path, text, "--junit")
    except UsageError as error:
        print(harmless(f"infertune: {error}"), file=sys.stderr)
