"""The ledger: `trials.jsonl`, the only truth about a run.

A header line, then one line a trial, each on disk before the next trial starts. A line that was torn by a crash is the
last one, and is dropped; everything before it is whole.
"""

import contextlib
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import JsonValue, ValidationError

from infertune.device import Device
from infertune.errors import BenchmarkError, UsageError
from infertune.knobs import Config, SpaceRecord
from infertune.measurement import Frozen
from infertune.models import Model
from infertune.trial import Trial
from infertune.workload import WorkloadRecord

FILE_NAME = "trials.jsonl"
_ENDING_START = b'{"ended":'


class Header(Frozen):
    """First line of a ledger: what was asked, of what, where, and by which version.

    Attributes:
        schema_version: Of this file; a newer one is refused.
        command: The command that made the run.
        request: Its options, as `--config` takes them.
        space: The knobs, restricted as the user wished; a knob held at a value has it as its default.
        engine_defaults: What the engine does when it is told nothing.
        notes: What was changed on the way, in sentences.
        ported: The configuration that was best elsewhere, for a run that started from there.
    """

    schema_version: Literal[1] = 1
    infertune_version: str
    python_version: str = platform.python_version()
    created_at: str
    command: Literal["tune", "landscape", "bench", "gate"]
    request: dict[str, JsonValue]
    engine: str
    engine_version: str | None
    model: Model | None
    device: Device
    workload: WorkloadRecord
    space: SpaceRecord
    engine_defaults: Config
    notes: tuple[str, ...] = ()
    ported: Config | None = None


class Ending(Frozen):
    """Last line of a run that came to its end.

    Attributes:
        ended: Why the search stopped, in words.
    """

    ended: str


class Ledger:
    """An open ledger, appended to trial by trial.

    Attributes:
        folder: The run's folder.
        header: The first line.
        trials: Every trial so far, in order.
        warnings: What was found amiss when it was opened.
        ending: Why the search stopped; None while the run has not come to its end.
    """

    def __init__(self, folder: Path, header: Header, trials: list[Trial], warnings: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.header = header
        self.trials = trials
        self.warnings = warnings
        self.ending: str | None = None

    @classmethod
    def create(cls, folder: Path, header: Header) -> "Ledger":
        """A new run folder with a ledger that holds only its header.

        Raises:
            UsageError: The folder cannot be written, or holds a ledger already.
        """
        path = folder / FILE_NAME
        if path.exists():
            raise UsageError(
                f"{folder} holds a run already; continue it with --resume {folder}, or choose another --out"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                _write_line(file.fileno(), header.model_dump_json())
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()  # half a header is no run, and would be in the way of the next try
            raise UsageError(f"cannot write {folder}: {error.strerror}; choose another --out") from None
        return cls(folder, header, [])

    @classmethod
    def open(cls, folder: Path, *, mend: bool = False) -> "Ledger":
        """The ledger of a run folder, without its last line if that one is torn.

        Args:
            folder: The run's folder.
            mend: Cut a torn last line from the file too, so that it can be appended to.

        Raises:
            UsageError: The folder is not a run, is of a newer version, or is damaged before its last line.
        """
        path = folder / FILE_NAME
        try:
            content = path.read_bytes()
        except OSError:
            raise UsageError(f"{folder} is not a run: it has no readable {FILE_NAME}") from None
        lines = content.split(b"\n")
        torn = lines.pop()  # a whole ledger ends in a line break, so nothing follows the last one
        warnings: tuple[str, ...] = ()
        if torn:
            warnings = (f"{path}: the last line was torn ({len(torn)} bytes) and is dropped",)
            if mend:
                os.truncate(path, len(content) - len(torn))
        try:
            header = Header.model_validate_json(lines[0] if lines else b"")
        except ValidationError as error:
            raise UsageError(f"{path} is no ledger that this version of infertune reads: {_fault(error)}") from None
        ledger = cls(folder, header, [], warnings)
        for number, line in enumerate(lines[1:], start=2):
            try:
                if line.startswith(_ENDING_START):
                    ledger.ending = Ending.model_validate_json(line).ended
                else:
                    ledger.trials.append(Trial.model_validate_json(line))
            except ValidationError as error:
                raise UsageError(f"{path}, line {number} is damaged: {_fault(error)}") from None
        return ledger

    def append(self, trial: Trial) -> None:
        """Write a trial to disk, whole or not at all.

        Raises:
            BenchmarkError: The disk refused; the ledger is as it was before.
        """
        self._write(trial)
        self.trials.append(trial)

    def finish(self, ended: str) -> None:
        """Write down that the run came to its end, and why.

        Raises:
            BenchmarkError: The disk refused; the ledger is as it was before.
        """
        self._write(Ending(ended=ended))
        self.ending = ended

    def _write(self, line: Frozen) -> None:
        path = self.folder / FILE_NAME
        try:
            length = path.stat().st_size
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise BenchmarkError(f"cannot write {path}: {error.strerror}") from None
        try:
            _write_line(descriptor, line.model_dump_json())
        except OSError as error:
            os.ftruncate(descriptor, length)
            raise BenchmarkError(
                f"cannot write {path}: {error.strerror}; its {len(self.trials)} trials are safe: free some space, "
                f"then continue with --resume {self.folder}"
            ) from None
        finally:
            os.close(descriptor)


def now() -> str:
    """The time, in UTC to the second, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write_line(descriptor: int, text: str) -> None:
    data = text.encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _fault(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else str(first["msg"])
