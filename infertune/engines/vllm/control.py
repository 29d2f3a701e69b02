"""A page of memory through which the worker sets the limits of a server's scheduler, in another process.

It is an unnamed file of the worker, which the scheduler opens through /proc: nothing of it is left when the worker
ends. The first half holds the limits that are wanted, the second what the scheduler says of itself.
"""

import contextlib
import os
from collections.abc import Mapping

from infertune.domain.measurement import Frozen

VARIABLE = "INFERTUNE_VLLM_CONTROL"
_HALF = 65_536


class Said(Frozen):
    """What a scheduler says of itself.

    Attributes:
        effective: Settings as the engine runs them, by name.
        limits: The limits that it keeps at this moment.
    """

    effective: dict[str, str]
    limits: dict[str, int]


class Wanted(Frozen):
    """The limits that a scheduler is to keep."""

    limits: dict[str, int]


class Control:
    """One end of the page.

    Attributes:
        path: Where another process finds it.
    """

    def __init__(self, path: str | None = None) -> None:
        """Make a page, or open the one of another process."""
        self._last = b""
        if path is None:
            self._file = os.memfd_create("infertune-control")
            self.path = f"/proc/{os.getpid()}/fd/{self._file}"
        else:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self.path = path

    def want(self, limits: Mapping[str, int]) -> None:
        """Ask for limits."""
        self._write(Wanted(limits=dict(limits)), 0)

    def news(self) -> dict[str, int] | None:
        """Limits that are wanted and were not before; None if nothing has changed. Takes 1 µs."""
        found = os.pread(self._file, 512, 0)
        if found == self._last:
            return None
        self._last = found
        with contextlib.suppress(ValueError):  # half written: the next look finds the whole
            return Wanted.model_validate_json(found.rstrip(b"\0 ")).limits
        return None

    def say(self, said: Said) -> None:
        """Write down what the scheduler is."""
        self._write(said, _HALF)

    def said(self) -> Said | None:
        """What the scheduler wrote; None if it has not."""
        text = os.pread(self._file, _HALF, _HALF).rstrip(b"\0 ")
        return Said.model_validate_json(text) if text else None

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)

    def _write(self, content: Frozen, at: int) -> None:
        text = content.model_dump_json().encode()
        os.pwrite(self._file, text.ljust(512 if at == 0 else len(text) + 512), at)
