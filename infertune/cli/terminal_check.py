"""What a check prints on a terminal."""

from rich.console import Console

from infertune.cli.printing import Heading, say, table_of
from infertune.gating.check import CheckResult
from infertune.report.quality import HEADINGS, changed_lines, figure_rows, verdict_sentence

_STYLES = {"pass": "bold green", "fail": "bold red", "open": "bold yellow"}


def print_check(console: Console, result: CheckResult) -> None:
    """Print the question, the figures beside the noise floor, the prompts that changed most, and the verdict last."""
    console.print()
    say(console, result.question)
    if rows := figure_rows(result.check):
        headings = [Heading(name, "left" if not name else "right", fold=False) for name in HEADINGS]
        console.print(table_of(headings, rows))
    for line in changed_lines(result.check):
        say(console, line)
    say(console, f"run: {result.run}")
    say(console, verdict_sentence(result.check), style=_STYLES.get(result.answer, "bold"))
