"""What a gate refuses: profiles of something else, tampered ones, wrong flags, sides that cannot be measured."""

import json
import os
from xml.etree import ElementTree

import pytest

from tests.cli.test_cli import CONTROL, Shell, contents
from tests.e2e.gates import edited, last_line, profile

MISMATCHES = {
    "device": ({"fingerprint__device__name": "NVIDIA H100 80GB HBM3"}, "device was NVIDIA H100 80GB HBM3"),
    "kind": ({"fingerprint__device__kind": "gpu"}, "device kind was gpu and is now cpu"),
    "count": ({"fingerprint__device__count": 8}, "number of GPUs was 8 and is now 1"),
    "memory": ({"fingerprint__device__memory_bytes": 1024}, "memory was 1.0 KiB"),
    "cores": ({"fingerprint__device__cores": 4096}, "number of cores was 4096"),
    "driver": ({"fingerprint__device__driver": "999.1"}, "driver was 999.1 and is now unknown"),
    "power limit": ({"fingerprint__device__power_limit_w": 700.0}, "power limit was 700 W"),
    "engine version": ({"fingerprint__engine_version": "0.9"}, "engine version was 0.9 and is now 1; compare the two"),
    "workload": ({"fingerprint__workload__content_hash": "beef"}, "workload was"),
    "several": (
        {"fingerprint__device__name": "A", "fingerprint__device__driver": "9"},
        "device was A and is now",
    ),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_a_profile_of_something_else_is_refused_with_4_and_nothing_runs(shell: Shell, case: str) -> None:
    changes, words = MISMATCHES[case]
    edited(profile(shell.folder), **changes)
    before = contents(shell.folder)
    answer = shell("gate", "p.yaml", "--mode", "stored")
    assert answer.code == 4 and answer.out == ""
    assert (
        len(answer.errors.splitlines()) == 1 and words in answer.errors and "p.yaml does not hold here" in answer.errors
    )
    assert contents(shell.folder) == before


def test_another_engine_or_workload_by_flag_is_a_mismatch(shell: Shell) -> None:
    path = str(profile(shell.folder))
    answer = shell("gate", path, "--engine", "replay")
    assert answer.code == 4 and "is of engine fake" in answer.errors
    answer = shell("gate", path, "--workload", "synthetic:in=8,out=8")
    assert answer.code == 4 and "workload was synthetic:in=32-128,out=32" in answer.errors
    other = profile(shell.folder, "other.yaml", workload="synthetic:in=8,out=8")
    answer = shell("gate", path, "--against", str(other))
    assert answer.code == 4 and "other.yaml does not hold here: workload was" in answer.errors


BAD_PROFILES: dict[str, tuple[dict[str, object], str]] = {
    "of the future": ({"schema_version": 2}, "has schema version 2, this infertune reads 1: upgrade infertune"),
    "unknown field": ({"run_this": "rm"}, "run_this"),
    "unknown knob": ({"config__evil": 1, "changed__evil": 1}, "sets evil, which fake 1 does not have"),
    "word for a number": ({"config__max_num_seqs": "$(reboot)"}, "max_num_seqs=$(reboot) is not a number"),
    "out of range": ({"config__max_num_seqs": 10**9}, "max_num_seqs=1000000000 is out of range 4 to 4096"),
    "together": ({"config__max_num_seqs": 512, "config__max_num_batched_tokens": 256}, "cannot be together"),
    "no engine": ({"fingerprint__engine": "evil"}, "unknown engine 'evil'"),
    "a file elsewhere": (
        {"fingerprint__workload__spec": "jsonl:/dev/zero"},
        "the workload's file /dev/zero is not here",
    ),
    "control characters": ({"config__max_num_seqs": "\x1b[2J\x07"}, "is not a number"),
    "a long name": ({"fingerprint__workload__spec": "jsonl:" + "x" * 9999}, "is not here"),
    "no workload": ({"fingerprint__workload__spec": "nonsense"}, "the workload's file"),
}


@pytest.mark.parametrize("case", BAD_PROFILES)
def test_a_tampered_profile_is_refused_in_one_line_and_nothing_runs(shell: Shell, case: str) -> None:
    changes, words = BAD_PROFILES[case]
    edited(profile(shell.folder), **changes)
    before = contents(shell.folder)
    answer = shell("gate", "p.yaml")
    assert answer.code in (2, 4) and answer.out == ""
    assert len(answer.errors.splitlines()) == 1 and words in answer.errors
    assert not CONTROL.search(answer.errors[:-1]) and len(answer.errors) < 500
    assert contents(shell.folder) == before


def test_python_tags_in_a_profile_are_not_run(shell: Shell) -> None:
    (shell.folder / "p.yaml").write_text("!!python/object/apply:os.system ['touch pwned']\n")
    answer = shell("gate", "p.yaml")
    assert answer.code == 2 and list(shell.folder.iterdir()) == [shell.folder / "p.yaml"]


BAD_FLAGS = {
    "missing profile": (["no.yaml"], "cannot read profile no.yaml"),
    "margin": (["p.yaml", "--margin", "5"], "write it like 5% or 0.05"),
    "margin of nothing": (["p.yaml", "--margin", "0%"], "not over 0% and under 100%"),
    "mode": (["p.yaml", "--mode", "fast"], "--mode fast"),
    "metric": (["p.yaml", "--metric", "speed"], "--metric speed: there is no such figure"),
    "metric of a server": (
        ["p.yaml", "--metric", "attainment"],
        "--metric attainment is of a server's load; p.yaml is of",
    ),
    "on inconclusive": (["p.yaml", "--on-inconclusive", "maybe"], "--on-inconclusive maybe"),
    "stored with a base": (["p.yaml", "--mode", "stored", "--against", "default"], "--against names a base"),
    "stored with a margin": (["p.yaml", "--mode", "stored", "--margin", "5%"], "--margin is for pairs"),
    "stored calibration": (["p.yaml", "--mode", "stored", "--calibrate"], "leave out --mode stored"),
    "pairs with a history": (["p.yaml", "--history", "h"], "--history is for --mode stored"),
    "base that is no profile": (["p.yaml", "--against", "nothing"], "cannot read profile nothing"),
    "baseline python": (["p.yaml", "--baseline-python", "/no/python"], "/no/python is no executable"),
    "baseline setting": (["p.yaml", "--baseline-set", "nope=1"], "--baseline-set: unknown knob 'nope'"),
    "baseline value": (["p.yaml", "--baseline-set", "max_num_seqs=x"], "--baseline-set: max_num_seqs=x is not"),
    "junit": (["p.yaml", "--junit", "p.yaml/j.xml"], "cannot write --junit"),
    "model": (["p.yaml", "--model", "builtin:tiny"], "takes no MODEL"),
    "history": (["p.yaml", "--mode", "stored", "--history", "p.yaml"], "cannot write p.yaml"),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_a_bad_flag_is_one_line_with_the_cure(shell: Shell, case: str) -> None:
    flags, words = BAD_FLAGS[case]
    profile(shell.folder)
    answer = shell("gate", *flags)
    assert answer.code == 2, answer
    assert answer.out == "" and words in last_line(answer.errors) and "Traceback" not in answer.errors


def test_a_metric_that_shows_to_be_unknown_ends_the_gate_after_one_launch(shell: Shell) -> None:
    profile(shell.folder)
    answer = shell("gate", "p.yaml", "--metric", "ttft_p50_s", "--out", "run")
    assert answer.code == 5 and "--metric ttft_p50_s cannot be measured here" in last_line(answer.errors)
    launched = [line for line in (shell.folder / "run" / "trials.jsonl").read_text().splitlines() if '"phase"' in line]
    assert len(launched) == 1


def test_a_link_in_the_place_of_a_draft_or_a_junit_file_is_not_written_through(shell: Shell) -> None:
    path = profile(shell.folder)
    (shell.folder / "precious").write_text("kept")
    (shell.folder / ".j.xml.draft").symlink_to("precious")
    (shell.folder / "run").mkdir()
    (shell.folder / "run" / ".gate.json.draft").symlink_to("../precious")
    shell("gate", str(path), "--junit", "j.xml", "--out", "run", "--seed", "1")
    assert (shell.folder / "precious").read_text() == "kept"
    assert ElementTree.parse(shell.folder / "j.xml") and json.loads((shell.folder / "run" / "gate.json").read_text())
    os.mkfifo(shell.folder / "pipe.xml")
    answer = shell("gate", str(path), "--junit", "pipe.xml")
    assert answer.code == 2 and "cannot write --junit pipe.xml: it is no regular file" in answer.errors


def test_a_history_that_was_tampered_with_is_refused(shell: Shell) -> None:
    path = profile(shell.folder)
    (shell.folder / "p.gate").mkdir()
    (shell.folder / "p.gate" / "x.json").write_text('{"schema_version": 2}')
    answer = shell("gate", str(path), "--mode", "stored")
    assert answer.code == 2 and "x.json is no stored run" in answer.errors


def test_a_side_that_cannot_be_measured_ends_with_5_and_says_so_in_the_junit_file(shell: Shell) -> None:
    (shell.folder / "t.csv").write_text("slots,output_tokens_per_s,status\n1,100,ok\n2,,oom\n")
    path = profile(shell.folder, engine="replay", table=shell.folder / "t.csv")
    edited(path, config__slots=2, changed__slots=2)
    answer = shell("gate", str(path), "--table", "t.csv", "--junit", "out/j.xml")
    assert answer.code == 5 and answer.out == ""
    assert "profile could not be measured: out of memory" in last_line(answer.errors)
    [case] = ElementTree.parse(shell.folder / "out" / "j.xml").getroot()[0]
    [error] = case
    assert error.tag == "error" and error.get("type") == "BenchmarkError"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--baseline-python", "/nope"], "infertune: --baseline-python /nope is no executable interpreter"),
        (["--baseline-binary", "/nope"], "infertune: --baseline-binary /nope is no executable program"),
        (["--engine-python", "/nope"], "infertune: --engine-python /nope is no executable interpreter"),
        (["--baseline-model", "nope"], "the base, as --baseline-model has it: engine fake takes no MODEL"),
        (["--target", "nope", "--mode", "stored"], "the target 'nope' is no URL of a server; write http://HOST:PORT"),
    ],
)
def test_a_message_names_the_flag_that_was_given(shell: Shell, flags: list[str], words: str) -> None:
    answer = shell("gate", str(profile(shell.folder)), *flags)
    assert answer.code == 2 and words in answer.errors and len(answer.errors.splitlines()) == 1
