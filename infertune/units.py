"""Durations, sizes, rates and shares as text (`20m`, `1.5 GiB`, `1,234`), and text that is safe to print."""

import math
import re
import unicodedata
from datetime import UTC, datetime

_SECONDS_PER_UNIT = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")

# Begins a command of GitHub's runner anywhere in a printed line. Source: actions/runner, ActionCommand.cs.
COMMAND_MARK = "##["


def shortened(text: str, most: int) -> str:
    """A text of so many characters at most; one that is cut ends with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def parse_duration_s(text: str) -> float:
    """Seconds in `90`, `90s`, `20m`, `1.5h` or `1h30m`.

    Raises:
        ValueError: The text is no duration.
    """
    compact = text.strip().lower().replace(" ", "")
    parts = _DURATION_PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise ValueError(f"{text!r} is no duration; write it like 90s, 20m or 1h30m")
    try:
        return sum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in parts)
    except KeyError as error:
        raise ValueError(f"{text!r} has an unknown unit {error.args[0]!r}; use s, m or h") from None


MOST_DURATION_S = 1e6  # 11 days; the system's waits overflow at 24


def check_duration_s(duration_s: float) -> float:
    """A duration in seconds that can be waited for.

    Raises:
        ValueError: It is not over 0, or is longer than 277 hours.
    """
    if not 0 < duration_s <= MOST_DURATION_S:  # NaN is neither
        raise ValueError("must be over 0 and at most 277h (1,000,000 seconds)")
    return duration_s


def parse_time(text: str) -> datetime:
    """The moment of an ISO 8601 date and time; without an offset it is in UTC.

    Raises:
        ValueError: The text is none, or the year is not between 1970 and 9000.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is no ISO 8601 date and time") from None
    if not 1970 <= moment.year <= 9000:
        raise ValueError(f"{text[:60]!r} has a year out of range")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_number(text: str) -> float:
    """A finite number in `0.5`, `20` or `1e3`.

    Raises:
        ValueError: The text is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is no number")
    return number


def parse_share(text: str) -> float:
    """A share of one in `5%` or `0.05`.

    Raises:
        ValueError: The text is neither, or the share is not over 0% and under 100%.
    """
    compact = text.strip()
    try:
        share = float(compact.removesuffix("%")) / (100 if compact.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"{text!r} is no share; write it like 5% or 0.05") from None
    if not 0 < share < 1:
        raise ValueError(f"{text!r} is not over 0% and under 100%; write it like 5% or 0.05")
    return share


def format_duration(duration_s: float) -> str:
    """A duration in seconds as `0.42 s`, `12 s`, `3m 05s` or `2h 07m`."""
    if duration_s < 10:
        return f"{duration_s:.2g} s"
    seconds = round(duration_s)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m"


def format_bytes(size_bytes: float) -> str:
    """A size in bytes with a binary unit: `512 B`, `1.5 GiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_rate(tokens_per_s: float) -> str:
    """A rate in tokens per second with three to four significant figures: `12.3`, `1,234`."""
    return f"{tokens_per_s:,.0f}" if tokens_per_s >= 100 else f"{tokens_per_s:.3g}"


def format_percent(ratio: float) -> str:
    """A ratio as a signed change: 1.123 → `+12.3%`."""
    return f"{(ratio - 1) * 100:+.1f}%"


def slugify(text: str) -> str:
    """A name for a folder: lower case, digits and single dashes (`NVIDIA H100 80GB` → `nvidia-h100-80gb`)."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "unnamed"


def check_text(text: str) -> None:
    """Refuse a text that no file, no process and no document takes.

    Raises:
        ValueError: It has a NUL character, or is not UTF-8.
    """
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # Python's stand-in for a byte that it could not decode
        raise ValueError("it is not UTF-8 text")


def printable(text: str) -> str:
    """Text in one line that cannot control a terminal.

    Letters, digits, punctuation, symbols and blanks stay. Everything else becomes `\ufffd`: control characters (line
    ends, tabs, escape), bidirectional marks, zero-width characters, line separators, surrogates, unassigned characters.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if unicodedata.category(c) == "Zs" else "\ufffd" for c in text)
