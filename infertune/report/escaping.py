"""Text of engines, models and other people inside a report's files, where it must stay text."""

import html
import re

from infertune.units import printable

# What Markdown gives a meaning to inside a line: emphasis, code, links, images, cells, strikethrough, formulas.
_INLINE = re.compile(r"([\\`*_\[\]|~$])")
# What gives a meaning to a line by standing at its start: headings, lists, rules.
_BLOCK = re.compile(r"^(?:((?:#{1,6}|[+-])(?=\s|$)|[=-]+\s*$)|(\d{1,9})(?=[.)](?:\s|$)))")
# What GitHub makes a link or a notification of: addresses, names, issues.
_LINKED = re.compile(r"@|\b(?=www\.)|(?<=\w):(?=//)|#(?=\d)|\b(?<=GH)-(?=\d)", re.IGNORECASE)
_JOINER = "\u2060"  # WORD JOINER: invisible, without width
# A spreadsheet takes a cell for a formula by its first character; `;` ends a cell where the comma is a decimal mark.
_FORMULA = re.compile(r"(^|;)(\s*)(?=[=+\-@])")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


def one_line(text: str) -> str:
    """Printable text on one line: blanks and line ends become single spaces, other control characters `\ufffd`."""
    return printable(" ".join(text.split()))


def escaped(text: str) -> str:
    """Text on one line of Markdown that is no markup, and that GitHub makes no link and no notification of."""
    flat = _LINKED.sub(lambda match: f"{match[0]}{_JOINER}", one_line(text))
    flat = _INLINE.sub(r"\\\1", html.escape(flat, quote=False))
    return _BLOCK.sub(lambda match: f"\\{match[1]}" if match[1] else f"{match[2]}{_JOINER}", flat)


def code_span(text: str) -> str:
    """Text as code in a line or a table's cell of Markdown.

    It becomes plain text where a simple reader of Markdown could take it for an element, and where a backslash before
    a `|` would end the cell.
    """
    flat = one_line(text).replace("`", "'")
    if "<" in flat or ("\\" in flat and "|" in flat):
        return escaped(text)
    cell = flat.replace("|", "\\|")
    return f"`{cell}`" if cell else ""


def sentence(text: str) -> str:
    """One of this program's sentences as Markdown; text between backticks becomes code."""
    return "".join((code_span(part) if n % 2 else _edges(part)) for n, part in enumerate(text.split("`")))


def table_text(text: str) -> str:
    """Text for a cell of a CSV table: on one line, and with a `'` before what a spreadsheet would run as a formula.

    Source: OWASP, "CSV Injection". A number that was written as text stays as it is.
    """
    flat = one_line(text)
    return flat if _NUMBER.fullmatch(flat) else _FORMULA.sub(r"\1\2'", flat)


def _edges(part: str) -> str:
    """Escaped, with the spaces at its ends kept."""
    if not part.strip():
        return " " if part else ""
    return f"{' ' * part[0].isspace()}{escaped(part)}{' ' * part[-1].isspace()}"
