"""The side file of every request: whatever happens to one append, later ones can be read."""

import errno
import gzip
import json
import os
from pathlib import Path

import pytest

from infertune.domain.judging import RequestRows
from infertune.errors import BenchmarkError
from infertune.runs.ledger import Ledger
from infertune.runs.samples import SAMPLES_NAME, mend_samples
from tests.builders import header, space, trial

N = 40


def rows(number: int) -> RequestRows:
    times = tuple(number + at / 7 for at in range(N))
    return RequestRows(
        due_s=times, late_s=times, ttft_s=times, latency_s=times, output_tokens=(8,) * N, longest_gap_s=times,
        error=("",) * N,
    )  # fmt: skip


def run_of(folder: Path, n_trials: int) -> Ledger:
    """A run with two windows a trial."""
    ledger = Ledger.create(folder / "run", header())
    for number in range(n_trials):
        ledger.append(trial(number, space().default, 5.0), [rows(number), rows(number)])
    return ledger


def kept(ledger: Ledger) -> list[tuple[int, int]]:
    """Trial and window of every line, as any reader of gzip finds them."""
    lines = gzip.decompress((ledger.folder / SAMPLES_NAME).read_bytes()).decode().splitlines()
    return [(line["trial"], line["window"]) for line in map(json.loads, lines)]


def test_what_is_measured_after_the_disk_was_full_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, write = run_of(tmp_path, 1), os.write

    def full(descriptor: int, data: bytes) -> int:
        if data[:2] != b"\x1f\x8b":
            return write(descriptor, data) if data[:1] == b"{" else _no_space()
        return write(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(BenchmarkError, match=rf"{SAMPLES_NAME}: No space left on device; .* --resume"):
            ledger.append(trial(1, space().default, 5.0), [rows(1), rows(1)])
    assert len(ledger.trials) == 2, "the trial itself was on disk before"
    ledger.append(trial(2, space().default, 5.0), [rows(2), rows(2)])
    assert kept(ledger) == [(0, 0), (0, 1), (2, 0), (2, 1)]


def _no_space() -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_end_that_a_crash_has_torn_is_cut_when_the_run_goes_on(tmp_path: Path) -> None:
    ledger = run_of(tmp_path, 2)
    ledger.close()
    path = ledger.folder / SAMPLES_NAME
    whole = path.read_bytes()
    last = whole.rfind(b"\x1f\x8b\x08\x00")
    assert last > 0
    for length in (*range(last, len(whole), 29), last + 1, last + 9, len(whole) - 1):
        path.write_bytes(whole[:length])
        with Ledger.open(ledger.folder, mend=True):
            assert path.read_bytes() == whole[:last], length
    with Ledger.open(ledger.folder, mend=True) as again:
        again.append(trial(2, space().default, 5.0), [rows(2)])
        assert kept(again) == [(0, 0), (0, 1), (1, 0), (2, 0)]


def test_a_whole_file_a_missing_one_and_what_was_not_written_here_are_left_alone(tmp_path: Path) -> None:
    mend_samples(tmp_path)
    assert not (tmp_path / SAMPLES_NAME).exists()
    whole = (run_of(tmp_path, 1).folder / SAMPLES_NAME).read_bytes()
    for content in (whole, b"", b"something else"):
        (tmp_path / SAMPLES_NAME).write_bytes(content)
        mend_samples(tmp_path)
        assert (tmp_path / SAMPLES_NAME).read_bytes() == content
