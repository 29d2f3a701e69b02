"""The side file of a run: every request of every load, beside the ledger, which keeps their distributions only."""

import gzip
import mmap
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from infertune.domain.frozen import Frozen
from infertune.domain.judging import RequestRows
from infertune.errors import BenchmarkError, UsageError
from infertune.writing import append_whole, open_to_append

SAMPLES_NAME = "requests.jsonl.gz"
_WHAT = "the run's requests"
_MEMBER_START = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0])  # magic, deflate, no flags, no time: RFC 1952
_GZIP_BITS = 31  # zlib's name for a member with header and checksum
_PIECE_BYTES = 64 * 1024  # at most 64 MiB when decompressed


class SampleLine(Frozen):
    """One load.

    Attributes:
        trial: Number of its trial.
        window: Its place among the trial's windows, from 0.
        requests: Its requests, column by column.
    """

    trial: int
    window: int
    requests: RequestRows


def append_samples(folder: Path, trial: int, rows: Sequence[RequestRows], cure: str) -> None:
    """Add the loads of a trial, a member of the gzip file each.

    A disk that refuses takes all of them or none; a crash may leave the first ones.

    Args:
        folder: The run's folder.
        trial: Number of the trial.
        rows: The requests of its windows.
        cure: What helps where the disk is full, for the message.

    Raises:
        BenchmarkError: The disk refused.
    """
    lines = (SampleLine(trial=trial, window=number, requests=one) for number, one in enumerate(rows))
    data = b"".join(gzip.compress(f"{line.model_dump_json()}\n".encode(), 6, mtime=0) for line in lines)
    if not data:
        return
    try:
        descriptor = open_to_append(folder, SAMPLES_NAME, _WHAT, make=True)
        try:
            append_whole(descriptor, data)
        finally:
            os.close(descriptor)
    except (OSError, UsageError) as error:
        raise BenchmarkError(
            f"cannot write {folder / SAMPLES_NAME}: {getattr(error, 'strerror', None) or error}; "
            f"free some space, then {cure}"
        ) from None


def mend_samples(folder: Path) -> None:
    """Cut a last member that a crash has torn: what is appended behind it could not be read.

    Raises:
        UsageError: The file cannot be opened, or is a link or no regular file.
    """
    if not os.path.lexists(folder / SAMPLES_NAME):
        return
    with open(open_to_append(folder, SAMPLES_NAME, _WHAT, make=False), "r+b") as file:
        if os.fstat(file.fileno()).st_size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                whole_bytes = _whole_bytes(content)
            file.truncate(whole_bytes)


def _whole_bytes(content: mmap.mmap) -> int:
    """Where the last whole member ends; the whole length of what was not written here."""
    start = content.rfind(_MEMBER_START)
    if start < 0:
        return 0 if _MEMBER_START.startswith(content[: len(_MEMBER_START)]) else len(content)
    member, end = zlib.decompressobj(_GZIP_BITS), start
    try:
        while not member.eof and (piece := content[end : end + _PIECE_BYTES]):
            member.decompress(piece)
            end += len(piece)
    except zlib.error:
        return start
    return end - len(member.unused_data) if member.eof else start
