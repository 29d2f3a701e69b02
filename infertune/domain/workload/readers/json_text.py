"""JSON values one after another in a file that is read in pieces."""

import io
import json

from infertune.domain.workload.readers.row import FormatError

_CHUNK_CHARACTERS = 1 << 20
_BLANK = " \t\n\r"


class JsonText:
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
                raise FormatError(self.line, f"is not JSON ({reason(error)})") from None
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


def reason(error: ValueError) -> str:
    """Why a text is no JSON, short."""
    return error.msg if isinstance(error, json.JSONDecodeError) else " ".join(str(error).split())[:80]
