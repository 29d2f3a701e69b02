"""Text of engines, models and strangers inside Markdown, where it stays text."""

import html
import re


def escaped(text: str) -> str:
    """Text on one line that starts no emphasis, link, image, table cell, element or mention."""
    flat = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", flat).replace("@", "@\u2060")


def code_span(text: str) -> str:
    """Text as code, in a table cell too; as plain text where it could be markup to a careless reader of Markdown."""
    if "<" in text:
        return escaped(text)
    flat = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{flat}`"


def sentence(text: str) -> str:
    """A sentence of ours, what stands between backticks as code."""
    return "".join((code_span(part) if n % 2 else _edges(part)) for n, part in enumerate(text.split("`")))


def _edges(part: str) -> str:
    """Escaped, with the spaces at its ends kept."""
    if not part.strip():
        return " " if part else ""
    return f"{' ' * part[0].isspace()}{escaped(part)}{' ' * part[-1].isspace()}"
