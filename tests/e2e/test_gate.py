"""Whole gates from the command line: every exit code, every output, and what is refused before anything runs."""

import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from rich.console import Console

import infertune
import infertune.engines.fake.meter
from infertune.cli.terminal import TerminalObserver
from infertune.domain.measurement import Energy
from infertune.energy import Reading
from infertune.gating.comparison import RATE
from infertune.runs.ledger import Ledger
from tests import apart
from tests.cli.test_cli import Shell
from tests.e2e.gates import edited, last_line, profile


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
    assert any("base and candidate are the same" in note for note in found["notes"])


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
    meter = infertune.engines.fake.meter.SimulatedMeter
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
    command = [*apart.command(tmp_path), "gate", str(path), "--engine", "fake:faults", "--out", "run"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    ledger = tmp_path / "run" / "trials.jsonl"
    deadline = time.perf_counter() + 120
    while not ledger.exists() or ledger.read_bytes().count(b"\n") < 3:
        assert time.perf_counter() < deadline and process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "without a verdict" in last_line(errors) and "Traceback" not in errors
    assert len(Ledger.open(tmp_path / "run").trials) >= 2
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
