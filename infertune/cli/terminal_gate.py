"""A gate's verdict, for people."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infertune.gating.result import GateResult
from infertune.report.gate import HEADINGS, metric_rows, remarks, verdict_sentence
from infertune.units import printable

_STYLES = {"pass": "bold green", "regression": "bold red", "inconclusive": "bold yellow", None: "bold"}


def print_gate(console: Console, result: GateResult) -> None:
    """The question, the table, what is worth knowing beside it, and the verdict last."""
    console.print()
    console.print(_plain(result.question), highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("", "verdict") else "right", no_wrap=True)
    for row in metric_rows(result):
        table.add_row(*map(_plain, row))
    console.print(table)
    for line in remarks(result):
        console.print(_plain(line), highlight=False, soft_wrap=True)
    console.print(f"run: {_plain(result.run)}", highlight=False, soft_wrap=True)
    console.print(_plain(verdict_sentence(result)), style=_STYLES[result.answer], highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    """Text without rich's markup and in one line: a file's name must not begin a line that CI takes for a command."""
    return escape(printable(text))
