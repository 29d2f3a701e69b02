"""A study that measures: one run a cell, skipped when done, and gone on with after an interruption or a failure."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from infertune.domain import cgroups
from infertune.errors import InterruptedRunError, UsageError
from infertune.runs.ledger import Ledger
from infertune.runs.observer import Observer
from infertune.tuning.study.run import study
from infertune.writing import write_inside
from tests.apart import command

PLAN = """\
title: Simulated
engines:
  plateau: {engine: "fake:plateau", knobs: {max_num_seqs: [16, 64], max_num_batched_tokens: [512, 2048]}}
  flat: {engine: "fake:flat", knobs: {max_num_seqs: [16, 64], max_num_batched_tokens: [512, 2048]}}
workloads: {short: "synthetic:in=16,out=8"}
devices:
  eager: {}
  compiled: {cores: 1, set: {compiled: true}, set_for: {plateau: {memory_share: 0.9}}}
leave_out: [{device: compiled, engine: flat}]
repeats: 2
requests: 8
"""


class Watcher(Observer):
    """Counts what is measured, and presses Ctrl-C at a trial."""

    def __init__(self, patience: int = 10**9) -> None:
        self.parts: list[str] = []
        self.trials = 0
        self.patience = patience

    def part_starts(self, number: int, of: int, name: str, left_s: float | None) -> None:
        self.parts.append(f"{number} of {of}: {name}")

    def trial_starts(self, config: object, *, live: bool) -> None:
        self.trials += 1
        if self.trials > self.patience:
            raise KeyboardInterrupt


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    return file


def test_a_study_measures_every_cell_once_and_skips_what_is_done(tmp_path: Path, plan: Path) -> None:
    watcher = Watcher()
    cores = os.sched_getaffinity(0)
    made = study(plan, tmp_path / "out", watcher)
    assert os.sched_getaffinity(0) == cores
    assert [cell.state for cell in made.record.cells] == ["done"] * 3 and watcher.trials == 3 * 4 * 2
    assert watcher.parts[0] == "1 of 3: eager · plateau · short" and watcher.parts[-1].startswith("3 of 3: compiled")
    assert not any("compiled · flat" in part for part in watcher.parts)
    run = Ledger.open(tmp_path / "out" / "cells" / "compiled--plateau--short")
    assert run.header.device.cores == 1 and run.trials[0].config["compiled"] is True
    assert run.trials[0].config["memory_share"] == 0.9
    assert len({trial.launch_number for trial in run.trials}) == 2, "every round has a launch of its own"
    before = (tmp_path / "out" / "study.html").read_bytes()
    again = Watcher()
    study(plan, tmp_path / "out", again)
    assert again.trials == 0 and (tmp_path / "out" / "study.html").read_bytes() == before


def test_an_interrupted_study_reports_what_it_has_and_the_same_command_goes_on(tmp_path: Path, plan: Path) -> None:
    with pytest.raises(InterruptedRunError, match="1 of 3 cells are done; the same command goes on"):
        study(plan, tmp_path / "out", Watcher(patience=13))
    assert "not measured yet" in (tmp_path / "out" / "study.md").read_text()
    assert "not whole" in (tmp_path / "out" / "study.md").read_text()
    watcher = Watcher()
    made = study(plan, tmp_path / "out", watcher)
    assert watcher.trials == 24 - 13 and made.count("done") == 3


def test_a_cell_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path, plan: Path) -> None:
    write_inside(tmp_path / "out" / "cells", "eager--flat--short", "in the way", "test")
    made = study(plan, tmp_path / "out")
    states = {f"{cell.device} {cell.engine} {cell.workload}": cell for cell in made.record.cells}
    assert states["eager flat short"].state == "failed" and "cannot write" in states["eager flat short"].why
    assert made.count("done") == 2 and "eager · flat · short: " in (tmp_path / "out" / "study.md").read_text()
    (tmp_path / "out" / "cells" / "eager--flat--short").unlink()
    assert study(plan, tmp_path / "out").count("done") == 3


def test_a_changed_plan_does_not_mix_with_what_was_measured(tmp_path: Path, plan: Path) -> None:
    study(plan, tmp_path / "out")
    plan.write_text(PLAN.replace("requests: 8", "requests: 9"))
    with pytest.raises(UsageError, match="was measured with other settings than the plan has now"):
        study(plan, tmp_path / "out")
    plan.write_text(PLAN.replace("[512, 2048]", "[512, 1024]"))
    with pytest.raises(UsageError, match="other settings"):
        study(plan, tmp_path / "out")
    plan.write_text(PLAN.replace("repeats: 2", "repeats: 3"))
    watcher = Watcher()
    study(plan, tmp_path / "out", watcher)
    assert watcher.trials == 12, "a further round"


@pytest.mark.parametrize(
    ("before", "after"), [("{cores: 1, ", "{"), ("eager: {}", "eager: {cores: 1}"), ("{cores: 1, ", "{cores: 2, ")]
)
def test_a_cell_that_was_measured_on_other_cores_is_refused(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    monkeypatch.setattr(cgroups, "limits", lambda: cgroups.Limits())
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    study(plan, tmp_path / "out")
    plan.write_text(PLAN.replace(before, after))
    with pytest.raises(UsageError, match=r"was measured with a number of cores of \d+, and the plan gives it \d+ now"):
        study(plan, tmp_path / "out")


def test_a_quota_of_fewer_cores_than_the_plan_names_is_no_other_number(
    tmp_path: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "limits", lambda: cgroups.Limits(cores=0.5))
    study(plan, tmp_path / "out")
    assert study(plan, tmp_path / "out", watcher := Watcher()).count("done") == 3 and watcher.trials == 0


def test_cells_of_another_machine_are_reported_where_the_plan_names_no_cores(tmp_path: Path, plan: Path) -> None:
    plan.write_text(PLAN.replace("cores: 1, ", ""))
    study(plan, tmp_path / "out")
    for file in (tmp_path / "out" / "cells").glob("*/trials.jsonl"):
        header, *rest = file.read_text().splitlines(keepends=True)
        document = json.loads(header)
        document["device"] |= {"name": "Another", "cores": 4096}
        file.write_text("".join((json.dumps(document) + "\n", *rest)))
    assert study(plan, tmp_path / "out").count("done") == 3


def test_a_search_may_stand_for_a_grid(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("engines: {fake: {trials: 5}}\ndevices: {a: {}, b: {set: {compiled: true}}}\nrequests: 8\n")
    made = study(file, tmp_path / "out")
    assert made.count("done") == 2 and made.findings is not None
    assert {port.kind for port in made.findings.ports} <= {"compared", "not measured here", "fails here"}
    assert (tmp_path / "out" / "profiles").is_dir() and not (tmp_path / "profiles").exists()


@pytest.mark.ray
def test_workers_are_devices_of_searches(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("engines: {fake: {trials: 5}}\ndevices: {cluster: {workers: 2}}\nrequests: 8\n")
    assert study(file, tmp_path / "out").count("done") == 1
    assert len(Ledger.open(tmp_path / "out" / "cells" / "cluster--fake").trials) >= 5
    file.write_text("engines: [fake]\ndevices: {cluster: {workers: '2'}}\n")
    with pytest.raises(UsageError, match="devices.cluster.workers: workers measure searches only; give fake `trials`"):
        study(file, tmp_path / "other")


@pytest.mark.slow
def test_the_command_ends_with_130_on_ctrl_c_and_goes_on(tmp_path: Path, plan: Path) -> None:
    plan.write_text(PLAN.replace("repeats: 2", "repeats: 400"))
    words = [*command(tmp_path), "study", str(plan), "--out", str(tmp_path / "out")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert running.stderr is not None
        lines = []
        for line in running.stderr:
            lines.append(line)
            if line.lstrip().startswith("20 "):
                running.send_signal(signal.SIGINT)
                break
        lines += running.stderr.readlines()
    assert running.returncode == 130 and "the same command goes on" in lines[-1], lines[-3:]
    plan.write_text(PLAN)
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {cell["state"] for cell in answer["cells"]} == {"done"} and answer["report"].endswith("study.html")


@pytest.mark.parametrize("name", ["trials.jsonl", "check.json"])
def test_a_study_is_not_written_into_the_folder_of_something_else(tmp_path: Path, plan: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("another's")
    with pytest.raises(UsageError, match="holds a .* already; choose another --out"):
        study(plan, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
