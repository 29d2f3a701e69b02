"""Whole gates from the command line: every exit code, every output, and what is refused before anything runs."""

import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
import yaml
from rich.console import Console

import infertune
import infertune.engines.fake
from infertune.energy import Reading
from infertune.ledger import Ledger
from infertune.measurement import Energy
from infertune.profile import Profile
from infertune.sides import RATE
from infertune.terminal import TerminalObserver
from tests.test_cli import CONTROL, Shell, contents

_TUNED: dict[str, Profile] = {}


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """A shell in an empty folder, outside GitHub, with locks of its own."""
    (tmp_path / "work").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    before = signal.getsignal(signal.SIGTERM)
    yield Shell(tmp_path / "work", monkeypatch, capsys)
    signal.signal(signal.SIGTERM, before)


def profile(folder: Path, name: str = "p.yaml", **options: object) -> Path:
    """A profile of one configuration, in the working folder; the same options are tuned once only."""
    key = repr(sorted(options.items()))
    if key not in _TUNED:
        with tempfile.TemporaryDirectory() as place:
            places = {"out": Path(place) / "run", "profiles": Path(place) / "profiles"}
            given = {"engine": "fake", "trials": 1, "requests": 16, **places, **options}
            _TUNED[key] = infertune.tune(**given).profile  # type: ignore[arg-type]
    return _TUNED[key].save(folder / name)


def edited(path: Path, **changes: object) -> Path:
    """The same profile, some fields changed by hand; `a__b` is the field b in a."""
    document = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        *outer, last = name.split("__")
        place = document
        for part in outer:
            place = place[part]
        place[last] = value
    path.write_text(yaml.safe_dump(document))
    return path


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_a_profile_that_is_as_fast_as_before_passes_with_0(shell: Shell) -> None:
    answer = shell("gate", str(profile(shell.folder, set={"compiled": True})), "--seed", "1")
    assert answer.code == 0
    assert last_line(answer.out).startswith("PASS: throughput +")
    assert "against default" in last_line(answer.out) and "95% interval" in last_line(answer.out)
    [run] = (shell.folder / "reports").iterdir()
    ledger = Ledger.open(run)
    assert ledger.header.command == "gate" and ledger.ending == "pass"
    sides = [trial.phase for trial in ledger.trials]
    assert sides.count("base") == sides.count("new") == 4
    assert not any(trial.live for trial in ledger.trials)
    launches = [trial.launch_number for trial in ledger.trials]
    assert launches == list(range(len(launches))), "every measurement is of a launch of its own"


def test_a_slower_configuration_is_a_regression_with_1(shell: Shell) -> None:
    path = profile(shell.folder, set={"compiled": True})
    answer = shell("gate", str(profile(shell.folder, "slow.yaml")), "--against", str(path), "--seed", "1")
    assert answer.code == 1
    assert last_line(answer.out).startswith("REGRESSION: throughput -1")


def test_a_gate_against_itself_passes_with_any_seed(shell: Shell) -> None:
    path = str(profile(shell.folder))
    for seed in range(10):
        answer = shell("gate", path, "--against", path, "--seed", str(seed), "--json", "--out", f"run-{seed}")
        assert answer.code in (0, 3) and json.loads(answer.out)["answer"] != "regression"


def noisy_profile(folder: Path) -> tuple[Path, list[str]]:
    """A profile of a recorded table whose launches differ by a factor of two."""
    rows = [f"{slots},{rate}" for slots in (1, 2) for rate in (60, 80, 100, 130)]
    (folder / "t.csv").write_text("slots,output_tokens_per_s\n" + "\n".join(rows) + "\n")
    table = ["--table", str(folder / "t.csv"), "--seed", "3"]
    return profile(folder, engine="replay", table=folder / "t.csv", set={"slots": 2}), table


@pytest.mark.parametrize(
    ("flags", "code"), [([], 3), (["--on-inconclusive", "pass"], 0), (["--on-inconclusive", "fail"], 1)]
)
def test_no_verdict_is_3_or_what_the_user_makes_of_it(shell: Shell, flags: list[str], code: int) -> None:
    path, table = noisy_profile(shell.folder)
    answer = shell("gate", str(path), *table, *flags, "--json", "--junit", "j.xml")
    assert answer.code == code
    found = json.loads(answer.out)
    assert found["answer"] == "inconclusive" and found["exit_code"] == code and found["pairs"] == 12
    suite = ElementTree.parse(shell.folder / "j.xml").getroot()[0]
    assert suite.get("failures") == str(int(code == 1)) and suite.get("skipped") == str(int(code != 1))


