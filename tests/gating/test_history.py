"""The earlier runs of a stored gate: which of them count, and which files are read."""

import json
import os
from pathlib import Path

import pytest

from infertune.domain.knobs import Config
from infertune.errors import UsageError
from infertune.gating.comparison import RATE
from infertune.gating.history import StoredRun, comparable, read_history
from infertune.gating.result import save_json
from tests.profiles.test_fingerprint import FOUND, with_device

CONFIG = Config({"slots": 2})


def stored(**changes: object) -> StoredRun:
    fields: dict[str, object] = {
        "fingerprint": FOUND,
        "config": CONFIG,
        "n_requests": 64,
        "launches": 3,
        "samples": {RATE: 100.0},
        "answer": "pass",
        "run": "r",
        "created_at": "2026-01-01T00:00:00+00:00",
    }
    return StoredRun.model_validate({**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fingerprint": with_device(driver="1")}, "another driver"),
        ({"config": Config({"slots": 4})}, "other settings"),
        ({"launches": 5}, "another number of launches"),
        ({"samples": {"power_w": 1.0}}, "a metric is missing"),
        ({"answer": "regression"}, "it was a regression"),
        ({"n_requests": 32}, "another number of requests"),
    ],
)
def test_an_earlier_run_of_something_else_is_left_out_with_its_reason(changes: dict[str, object], reason: str) -> None:
    kept, notes = comparable([stored(**changes), stored(), stored()], FOUND, CONFIG, 3, [RATE])
    assert len(kept) == 2
    assert notes == [f"1 earlier run left out: {reason}"]


def test_only_earlier_runs_of_the_size_that_is_asked_for_count() -> None:
    runs = [stored(n_requests=32), stored(), stored(n_requests=80, window_s=5.0), stored()]
    kept, notes = comparable(runs, FOUND, CONFIG, 3, [RATE], n_requests=32)
    assert kept == runs[:1] and notes == ["3 earlier runs left out: another number of requests"]
    kept, notes = comparable(runs, FOUND, CONFIG, 3, [RATE], window_s=5.0)
    assert kept == [runs[2]] and notes == ["3 earlier runs left out: another --window"]
    assert comparable(runs, FOUND, CONFIG, 3, [RATE], window_s=9.0)[0] == []


def test_loads_of_a_server_are_compared_with_loads_of_the_same_size_and_rate() -> None:
    load = "loads of 80 requests at 12.5 requests/s"
    same, longer = stored(load=load, n_requests=80), stored(load="loads at 12.5 requests/s for 30 s or more")
    for requests in (None, 80):
        kept, notes = comparable([same, longer, stored(), same], FOUND, CONFIG, 3, [RATE], requests, load=load)
        assert kept == [same, same] and notes == ["2 earlier runs left out: other loads"]


def test_a_history_is_read_as_it_was_written_oldest_first(tmp_path: Path) -> None:
    runs = [stored(created_at=f"2026-01-0{day}T00:00:00+00:00", run=str(day)) for day in (2, 1)]
    for number, run in enumerate(runs):
        save_json(tmp_path / "h", f"{number}.json", run)
    assert read_history(tmp_path / "h") == runs[::-1]
    assert read_history(tmp_path / "absent") == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema_version": 9}', "\x00", "x" * 2_000_000])
def test_a_file_that_is_no_stored_run_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError) as refused:
        read_history(tmp_path)
    assert "x.json" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(("version", "words"), [(9, "has schema version 9"), (None, "names no schema_version")])
def test_a_stored_run_of_an_unknown_version_is_refused(tmp_path: Path, version: int | None, words: str) -> None:
    document = {**stored().model_dump(mode="json"), "schema_version": version}
    (tmp_path / "x.json").write_text(json.dumps({name: value for name, value in document.items() if value is not None}))
    with pytest.raises(UsageError, match=f"x.json is no stored run .* it {words}"):
        read_history(tmp_path)


@pytest.mark.parametrize("what", ["pipe", "link"])
def test_a_pipe_and_a_link_to_a_device_are_refused_unread(tmp_path: Path, what: str) -> None:
    if what == "pipe":
        os.mkfifo(tmp_path / "x.json")
    else:
        (tmp_path / "x.json").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="cannot read stored run .*x.json: it is"):
        read_history(tmp_path)


@pytest.mark.parametrize("sample", ["0", "-1", "1e300"])
def test_a_stored_figure_has_a_logarithm(tmp_path: Path, sample: str) -> None:
    (tmp_path / "x.json").write_text(stored().model_dump_json().replace("100.0", sample))
    with pytest.raises(UsageError, match="x.json is no stored run"):
        read_history(tmp_path)
