"""Several runs beside each other."""

from pathlib import Path

import pytest

from infertune.afterwards import compare_runs
from infertune.errors import UsageError
from infertune.objective import get_objective
from infertune.report import find
from infertune.report.compare import compare
from tests.report.runs import hostile, saved, tuned

THROUGHPUT = get_objective("throughput")


def test_a_comparison_names_what_differs_and_what_does_not(tmp_path: Path) -> None:
    runs = [saved(tmp_path / name, tuned(seed), engine_version=str(seed)) for seed, name in enumerate("ab")]
    compared = compare([find(run, THROUGHPUT) for run in runs])
    assert compared.differs == ("engine version",) and compared.warnings == ()
    assert compared.same["workload"] == "synthetic:in=8,out=4" and "engine version" not in compared.same
    assert [row.label for row in compared.rows] == ["a", "b"]
    assert compared.rows[0].to_first is None
    ratio = compared.rows[1].to_first
    assert ratio is not None and ratio.low is not None and ratio.high is not None and ratio.low < 1 < ratio.high


def test_different_workloads_are_not_set_against_each_other_in_silence(tmp_path: Path) -> None:
    first, second = saved(tmp_path / "a", tuned()), hostile(tmp_path / "b")
    header = second.header
    second.header = header.model_copy(update={"workload": header.workload.model_copy(update={"spec": "other"})})
    compared = compare([find(run, THROUGHPUT) for run in (first, second)])
    assert compared.warnings[0].startswith("The workload differs") and "final comparison" in compared.warnings[1]


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [saved(tmp_path / day / "run", tuned()) for day in ("monday", "tuesday")]
    assert [row.label for row in compare([find(run, THROUGHPUT) for run in runs]).rows] == ["monday/run", "tuesday/run"]


def test_a_comparison_is_three_files_without_a_request_byte_for_byte(tmp_path: Path) -> None:
    runs = [saved(tmp_path / "a", tuned()).folder, hostile(tmp_path / "b").folder]
    page = compare_runs(runs, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(before) == {"comparison.html", "comparison.md", "comparison.svg"} and page.name == "comparison.html"
    assert b"<script" not in before["comparison.html"] and b"<img" not in before["comparison.html"]
    compare_runs(runs, tmp_path / "out")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    run = saved(tmp_path / "a", tuned()[:3]).folder
    with pytest.raises(UsageError, match="named twice"):
        compare_runs([run, run], tmp_path / "out")
    with pytest.raises(UsageError, match="is not a run"):
        compare_runs([run, tmp_path / "none"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match="cannot write"):
        compare_runs([run, hostile(tmp_path / "b").folder], tmp_path / "out")
