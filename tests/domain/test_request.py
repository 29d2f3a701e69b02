"""Flags, files of flags, and requests that are refused before anything is touched."""

import json
from pathlib import Path
from typing import Any

import pytest

from infertune.domain.request import JobRequest, TuneRequest, make_request
from infertune.errors import UsageError


def file_of(folder: Path, text: str) -> Path:
    path = folder / "flags.yaml"
    path.write_text(text)
    return path


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = file_of(tmp_path, "trials: 20\nseed: 7\n")
    request = make_request(TuneRequest, {"trials": 5, "seed": None, "engine": None}, path)
    assert (request.trials, request.seed, request.patience) == (5, 7, 12)


def test_a_flag_of_zero_counts_as_given(tmp_path: Path) -> None:
    assert make_request(TuneRequest, {"seed": 0}, file_of(tmp_path, "seed: 7")).seed == 0


def test_names_in_a_file_may_have_dashes_as_on_the_command_line(tmp_path: Path) -> None:
    assert make_request(TuneRequest, {}, file_of(tmp_path, "confirm-launches: 3")).confirm_launches == 3


def test_flags_and_files_write_settings_each_in_their_way(tmp_path: Path) -> None:
    typed = make_request(JobRequest, {"set": ["a=1", "b=x=y", "c=true"], "knob": ["n=1,2.5,auto"]})
    filed = make_request(JobRequest, {}, file_of(tmp_path, "set: {a: 1, b: x=y, c: true}\nknob: {n: [1, 2.5, auto]}"))
    assert typed == filed
    assert typed.set == {"a": 1, "b": "x=y", "c": True}
    assert typed.knob == {"n": (1, 2.5, "auto")}


def test_durations_may_be_written_with_units_or_as_seconds(tmp_path: Path) -> None:
    request = make_request(TuneRequest, {"budget": "1h30m", "window": "10s"}, file_of(tmp_path, "load_timeout: 90"))
    assert (request.budget, request.window, request.load_timeout) == (5400, 10, 90)


def test_a_number_in_a_file_counts_as_the_text_that_a_flag_takes(tmp_path: Path) -> None:
    text = "workers: 4\nignore: [7]\nout: 20261128\nbudget: 900\nwindow: 5\nattain: 0.95\nmin_agreement: 0.9\n"
    typed = {"workers": "4", "ignore": ["7"], "out": "20261128", "budget": "900", "window": "5"}
    filed = make_request(TuneRequest, {}, file_of(tmp_path, text))
    assert filed == make_request(TuneRequest, {**typed, "attain": "0.95", "min_agreement": "0.9"})
    assert filed.workers == "4" and filed.out == Path("20261128")
    assert make_request(TuneRequest, {"workers": 4}).workers == "4"
    values = {"n": 4, "share": 0.5, "on": True}
    assert make_request(TuneRequest, {"set": values}).set == values


def test_a_request_is_read_back_from_what_a_ledger_keeps_of_it() -> None:
    request = make_request(TuneRequest, {"set": ["a=1"], "knob": ["n=1,2"], "budget": "20m", "out": Path("x")})
    kept = request.model_dump(mode="json", exclude_defaults=True)
    assert make_request(TuneRequest, kept) == request


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert make_request(TuneRequest, {}, file_of(tmp_path, "# nothing yet\n")) == TuneRequest()


@pytest.mark.parametrize(
    ("flags", "cure"),
    [
        ({"trials": 0}, "--trials 0: input should be greater than or equal to 1"),
        ({"window": "soon"}, "write it like 90s, 20m or 1h30m"),
        ({"window": "0s"}, "--window 0"),
        ({"budget": "-5m"}, "--budget -5m"),
        ({"set": ["slots"]}, "is not like NAME=VALUE"),
        ({"set": ["=5"]}, "is not like NAME=VALUE"),
        ({"set": ["slots="]}, "is not like NAME=VALUE"),
        ({"final_launches": (1, 5)}, "--final-launches: needs at least 2 pairs"),
        ({"final_launches": (5, 4)}, "must not be below the least"),
        ({"weights": "none"}, "--weights none"),
        ({"seed": "x"}, "--seed x"),
        ({"price_per_hour": 1e300}, "--price-per-hour 1e+300"),
        ({"price_per_kwh": float("inf")}, "--price-per-kwh inf"),
        ({"price_per_hour": float("nan")}, "--price-per-hour nan: must be a number from 0 to 1,000,000,000,000"),
        ({"carbon_intensity": -1}, "--carbon-intensity -1: must be a number from 0 to 1,000,000"),
        ({"price_per_hour": -1}, "--price-per-hour -1"),
        ({"carbon_intensity": 1e400}, "--carbon-intensity inf"),
        ({"window": "9" * 400}, "…: must be over 0 and at most 277h (1,000,000 seconds)"),
        ({"window": float("inf")}, "--window inf"),
        ({"budget": "99999999h"}, "--budget 99999999h: must be over 0 and at most 277h (1,000,000 seconds)"),
        ({"knob": {"slots": 8}}, "--knob 8: must be a list, such as [8, 16]"),
        ({"set": 8}, "--set 8: must be a mapping of names to values, such as {name: value}"),
        ({"load_timeout": 1e9}, "--load-timeout 1000000000.0"),
        ({"run_timeout": float("nan")}, "--run-timeout nan"),
        ({"trials": 10**400}, "--trials"),
        ({"patience": 2**31}, "--patience 2147483648"),
        ({"finalists": 10**9}, "--finalists"),
        ({"final_launches": (2, 10**9)}, "--final-launches"),
        ({"seed": 2**63}, "--seed"),
        ({"set": [f"slots={10**400}"]}, "'slots' is a number of more than 64 bits"),
        ({"set": {"slots": float("nan")}}, "finite number"),
        ({"knob": {"slots": [1, float("inf")]}}, "finite number"),
        ({"engine_python": Path("a\0b")}, "--engine-python a\0b: it holds a NUL character"),
        ({"model": "a\0b"}, "it holds a NUL character"),
        ({"out": "a\0b"}, "NUL"),
        ({"from": ["a\0b"]}, "NUL"),
        ({"workload": "jsonl:\udcff"}, "it is not UTF-8 text"),
        ({"set": ["a=\udcff"]}, "it is not UTF-8 text"),
        ({"out": Path("x" * 300)}, "a name in it has more than 255 bytes"),
        ({"profiles": Path("x/" * 3000)}, "it has more than 4,095 bytes"),
        ({"model": ""}, "it is empty; leave it out or give it a value"),
        ({"country": ""}, "it is empty"),
        ({"budget": True}, "--budget true: it cannot be true or false"),
        ({"trials": True}, "--trials true: it cannot be true or false"),
        ({"seed": False}, "--seed false: it cannot be true or false"),
        ({"window": True}, "--window true: it cannot be true or false"),
        ({"price_per_hour": True}, "--price-per-hour true: it cannot be true or false"),
        ({"final_launches": [True, 5]}, "--final-launches: it cannot be true or false"),
    ],
)
def test_an_impossible_value_is_refused_by_its_flag(flags: dict[str, Any], cure: str) -> None:
    with pytest.raises(UsageError) as refused:
        make_request(TuneRequest, flags)
    assert cure in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


