"""What a gate prints on a terminal."""

from rich.console import Console

from infertune.cli.printing import Heading, say, table_of
from infertune.gating.result import GateResult
from infertune.report.gate import HEADINGS, metric_rows, remarks, verdict_sentence

_STYLES = {"pass": "bold green", "regression": "bold red", "inconclusive": "bold yellow", None: "bold"}


def print_gate(console: Console, result: GateResult) -> None:
    """Print the question, the table of metrics, the remarks, and the verdict last."""
    console.print()
    say(console, result.question)
    if rows := metric_rows(result):  # none where answers alone are compared
        headings = [Heading(name, "left" if name in ("", "verdict") else "right", fold=False) for name in HEADINGS]
        console.print(table_of(headings, rows))
    for line in remarks(result):
        say(console, line)
    say(console, f"run: {result.run}")
    say(console, verdict_sentence(result), style=_STYLES[result.answer])
