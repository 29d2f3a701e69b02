"""A workload file's content as rows: of JSON (lines, an array, objects one after another), of a CSV, or of plain lines.

The content is decoded piece by piece, since a text with one emoji takes four bytes a character in memory.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from infertune.domain.workload.lengths import MOST_TOKENS

_CHUNK_CHARACTERS = 1 << 20
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]{1,12})(?:\.0*)?")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")
_BLANK = " \t\n\r"
_DELIMITERS = ",;\t|"
Side = Counter[str]  # sentences on what was left out or replaced → how often


class FormatError(ValueError):
    """A row that is not what its format needs; the text begins with its line.

    Attributes:
        line: From 1.
    """

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line


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
    """

    line: int
    number: int
    values: Mapping[str, object]
    remarks: Side = field(default_factory=Counter)
    shown: Mapping[str, str] = field(default_factory=dict)
    within: str = ""
    is_text: bool = False

    def has(self, *names: str) -> bool:
        """Whether all of these are there and not null."""
        return all(self.values.get(name) is not None for name in names)

    def first_of(self, *names: str) -> str | None:
        """The first of these names that is there."""
        return next((name for name in names if self.has(name)), None)

    def fault(self, name: str, what: str) -> FormatError:
        """A fault of a field."""
        return FormatError(self.line, f"{self.within}{self.shown.get(name, name)} {what}")

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
        return Row(self.line, self.number, value, self.remarks, within=f"{self.within}{name}.")

    def _present(self, name: str) -> object:
        if (value := self.values.get(name)) is None:
            raise self.fault(name, "is null" if name in self.values else "is missing")
        return value