def test_json_is_one_versioned_document_with_raw_samples(shell: Shell) -> None:
    path = profile(shell.folder, set={"compiled": True})
    answer = shell("gate", str(path), "--json", "--out", "run", "--metric", "output_tokens_per_s")
    found = json.loads(answer.out)
    assert answer.out.count("\n") == 1 and found["schema_version"] == 1
    rate = found["metrics"][0]
    assert rate["name"] == "output_tokens_per_s" and rate["gated"] and rate["answer"] == "pass"
    assert len(rate["base_samples"]) == len(rate["new_samples"]) == found["pairs"] == 4
    assert rate["ratio_low"] < rate["ratio"] < rate["ratio_high"] and rate["limit"] == 0.95
    beside = {metric["name"] for metric in found["metrics"] if not metric["gated"]}
    assert {"j_per_output_token", "latency_p50_s", "latency_p99_s"} <= beside
    assert found["new"]["changed"] == {"compiled": True} and found["base"]["changed"] == {}
    assert json.loads((shell.folder / "run" / "gate.json").read_text()) == found


def test_a_tuned_profile_is_asked_whether_its_promise_holds(shell: Shell) -> None:
    options = {"trials": 8, "finalists": 1, "final_launches": (3, 3), "knob": {"compiled": (False, True)}}
    path = profile(shell.folder, **options)
    promised = infertune.load_profile(path).gain
    assert promised is not None and promised[0] > 1.1
    answer = shell("gate", str(path), "--json", "--seed", "1")
    assert json.loads(answer.out)["stored_gain"]["holds"] is True
    edited(path, gain=[2.0, 1.9, 2.1])
    answer = shell("gate", str(path), "--seed", "1")
    assert answer.code == 0, "it is still better than the default"
    assert "the profile promises +100.0%" in answer.out and "today it is less" in answer.out


def test_several_metrics_are_all_gated_and_energy_is_where_it_was_tuned_for(shell: Shell) -> None:
    path = profile(shell.folder, set={"compiled": True})
    flags = ["--metric", "output_tokens_per_s", "--metric", "j_per_output_token", "--seed", "1"]
    answer = shell("gate", str(path), *flags, "--junit", "j.xml")
    assert answer.code == 1, "compiled is faster, but takes more energy a token"
    assert "REGRESSION: j_per_output_token" in last_line(answer.out)
    cases = ElementTree.parse(shell.folder / "j.xml").getroot()[0]
    assert [(case.get("name"), case.find("failure") is not None) for case in cases] == [
        ("output_tokens_per_s", False),
        ("j_per_output_token", True),
    ]
    edited(path, objective="energy")
    found = json.loads(shell("gate", str(path), "--json", "--seed", "1").out)
    assert [metric["name"] for metric in found["metrics"] if metric["gated"]] == ["j_per_output_token"]
    assert any("tuned for energy" in note for note in found["notes"])


def test_the_base_may_have_other_settings(shell: Shell) -> None:
    path = str(profile(shell.folder))
    answer = shell("gate", path, "--against", path, "--baseline-set", "max_num_seqs=256", "--seed", "1")
    assert answer.code == 1 and "max_num_seqs=256" in last_line(answer.out)
    answer = shell("gate", path, "--baseline-set", "max_num_seqs=4", "--seed", "1")
    assert answer.code == 0 and "against default with max_num_seqs=4" in last_line(answer.out)


def test_a_setting_that_is_measured_but_not_exported_is_said(shell: Shell) -> None:
    path = edited(profile(shell.folder), config__compiled=True)
    note = "compiled: measured as config has it, but changed does not name it: exports leave it out"
    found = json.loads(shell("gate", str(path), "--json", "--seed", "1").out)
    assert note in found["notes"] and found["new"]["changed"] == {"compiled": True}


def test_a_setting_of_another_version_is_left_out_if_it_changed_nothing(shell: Shell) -> None:
    path = edited(profile(shell.folder), config__gone=None)
    found = json.loads(shell("gate", str(path), "--json", "--seed", "1").out)
    assert "gone" not in found["new"]["config"]
    assert "gone: left out, fake 1 does not have it" in found["notes"]
    assert any("both sides are the same" in note for note in found["notes"])