@pytest.mark.parametrize("field", ["out", "table", "profiles", "engine_python"])
@pytest.mark.parametrize("text", ["a\0b", "x" * 256, "\ud800"])
def test_no_path_of_a_file_can_be_one_that_the_system_refuses(tmp_path: Path, field: str, text: str) -> None:
    with pytest.raises(UsageError) as refused:
        make_request(TuneRequest, {}, file_of(tmp_path, f"{field}: {json.dumps(text)}\n"))
    assert "NUL" in str(refused.value) or "255 bytes" in str(refused.value) or "half of a" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("trails: 20", "there is no option 'trails'"),
        ("- trials", "must hold names and values, such as `trials: 20`"),
        ("trials", "must hold names and values"),
        ("a: [", "is not YAML"),
        ("x: !!python/name:os.system", "is not YAML"),
        ("x: 2024-13-45", "is not YAML"),
        ('x: !!int ""', "is not YAML"),
        ("seed: 0x" + "f" * 3500, "--seed"),
        ("requests: 2000000000", "--requests 2000000000: input should be less than or equal to 1000000"),
        ("trials: many", "--trials many"),
        ("trials: true", "--trials true: it cannot be true or false"),
        ("workers: true", "--workers true: it cannot be true or false"),
        ("budget: yes", "--budget true: it cannot be true or false"),
        ("set: [1, 2]", "is not like NAME=VALUE"),
        ("set: &a [x=1]\nknob: *a\n", "line 2: aliases are not allowed"),
        ("- " * 20_000, "is not YAML"),
        ("trials: 2\ntrials: 3\n", "line 2: 'trials' stands twice"),
        ("#" * 70_000, "too large to be a --config"),
        ("price_per_hour: 1.0e+400", "--price-per-hour inf"),
        ('engine_python: "a\\0b"', "--engine-python a\0b: it holds a NUL"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(UsageError) as refused:
        make_request(TuneRequest, {}, file_of(tmp_path, text))
    assert fault in str(refused.value)
    assert "\n" not in str(refused.value)


def test_true_and_false_are_taken_where_they_mean_something(tmp_path: Path) -> None:
    request = make_request(TuneRequest, {}, file_of(tmp_path, "wait: true\nset: {c: true}\nknob: {d: [true, false]}\n"))
    assert (request.wait, request.set, request.knob) == (True, {"c": True}, {"d": (True, False)})


def test_an_unknown_option_from_python_is_named_without_a_file() -> None:
    with pytest.raises(UsageError, match=r"^there is no option 'trails'$"):
        make_request(TuneRequest, {"trails": 5})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read --config"):
        make_request(TuneRequest, {}, tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("flags", "objective"),
    [
        ({"slo": ["ttft_s<0.5"]}, "goodput"),
        ({"slo": ["j_per_output_token<1", "tpot_s < 0.05"]}, "goodput"),
        ({"slo": ["ttft_s<0.5"], "objective": "goodput-per-joule"}, "goodput-per-joule"),
        ({"slo": ["ttft_p99_s<2"]}, "throughput"),
        ({"slo": ["ttft_s<0.5"], "objective": "throughput"}, "throughput"),
        ({}, "throughput"),
    ],
)
def test_limits_on_every_request_ask_for_goodput(flags: dict[str, Any], objective: str) -> None:
    assert make_request(TuneRequest, flags).objective == objective
