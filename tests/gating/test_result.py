"""A gate's document: directions, exit codes, and which earlier runs count."""

import json
import math
import os
from pathlib import Path

import pytest

from infertune.domain.knobs import Config
from infertune.errors import UsageError
from infertune.gating.comparison import RATE
from infertune.gating.history import read_history
from infertune.gating.result import StoredRun, comparable, exit_code, gain, paired_metrics, save_json
from infertune.gating.verdict import judge_pairs
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


def test_more_throughput_is_a_gain_and_more_of_anything_else_a_loss() -> None:
    assert gain(RATE, 110, 100) == pytest.approx(math.log(1.1))
    assert gain("j_per_output_token", 110, 100) == pytest.approx(-math.log(1.1))
    assert gain("latency_p99_s", 0.5) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("answer", "wish", "code"),
    [
        ("pass", None, 0),
        ("regression", None, 1),
        ("inconclusive", None, 3),
        (None, None, 0),
        ("inconclusive", "pass", 0),
        ("inconclusive", "fail", 1),
        ("regression", "pass", 1),
        ("pass", "fail", 0),
    ],
)
def test_exit_codes(answer: str, wish: str, code: int) -> None:
    assert exit_code(answer, wish) == code  # type: ignore[arg-type]


def test_the_limit_of_a_metric_is_on_the_side_that_is_worse() -> None:
    base = {RATE: [100.0] * 4, "latency_p50_s": [1.0] * 4, "power_w": [50.0] * 4}
    new = {RATE: [101.0] * 4, "latency_p50_s": [1.2] * 4, "power_w": [50.0] * 4}
    gains = {n: [gain(n, a, b) for a, b in zip(new[n], base[n], strict=True)] for n in (RATE, "latency_p50_s")}
    rate, latency, power = paired_metrics(base, new, judge_pairs(gains, 0.05), 0.05)
    assert (rate.name, rate.answer, rate.limit) == (RATE, "pass", 0.95)
    assert (latency.answer, latency.limit, latency.ratio) == ("regression", pytest.approx(1 / 0.95), pytest.approx(1.2))
    assert (power.name, power.gated, power.answer, power.limit) == ("power_w", False, None, None)


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


def test_a_share_of_0_is_judged_and_shown_as_it_is() -> None:
    judgement = judge_pairs({"attainment": [gain("attainment", 0.99, 0.0)] * 4}, 0.05)
    (metric,) = paired_metrics({"attainment": [0.0] * 4}, {"attainment": [0.99] * 4}, judgement, 0.05)
    assert (metric.answer, metric.ratio, metric.base_samples) == ("pass", None, (0.0,) * 4)
    judgement = judge_pairs({"attainment": [gain("attainment", 0.0, 0.99)] * 4}, 0.05)
    assert judgement.answer == "regression"
    assert gain("attainment", 0.0, 0.0) == 0.0
