"""Several runs beside each other."""

import re
from pathlib import Path

import pytest

from infertune.domain.models import resolve_model
from infertune.domain.objective import get_objective
from infertune.errors import UsageError
from infertune.report import Findings, find
from infertune.report.compare import compare, comparison_markdown, comparison_picture
from infertune.tuning.afterwards import compare_runs
from tests.builders import header, measured, trial
from tests.report.runs import SPACE, beaten, hostile, saved, tuned

MODEL = resolve_model("builtin:tiny", "dummy")
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
    assert compared.warnings[0].startswith("Not the same workload") and "final comparison" in compared.warnings[1]


def test_another_sample_of_the_same_workload_is_another_workload(tmp_path: Path) -> None:
    first, second = saved(tmp_path / "a", tuned()), saved(tmp_path / "b", tuned())
    header = second.header
    second.header = header.model_copy(
        update={"workload": header.workload.model_copy(update={"content_hash": "f" * 16})}
    )
    compared = compare([find(run, THROUGHPUT) for run in (first, second)])
    assert compared.differs == ("requests",) and compared.warnings[0].startswith("Not the same requests")


def test_devices_models_engines_and_weights_are_set_beside_each_other(tmp_path: Path) -> None:
    def run(name: str, **changes: object) -> Findings:
        return find(saved(tmp_path / name, tuned(), **changes), THROUGHPUT)

    base = header(SPACE, model=MODEL)
    compared = compare([
        run("a", model=MODEL),
        run("b", model=MODEL.model_copy(update={"weights": "real"})),
        run("c", model=MODEL, engine="vllm", device=base.device.model_copy(update={"name": "Other CPU"})),
    ])  # fmt: skip
    assert compared.differs == ("device", "engine", "weights") and compared.warnings == ()
    text = comparison_markdown(compared)
    assert "Other CPU" in text and "vllm" in text and "real" in text


def test_figures_in_other_units_keep_their_unit(tmp_path: Path) -> None:
    runs = [
        find(saved(tmp_path / "a", tuned()), THROUGHPUT),
        find(saved(tmp_path / "b", tuned()), get_objective("energy")),
    ]
    compared = compare(runs)
    assert compared.warnings[0].startswith("Not the same objective")
    assert "tok/s" in compared.rows[0].figures["default"] and "J/token" in compared.rows[1].figures["default"]
    assert "a: default" in comparison_picture(compared) and "b: default" not in comparison_picture(compared)


def test_a_candidate_that_lost_is_not_called_tuned_and_its_settings_are_not_offered(tmp_path: Path) -> None:
    lost = find(saved(tmp_path / "a", beaten()), THROUGHPUT)
    won = find(saved(tmp_path / "b", tuned()), THROUGHPUT)
    compared = compare([lost, won])
    picture = comparison_picture(compared)
    for label in ("a: default", "a: best candidate", "b: default", "b: tuned"):
        assert f">{label}<" in picture
    assert [row.figures["settings to use"] for row in compared.rows] == ["default", str(won.changed(won.advised))]
    ratio, keep, use = compared.rows[1].to_first, lost.summary.default, won.summary.candidate
    assert ratio is not None and keep is not None and use is not None
    assert ratio.mean == pytest.approx(use.mean / keep.mean), "what to use here over what to use there"


def test_a_figure_that_does_not_fit_its_bar_stands_beside_it(tmp_path: Path) -> None:
    runs = [saved(tmp_path / "a", beaten()), saved(tmp_path / "b", tuned())]
    picture = comparison_picture(compare([find(run, THROUGHPUT) for run in runs]))
    marks = re.findall(r'class="((?:on-bar )?bold)"[^>]*>([\d.,]+)<', picture)
    assert [mark for mark, figure in marks if float(figure.replace(",", "")) < 200] == ["bold", "bold"]
    assert [mark for mark, figure in marks if float(figure.replace(",", "")) > 2000] == ["on-bar bold"] * 2


def test_a_bench_has_one_figure_which_is_nobodys_default(tmp_path: Path) -> None:
    trials = [trial(n, SPACE.default, measured(100.0 + n), "bench") for n in range(3)]
    runs = [saved(tmp_path / "a", trials, command="bench"), saved(tmp_path / "b", tuned())]
    compared = compare([find(run, THROUGHPUT) for run in runs])
    assert compared.rows[0].figures["default"] == "–" and "tok/s" in compared.rows[0].figures["tuned, else best"]
    assert compared.warnings == ()
    assert ">a: measured<" in comparison_picture(compared) and ">a: default<" not in comparison_picture(compared)


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
