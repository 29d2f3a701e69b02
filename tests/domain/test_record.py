"""What a ledger may say: every line is held against the header, and a fault is named by file, line and field."""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infertune.domain.record import FILE_NAME, read_record
from infertune.errors import UsageError
from tests.builders import header, space, trial

ROOT = Path(__file__).parent.parent.parent
DEFAULT = space().default
Lines = list[dict[str, Any]]


def lines_of(command: str = "tune", phase: str = "search") -> Lines:
    """A header, two trials and an ending, as JSON values."""
    rows = [trial(number, DEFAULT, 5.0 + number, phase) for number in range(2)]  # type: ignore[arg-type]
    documents = [header(command=command), *rows]
    return [*(document.model_dump(mode="json") for document in documents), {"ended": "done"}]


def write(folder: Path, lines: Lines) -> Path:
    (folder / FILE_NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def put(*place: str | int, value: object) -> Callable[[Lines], object]:
    """A change of one value, at line, field, field, …"""

    def change(lines: Lines) -> None:
        at: Any = lines
        for step in place[:-1]:
            at = at[step]
        at[place[-1]] = value

    return change


def drop(*place: str | int) -> Callable[[Lines], object]:
    def change(lines: Lines) -> None:
        at: Any = lines
        for step in place[:-1]:
            at = at[step]
        del at[place[-1]]

    return change


def duplicate_knob(lines: Lines) -> None:
    lines[0]["space"]["knobs"].append(copy.deepcopy(lines[0]["space"]["knobs"][0]))


WINDOW = (1, "outcome", "windows", 0)


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (put(0, "created_at", value="2026-11-27T12:33:24+00:NaN"), 1, "created_at: '2026-11-27T12:33:24+00:NaN' is no"),
        (put(0, "created_at", value="/dev/zero"), 1, "created_at: '/dev/zero' is no ISO 8601"),
        (put(0, "created_at", value="0001-01-01T00:00:00+14:00"), 1, "created_at: "),
        (put(0, "created_at", value="9999-12-31T23:59:59-14:00"), 1, "year out of range"),
        (put(1, "started_at", value=""), 2, "started_at: '' is no ISO 8601"),
        (put(2, "started_at", value="yesterday"), 3, "started_at: 'yesterday' is no ISO 8601"),
        (put(1, "config", "slots", value=33), 2, "config.slots: 33 is not a value of this knob"),
        (put(1, "config", "slots", value=True), 2, "config.slots: true is not a value"),
        (put(1, "config", "slots", value="32"), 2, "config.slots: 32 is not a value"),
        (put(1, "config", "compiled", value=0), 2, "config.compiled: 0 is not a value"),
        (put(1, "config", "slots", value=10**400), 2, "config"),
        (put(1, "config", "share", value=1e300), 2, "config.share: 1e+300 is not a value"),
        (put(2, "config", "unheard", value=1), 3, "config: the header's space has no knob unheard"),
        (drop(2, "config", "block"), 3, "config: the knob block is missing"),
        (put(2, "config", value={}), 3, "config: the knob slots is missing"),
        (put(2, "number", value=0), 3, "number: 0 comes after 0"),
        (put(1, "number", value=-1), 2, "number"),
        (put(1, "number", value=10**30), 2, "number"),
        (put(1, "launch_number", value=-1), 2, "launch_number"),
        (put(1, "round_number", value=2**40), 2, "round_number"),
        (put(1, "phase", value="grid"), 2, "phase: grid is none of `infertune tune`"),
        (put(1, "launch_s", value=-0.5), 2, "launch_s"),
        (put(1, "run_s", value=1e300), 2, "run_s"),
        (put(1, "outcome", "windows", value=[]), 2, "windows"),
        (put(*WINDOW, "duration_s", value=0), 2, "duration_s"),
        (put(*WINDOW, "duration_s", value=5e-324), 2, "duration_s"),
        (put(*WINDOW, "output_tokens", value=0), 2, "output_tokens"),
        (put(*WINDOW, "output_tokens", value=10**200), 2, "output_tokens"),
        (put(*WINDOW, "n_requests", value=0), 2, "n_requests"),
        (put(*WINDOW, "latency_s", value=[1.0] * 11), 2, "latency_s has 11 values for 10 requests"),
        (put(*WINDOW, "ttft_s", value=[-1.0]), 2, "ttft_s"),
        (put(*WINDOW, "energy", "gpu_j", value=-3.0), 2, "gpu_j"),
        (put(*WINDOW, "other_load", "cpu_by_others", value=7), 2, "cpu_by_others"),
        (put(1, "outcome", "peak_memory_bytes", value=-1), 2, "peak_memory_bytes"),
        (put(1, "outcome", "warmup_s", value=-1), 2, "warmup_s"),
        (put(0, "space", "knobs", 0, "default", value=3), 1, "default 3 is not among"),
        (put(0, "space", "knobs", 0, "values", value=[4, 8, 16, 32, "many"]), 1, "'many' is no value of the kind int"),
        (put(0, "space", "knobs", 0, "values", value=[4, 8.5, 32]), 1, "8.5 is no value of the kind int"),
        (put(0, "space", "knobs", 4, "values", value=[0.8, 10**30]), 1, "share"),
        (duplicate_knob, 1, "space.knobs: two have the same name"),
        (put(0, "engine_defaults", "unheard", value=1), 1, "engine_defaults: the space has no knob unheard"),
        (put(0, "engine_defaults", "slots", value="many"), 1, "engine_defaults.slots: many is no number"),
        (put(0, "ported", value={"slots": 4}), 1, "ported: the knob budget is missing"),
        (put(0, "request", "objective", value="fame"), 1, "request: unknown objective 'fame'"),
        (put(0, "request", "slo", value=["power_w<nan"]), 1, "request: --slo"),
        (put(0, "request", "trials", value=-4), 1, "request: --trials -4"),
        (put(0, "request", "price_per_hour", value=1e300), 1, "request: --price-per-hour"),
        (put(0, "device", "power_limit_w", value=-1), 1, "power_limit_w"),
    ],
)
def test_what_makes_no_sense_is_refused_with_file_line_and_field(
    tmp_path: Path, change: Callable[[Lines], object], line: int, words: str
) -> None:
    lines = lines_of()
    change(lines)
    with pytest.raises(UsageError) as refused:
        read_record(write(tmp_path, lines))
    message = str(refused.value)
    assert f"{tmp_path / FILE_NAME}" in message and f"line {line}" in message and words in message
    assert len(message.splitlines()) == 1 and len(message) < 600


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "-1e400"])
def test_numbers_that_are_none_are_refused_wherever_they_stand(tmp_path: Path, number: str) -> None:
    lines = lines_of()
    for place in ((1, "launch_s"), (1, "config", "share"), (0, "device", "power_limit_w"), (*WINDOW, "duration_s")):
        changed = copy.deepcopy(lines)
        put(*place, value="HERE")(changed)
        text = "".join(json.dumps(line) + "\n" for line in changed).replace('"HERE"', number)
        (tmp_path / FILE_NAME).write_text(text)
        with pytest.raises(UsageError, match=f"line {int(place[0]) + 1}"):
            read_record(tmp_path)


