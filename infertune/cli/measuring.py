"""The commands that measure: `tune`, `landscape`, `bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infertune.cli.options import (
    Arrivals,
    Attain,
    CarbonIntensity,
    ConfigFile,
    Country,
    Device,
    Engine,
    EngineBinary,
    EnginePython,
    Ignore,
    Json,
    Knob,
    LoadTimeout,
    MaxQualityLoss,
    MinAgreement,
    Model,
    Out,
    PricePerHour,
    PricePerKwh,
    Profiles,
    Progress,
    Requests,
    Resume,
    RunTimeout,
    Seed,
    Set,
    Slo,
    Table,
    Wait,
    Weights,
    Window,
    Workers,
    Workload,
    check_alone,
    flags_of,
    request_of,
)
from infertune.cli.printing import console, print_json, say

if TYPE_CHECKING:
    from infertune.tuning.tune import Study


def tune(
    model: Model = None,
    engine: Engine = None,
    device: Device = None,
    workload: Workload = None,
    current: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND|FILE", help="What runs today, to be beaten: a server's command, a file, a profile."
        ),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="throughput, tokens-per-joule, energy, cost, goodput or goodput-per-joule.")
    ] = None,
    slo: Slo = None,
    attain: Attain = None,
    arrivals: Arrivals = None,
    trials: Annotated[int | None, typer.Option(help="Most trials of the search; 30 unless --budget is given.")] = None,
    budget: Annotated[str | None, typer.Option(help="Most time for everything, such as 20m.")] = None,
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="PROFILE|RUN", help="Start from what was best elsewhere; repeatable."),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="auto, gp, tpe, random, grid, or MODULE:CLASS of an Optuna sampler.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL|FILE.log", help="Show the run live as an Optuna study, such as sqlite:///runs.db."),
    ] = None,
    patience: Annotated[int | None, typer.Option(help="End after so many trials without a gain of 1%.")] = None,
    trust: Annotated[
        str | None, typer.Option(help="How sure the answer must be: quick, normal or strict.", metavar="LEVEL")
    ] = None,
    finalists: Annotated[int | None, typer.Option(help="How many of the best are measured again, at most.")] = None,
    confirm_launches: Annotated[
        int | None, typer.Option(help="Launches of each finalist; without it as many as settle who is the best.")
    ] = None,
    final_launches: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="LEAST MOST", help="Launches of each side at the end; without it as --trust says."),
    ] = None,
    max_quality_loss: MaxQualityLoss = None,
    min_agreement: MinAgreement = None,
    allow_lossy: Annotated[
        bool | None, typer.Option("--allow-lossy", help="Search lossy values even where answers cannot be checked.")
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
    engine_binary: EngineBinary = None,
    load_timeout: LoadTimeout = None,
    run_timeout: RunTimeout = None,
    wait: Wait = None,
    workers: Workers = None,
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
    """Find a better configuration of MODEL for this machine.

    The winner is compared with the default on prompts that the search has not seen, and saved as a profile.
    """
    flags = flags_of(locals())
    from infertune.domain.request import TuneRequest
    from infertune.tuning.tune import resumed_request, tune_request

    check_alone(resume, config)
    request = resumed_request(resume, flags) if resume else request_of(TuneRequest, flags, config)
    with Progress() as observer:
        study = tune_request(request, observer, resume)
    _tell(study, as_json)


def fake(
    shape: Annotated[str, typer.Argument(help="plateau, flat or ragged.")] = "plateau",
    trials: Annotated[int | None, typer.Option(help="Most trials of the search.")] = None,
    device: Device = None,
    seed: Seed = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Demonstrate a tune in seconds, on any machine.

    The engine is simulated: its landscape is known, and its clock does not wait.
    """
    from infertune.domain.device import survey
    from infertune.domain.request import TuneRequest
    from infertune.engines import DEMO_ENGINE
    from infertune.tuning.tune import tune_request

    if device is None and survey().fault:  # a demonstration needs no GPU; a note says what is wrong with it
        device = "cpu"
    flags = {"engine": f"{DEMO_ENGINE}:{shape}", "device": device, "trials": trials, "seed": seed, "out": out}
    with Progress() as observer:
        study = tune_request(request_of(TuneRequest, flags, None), observer)
    _tell(study, as_json)


