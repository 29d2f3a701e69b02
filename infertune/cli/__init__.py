"""The command line: parse, dispatch, print, exit codes. Nothing heavy is imported before a command runs."""

import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from infertune.cli import gating, looking, measuring, profiles
from infertune.errors import EXIT_CANNOT_RUN, EXIT_INTERRUPTED, EXIT_OK, InfertuneError
from infertune.units import printable
from infertune.version import __version__

app = typer.Typer(
    help="Tune an LLM inference engine for the GPU in front of you, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    measuring.tune,
    measuring.landscape,
    measuring.bench,
    measuring.fake,
    gating.gate,
    looking.space,
    looking.report,
    looking.doctor,
):
    app.command()(command)
app.add_typer(profiles.app, name="profile")


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
        print(f"infertune: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code
