"""`infertune profile …`: saved configurations."""

from pathlib import Path
from typing import Annotated

import typer

from infertune.cli.options import (
    Json,
    console,
    print_json,
)

app = typer.Typer(help="Saved configurations.", no_args_is_help=True)


@app.command("export")
def profile_export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    point: Annotated[str, typer.Option(help="fastest, greenest or knee: a point of throughput against energy.")],
    out: Annotated[Path, typer.Option(help="The profile to write.")],
) -> None:
    """Write a profile of one point of a run's front of throughput against energy."""
    from infertune.afterwards import export_point

    profile = export_point(run, point, out)
    console().print(f"{out}: {profile.changed or 'the default'}", highlight=False, soft_wrap=True)


@app.command("show")
def profile_show(path: Annotated[Path, typer.Argument(help="A profile.")], as_json: Json = False) -> None:
    """Print a profile: what it holds for, its settings and its figures."""
    from infertune.profile import load_profile
    from infertune.terminal import print_profile

    profile = load_profile(path)
    if as_json:
        print_json(profile.model_dump(mode="json"))
    else:
        print_profile(console(), profile)
