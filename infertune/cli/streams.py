"""Standard output and standard error of a command: writing never fails, and plain text cannot control a terminal.

A command's results are in its files. A closed pipe, a full disk, a closed stream or an encoding without `–` is no
failure of the run, and changes no exit code.
"""

import codecs
import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TextIO

from infertune.units import printable

# What stands for a character that the stream's encoding lacks; every other one becomes a question mark.
_LOOK_ALIKES = str.maketrans(
    {
        "–": "-", "—": "-", "…": "...", "×": "x", "±": "+-", "·": "|", "→": "->", "≤": "<=", "≥": ">=", "²": "2",
        "₂": "2", "✓": "+", "✗": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " ",
    }
)  # fmt: skip
_REPLACE = "infertune.replace"
_STANDARD = (0, 1, 2)  # descriptors of standard input, output and error


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end].translate(_LOOK_ALIKES)
    return missing.encode("ascii", "replace").decode("ascii"), error.end


codecs.register_error(_REPLACE, _look_alike)


class TolerantStream(io.TextIOBase):
    """A text stream whose `write` does not fail.

    Characters that the encoding lacks are replaced. After an error of the operating system, further text is dropped.
    Nothing is buffered: the interpreter would flush the buffer when it exits, and fail there.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Wrap a stream. None, which Python sets for a closed descriptor, drops all text."""
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._encoder = codecs.getincrementalencoder(self._encoding)(errors=_REPLACE)
        self._descriptor = _descriptor(stream)
        self.failure: Exception | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's own encoding."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """How characters are treated that the encoding lacks."""
        return _REPLACE

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        """The descriptor.

        Raises:
            io.UnsupportedOperation: There is none.
        """
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def write(self, text: str) -> int:
        """Write a text, or drop it where the stream has failed before."""
        data = self._encoder.encode(text)
        if self._stream is not None and self.failure is None:
            try:
                if self._descriptor is not None:
                    _write_all(self._descriptor, data)
                else:
                    self._stream.write(data.decode(self._encoding))
                    self._stream.flush()
            except (OSError, ValueError) as error:  # ValueError: closed meanwhile
                self.failure = error
        return len(text)

    @property
    def loss(self) -> str:
        """Why a part was dropped; empty if nothing was, or the reader left on purpose."""
        if self.failure is None or isinstance(self.failure, BrokenPipeError):
            return ""
        return getattr(self.failure, "strerror", None) or str(self.failure)


class PlainStream(TolerantStream):
    """A tolerant stream that replaces control characters; line ends and tabs stay.

    Libraries print here too: warnings, logs and tracebacks can quote a file. rich writes control sequences of its own;
    it uses the unfiltered stream, which it looks up as `rich_proxied_file`.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self.rich_proxied_file = TolerantStream(stream)

    def write(self, text: str) -> int:
        """Write a text without its control characters."""
        if not isinstance(text, str):
            raise TypeError(f"text is expected, not {type(text).__name__}")
        self.rich_proxied_file.write("".join(c if c in "\n\t" else printable(c) for c in text))
        self.failure = self.rich_proxied_file.failure
        return len(text)

    @property
    def loss(self) -> str:
        """Why a part was dropped, of plain text or of rich's."""
        return self.rich_proxied_file.loss


@contextlib.contextmanager
def tolerant_streams() -> Iterator[None]:
    """Make standard output and standard error tolerant, and report at the end that output was lost."""
    _fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    for stream in before:
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    output = PlainStream(before[0])
    sys.stdout, sys.stderr = output, PlainStream(before[1])
    try:
        yield
    finally:
        if output.loss:
            print(f"infertune: standard output could not be written: {output.loss}", file=sys.stderr)
        sys.stdout, sys.stderr = before


def _fill_closed_descriptors() -> None:
    """Open closed standard descriptors (`>&-`). Otherwise the next file opened, such as a ledger, gets their number."""
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return stream.fileno() if stream is not None else None
    except (AttributeError, OSError, ValueError):
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK):
                raise
            select.select([], [descriptor], [])  # another process made the pipe non-blocking
