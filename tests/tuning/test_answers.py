"""What a tune knows of its answers: who answers worse is never recommended."""

import json
from pathlib import Path

import pytest

from infertune import tune
from infertune.domain.knobs import Config
from infertune.engines.fake.engine import FakeEngine
from infertune.runs.ledger import Ledger
from infertune.runs.rejection import rejected_by
from infertune.tuning.tune import Study


def tuned(tmp_path: Path, engine: str, **more: object) -> Study:
    """A short tune on the simulated engine, in which `bits` is searched."""
    held = {"compiled": False, "max_num_seqs": 64, "max_num_batched_tokens": 2048, "memory_share": 0.8}
    flags = {"trials": 6, "knob": {"bits": [16, 8, 4], "block_size": [16, 32]}, "set": held, "seed": 3, **more}
    return tune(engine=engine, device="cpu", out=tmp_path / "run", profiles=tmp_path / "profiles", **flags)


def test_a_setting_that_answers_worse_is_never_recommended(tmp_path: Path) -> None:
    study = tuned(tmp_path, "fake:plateau,loss=4%")
    assert study.summary.best_config["bits"] == 16
    failed = [check for check in study.ledger.checks if check.verdict != "pass"]
    assert {check.checked["bits"] for check in failed} <= {8, 4} and failed
    assert not study.summary.unchecked


def test_a_setting_that_answers_as_well_is_recommended(tmp_path: Path) -> None:
    study = tuned(tmp_path, "fake:plateau,loss=0.01%", knob={"bits": [16, 8], "block_size": [16, 32]})
    assert study.summary.answer == "better" and study.summary.best_config["bits"] == 8
    assert not study.summary.unchecked
    passed = [check for check in study.ledger.checks if check.checked == study.summary.best_config]
    assert passed and passed[-1].verdict == "pass"


def test_a_lossy_setting_that_scores_do_not_see_is_not_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeEngine, "unseen", lambda self, name: name == "bits", raising=False)
    study = tuned(tmp_path, "fake:plateau,loss=0.01%", knob={"bits": [16, 8], "block_size": [16, 32]})
    assert study.summary.best_config["bits"] == 16
    checks = [check for check in study.ledger.checks if check.checked["bits"] == 8]
    assert {check.verdict for check in checks} == {"not checked"} and "do not see what bits does" in checks[0].why


def test_others_with_the_settings_that_failed_are_out_unlaunched(tmp_path: Path) -> None:
    study = tuned(tmp_path, "fake:plateau,loss=4%")
    failed = next(check.checked for check in study.ledger.checks if check.verdict != "pass")
    other = failed.updated({"block_size": 64, "max_num_seqs": 8})
    assert rejected_by(study.ledger, other)
    assert not rejected_by(study.ledger, other.updated({"bits": 16}))
    checked = [check.checked["bits"] for check in study.ledger.checks if check.verdict != "pass"]
    assert len(checked) == len(set(checked)), "one launch for each lossy setting that fails"


def test_checks_are_in_the_ledger_and_cost_no_measured_time(tmp_path: Path) -> None:
    study = tuned(tmp_path, "fake:plateau,loss=4%")
    again = Ledger.open(tmp_path / "run")
    assert again.checks == study.ledger.checks and len(again.trials) == len(study.ledger.trials)
    assert study.summary.run_s == sum(trial.run_s for trial in again.trials)
    assert all(check.score_s > 0 for check in again.checks)


def test_a_resumed_tune_asks_no_check_twice(tmp_path: Path) -> None:
    study = tuned(tmp_path, "fake:plateau,loss=4%")
    path = tmp_path / "run" / "trials.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if line.startswith(b'{"checked":'))
    path.write_bytes(b"".join(lines[: last + 1]))
    from infertune.tuning.tune import resumed_request, tune_request

    run = tmp_path / "run"
    resumed = tune_request(resumed_request(run, {}), resume=run)
    checked = [check.checked for check in resumed.ledger.checks]
    assert checked[: len(study.ledger.checks)] == [check.checked for check in study.ledger.checks]
    assert len(set(checked)) == len(checked)
    assert resumed.summary.best_config["bits"] == 16
    launches = [trial.launch_number for trial in resumed.ledger.trials if trial.phase in ("confirm", "final")]
    assert len(set(launches)) == len(launches)


@pytest.mark.hf
def test_with_dummy_weights_lossy_values_are_left_out_unless_they_are_allowed(tmp_path: Path) -> None:
    from infertune.domain.request import TuneRequest, make_request
    from infertune.runs.job import prepare
    from infertune.tuning.answers import without_unchecked

    request = make_request(TuneRequest, {"model": "builtin:tiny", "engine": "hf", "device": "cpu"})
    job = prepare(request)
    lossy = [knob.name for knob in job.space.knobs if knob.effect == "lossy" and len(knob.values) > 1]
    without = without_unchecked(job, allow_lossy=False)
    assert all(len(without.space[name].values) == 1 for name in lossy)
    assert without.space.default == job.space.default
    assert without_unchecked(job, allow_lossy=True).space == job.space


def test_a_table_keeps_its_knobs_and_its_answer_says_that_nobody_looked(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(
        "kernel,output_tokens_per_s\n" + "".join(f"{k},{r}\n" for k, r in (("a", 10), ("b", 20)) for _ in "123")
    )
    study = tune(engine="replay", table=table, out=tmp_path / "run", profiles=tmp_path / "p", device="cpu")
    assert study.summary.best_config == Config({"kernel": "b"})
    assert study.summary.unchecked and study.ledger.checks == []


def test_the_search_learns_at_once_that_a_setting_answers_worse_and_looks_elsewhere(tmp_path: Path) -> None:
    knobs = {"bits": [16, 8, 4], "block_size": [16, 32], "max_num_seqs": [16, 32, 64, 128, 256]}
    study = tuned(tmp_path, "fake:plateau,loss=4%", knob=knobs, trials=14, set={"compiled": False})
    lines = (tmp_path / "run" / "trials.jsonl").read_text().splitlines()
    failed, after = set(), []
    for line in map(json.loads, lines):
        if line.get("verdict") == "fail":
            failed.add(line["checked"]["bits"])
        elif line.get("phase") == "search" and failed:
            after.append(line["config"]["bits"] in failed)
    assert failed and len(after) >= 5, "a failure is found while the search goes on"
    assert sum(after) <= len(after) / 3
    again = [
        trial for trial in study.ledger.trials if trial.phase in ("confirm", "final") and trial.config["bits"] < 16
    ]
    assert again == [], "no finalist has a setting that failed in the search"