def test_windows_of_one_launch_run_the_same_job(tmp_path: Path) -> None:
    lines = lines_of()
    windows = lines[2]["outcome"]["windows"]
    windows.append({**windows[0], "n_requests": 9})
    with pytest.raises(UsageError, match=r"line 3 .*outcome.windows"):
        read_record(write(tmp_path, lines))


@pytest.mark.parametrize(
    ("command", "phase"), [("tune", "final"), ("landscape", "grid"), ("bench", "bench"), ("gate", "new")]
)
def test_each_command_has_its_phases(tmp_path: Path, command: str, phase: str) -> None:
    assert len(read_record(write(tmp_path, lines_of(command, phase))).trials) == 2


def test_a_gate_may_have_knobs_of_another_version_on_its_base_side(tmp_path: Path) -> None:
    lines = lines_of("gate", "base")
    lines[1]["config"]["of_an_older_engine"] = 7
    assert len(read_record(write(tmp_path, lines)).trials) == 2
    lines[1]["config"]["of_an_older_engine"] = 2**70
    with pytest.raises(UsageError, match="line 2"):
        read_record(write(tmp_path, lines))


def test_a_time_without_an_offset_is_read(tmp_path: Path) -> None:
    lines = lines_of()
    lines[1]["started_at"] = "2025-01-02T03:04:05"
    assert read_record(write(tmp_path, lines)).trials[0].started_at == "2025-01-02T03:04:05"


def test_options_that_this_version_does_not_know_are_left_alone(tmp_path: Path) -> None:
    lines = lines_of()
    lines[0]["request"]["of_a_later_version"] = {"a": [1]}
    assert read_record(write(tmp_path, lines)).header.request["of_a_later_version"] == {"a": [1]}


@pytest.mark.parametrize("name", ["example-hf-tiny", "example-landscape-hf-tiny", "example-vllm-tiny"])
def test_runs_that_were_recorded_before_are_read(name: str) -> None:
    record = read_record(ROOT / "reports" / name)
    assert record.ending and len(record.trials) > 10 and not record.warnings


def test_two_thousand_trials_are_checked_in_a_small_part_of_the_time_that_parsing_takes(tmp_path: Path) -> None:
    lines = lines_of()
    trials = [{**lines[1], "number": number} for number in range(2000)]
    for row in trials:
        row["outcome"] = copy.deepcopy(row["outcome"])
        row["outcome"]["windows"][0].update(n_requests=100, latency_s=[1.5] * 100, ttft_s=[0.5] * 100)
    started = time.process_time()
    assert len(read_record(write(tmp_path, [lines[0], *trials])).trials) == 2000
    assert time.process_time() - started < 3.0
