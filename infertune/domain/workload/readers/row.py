"""One row of a workload file: its named values, and how a fault in one of them is told."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from infertune.domain.workload.lengths import MOST_TOKENS
from infertune.units import shortened

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]{1,12})(?:\.0*)?")
Side = Counter[str]  # sentences on what was left out or replaced → how often


class FormatError(ValueError):
    """A row that is not what its format needs; the text begins with its place.

    Attributes:
        line: From 1.
        what: The fault alone.
    """

    def __init__(self, line: int, what: str, item: int | None = None) -> None:
        super().__init__(f"{_place(line, item)}: {what}")
        self.line = line
        self.what = what


@dataclass(frozen=True)
class Row:
    """Named values, and the line on which they begin.

    Attributes:
        line: From 1.
        number: Which row of the file it is, from 1.
        values: By name; of a CSV by the column's name in lower case without blanks and signs.
        shown: A name as the file has it, where that differs.
        remarks: Where a replaced character is counted.
        within: Names of the values around these, such as `body.`.
        is_text: All values are texts, of a CSV.
        item: Its number, from 1, in an array that has it on its first line: the line would not tell it from others.
    """

    line: int
    number: int
    values: Mapping[str, object]
    remarks: Side = field(default_factory=Counter)
    shown: Mapping[str, str] = field(default_factory=dict)
    within: str = ""
    is_text: bool = False
    item: int | None = None

    @property
    def where(self) -> str:
        """Its place in the file, for messages."""
        return _place(self.line, self.item)

    def has(self, *names: str) -> bool:
        """Whether all of these are there and not null."""
        return all(self.values.get(name) is not None for name in names)

    def first_of(self, *names: str) -> str | None:
        """The first of these names that is there."""
        return next((name for name in names if self.has(name)), None)

    def fault(self, name: str, what: str) -> FormatError:
        """A fault of a field."""
        return FormatError(self.line, f"{self.within}{self.shown.get(name, name)} {what}", self.item)

    def text(self, name: str) -> str:
        """A text, which may be empty.

        Raises:
            FormatError: It is missing or no text.
        """
        value = self._present(name)
        if not isinstance(value, str):
            raise self.fault(name, f"must be text, not {kind_of(value)}")
        if _LONE_SURROGATE.search(value):
            self.remarks["texts hold half of a character, which is replaced"] += 1
            return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
        return value

    def tokens(self, name: str) -> int:
        """A number of tokens, 0 or more.

        Raises:
            FormatError: It is missing, no whole number, negative or larger than any model's context.
        """
        value = self._present(name)
        if self.is_text and isinstance(value, str):
            match = _WHOLE_NUMBER.fullmatch(value.strip())
            value = int(match[1]) if match else value
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fault(name, f"must be a whole number of tokens, not {shown(value)}")
        if not 0 <= value <= MOST_TOKENS:
            raise self.fault(name, f"must be a number of tokens from 0 to {MOST_TOKENS:,}, not {shown(value)}")
        return value

    def seconds(self, name: str) -> float:
        """A point in time as a number, 0 or more.

        Raises:
            FormatError: It is missing, no number or negative.
        """
        value = self._present(name)
        try:
            seconds = float(value) if isinstance(value, str if self.is_text else int | float) else float("nan")
        except (ValueError, OverflowError):
            seconds = float("nan")
        if isinstance(value, bool) or not 0 <= seconds < float("inf"):
            raise self.fault(name, f"must be a time as a number from 0, not {shown(value)}")
        return seconds

    def items(self, name: str) -> list[object]:
        """A list that is not empty.

        Raises:
            FormatError: It is missing, no list or empty.
        """
        value = self._present(name)
        if not isinstance(value, list) or not value:
            raise self.fault(name, f"must be a list that is not empty, not {shown(value)}")
        return value

    def inner(self, name: str) -> "Row":
        """The values within a value.

        Raises:
            FormatError: It is missing or no object.
        """
        return self.element(name, self._present(name))

    def element(self, name: str, value: object) -> "Row":
        """The values of one of several, with the name that a message calls it by.

        Raises:
            FormatError: It is no object.
        """
        if not isinstance(value, dict):
            raise self.fault(name, f"must be an object, not {shown(value)}")
        return Row(self.line, self.number, value, self.remarks, within=f"{self.within}{name}.", item=self.item)

    def _present(self, name: str) -> object:
        if (value := self.values.get(name)) is None:
            raise self.fault(name, "is null" if name in self.values else "is missing")
        return value


def _place(line: int, item: int | None) -> str:
    return f"line {line}" if item is None else f"item {item}"


def shown(value: object) -> str:
    """A value as a message shows it: short, on one line."""
    text = json.dumps(value, ensure_ascii=True, default=str) if not isinstance(value, int) else _digits(value)
    return shortened(text, 40)


def kind_of(value: object) -> str:
    """What JSON calls a value."""
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "a number")


def _digits(value: int) -> str:
    return str(value).lower() if abs(value) < 10**18 else "a number of many digits"
