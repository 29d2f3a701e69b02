"""Values of knobs and arguments: read from text, written as text, and checked."""

import math
from collections.abc import Mapping

from infertune.units import shortened

Scalar = bool | int | float | str | None
_SHOWN_CHARACTERS = 60  # of a stranger's name in a message


def check_scalars(settings: Mapping[str, Scalar]) -> None:
    """Refuse numbers with which nothing can be computed, and texts that no command line takes.

    Raises:
        ValueError: A number is not finite or has more than 64 bits, or a text has a NUL.
    """
    for name, value in settings.items():
        shown = repr(shortened(name, _SHOWN_CHARACTERS))
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{shown} is no finite number")
        if isinstance(value, int | float) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{shown} is a number of more than 64 bits")
        if "\0" in name or (isinstance(value, str) and "\0" in value):
            raise ValueError(f"{shown} holds a NUL character")


def parse_scalar(text: str) -> Scalar:
    """`true`, `none`, `8`, `0.9` or a word, as typed on a command line or found in a CSV cell."""
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if lowered in ("none", "null"):
        return None
    for number in (int, float):
        try:
            return number(lowered)
        except ValueError:
            continue
    return text.strip()


def format_scalar(value: Scalar) -> str:
    """A value as `parse_scalar` reads it back."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def is_number(value: Scalar, *, whole: bool = False) -> bool:
    """Whether a value is a number, or a whole one; True and False are none."""
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)