def _tell(study: "Study", as_json: bool) -> None:
    from infertune.cli.terminal import kept_sentence, print_study

    if as_json:
        if study.kept:
            say(console(stderr=True), f"note: {kept_sentence(study.kept, study.profile_file)}")
        print_json(
            {
                "schema_version": 1,
                **study.summary.model_dump(mode="json"),
                "run": str(study.ledger.folder),
                "profile": str(study.profile_file),
                "report": str(study.report_file),
            }
        )
    else:
        print_study(console(), study)


def landscape(
    model: Model = None,
    engine: Engine = None,
    device: Device = None,
    workload: Workload = None,
    repeats: Annotated[int | None, typer.Option(help="Rounds over the whole grid.")] = None,
    relaunch: Annotated[
        bool | None, typer.Option("--relaunch", help="Begin every round with a fresh launch: its repeats then count.")
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
    engine_binary: EngineBinary = None,
    load_timeout: LoadTimeout = None,
    run_timeout: RunTimeout = None,
    wait: Wait = None,
    workers: Workers = None,
    country: Country = None,
    carbon_intensity: CarbonIntensity = None,
    price_per_hour: PricePerHour = None,
    price_per_kwh: PricePerKwh = None,
    out: Out = None,
    resume: Resume = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Measure every point of a grid of knobs, repeatedly."""
    flags = flags_of(locals())
    from infertune.tuning.sweep import LandscapeRequest, landscapes, resumed_landscape

    check_alone(resume, config)
    request = resumed_landscape(resume, flags) if resume else request_of(LandscapeRequest, flags, config)
    with Progress() as observer:
        made = landscapes(request, observer, resume)
    counts = [
        {
            "run": str(found.ledger.folder),
            "trials": len(found.ledger.trials),
            "failed": sum(trial.measurement is None for trial in found.ledger.trials),
        }
        for found in made
    ]
    if as_json:
        print_json({"schema_version": 1, **(counts[0] if len(counts) == 1 else {"runs": counts})})
        return
    from infertune.cli.terminal import print_findings

    for found in made:
        print_findings(console(), found)
        say(console(), f"report:  {found.ledger.folder / 'report.html'}")
        say(console(), f"table:   {found.ledger.folder / 'landscape.csv'}")


def bench(
    model: Model = None,
    engine: Engine = None,
    device: Device = None,
    workload: Workload = None,
    rate: Annotated[float | None, typer.Option(help="Load a server with so many requests a second.")] = None,
    duration: Annotated[str | None, typer.Option(help="Length of that load, such as 60s.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="URL", help="A server that runs already: nothing is started or changed.")
    ] = None,
    arrivals: Arrivals = None,
    slo: Slo = None,
    attain: Attain = None,
    launches: Annotated[
        tuple[int, int] | None, typer.Option(metavar="LEAST MOST", help="How many launches; 3 12 unless given.")
    ] = None,
    windows: Annotated[int | None, typer.Option(help="Windows on each launch; of a server's loads 7 at most.")] = None,
    requests: Requests = None,
    weights: Weights = None,
    seed: Seed = None,
    set_: Set = None,
    window: Window = None,
    table: Table = None,
    ignore: Ignore = None,
    engine_python: EnginePython = None,
    engine_binary: EngineBinary = None,
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
    """Measure one configuration.

    It is launched again until the interval of its throughput is narrow.
    """
    flags = flags_of(locals())
    from infertune.tuning.sweep import BenchRequest, bench_request

    with Progress() as observer:
        result = bench_request(request_of(BenchRequest, flags, config), observer)
    if as_json:
        print_json({"schema_version": 1, **result.model_dump(mode="json")})
    else:
        from infertune.cli.terminal_serving import figure_lines
        from infertune.report.serving import load_sentences
        from infertune.report.words import interval_text
        from infertune.units import format_rate

        estimate = result.output_tokens_per_s
        say(
            console(),
            f"{format_rate(estimate.mean)} tok/s (95% interval {interval_text(estimate)}, {estimate.n} launches)  "
            f"{result.config}",
        )
        if result.n_failed:
            say(
                console(),
                f"{result.n_failed} of {result.n_sent} requests failed or were cut, such as: {result.failures[0]}",
            )
        for line in load_sentences(result.loads) if result.loads else ():
            say(console(), line)
        for line in figure_lines(result.figures):
            say(console(), line)
