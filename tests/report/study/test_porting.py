"""Porting: the best of one cell in another, and what is never scored."""

import csv
import random
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from infertune.errors import UsageError
from infertune.report.study.cell import Brought, Point
from infertune.report.study.porting import Travel, port, ports_between, travels
from infertune.report.study.porting_section import interval
from infertune.stats import log_t_interval
from infertune.tuning.afterwards import check_report, port_runs
from tests.report.runs import hostile, saved, tuned
from tests.report.study.cells import BATCHES, GPUS, Result, cell

OLD = cell({(1, 1): 10.0, (1, 2): 30.0, (1, 4): 20.0}, device="old")
NEW = cell({(1, 1): 20.0, (1, 2): 40.0, (1, 4): 50.0}, device="new")


def only(found: list[Travel], there: str, here: str) -> Travel:
    (one,) = [travel for travel in found if (travel.there, travel.here) == (there, here)]
    return one


def test_the_gain_of_retuning_is_best_here_over_what_was_best_there() -> None:
    up = port(OLD, NEW, ("device",))
    assert up is not None and up.gain is not None and up.to_default is not None
    assert up.kind == "compared" and str(up.config) == "batch_size=2"
    assert up.gain_percent == pytest.approx((50 / 40 - 1) * 100)
    assert up.to_default.mean == pytest.approx(40 / 20)
    assert interval(up) == "one repetition: no interval"


def test_what_fails_here_or_was_not_measured_here_is_counted_apart() -> None:
    small = cell({(1, 1): 10.0, (1, 2): 12.0, (1, 4): "oom"}, device="small")
    gap = cell({(1, 1): 10.0, (1, 2): 12.0}, device="gap")
    cells = [OLD, NEW, small, gap]
    found = travels(cells, ports_between(cells))
    down, unknown = only(found, "new", "small"), only(found, "new", "gap")
    assert (down.count("fails here"), down.gains, down.mean) == (1, [], None)
    assert (unknown.count("not measured here"), unknown.gains) == (1, [])
    assert [one.why for one in (*down.ports, *unknown.ports)] == ["oom", "no such configuration here"]


def test_a_configuration_that_failed_once_is_nobodys_best() -> None:
    flaky = cell({(1, 1): 10.0, (1, 2): 99.0})
    point = next(found for found in flaky.points.values() if found.samples == (99.0,))
    assert flaky.best is point
    failed_once = replace(flaky, points={**flaky.points, point.config: Point(point.config, (99.0, 98.0), ("oom",))})
    assert failed_once.best is not None and failed_once.best.samples == (10.0,)


def test_of_configurations_that_are_equally_good_the_smallest_is_brought() -> None:
    level = cell({(2, 4): 30.0, (1, 4): 30.0, (1, 2): 30.0, (1, 1): 5.0}, device="level")
    assert level.best is not None and level.best.config.root == {"n_gpus": 1, "batch_size": 2} and level.ties == 2


def test_repeats_give_an_interval_and_a_loss_beyond_noise() -> None:
    there = cell({(1, 1): (9.9, 10.0, 10.1), (1, 2): (20.0, 20.2, 19.8)}, device="there")
    here = cell({(1, 1): (30.0, 30.3, 29.7), (1, 2): (20.0, 20.2, 19.8)}, device="here")
    found = port(there, here, ("device",))
    assert found is not None and found.gain is not None and found.gain.low is not None and found.gain.high is not None
    assert found.gain.low < 1.5 < found.gain.high and found.surely_loses
    assert interval(found).startswith("+4") and " to " in interval(found)
    back = port(here, there, ("device",))
    assert back is not None and back.gain is not None and back.gain.mean == pytest.approx(2.0)


def test_the_same_best_in_both_places_gains_nothing_and_needs_no_interval() -> None:
    found = port(OLD, OLD, ())
    assert found is not None and found.same and found.gain_percent == 0 and interval(found) == "the same configuration"