class Source:
    """The rows of a file.

    Attributes:
        left_out: Why rows are no request, with their number.
        remarks: What was replaced in rows that are requests, with its number.
        marks: What the hash must hold besides the content, as an earlier version would have read other requests.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.left_out: Side = Counter()
        self.remarks: Side = Counter()
        self.marks: set[str] = set()

    @property
    def is_json(self) -> bool:
        """Whether it begins as JSON objects do."""
        return self._start[:1] in ("{", "[")

    @cached_property
    def columns(self) -> list[str]:
        """The names in a CSV's first line."""
        return [name.strip() for name in self._start.split(_delimiter(self._start))]

    @cached_property
    def header(self) -> frozenset[str]:
        """The names in a CSV's first line, in lower case without blanks and signs; empty for JSON."""
        return frozenset() if self.is_json else frozenset(map(_plain, self.columns))

    @property
    def is_table(self) -> bool:
        """Whether it looks like a CSV: lines of as many cells, and a number in each below the first."""
        delimiter = _delimiter(self._start)
        cells = [line.split(delimiter) for _, line in islice(self.lines(), 6)]
        return len({len(row) for row in cells}) == 1 < len(cells[0]) and all(
            any(_NUMBER.fullmatch(cell.strip()) for cell in row) for row in cells[1:]
        )

    def require(self, columns: Mapping[str, str]) -> None:
        """Refuse a CSV without these columns.

        Args:
            columns: The name as `header` has it → as a message shows it.

        Raises:
            FormatError: One is missing.
        """
        if missing := [name for plain, name in columns.items() if plain not in self.header]:
            found = "it is JSON" if self.is_json else f"its columns are {', '.join(map(shown, self.columns[:12]))}"
            raise FormatError(1, f"has no column {' and '.join(missing)} ({found})")

    @cached_property
    def first(self) -> Row | None:
        """The first object of a JSON file; None if it is no JSON file.

        Raises:
            FormatError: There is none.
        """
        return next(self.rows(), None) if self.is_json else None

    def lines(self) -> Iterator[tuple[int, str]]:
        """Every line that is not blank, with its number."""
        return ((number, line.rstrip("\n")) for number, line in enumerate(self._decoded(), 1) if line.strip())

    def rows(self) -> Iterator[Row]:
        """Every object of a JSON file.

        Raises:
            FormatError: Something in it is not JSON, or no object.
        """
        found = self._values_by_line() if self._is_by_line() else self._values_in_a_row()
        for number, (line, value) in enumerate(found, 1):
            if not isinstance(value, dict):
                raise FormatError(line, f"{shown(value)} is not a JSON object")
            yield Row(line, number, value, self.remarks)

    def cells(self) -> Iterator[Row]:
        """Every row of a CSV below its first line.

        Raises:
            FormatError: A row has more values than there are columns, or is no CSV.
        """
        reader = csv.reader(self._decoded(), delimiter=_delimiter(self._start))
        try:
            names = next(row for row in reader if any(map(str.strip, row)))
            shown_names = {_plain(name): name.strip() for name in names}
            for number, row in enumerate(reader, 1):
                if any(row[len(names) :]):
                    raise FormatError(reader.line_num, f"{len(row)} values for {len(names)} columns")
                if any(map(str.strip, row)):
                    values = {_plain(name): cell.strip() or None for name, cell in zip(names, row, strict=False)}
                    yield Row(reader.line_num, number, values, self.remarks, shown_names, is_text=True)
        except csv.Error as error:
            raise FormatError(reader.line_num, str(error)) from None

    @cached_property
    def _start(self) -> str:
        """The first line that says something."""
        return next((line.lstrip() for _, line in self.lines()), "")

    def _decoded(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(io.BytesIO(self._content), encoding="utf-8-sig")  # any kind of line end becomes \n

    def _is_by_line(self) -> bool:
        """Whether one of the first two lines is an object by itself: a broken line is then named by its own number."""
        if self._start[:1] != "{":
            return False
        for _, line in islice(self.lines(), 2):
            try:
                if isinstance(json.loads(line), dict):
                    return True
            except (ValueError, RecursionError):
                continue
        return False

    def _values_by_line(self) -> Iterator[tuple[int, object]]:
        for number, line in self.lines():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise FormatError(number, f"is not JSON ({_reason(error)})") from None
            except RecursionError:
                raise FormatError(number, "is nested too deeply") from None

    def _values_in_a_row(self) -> Iterator[tuple[int, object]]:
        """The elements of an array, or objects one after another, over any lines; read in pieces."""
        text = _Text(self._decoded())
        in_array = text.take("[")
        if not in_array and text.peek() != "{":
            raise FormatError(text.line, f"{shown(self._start)} is not JSON")
        while (character := text.peek()) and not (in_array and character == "]"):
            line = text.line
            yield line, text.value()
            if in_array and not text.take(",") and text.peek() != "]":
                raise FormatError(text.line, f"is not JSON (no comma or ] after the value that begins in line {line})")
        if in_array and not text.take("]"):
            raise FormatError(text.line, "is not JSON (the array does not end)")
        if in_array and text.peek():
            raise FormatError(text.line, "is not JSON (something follows the array)")


class _Text:
    """A text read in pieces, with the number of the line that was reached."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self._buffer, self._at, self._ended = "", 0, False
        self._decoder = json.JSONDecoder()
        self.line = 1

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in _BLANK:
                self._move(self._at + 1)
            if self._at < len(self._buffer) or not self._more():
                return self._buffer[self._at : self._at + 1]

    def take(self, character: str) -> bool:
        """Whether it is the next one, which is then passed."""
        found = self.peek() == character
        if found:
            self._move(self._at + 1)
        return found

    def value(self) -> object:
        """The next JSON value.

        Raises:
            FormatError: It is not JSON, or nested too deeply.
        """
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
                # A number may go on in the next piece.
                if end == len(self._buffer) and not isinstance(value, dict | list) and self._more():
                    continue
                self._move(end)
                return value
            except json.JSONDecodeError as error:
                # Only what reaches the end of the piece may be whole with the next one.
                open_ended = error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - 16
                if open_ended and self._more():
                    continue
                line = self.line + self._buffer.count("\n", self._at, error.pos)
                raise FormatError(line, f"is not JSON ({error.msg})") from None
            except ValueError as error:  # a number of thousands of digits
                raise FormatError(self.line, f"is not JSON ({_reason(error)})") from None
            except RecursionError:
                raise FormatError(self.line, "is nested too deeply") from None

    def _move(self, to: int) -> None:
        self.line += self._buffer.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        """Read on: as much again as is waiting, so that one long value is not decoded over and over."""
        waiting = self._buffer[self._at :]
        piece = "" if self._ended else self._file.read(max(_CHUNK_CHARACTERS, len(waiting)))
        self._ended = not piece
        if piece:
            self._buffer, self._at = waiting + piece, 0
        return bool(piece)


def shown(value: object) -> str:
    """A value as a message shows it: short, on one line."""
    text = json.dumps(value, ensure_ascii=True, default=str) if not isinstance(value, int) else _digits(value)
    return text if len(text) <= 40 else text[:39] + "…"


def kind_of(value: object) -> str:
    """What JSON calls a value."""
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "a number")


def _digits(value: int) -> str:
    return str(value).lower() if abs(value) < 10**18 else "a number of many digits"


def _plain(name: str) -> str:
    """`Request tokens` → `requesttokens`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count)


def _reason(error: ValueError) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else " ".join(str(error).split())[:80]
