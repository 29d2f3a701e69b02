"""`infertune profile …`: saved configurations."""

from pathlib import Path
from typing import Annotated

import typer

from infertune.cli.options import Device, EngineBinary, EnginePython, Json
from infertune.cli.printing import console, print_json, say
from infertune.errors import MismatchError

app = typer.Typer(help="Saved configurations.", no_args_is_help=True)

ProfileFile = Annotated[Path, typer.Argument(help="A profile.")]


@app.command("list")
def profile_list(
    profiles: Annotated[Path, typer.Option(help="Where profiles are kept.")] = Path("profiles"),
    gpu: Annotated[str | None, typer.Option(help="Only those of a device whose name holds this.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of a model whose name holds this.")] = None,
    as_json: Json = False,
) -> None:
    """List the profiles kept here."""
    from infertune.profiles.store import read_store

    kept, notes = read_store(profiles)
    shown = [item for item in kept if item.matches(gpu=gpu, model=model)]
    if as_json:
        rows = [{"file": str(item.path), **item.profile.model_dump(mode="json")} for item in shown]
        print_json({"schema_version": 1, "profiles": rows, "notes": notes})
        return
    from infertune.cli.terminal_profiles import profile_table

    if shown:
        console(wide=True).print(profile_table(shown))
    else:
        say(console(), f"no profile here{' of that kind' if kept else ''}: infertune tune saves them under {profiles}")
    for note in notes:
        say(console(stderr=True), f"note: {note}")


@app.command("show")
def profile_show(path: ProfileFile, as_json: Json = False) -> None:
    """Print what a profile holds for, its settings and figures."""
    from infertune.cli.terminal_profiles import print_profile
    from infertune.profiles.profile import load_profile

    profile = load_profile(path)
    if as_json:
        print_json(profile.model_dump(mode="json"))
    else:
        print_profile(console(), profile)


@app.command("diff")
def profile_diff(first: ProfileFile, second: ProfileFile, as_json: Json = False) -> None:
    """Show in what two profiles differ."""
    from infertune.profiles.comparing import profile_differences
    from infertune.profiles.profile import load_profile

    found = profile_differences(load_profile(first), load_profile(second))
    if as_json:
        rows = [{"field": d.field, "first": d.before, "second": d.now} for d in found]
        print_json({"schema_version": 1, "differences": rows})
    elif not found:
        say(console(), "no difference")
    else:
        from infertune.cli.terminal_profiles import difference_table

        console(wide=True).print(difference_table(found, str(first), str(second)))


@app.command("verify")
def profile_verify(
    path: ProfileFile,
    engine_python: EnginePython = None,
    engine_binary: EngineBinary = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Check whether a profile holds on this machine.

    Each field of its fingerprint is compared with the machine as it is now; ends with 4 if one differs.
    """
    from infertune.domain.device import device_choice, survey
    from infertune.engines.base import EngineOptions
    from infertune.profiles.comparing import verify
    from infertune.profiles.profile import load_profile
    from infertune.runs.job import check_programs

    profile = load_profile(path)
    check_programs(engine_python, engine_binary)
    here = survey(device_choice(device or "auto"))
    for note in here.notes:
        say(console(stderr=True), f"note: {note}")
    checks = verify(profile.fingerprint, EngineOptions(python=engine_python, binary=engine_binary), here.device)
    broken = [check.field for check in checks if check.breaks]
    if as_json:
        rows = [check.model_dump(mode="json") for check in checks]
        print_json({"schema_version": 1, "matches": not broken, "fields": rows})
    else:
        for check in checks:
            say(console(), str(check))
    if broken:
        raise MismatchError(f"{path} does not hold here ({', '.join(broken)}): tune again on this machine")


@app.command("export")
def profile_export(
    source: Annotated[Path, typer.Argument(help="A profile, or a run's folder.")],
    point: Annotated[
        str | None, typer.Option(help="Of a run: fastest, greenest or knee of throughput against energy.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--as", metavar="FORM", help="vllm-args, vllm-yaml, python, compose, kubernetes; else a profile."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Allow a setting of it that can load code; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; else standard output.")] = None,
) -> None:
    """Write a profile or its settings for an engine."""
    from infertune.tuning.afterwards import export_profile, profile_from, write_export

    profile = profile_from(source, point)
    text = export_profile(profile, form, set_ or ())
    if out is None:
        print(text, end="")
        return
    write_export(out, text, form or "profile", source)
    say(console(), f"{out}: {profile.changed if profile.changed.root else 'the default'}")
