"""A workload file's content as rows: of JSON (lines, an array, objects one after another), of a CSV, or of plain lines.

The content is decoded piece by piece, since a text with one emoji takes four bytes a character in memory.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice

from infertune.domain.workload.readers.json_text import JsonText, reason
from infertune.domain.workload.readers.row import FormatError, Row, Side, shown

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")
_DELIMITERS = ",;\t|"


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
        return frozenset() if self.is_json else frozenset(map(plain, self.columns))

    @property
    def is_table(self) -> bool:
        """Whether it looks like a CSV: names of at most three words, then lines of as many cells with numbers."""
        delimiter = _delimiter(self._start)
        rows = [[cell.strip() for cell in line.split(delimiter)] for _, line in islice(self.lines(), 6)]
        names = rows.pop(0) if rows else []
        return (
            len(names) > 1
            and all(len(name.split()) in (1, 2, 3) and not _NUMBER.fullmatch(name) for name in names)
            and all(len(row) == len(names) and any(map(_NUMBER.fullmatch, row)) for row in rows)
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
        for number, (line, item, value) in enumerate(found, 1):
            if not isinstance(value, dict):
                raise FormatError(line, f"{shown(value)} is not a JSON object", item)
            yield Row(line, number, value, self.remarks, item=item)

    def cells(self) -> Iterator[Row]:
        """Every row of a CSV below its first line.

        Raises:
            FormatError: A row has more values than there are columns, or is no CSV.
        """
        reader = csv.reader(self._decoded(), delimiter=_delimiter(self._start))
        try:
            names = next(row for row in reader if any(map(str.strip, row)))
            shown_names = {plain(name): name.strip() for name in names}
            for number, row in enumerate(reader, 1):
                if any(row[len(names) :]):
                    raise FormatError(reader.line_num, f"{len(row)} values for {len(names)} columns")
                if any(map(str.strip, row)):
                    values = {plain(name): cell.strip() or None for name, cell in zip(names, row, strict=False)}
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

    def _values_by_line(self) -> Iterator[tuple[int, None, object]]:
        for number, line in self.lines():
            try:
                yield number, None, json.loads(line)
            except ValueError as error:
                raise FormatError(number, f"is not JSON ({reason(error)})") from None
            except RecursionError:
                raise FormatError(number, "is nested too deeply") from None

    def _values_in_a_row(self) -> Iterator[tuple[int, int | None, object]]:
        """The elements of an array, or objects one after another, over any lines; read in pieces.

        Each has its line; those on the line on which an array begins have their number in it too.
        """
        text = JsonText(self._decoded())
        in_array = text.take("[")
        first_line, number = text.line, 0
        if not in_array and text.peek() != "{":
            raise FormatError(text.line, f"{shown(self._start)} is not JSON")
        while (character := text.peek()) and not (in_array and character == "]"):
            line, number = text.line, number + 1
            item = number if in_array and line == first_line else None
            try:
                value = text.value()
            except FormatError as fault:
                counts = number > 1 and fault.line == line  # what breaks in the first may be no array at all
                raise FormatError(fault.line, fault.what, item if counts else None) from None
            yield line, item, value
            if in_array and not text.take(",") and text.peek() != "]":
                it = f"the value that begins in line {line}" if item is None else "it"
                raise FormatError(text.line, f"is not JSON (no comma or ] after {it})", item)
        if in_array and not text.take("]"):
            raise FormatError(text.line, "is not JSON (the array does not end)")
        if in_array and text.peek():
            raise FormatError(text.line, "is not JSON (something follows the array)")


def plain(name: str) -> str:
    """A column's name as `Source.header` has it: `Request tokens` → `requesttokens`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count)
