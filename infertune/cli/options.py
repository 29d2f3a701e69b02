"""Options that several commands share, and how a command turns them into a request."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from infertune.errors import UsageError

if TYPE_CHECKING:
    from infertune.domain.request import JobRequest

Model = Annotated[str | None, typer.Argument(help="Hub id, local folder or builtin:NAME.", show_default=False)]
Engine = Annotated[
    str | None, typer.Option("--engine", "-e", help="An engine, see `infertune doctor`; else the first found.")
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="auto|cpu|gpu", help="auto: the GPUs, else the processor. cpu works on any machine."
    ),
]
Workload = Annotated[
    str | None,
    typer.Option(
        help="synthetic:in=512,out=128 · trace:FILE.csv · sharegpt:FILE · jsonl:FILE · … · file:FILE (by its content)"
    ),
]
Requests = Annotated[int | None, typer.Option(help="Requests in a job; else as many as fill a window.")]
Weights = Annotated[str | None, typer.Option(help="real, or dummy: tune before you download.")]
Seed = Annotated[int | None, typer.Option(help="Seeds every draw.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Hold any argument of the engine at a value; repeatable."),
]
Knob = Annotated[
    list[str] | None,
    typer.Option(
        "--knob", metavar="NAME=V1,V2", help="Search any argument of the engine over these values; repeatable."
    ),
]
Window = Annotated[str | None, typer.Option(help="Length of one measured window, such as 10s.")]
Table = Annotated[Path | None, typer.Option(help="A recorded table, for an engine that answers from one.")]
Ignore = Annotated[list[str] | None, typer.Option(help="A column of the table that is no knob; repeatable.")]
EnginePython = Annotated[Path | None, typer.Option(help="Interpreter for the engine's process.")]
EngineBinary = Annotated[Path | None, typer.Option(help="The engine's own program, for an engine that is one.")]
LoadTimeout = Annotated[str | None, typer.Option(help="Deadline of one launch; 20m unless given.")]
RunTimeout = Annotated[str | None, typer.Option(help="Deadline of one measurement; else five times the default's.")]
Wait = Annotated[bool | None, typer.Option("--wait", help="Wait for a busy device instead of refusing.")]
Workers = Annotated[
    str | None,
    typer.Option(metavar="auto|N|ADDRESS", help="Measure on several devices at once, as workers of Ray."),
]
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

Arrivals = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="When requests come: poisson, gamma:CV, constant, trace[:SPEEDUP], concurrency:N or all-at-once.",
    ),
]
Slo = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME<VALUE", help="A limit to keep, such as ttft_s<0.5 for every request; repeatable."),
]
Attain = Annotated[
    str | None, typer.Option(metavar="SHARE", help="Share of requests that must keep the limits; 99% unless given.")
]

MaxQualityLoss = Annotated[
    str | None, typer.Option(help="Most increase of perplexity over the noise floor; 1% unless given.", metavar="SHARE")
]
MinAgreement = Annotated[
    str | None, typer.Option(help="Least share of positions whose likeliest token is the default's.", metavar="SHARE")
]

R = TypeVar("R", bound="JobRequest")


def flags_of(given: dict[str, Any]) -> dict[str, Any]:
    """The flags of a command that are part of its request, under their names there."""
    own = {"resume", "config", "as_json"}
    return {name.rstrip("_"): value for name, value in given.items() if name not in own}


def request_of(kind: type[R], flags: dict[str, Any], config: Path | None) -> R:
    """A request of flags and a file, a flag winning."""
    from infertune.domain.request import make_request

    return make_request(kind, flags, config)


def check_alone(resume: Path | None, config: Path | None) -> None:
    """Refuse `--config` beside `--resume`."""
    if resume and config:
        raise UsageError("--resume continues a run as it was started; leave out --config, or start a new run")


class Progress:
    """Context of a command that measures: shows its progress on standard error, and removes the bar at the end."""

    def __enter__(self) -> Any:
        from infertune.cli.printing import console
        from infertune.cli.terminal import TerminalObserver

        self._observer = TerminalObserver(console(stderr=True))
        return self._observer

    def __exit__(self, *_: object) -> None:
        self._observer.close()