def test_two_interpreters_are_two_benches_over_one_ledger(shell: Shell) -> None:
    path = profile(shell.folder, set={"compiled": True})
    answer = shell("gate", str(path), "--baseline-python", sys.executable, "--out", "run", "--seed", "1")
    assert answer.code == 0 and "against fake 1 (" in last_line(answer.out), "the same settings on both sides"
    trials = Ledger.open(shell.folder / "run").trials
    assert [trial.launch_number for trial in trials] == list(range(len(trials)))
    assert len({trial.config for trial in trials}) == 1
    edited(path, fingerprint__engine_version="0.9")
    answer = shell("gate", str(path), "--baseline-python", sys.executable, "--seed", "1")
    assert answer.code == 0, "the engine is what is compared"


def test_a_workload_of_a_file_must_be_there_with_the_same_content(shell: Shell) -> None:
    lines = "".join(json.dumps({"prompt": f"prompt {n}"}) + "\n" for n in range(200))
    file = shell.folder / "w.jsonl"
    file.write_text(lines)
    path = str(profile(shell.folder, workload="jsonl:w.jsonl,out=8", requests=20))
    assert shell("gate", path, "--seed", "1").code == 0
    file.rename(shell.folder / "moved.jsonl")
    answer = shell("gate", path)
    assert answer.code == 2 and "the workload's file w.jsonl is not here; say where with --workload jsonl:FILE" in (
        answer.errors
    )
    assert shell("gate", path, "--workload", "jsonl:moved.jsonl,out=8", "--seed", "1").code == 0
    (shell.folder / "moved.jsonl").write_text(lines + '{"prompt": "another"}\n')
    answer = shell("gate", path, "--workload", "jsonl:moved.jsonl,out=8")
    assert answer.code == 4 and "workload was jsonl:w.jsonl,out=8 (" in answer.errors


def test_a_calibration_says_what_can_be_seen_here(shell: Shell) -> None:
    answer = shell("gate", str(profile(shell.folder)), "--calibrate", "--json", "--seed", "1")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert found["answer"] is None and found["pairs"] == 12
    assert found["calibration"]["cv"] == pytest.approx(0.013, rel=0.5), "the simulation's noise a launch"
    assert found["calibration"]["pairs_needed"] in (4, 6)
    assert 0.01 < found["calibration"]["smallest_margin"] < found["calibration"]["smallest_drop"] < 0.12
    answer = shell("gate", str(shell.folder / "p.yaml"), "--calibrate", "--junit", "j.xml", "--seed", "1")
    assert "run-to-run CV 1." in answer.out and last_line(answer.out).startswith("CALIBRATED")


def test_stored_runs_give_a_verdict_from_the_ninth_on(shell: Shell) -> None:
    path = str(profile(shell.folder))
    for number in range(8):
        answer = shell("gate", path, "--mode", "stored", "--out", f"run-{number}")
        assert answer.code == 3 and f"{number} of the 8 earlier runs" in answer.out
    assert len(list((shell.folder / "p.gate").glob("*.json"))) == 8
    answer = shell("gate", path, "--mode", "stored", "--json", "--out", "run-8")
    found = json.loads(answer.out)
    assert answer.code == 0 and len(found["metrics"][0]["base_samples"]) == 8
    assert any("all earlier runs are of one day" in note for note in found["notes"])


def energy_of_launches(monkeypatch: pytest.MonkeyPatch, *kinds: Energy) -> None:
    """Let the simulated meter read these in turn, again and again."""
    turn = itertools.cycle(kinds)
    meter = infertune.engines.fake._SimulatedMeter
    monkeypatch.setattr(meter, "end", lambda self: Reading(next(turn)))


GPU_ENERGY = Energy(gpu_j=100.0, gpu_source="measured", gpu_method="counter")
CPU_ENERGY = Energy(cpu_j=90.0, ram_j=10.0, cpu_source="modelled", ram_source="modelled")


