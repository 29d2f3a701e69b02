"""The side file of a run: every request of every load, beside the ledger, which keeps their distributions only."""

import gzip
import os
from collections.abc import Sequence
from pathlib import Path

from infertune.domain.frozen import Frozen
from infertune.domain.judging import RequestRows
from infertune.errors import BenchmarkError, UsageError
from infertune.writing import open_to_append

SAMPLES_NAME = "requests.jsonl.gz"


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
    """Add the loads of a trial: a member of the gzip file each, so that a torn end spoils the last one only.

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
        with open(open_to_append(folder, SAMPLES_NAME, "the run's requests", make=True), "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, UsageError) as error:
        raise BenchmarkError(
            f"cannot write {folder / SAMPLES_NAME}: {getattr(error, 'strerror', None) or error}; "
            f"free some space, then {cure}"
        ) from None
