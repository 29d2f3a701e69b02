"""A study of recorded tables: what is read, what is said, what is refused before anything happens."""

import csv
from pathlib import Path

import pytest

from infertune.errors import UsageError
from infertune.tuning.study.cells import live_cells
from infertune.tuning.study.plan import read_plan
from infertune.tuning.study.run import StudyResult, study
from tests.report.runs import saved, tuned
from tests.tuning.study_plans import FLEET, PLAN, written


def made(tmp_path: Path, plan: str = PLAN, fleet: str = FLEET) -> StudyResult:
    return study(written(tmp_path, plan, fleet), tmp_path / "out")


def rows(result: StudyResult, name: str) -> list[dict[str, str]]:
    with (result.folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_table_holds_every_landscape(tmp_path: Path) -> None:
    result = made(tmp_path)
    cells = {(row["device"], row["model"]): row for row in rows(result, "cells.csv")}
    assert {where: (float(row["best"]), row["best_config"]) for where, row in cells.items()} == {
        ("A100", "m1"): (pytest.approx(40), "n_gpus=2 batch_size=2"),
        ("A100", "m2"): (pytest.approx(12), "n_gpus=2 batch_size=1"),
        ("V100", "m1"): (pytest.approx(9), "n_gpus=1 batch_size=2"),
        ("V100", "m2"): (pytest.approx(7), "n_gpus=2 batch_size=2"),
    }
    assert cells["A100", "m2"]["out_of_memory"] == "1" and cells["V100", "m1"]["failed"] == "1"
    assert {cell.state for cell in result.record.cells} == {"recorded"}


def test_porting_over_tables_counts_failures_apart(tmp_path: Path) -> None:
    found = {(row["from"], row["to"], row["shared"]): row for row in rows(made(tmp_path), "ports.csv")}
    up = found["V100", "A100", "hf · m1 · infilling"]
    assert float(up["gain_of_retuning_percent"]) == pytest.approx((40 / 30 - 1) * 100)
    assert float(up["ported_to_default_percent"]) == pytest.approx(200)
    down = found["A100", "V100", "hf · m1 · infilling"]
    assert (down["outcome"], down["why"], down["gain_of_retuning_percent"]) == ("fails here", "crash", "")
    assert float(found["A100", "V100", "hf · m2 · infilling"]["gain_of_retuning_percent"]) == pytest.approx(40)


def test_scaling_choices_and_edges_are_those_of_plain_arithmetic(tmp_path: Path) -> None:
    cells = {(row["device"], row["model"]): row for row in rows(made(tmp_path), "cells.csv")}
    first = cells["A100", "m1"]
    assert float(first["per_gpu_with_2_gpus"]) == pytest.approx(20)
    assert float(first["efficiency_with_2_gpus"]) == pytest.approx(40 / 2 / 30)
    assert first["edges"] == "n_gpus high, batch_size high"
    assert cells["V100", "m1"]["edges"] == "n_gpus low, batch_size high"
    rule = "all GPUs, largest batch: share of gain"
    assert float(first[rule]) == pytest.approx(1)
    assert cells["V100", "m1"][rule] == "", "it failed there"
    assert float(cells["A100", "m2"][rule]) == pytest.approx((11 - 8) / (12 - 8))


def test_rows_and_columns_are_chosen_by_the_plan(tmp_path: Path) -> None:
    plan = """\
tables:
  - {file: fleet.csv, device: new, model: m1, throughput: tps, status: result, ignore: [note],
     where: {gpu: A100, model: m1, kind: [hf, other]}, default: {n_gpus: 2, batch_size: 1, kind: hf}}
  - {file: fleet.csv, device: old, model: m1, throughput: tps, ignore: [note], where: {gpu: V100, model: m1, kind: hf},
     failed: {result: [failed]}, status: result}
"""
    cells = {row["device"]: row for row in rows(made(tmp_path, plan), "cells.csv")}
    assert float(cells["new"]["default"]) == pytest.approx(15) and cells["old"]["failed"] == "1"
    assert float(cells["old"]["default"]) == pytest.approx(5)


def test_repeated_rows_give_intervals(tmp_path: Path) -> None:
    again = "".join(line.replace(",10,", ",11,") + "\n" for line in FLEET.splitlines()[1:])
    found = rows(made(tmp_path, fleet=FLEET + again), "ports.csv")
    assert {row["repeats"] for row in found if row["outcome"] == "compared"} == {"2"}
    text = (tmp_path / "out" / "study.md").read_text()
    assert "one repetition: no interval" not in text
    assert "one repetition: no interval" in (made(tmp_path).folder / "study.md").read_text()


def test_a_column_that_says_failed_beats_a_rate(tmp_path: Path) -> None:
    """Half of the published 'best' points had run out of memory and were scored on what had finished."""
    fleet = FLEET.replace("A100,hf,m1,2,2,40,success", "A100,hf,m1,2,2,400,oom")
    found = {(row["device"], row["model"]): row for row in rows(made(tmp_path, fleet=fleet), "cells.csv")}
    assert float(found["A100", "m1"]["best"]) == pytest.approx(30)


def test_runs_that_were_measured_elsewhere_are_devices_too(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        saved(tmp_path / name, tuned(seed))
    plan = "tables: [{file: a, device: old, engine: e}, {file: b, device: new, engine: e}]\n"
    found = rows(made(tmp_path, plan), "ports.csv")
    assert [(row["from"], row["to"]) for row in found] == [("old", "new"), ("new", "old")]
    with pytest.raises(UsageError, match="knobs: a is a run, which has no columns"):
        made(tmp_path, "tables: [{file: a, knobs: [x]}]\n")
    with pytest.raises(UsageError, match="device: a is a run, which has no columns; give a name"):
        made(tmp_path, "tables: [{file: a, device: {column: x}}]\n")


def test_a_model_that_one_device_lacks_is_counted(tmp_path: Path) -> None:
    fleet = "\n".join(line for line in FLEET.splitlines() if not line.startswith("V100,hf,m2"))
    result = made(tmp_path, fleet=fleet)
    assert result.findings is not None
    absent = {(travel.there, travel.here): travel.absent for travel in result.findings.travels if travel.there}
    assert absent["A100", "V100"] == 1 and absent["V100", "A100"] == 0


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        folder = made(tmp_path).folder
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert content() == content()


def test_names_of_strangers_stay_text(tmp_path: Path) -> None:
    markup = "</script><script>x</script><img src=y>"
    folder = made(tmp_path, fleet=FLEET.replace("m1", markup)).folder
    page = (folder / "study.html").read_text()
    assert "<script" not in page and "<img" not in page and "&lt;img" in page


def test_a_column_of_results_is_not_taken_for_a_knob(tmp_path: Path) -> None:
    lines = FLEET.splitlines()
    fleet = "\n".join(f"{line},{'latency' if not n else n * 0.37 + 0.001}" for n, line in enumerate(lines + lines[1:]))
    plan = PLAN.replace("    knobs: [n_gpus, batch_size]\n", "    ignore: [note]\n")
    with pytest.raises(UsageError, match="column 'latency' has 32 different values in 32 rows, like a result"):
        made(tmp_path, plan, fleet)
    assert made(tmp_path, plan.replace("[note]", "[note, latency]"), fleet).count("recorded") == 4


BAD = {
    "an unknown field": (PLAN + "colour: red\n", "line 11: colour: there is no such field"),
    "an unknown field of a table": (PLAN + "    colour: red\n", "tables.0.colour: there is no such field"),
    "a table without the knob": (
        PLAN.replace("batch_size]", "batch]"),
        "line 3: tables.0: table {}/fleet.csv has no column 'batch' (knobs)",
    ),
    "a table without the throughput": (PLAN.replace("tps", "speed"), "has no column speed; its columns are 'gpu'"),
    "a table that is not there": (PLAN.replace("fleet.csv", "none.csv"), "line 3: tables.0: cannot read table"),
    "an empty grid": (PLAN.replace("[n_gpus, batch_size]", "[]"), "tables.0.knobs: the grid is empty"),
    "nothing to study": ("title: x\n", "there is nothing to study"),
    "no tables": ("tables: []\n", "line 1: tables: it is empty"),
    "one cell twice": (PLAN + PLAN.partition("tables:\n")[2], "is in tables.0 too; narrow one with `where`"),
    "a filter that leaves nothing": (PLAN + "    where: {gpu: H100}\n", "has no row where gpu is H100"),
    "a default that is not there": (
        PLAN + "    default: {n_gpus: 3, batch_size: 1}\n",
        "no row has the default's n_gpus=3",
    ),
    "half a default": (PLAN + "    default: {n_gpus: 1}\n", "the default says nothing of 'batch_size'"),
    "no count of GPUs": (PLAN + "    gpus: boards\n", "gpus: the table has no knob 'boards'"),
    "devices without engines": (PLAN + "devices: [here]\n", "`devices` are measured with `engines`"),
    "a newer schema": ("schema_version: 2\n" + PLAN, "has schema version 2"),
    "no plan": ("- 1\n", "is no plan"),
    "an impossible duration": (PLAN + "window: tomorrow\n", "line 11: window: 'tomorrow' is no duration"),
    "a negative duration": (PLAN + "window: -3\n", "window: must be over 0 and at most 277h"),
    "a knob without a list": (
        "engines: {fake: {knobs: {max_num_seqs: 8}}}\n",
        "line 1: engines.fake.knobs.max_num_seqs: must be a list, such as [8, 16]",
    ),
    "settings that are no mapping": (
        "engines: {fake: {set: [a]}}\n",
        "line 1: engines.fake.set: must be a mapping of names to values, such as {{name: value}}",
    ),
    "an engine that is no mapping": ("engines: {fake: [a]}\n", "line 1: engines.fake: must be a mapping of names"),
    "a name twice": ("engines: {fake: }\nmodels: [a, a]\n", "models: 'a' stands twice"),
    "an unknown engine": ("engines: [nonesuch]\n", "line 1: engines.nonesuch: cell this machine · nonesuch: unknown"),
    "an unknown knob": (
        "engines: {fake: {knobs: {nonesuch: [1, 2]}}}\n",
        "engines.fake: cell this machine · fake: unknown knob 'nonesuch'",
    ),
    "an empty grid of an engine": ("engines: {fake: {knobs: {max_num_seqs: []}}}\n", "engines.fake.knobs: the grid is"),
    "an unknown workload": ("engines: [fake]\nworkloads: {w: nonesuch:x}\n", "engines.fake: cell"),
    "too many cores": ("engines: [fake]\ndevices: {big: {cores: 4096}}\n", "4096 cores are asked for"),
    "one folder for two": (
        "engines: [fake]\nworkloads: {'a b': 'synthetic:in=8,out=4', a-b: 'synthetic:in=8,out=8'}\n",
        "have one folder; rename one",
    ),
    "nothing left": ("engines: [fake]\nleave_out: [{engine: fake}]\n", "leave_out leaves nothing to measure"),
    "an unknown name to leave out": ("engines: [fake]\nleave_out: [{engine: x}]\n", "the plan has no engine 'x'"),
    "settings for an unknown engine": ("engines: [fake]\ndevices: {d: {set_for: {x: {}}}}\n", "no engine 'x'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_plan_is_refused_in_one_line_before_anything_is_written(tmp_path: Path, case: str) -> None:
    plan, message = BAD[case]
    file = written(tmp_path, plan)
    with pytest.raises(UsageError) as refusal:
        study(file, tmp_path / "out")
    assert message.format(tmp_path) in str(refusal.value) and str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value) and not (tmp_path / "out").exists()


def test_the_plan_of_the_example_has_two_thread_counts_and_two_dtypes_of_both_engines_on_three_models() -> None:
    file = Path(__file__).parents[1] / "benchmarks" / "plans" / "example-study.yaml"
    plan, document = read_plan(file)
    cells = live_cells(file, plan, document, Path("out"))
    assert len(cells) == 4 * 2 * 3 and {cell.cores for cell in cells} == {None, 1}
    assert {cell.request.set["dtype"] for cell in cells} == {"bfloat16", "float32"}
