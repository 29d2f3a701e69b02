"""The command line: parse, dispatch, print, exit codes. Nothing heavy is imported before a command runs."""

import json
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from infertune import __version__
from infertune.errors import EXIT_CANNOT_RUN, EXIT_INTERRUPTED, EXIT_OK, InfertuneError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from infertune.request import JobRequest

app = typer.Typer(
    help="Tune an LLM inference engine for the GPU in front of you, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

profile_app = typer.Typer(help="Saved configurations.", no_args_is_help=True)
app.add_typer(profile_app, name="profile")

Model = Annotated[str | None, typer.Argument(help="Hub id, local folder or builtin:NAME.", show_default=False)]
Engine = Annotated[
    str | None, typer.Option("--engine", "-e", help="An engine, see `infertune doctor`; else the first found.")
]
Workload = Annotated[
    str | None, typer.Option(help="synthetic:in=512,out=128 · trace:FILE.csv · jsonl:FILE · humaneval:FILE")
]
Requests = Annotated[int | None, typer.Option(help="Requests in a job; else as many as fill a window.")]
Weights = Annotated[str | None, typer.Option(help="real, or dummy: tune before you download.")]
Seed = Annotated[int | None, typer.Option(help="Seeds every draw.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Hold a knob at a value; repeatable.")
]
Knob = Annotated[list[str] | None, typer.Option("--knob", metavar="NAME=V1,V2", help="Restrict a knob; repeatable.")]
Window = Annotated[str | None, typer.Option(help="Length of one measured window, such as 10s.")]
Table = Annotated[Path | None, typer.Option(help="A recorded table, for an engine that answers from one.")]
Ignore = Annotated[list[str] | None, typer.Option(help="A column of the table that is no knob; repeatable.")]
EnginePython = Annotated[Path | None, typer.Option(help="Interpreter for the engine's process.")]
LoadTimeout = Annotated[str | None, typer.Option(help="Deadline of one launch; 20m unless given.")]
RunTimeout = Annotated[str | None, typer.Option(help="Deadline of one measurement; else five times the default's.")]
Wait = Annotated[bool | None, typer.Option("--wait", help="Wait for a busy device instead of refusing.")]
Out = Annotated[Path | None, typer.Option(help="The run's folder; else one under reports/.")]
Country = Annotated[str | None, typer.Option(help="For CO₂: ISO code of the country, such as DEU.")]
CarbonIntensity = Annotated[float | None, typer.Option(help="For CO₂: grams a kWh; wins over --country.")]
PricePerHour = Annotated[float | None, typer.Option(help="Rent of the machine an hour.")]
PricePerKwh = Annotated[float | None, typer.Option(help="Price of a kilowatt hour.")]
Profiles = Annotated[Path | None, typer.Option(help="Where profiles are kept.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML with the same names as the flags; a flag wins.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, and nothing else.")]
Resume = Annotated[Path | None, typer.Option(metavar="RUN", help="Continue a run from its folder.")]


@app.command()
def tune(
    model: Model = None,
    engine: Engine = None,
    workload: Workload = None,
    objective: Annotated[str | None, typer.Option(help="throughput, tokens-per-joule, energy or cost.")] = None,
    slo: Annotated[list[str] | None, typer.Option(metavar="NAME<VALUE", help="A limit to keep; repeatable.")] = None,
    trials: Annotated[int | None, typer.Option(help="Most trials of the search; 30 unless --budget is given.")] = None,
    budget: Annotated[str | None, typer.Option(help="Most time for everything, such as 20m.")] = None,
    sampler: Annotated[str | None, typer.Option(help="auto, tpe, random or grid.")] = None,
    patience: Annotated[int | None, typer.Option(help="End after so many trials without a gain of 1%.")] = None,
    finalists: Annotated[int | None, typer.Option(help="How many of the best are measured again.")] = None,
    confirm_launches: Annotated[int | None, typer.Option(help="Launches of each finalist.")] = None,
    final_launches: Annotated[
        tuple[int, int] | None, typer.Option(help="Least and most pairs of launches at the end.")
    ] = None,
    requests: Requests = None,
    weights: Weights = None,
    seed: Seed = None,
    set_: Set = None,
    knob: Knob = None,
    window: Window = None,
    table: Table = None,
    ignore: Ignore = None,
    engine_python: EnginePython = None,
    load_timeout: LoadTimeout = None,
    run_timeout: RunTimeout = None,
    wait: Wait = None,
    country: Country = None,
    carbon_intensity: CarbonIntensity = None,
    price_per_hour: PricePerHour = None,
    price_per_kwh: PricePerKwh = None,
    out: Out = None,
    profiles: Profiles = None,
    resume: Resume = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Find a better configuration of MODEL on this machine, prove it on unseen prompts, save it as a profile."""
    flags = _flags(locals())
    from infertune.request import TuneRequest
    from infertune.tune import resumed_request, tune_request

    _check_alone(resume, config)
    request = resumed_request(resume, flags) if resume else _request(TuneRequest, flags, config)
    with _Progress() as observer:
        study = tune_request(request, observer, resume)
    if as_json:
        _print_json(
            {
                "schema_version": 1,
                **study.summary.model_dump(mode="json"),
                "run": str(study.ledger.folder),
                "profile": str(study.profile_file),
                "report": str(study.report_file),
            }
        )
    else:
        from infertune.terminal import print_study

        print_study(_console(), study)


@app.command()
def landscape(
    model: Model = None,
    engine: Engine = None,
    workload: Workload = None,
    repeats: Annotated[int | None, typer.Option(help="Rounds over the whole grid.")] = None,
    requests: Requests = None,
    weights: Weights = None,
    seed: Seed = None,
    set_: Set = None,
    knob: Knob = None,
    window: Window = None,
    table: Table = None,
    ignore: Ignore = None,
    engine_python: EnginePython = None,
    load_timeout: LoadTimeout = None,
    run_timeout: RunTimeout = None,
    wait: Wait = None,
    country: Country = None,
    carbon_intensity: CarbonIntensity = None,
    price_per_hour: PricePerHour = None,
    price_per_kwh: PricePerKwh = None,
    out: Out = None,
    resume: Resume = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Measure every point of a grid of knobs, repeats included."""
    flags = _flags(locals())
    from infertune.sweep import LandscapeRequest, landscape_request, resumed_landscape

    _check_alone(resume, config)
    request = resumed_landscape(resume, flags) if resume else _request(LandscapeRequest, flags, config)
    with _Progress() as observer:
        ledger = landscape_request(request, observer, resume)
    failed = sum(trial.measurement is None for trial in ledger.trials)
    if as_json:
        _print_json({"schema_version": 1, "run": str(ledger.folder), "trials": len(ledger.trials), "failed": failed})
    else:
        _console().print(f"{len(ledger.trials)} measurements, {failed} failed: {ledger.folder / 'landscape.csv'}")


@app.command()
def bench(
    model: Model = None,
    engine: Engine = None,
    workload: Workload = None,
    launches: Annotated[tuple[int, int] | None, typer.Option(help="Least and most launches.")] = None,
    windows: Annotated[int | None, typer.Option(help="Windows on each launch.")] = None,
    requests: Requests = None,
    weights: Weights = None,
    seed: Seed = None,
    set_: Set = None,
    window: Window = None,
    table: Table = None,
    ignore: Ignore = None,
    engine_python: EnginePython = None,
    load_timeout: LoadTimeout = None,
    run_timeout: RunTimeout = None,
    wait: Wait = None,
    country: Country = None,
    carbon_intensity: CarbonIntensity = None,
    price_per_hour: PricePerHour = None,
    price_per_kwh: PricePerKwh = None,
    out: Out = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Measure one configuration properly: fresh launches until the interval is narrow."""
    flags = _flags(locals())
    from infertune.sweep import BenchRequest, bench_request

    with _Progress() as observer:
        result = bench_request(_request(BenchRequest, flags, config), observer)
    if as_json:
        _print_json({"schema_version": 1, **result.model_dump(mode="json")})
    else:
        from infertune.report.markdown import interval_text
        from infertune.units import format_rate

        estimate = result.output_tokens_per_s
        _console().print(
            f"{format_rate(estimate.mean)} tok/s (95% interval {interval_text(estimate)}, {estimate.n} launches)  "
            f"{result.config}",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
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
    flags = _flags(locals())
    from infertune.job import prepare
    from infertune.request import JobRequest

    job = prepare(_request(JobRequest, flags, None))
    if as_json:
        _print_json({"schema_version": 1, "engine": job.engine.name, **job.space.record().model_dump(mode="json")})
        return
    from infertune.terminal import space_table

    console = _console()
    console.print(f"{job.engine.name} {job.availability.version} on {job.device}", highlight=False)
    console.print(space_table(job.space))
    for line in (*(f"rule: {rule}" for rule in job.space.record().rules), *(f"note: {note}" for note in job.notes)):
        console.print(line, style="dim", highlight=False, soft_wrap=True)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run's folder.")]) -> None:
    """Write a run's report again, from its ledger alone."""
    from infertune.afterwards import report_again

    _console().print(str(report_again(run)), highlight=False, soft_wrap=True)


@profile_app.command("export")
def profile_export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    point: Annotated[str, typer.Option(help="fastest, greenest or knee: a point of throughput against energy.")],
    out: Annotated[Path, typer.Option(help="The profile to write.")],
) -> None:
    """Write a profile of one point of a run's front of throughput against energy."""
    from infertune.afterwards import export_point

    profile = export_point(run, point, out)
    _console().print(f"{out}: {profile.changed or 'the default'}", highlight=False, soft_wrap=True)


@profile_app.command("show")
def profile_show(path: Annotated[Path, typer.Argument(help="A profile.")], as_json: Json = False) -> None:
    """Print a profile: what it holds for, its settings and its figures."""
    from infertune.profile import load_profile
    from infertune.terminal import print_profile

    profile = load_profile(path)
    if as_json:
        _print_json(profile.model_dump(mode="json"))
    else:
        print_profile(_console(), profile)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show the device, the engines found, the energy sources, and what to install for what is missing."""
    from infertune.doctor import diagnose

    found = diagnose()
    if as_json:
        _print_json({"schema_version": 1, **found.model_dump(mode="json")})
        return
    console = _console()
    console.print(f"infertune {found.infertune_version}, Python {found.python}", highlight=False, soft_wrap=True)
    console.print(f"device    {found.device}", highlight=False)
    for engine in found.engines:
        mark = "[green]✓[/green]" if engine.usable else "[red]✗[/red]"
        console.print(
            f"{mark} {engine.name:7} {engine.version or '':12} {engine.what}", highlight=False, soft_wrap=True
        )
    for source in found.energy:
        what = ", ".join(filter(None, (source.kind, source.resolution, source.reason)))
        console.print(f"energy    {source.name}: {what}", highlight=False, soft_wrap=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line; every error of ours is one line and its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
    except InfertuneError as error:
        sys.exit(_complain(str(error), error.exit_code))
    except typer._click.exceptions.ClickException as error:
        sys.exit(_complain(error.format_message(), error.exit_code))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_complain("interrupted", EXIT_INTERRUPTED))
    except Exception:  # a fault of ours: its traceback, and never the exit code of a regression
        traceback.print_exc()
        sys.exit(_complain("this is a bug in infertune: please report it with the lines above", EXIT_CANNOT_RUN))
    sys.exit(code if isinstance(code, int) else EXIT_OK)


def _complain(message: str, code: int) -> int:
    if message:  # without arguments the help was printed, and there is nothing to add
        print(f"infertune: {' '.join(message.split())}", file=sys.stderr)
    return code


R = TypeVar("R", bound="JobRequest")


def _flags(given: dict[str, Any]) -> dict[str, Any]:
    """The flags of a command that are part of its request, under their names there."""
    own = {"resume", "config", "as_json"}
    return {name.rstrip("_"): value for name, value in given.items() if name not in own}


def _request(kind: type[R], flags: dict[str, Any], config: Path | None) -> R:
    from infertune.request import make_request

    return make_request(kind, flags, config)


def _check_alone(resume: Path | None, config: Path | None) -> None:
    if resume and config:
        raise UsageError("--resume continues a run as it was started; leave out --config, or start a new run")


def _console() -> "Console":
    from rich.console import Console

    return Console()


class _Progress:
    """The observer of a command, taken off the terminal when the command ends."""

    def __enter__(self) -> Any:
        from rich.console import Console

        from infertune.terminal import TerminalObserver

        self._observer = TerminalObserver(Console(stderr=True))
        return self._observer

    def __exit__(self, *_: object) -> None:
        self._observer.close()


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, ensure_ascii=False))


if __name__ == "__main__":
    main()
