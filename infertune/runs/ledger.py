"""The ledger: `trials.jsonl`, the only truth about a run.

A header line, then one line a trial, each on disk before the next trial starts. Only the last line can be torn by a
crash; it is dropped. One process at a time appends to it.
"""

import fcntl
import os
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from infertune.bench.locks import flock_owner
from infertune.domain.judging import RequestRows
from infertune.domain.measurement import Frozen
from infertune.domain.quality import Check
from infertune.domain.record import FILE_NAME, Ending, Header, Record, read_record
from infertune.domain.trial import Trial
from infertune.errors import BenchmarkError, UsageError
from infertune.runs.folders import RESUMABLE, check_unused
from infertune.runs.samples import append_samples, mend_samples
from infertune.writing import append_whole, open_to_append, remove_inside


class Ledger(Record):
    """A run's record that can be appended to, trial by trial; as a context manager it closes the file at the end."""

    _descriptor: int | None = None

    def _hold(self, descriptor: int) -> int:
        """Keep a locked file until `close`, or until nothing refers to this object any more."""
        self._descriptor = descriptor
        self._let_go = weakref.finalize(self, os.close, descriptor)
        return descriptor

    @classmethod
    def create(cls, folder: Path, header: Header) -> "Ledger":
        """A new run folder with a ledger that holds only its header, locked for this process.

        Raises:
            UsageError: The folder cannot be written, or holds a ledger already.
            BenchmarkError: Another run is making it at this moment.
        """
        check_unused(folder, header.command)
        ledger = cls(folder, header)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write {folder}: {error.strerror}; choose another --out") from None
        descriptor = ledger._hold(_locked(folder, make=True))
        try:
            if os.fstat(descriptor).st_size:
                check_unused(folder, header.command)
            append_whole(descriptor, _line(header))
        except OSError as error:
            remove_inside(folder, FILE_NAME)  # half a header would make the next try refuse the folder
            ledger.close()
            raise UsageError(f"cannot write {folder}: {error.strerror}; choose another --out") from None
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def open(cls, folder: Path, *, mend: bool = False) -> "Ledger":
        """The ledger of a run folder, without its last line if that one is torn.

        Args:
            folder: The run's folder.
            mend: Lock it for this process, and cut a torn end from the file and from its side file, so that they can be
                appended to.

        Raises:
            UsageError: The folder is not a run, is of a newer version, is damaged before its last line, or its ledger
                is a link or no regular file; or its side file cannot be mended.
            BenchmarkError: Another run appends to it.
        """
        if not mend:
            return cls._of(read_record(folder))
        read_record(folder)  # a folder that is no run is refused before its file is opened for writing
        descriptor = _locked(folder)
        try:  # read under the lock: another run may just have ended
            record = read_record(folder)
            if record.torn_bytes:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - record.torn_bytes)
            mend_samples(folder)
        except BaseException:
            os.close(descriptor)
            raise
        ledger = cls._of(record)
        ledger._hold(descriptor)
        return ledger

    @classmethod
    def _of(cls, record: Record) -> "Ledger":
        ledger = cls(record.folder, record.header, record.trials, record.warnings)
        ledger.ending, ledger.proof_ending = record.ending, record.proof_ending
        ledger.checks = record.checks
        return ledger

    def close(self) -> None:
        """Let other runs append to it."""
        if self._descriptor is not None:
            self._let_go()
        self._descriptor = None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, trial: Trial, rows: Sequence[RequestRows] = ()) -> None:
        """Write a trial to disk, and then its requests, each whole or not at all.

        Args:
            trial: The trial.
            rows: The requests of its windows, for the side file.

        Raises:
            BenchmarkError: The disk refused; what it refused is as it was before.
        """
        self._write(trial)
        self.take(trial)
        append_samples(self.folder, trial.number, rows, self._cure)

    def note_check(self, check: Check) -> None:
        """Write what was found of a configuration's answers to disk, whole or not at all.

        Raises:
            BenchmarkError: The disk refused; the ledger is as it was before.
        """
        self._write(check)
        self.checks.append(check)

    def finish(self, ended: str, proof: str = "") -> None:
        """Write the last line: the run ended, with the reasons why the search and the proof stopped.

        Raises:
            BenchmarkError: The disk refused; the ledger is as it was before.
        """
        self._write(Ending(ended=ended, proof=proof))
        self.ending, self.proof_ending = ended, proof

    def _write(self, line: Frozen) -> None:
        if self._descriptor is None:
            try:
                self._hold(_locked(self.folder))
            except UsageError as error:
                raise BenchmarkError(str(error)) from None
        descriptor = self._descriptor
        assert descriptor is not None
        try:
            append_whole(descriptor, _line(line))
        except OSError as error:
            raise BenchmarkError(
                f"cannot write {self.folder / FILE_NAME}: {error.strerror}; its {len(self.trials)} trials are safe: "
                f"free some space, then {self._cure}"
            ) from None

    @property
    def _cure(self) -> str:
        """How to go on after an error; only some commands can continue a run."""
        return f"continue with --resume {self.folder}" if self.header.command in RESUMABLE else "start again"


def _locked(folder: Path, *, make: bool = False) -> int:
    """Open a ledger's file to append to it, and keep other runs from doing so while the descriptor is open.

    The lock is the file's own (flock): the kernel releases it when this process ends, however it ends. On a file system
    without locks there is none.

    Raises:
        UsageError: It cannot be opened, is a link or no regular file.
        BenchmarkError: Another run has it.
    """
    descriptor = open_to_append(folder, FILE_NAME, "the run's ledger", make=make)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = flock_owner(descriptor) or "on another machine or in another container"
        os.close(descriptor)
        raise BenchmarkError(
            f"{folder} is in use by another infertune run, {owner}; continue it when that one has ended"
        ) from None
    except OSError:  # no locks on this file system
        pass
    return descriptor


def now() -> str:
    """The time, in UTC to the second, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _line(of: Frozen) -> bytes:
    return of.model_dump_json().encode() + b"\n"