def test_joules_of_a_gpu_and_of_a_processor_are_not_compared(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(profile(shell.folder))
    energy_of_launches(monkeypatch, GPU_ENERGY, CPU_ENERGY)
    found = json.loads(shell("gate", path, "--json", "--seed", "1").out)
    rate, joules, power = found["metrics"][:3]
    reason = "energy is of GPU, measured by its counter here, of CPU, modelled and memory, modelled there"
    assert found["answer"] == "pass" and rate["answer"] == "pass" and joules["name"] == "j_per_output_token"
    for metric in (joules, power):
        assert metric["ratio"] is None and sorted(metric["withheld"].split()) == sorted(reason.split())
    assert any("j_per_output_token and power_w have no verdict: energy is of" in note for note in found["notes"])
    answer = shell("gate", path, "--metric", "j_per_output_token", "--seed", "1")
    assert answer.code == 3 and last_line(answer.out).startswith(
        "INCONCLUSIVE: j_per_output_token is not compared: energy is of"
    )
    answer = shell("gate", path, "--metric", "j_per_output_token", "--metric", RATE, "--seed", "1", "--json")
    assert answer.code == 3 and [m["answer"] for m in json.loads(answer.out)["metrics"][:2]] == ["pass", "inconclusive"]


def test_a_gate_says_whether_energy_is_measured_or_modelled(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(profile(shell.folder))
    answer = shell("gate", path, "--seed", "1")
    assert "energy is of GPU, modelled\n" in answer.out
    energy_of_launches(monkeypatch, GPU_ENERGY)
    found = json.loads(shell("gate", path, "--seed", "1", "--json").out)
    assert found["base"]["energy"] == found["new"]["energy"] == ["GPU, measured by its counter"]


def test_a_stored_run_is_held_against_energy_of_the_same_only(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(profile(shell.folder))
    shell("gate", path, "--mode", "stored", "--out", "run-0")
    energy_of_launches(monkeypatch, CPU_ENERGY)
    found = json.loads(shell("gate", path, "--mode", "stored", "--out", "run-1", "--json").out)
    rate, joules = found["metrics"][:2]
    assert len(rate["base_samples"]) == 1 and joules["base_samples"] == [] and joules["ratio"] is None
    assert any("are not compared with 1 earlier runs" in note for note in found["notes"])


def test_an_explicit_size_wins_over_the_history_and_the_profile(shell: Shell) -> None:
    path = str(profile(shell.folder))

    def stored(*flags: str) -> tuple[int, int, list[str]]:
        run = f"run-{len(list(shell.folder.iterdir()))}"
        found = json.loads(shell("gate", path, "--mode", "stored", "--json", "--out", run, *flags).out)
        return found["n_requests"], len(found["metrics"][0]["base_samples"]), found["notes"]

    n, earlier, notes = stored()
    assert (n, earlier) == (16, 0) and "16 requests in a job as the profile has" in notes
    n, earlier, notes = stored("--requests", "24")
    assert (n, earlier) == (24, 0) and "24 requests in a job as --requests asks" in notes
    assert "1 earlier run left out: another number of requests" in notes
    n, earlier, notes = stored()
    assert (n, earlier) == (24, 1) and "24 requests in a job as the earlier runs have" in notes
    n, earlier, notes = stored("--window", "3s")
    assert n > 24 and earlier == 0 and f"{n} requests in a job fill 3 s of profile" in notes
    assert "3 earlier runs left out: another --window" in notes
    assert stored("--window", "3s")[:2] == (n, 1), "a window given every time sizes the first run only"
    answer = shell("gate", path, "--window", "3s", "--json", "--seed", "1")
    assert json.loads(answer.out)["n_requests"] > 24


def test_a_slow_stored_run_is_a_regression_and_no_part_of_what_is_normal(shell: Shell) -> None:
    path = str(profile(shell.folder))
    for number in range(8):
        shell("gate", path, "--mode", "stored", "--history", "h", "--out", f"run-{number}")
    for file in (shell.folder / "h").glob("*.json"):
        run = json.loads(file.read_text())
        run["samples"]["output_tokens_per_s"] *= 1.2
        file.write_text(json.dumps(run))
    for number in (8, 9):
        answer = shell("gate", path, "--mode", "stored", "--history", "h", "--out", f"run-{number}", "--json")
        found = json.loads(answer.out)
        assert answer.code == 1 and len(found["metrics"][0]["base_samples"]) == 8
    assert any("1 earlier run left out: it was a regression" in note for note in found["notes"])


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
    "out of range": ({"config__max_num_seqs": 10**9}, "max_num_seqs=1000000000 is out of range 4 to 512"),
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
    "margin of nothing": (["p.yaml", "--margin", "0%"], "not between 0 and 1"),
    "mode": (["p.yaml", "--mode", "fast"], "--mode fast"),
    "metric": (["p.yaml", "--metric", "speed"], "--metric speed: there is no such figure"),
    "metric that is not known": (["p.yaml", "--metric", "ttft_p50_s"], "ttft_p50_s cannot be measured here"),
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


def test_github_gets_a_summary_and_an_annotation_and_stdout_stays_json(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(shell.folder / "summary.md"))
    path = str(profile(shell.folder, set={"compiled": True}))
    answer = shell("gate", path, "--json", "--seed", "1")
    json.loads(answer.out)
    assert re.search(r"^::notice title=infertune gate::PASS: throughput .*\(95%25 interval", answer.errors, re.M)
    text = (shell.folder / "summary.md").read_text()
    assert text.startswith("### infertune gate: PASS") and text.count("\n| ") >= 5
    slow = str(profile(shell.folder, "slow.yaml"))
    answer = shell("gate", slow, "--against", path, "--seed", "1")
    assert "::error title=infertune gate::REGRESSION" in answer.errors
    assert (shell.folder / "summary.md").read_text().count("### infertune gate") == 2
    answer = shell("gate", str(edited(Path(slow), fingerprint__device__name="x%0A::error::y")))
    assert answer.code == 4 and "::error title=infertune gate::" in answer.errors and "x%250A" in answer.errors


def test_hostile_names_stay_text_everywhere(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(shell.folder / "summary.md"))
    path = profile(shell.folder)
    hostile = "x|y`z<script>[red]\n::error::n.yaml"
    path.rename(shell.folder / hostile)
    answer = shell("gate", hostile, "--against", hostile, "--junit", "j.xml", "--seed", "1")
    assert answer.code == 0 and "<script>[red]" in answer.out
    suite = ElementTree.parse(shell.folder / "j.xml").getroot()[0]
    assert "<script>" in str(suite.get("name"))
    summary = (shell.folder / "summary.md").read_text()
    assert "<script>" not in summary and "x|y" not in summary
    table = [line for line in summary.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    commands = [line for line in answer.errors.splitlines() if line.startswith("::")]
    assert len(commands) == 1 and commands[0].startswith("::notice ")
    assert not [line for line in answer.out.splitlines() if line.startswith("::")]
    assert answer.out.count("::error::n.yaml") == answer.out.count("[red]\ufffd::error::n.yaml") > 0


def test_a_note_is_one_line_that_is_no_workflow_command() -> None:
    told = io.StringIO()
    TerminalObserver(Console(file=told)).note("x\n::error::y")
    assert told.getvalue() == "note: x\ufffd::error::y\n"


def test_a_report_of_a_gate_is_refused_with_where_its_verdict_is(shell: Shell) -> None:
    shell("gate", str(profile(shell.folder)), "--out", "run")
    answer = shell("report", "run")
    assert answer.code == 2 and "run/gate.json" in answer.errors


def test_a_config_file_may_hold_the_flags(shell: Shell) -> None:
    profile(shell.folder)
    (shell.folder / "gate.yaml").write_text("margin: 3%\nseed: 1\nmetric: [output_tokens_per_s]\n")
    found = json.loads(shell("gate", "p.yaml", "--config", "gate.yaml", "--json").out)
    assert found["margin"] == 0.03
    (shell.folder / "gate.yaml").write_text("set: {max_num_seqs: 4}\n")
    answer = shell("gate", "p.yaml", "--config", "gate.yaml")
    assert answer.code == 2 and "takes its settings from the profile" in answer.errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130_and_leaves_the_launches_and_no_process(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "work").mkdir()
    path = profile(tmp_path / "work", engine="fake:faults", set={"fault": "no fault", "size": 1, "speed": 1})
    command = [sys.executable, "-m", "infertune", "gate", str(path), "--engine", "fake:faults", "--out", "run"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    ledger = tmp_path / "run" / "trials.jsonl"
    deadline = time.perf_counter() + 30
    while not ledger.exists() or ledger.read_bytes().count(b"\n") < 3:
        assert time.perf_counter() < deadline and process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    errors = process.communicate(timeout=20)[1]
    assert process.returncode == 130 and "without a verdict" in last_line(errors) and "Traceback" not in errors
    assert len(Ledger.open(tmp_path / "run").trials) >= 2
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
