"""Settings as flags and files have them: `NAME=VALUE`, `NAME=V1,V2`, or a mapping of names to values."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infertune.domain.scalars import parse_scalar
from infertune.units import check_text


def check_texts(given: object) -> None:
    """Refuse texts that no file, no process and no document takes, wherever they stand.

    Raises:
        ValueError: A text has a NUL or is no UTF-8.
    """
    if isinstance(given, dict):
        for name, value in given.items():
            check_texts(name)
            check_texts(value)
    elif isinstance(given, list | tuple):
        for value in given:
            check_texts(value)
    elif isinstance(given, str | Path):
        check_text(str(given))


def assignments(given: Any) -> Any:
    """`["a=1", "b=x"]`, as flags come, or a mapping, as files have it, where a value may be nested.

    Raises:
        ValueError: One is not like `NAME=VALUE`, or a name stands twice.
    """
    if isinstance(given, list | tuple):
        given = {name: parse_scalar(text) for name, text in once([name_and_text(text) for text in given]).items()}
    return {name: as_scalar(value) for name, value in given.items()} if isinstance(given, Mapping) else given


def split_values(text: str) -> list[str]:
    """`a,b` at its commas, but not at those within brackets, braces or double quotes.

    A value that stands in double quotes is what stands between them.
    """
    parts, depth, quoted = [""], 0, False
    previous = ""
    for letter in text:
        quoted ^= letter == '"' and previous != "\\"
        depth += 0 if quoted else (letter in "[{") - (letter in "]}")
        previous = letter
        if letter == "," and depth <= 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [_unquoted(part.strip()) for part in parts]


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text


def as_scalar(value: Any) -> Any:
    """A value of a file: what is nested becomes JSON text, which is how a knob has it.

    Raises:
        ValueError: It is no finite number.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    return value


def once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Pairs as a mapping.

    Raises:
        ValueError: A name stands twice.
    """
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]!r} is given twice")
    return dict(pairs)


def name_and_text(given: object) -> tuple[str, str]:
    """The two sides of `NAME=VALUE`.

    Raises:
        ValueError: It is not like that.
    """
    name, equals, value = str(given).partition("=")
    if not equals or not name or not value:
        raise ValueError(f"{given!r} is not like NAME=VALUE")
    return name, value
