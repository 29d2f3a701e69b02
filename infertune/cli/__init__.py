"""The command line: commands, errors, exit codes. A command imports its libraries when it runs, so help is fast."""

import sys
import traceback
from typing import Annotated, NoReturn

import typer

from infertune.cli import checking, gating, looking, measuring, profiles, studying
from infertune.cli.printing import harmless
from infertune.cli.signals import Interrupts
from infertune.cli.streams import tolerant_streams
from infertune.errors import EXIT_CANNOT_RUN, EXIT_INTERRUPTED, EXIT_OK, InfertuneError, UsageError
from infertune.units import check_text
from infertune.version import __version__

app = typer.Typer(
    help="Tune an LLM inference engine for the GPU in front of you, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help is text: with rich's markup, `[vllm]` in it would vanish
    context_settings={"max_content_width": 120},
)
for command in (
    measuring.tune,
    measuring.landscape,
    measuring.bench,
    measuring.fake,
    studying.study,
    checking.check,
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
    """Run the command line. An expected error is printed as one line and sets the exit code."""
    code = EXIT_INTERRUPTED
    with tolerant_streams(), Interrupts():
        code = _run()
    sys.exit(code)


def _run() -> int:
    try:
        _check_arguments(sys.argv[1:])
        code = app(standalone_mode=False, prog_name="infertune")
    except InfertuneError as error:
        return _complain(str(error), error.exit_code)
    except typer._click.exceptions.NoArgsIsHelpError as error:  # its message is the help, of many lines
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except typer._click.exceptions.ClickException as error:
        return _complain(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", EXIT_INTERRUPTED)
    except Exception:  # a bug: print its traceback, and do not exit with 1, which means a regression
        for line in traceback.format_exc().splitlines():
            print(harmless(line), file=sys.stderr)
        return _complain("this is a bug in infertune: please report it with the lines above", EXIT_CANNOT_RUN)
    return code if isinstance(code, int) else EXIT_OK


def _check_arguments(arguments: list[str]) -> None:
    """Refuse what no option takes: an empty text is a forgotten value, and would be taken for this folder.

    Raises:
        UsageError: An argument is empty, is not UTF-8, or has a NUL character.
    """
    for number, argument in enumerate(arguments, start=1):
        try:
            if not argument:
                raise ValueError(f"it is empty; give {arguments[number - 2]} a value" if number > 1 else "it is empty")
            check_text(argument)
        except ValueError as error:
            raise UsageError(f"argument {number} {argument[:80]!r}: {error}") from None


def _complain(message: str, code: int) -> int:
    print(harmless(f"infertune: {' '.join(message.split())}"), file=sys.stderr)
    return code
