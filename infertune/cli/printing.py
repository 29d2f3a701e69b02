"""Printing to a console. Text is never read as rich's markup, and cannot control a terminal or a CI runner."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from infertune.units import COMMAND_MARK, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_WIDE_COLUMNS = 1000  # judgement: a profile's row fits, with its file and the longest name of a processor


class Heading(NamedTuple):
    """A column of a table.

    Attributes:
        name: What stands above it.
        justify: Where its cells stand.
        fold: Continue a long cell below instead of cutting it; else a cell never breaks.
    """

    name: str
    justify: Literal["left", "right"] = "left"
    fold: bool = True


def console(*, stderr: bool = False, wide: bool = False) -> "Console":
    """A console that prints text as text.

    Args:
        stderr: Standard error instead of standard output.
        wide: Leave wide tables unfolded where no terminal sets a width.
    """
    from rich.console import Console

    found = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if wide and not found.is_terminal:
        found.width = _WIDE_COLUMNS
    return found


def say(console: "Console", *pieces: str | tuple[str, str], style: str = "") -> None:
    """Print one line, which is not folded.

    Args:
        console: Where.
        pieces: Text, or text with its style.
        style: The style of the whole line.
    """
    from rich.text import Text

    line = Text(style=style)
    for number, piece in enumerate(pieces):
        text, own_style = (piece, "") if isinstance(piece, str) else piece
        line.append(harmless(text) if number == 0 else _unmarked(text), own_style)
    console.print(line, soft_wrap=True)


def table_of(headings: Sequence[Heading], rows: Iterable[Sequence[str]]) -> "Table":
    """A table of plain cells."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        overflow: Literal["fold", "ellipsis"] = "fold" if heading.fold else "ellipsis"
        table.add_column(_cell(heading.name), justify=heading.justify, overflow=overflow, no_wrap=not heading.fold)
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def harmless(text: str) -> str:
    """A line of printable text that is no workflow command of a CI runner: no `::` at its start, no `##[` anywhere.

    Source: actions/runner, src/Runner.Common/ActionCommand.cs.
    """
    line = _unmarked(text)
    return f"\ufffd{line}" if line.lstrip().startswith("::") else line


def _unmarked(text: str) -> str:
    """Printable text without the mark that begins a command anywhere in a line."""
    return printable(text).replace(COMMAND_MARK, "## [")


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document on standard output, in ASCII.

    Control characters, bidirectional marks and the mark of workflow commands are escaped.
    """
    text = json.dumps(_finite(document), ensure_ascii=True, allow_nan=False)
    print(text.replace(COMMAND_MARK, "#\\u0023["))  # it can stand inside strings only


def _finite(value: object) -> object:
    """A value of a JSON document; NaN and infinity, which JSON does not have, become null."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(text: str) -> "Text":
    """A cell in which no line, wherever it is folded, begins with a workflow command."""
    from rich.text import Text

    return Text(re.sub(":(?=:)", ": ", harmless(text)))
