"""The ledger: `trials.jsonl`, the only truth about a run.

A header line, then one line a trial, each on disk before the next trial starts. A line that was torn by a crash is the
last one, and is dropped; everything before it is whole.
"""

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

from infertune.domain.measurement import Frozen
from infertune.domain.record import FILE_NAME, Ending, Header, Record, read_record
from infertune.domain.trial import Trial
from infertune.errors import BenchmarkError, UsageError


class Ledger(Record):
    """A run's record that can be appended to, trial by trial."""

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
        return cls(folder, header)

    @classmethod
    def open(cls, folder: Path, *, mend: bool = False) -> "Ledger":
        """The ledger of a run folder, without its last line if that one is torn.

        Args:
            folder: The run's folder.
            mend: Cut a torn last line from the file too, so that it can be appended to.

        Raises:
            UsageError: The folder is not a run, is of a newer version, or is damaged before its last line.
        """
        record = read_record(folder)
        path = folder / FILE_NAME
        if record.torn_bytes and mend:
            os.truncate(path, path.stat().st_size - record.torn_bytes)
        ledger = cls(folder, record.header, record.trials, record.warnings)
        ledger.ending, ledger.proof_ending = record.ending, record.proof_ending
        return ledger

    def append(self, trial: Trial) -> None:
        """Write a trial to disk, whole or not at all.

        Raises:
            BenchmarkError: The disk refused; the ledger is as it was before.
        """
        self._write(trial)
        self.trials.append(trial)

    def finish(self, ended: str, proof: str = "") -> None:
        """Write down that the run came to its end, why the search stopped, and why proving did.

        Raises:
            BenchmarkError: The disk refused; the ledger is as it was before.
        """
        self._write(Ending(ended=ended, proof=proof))
        self.ending, self.proof_ending = ended, proof

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