def test_means_medians_and_losers_of_a_whole_table_are_those_of_plain_arithmetic() -> None:
    """20 models on two devices; the tables are made here, with failures, and scored without this program's code."""
    rng = random.Random(1)
    tables: dict[tuple[str, str], dict[tuple[int, int], Result]] = {}
    for device in ("V100", "A100"):
        for model in map(str, range(20)):
            tables[device, model] = {
                (gpus, batch): "oom" if rng.random() < 0.2 else round(rng.uniform(1, 100), 1)
                for gpus in GPUS
                for batch in BATCHES
            }
    del tables["A100", "19"]
    cells = [cell(table, device=device, model=model) for (device, model), table in tables.items()]
    found = only(travels(cells, ports_between(cells)), "V100", "A100")
    gains, failed = [], 0
    for model in map(str, range(19)):
        old = {at: rate for at, rate in tables["V100", model].items() if isinstance(rate, float)}
        new = {at: rate for at, rate in tables["A100", model].items() if isinstance(rate, float)}
        brought = min(at for at in old if old[at] == max(old.values()))
        if brought in new:
            gains.append((max(new.values()) / new[brought] - 1) * 100)
        else:
            failed += 1
    assert found.mean == pytest.approx(statistics.fmean(gains)) and found.median == pytest.approx(
        statistics.median(gains)
    )
    assert (len(found.gains), found.count("fails here"), found.absent) == (len(gains), failed, 1) and failed
    assert found.lose == sum(gain > 0 for gain in gains) and found.most == pytest.approx(max(gains))


def test_cells_that_tuned_other_knobs_are_not_compared() -> None:
    one = cell({(1, 1): 1.0, (1, 2): 2.0}, device="one")
    other = cell({(1, 1): 1.0, (2, 1): 2.0}, device="other")
    alone = cell({(1, 1): 1.0}, device="alone")
    assert port(alone, one, ("device",)) is None
    assert (found := port(one, other, ("device",))) is not None and found.kind == "not measured here"


def test_existing_runs_are_ported_by_the_command(tmp_path: Path) -> None:
    runs = [saved(tmp_path / name, tuned(seed), engine_version=name).folder for seed, name in enumerate("ab")]
    page, sentences = port_runs(runs, tmp_path / "out")
    assert page.name == "porting.html" and len(sentences) == 2
    with (tmp_path / "out" / "porting.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["axis"], row["from"], row["to"]) for row in rows] == [
        ("engine", "fake a", "fake b"),
        ("engine", "fake b", "fake a"),
    ]
    assert all(row["best_here_config"] for row in rows)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    port_runs(runs, tmp_path / "out")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}


def test_what_a_tune_brought_keeps_the_gain_that_it_measured_on_unseen_prompts() -> None:
    gain, to_default = log_t_interval([1.1, 1.12, 1.08]), log_t_interval([1.9, 2.0, 2.1])
    proved = Brought(NEW.default.updated({"batch_size": 2}), gain, to_default)
    found = port(OLD, replace(NEW, brought=proved), ("device",))
    assert found is not None and (found.gain, found.to_default) == (gain, to_default)
    other = port(OLD, replace(NEW, brought=replace(proved, config=NEW.default)), ("device",))
    assert other is not None and other.gain != gain


def test_runs_without_a_common_knob_are_refused(tmp_path: Path) -> None:
    runs = [saved(tmp_path / "a", tuned()).folder, hostile(tmp_path / "b").folder]
    with pytest.raises(UsageError, match="no two of these runs tuned the same knob"):
        port_runs(runs, tmp_path / "out")
    with pytest.raises(UsageError, match="name two runs or more"):
        check_report(runs[:1], None, None, port=True)
    with pytest.raises(UsageError, match="named twice"):
        port_runs([runs[0], runs[0]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_of_strangers_stay_text(tmp_path: Path) -> None:
    runs = [hostile(tmp_path / "b").folder, hostile(tmp_path / "c").folder]
    page, _ = port_runs(runs, tmp_path / "out")
    assert "<script" not in page.read_text() and "<img" not in page.read_text()
