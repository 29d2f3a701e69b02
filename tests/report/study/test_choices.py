"""Fixed rules, the best single configuration, robust choices, and the shapes of cells: against plain arithmetic."""

import math

import pytest

from infertune.domain.knobs import Config
from infertune.report.study.choices import best_single, fixed_choices, robust_choices, rule_config, usual_rules
from infertune.report.study.findings import find_study
from infertune.report.study.landscapes import absolute, relative
from infertune.report.study.page import study_page, summary_lines
from infertune.report.study.sections import page_markdown
from infertune.report.study.shape import edge_counts, shape_of
from tests.report.study.cells import BATCHES, GPUS, Result, cell

FIRST = cell({(1, 1): 10.0, (1, 2): 40.0, (2, 1): 20.0, (2, 2): 30.0}, model="first")
SECOND = cell({(1, 1): 10.0, (1, 2): 12.0, (2, 1): 20.0, (2, 2): 18.0}, model="second")
THIRD = cell({(1, 1): 10.0, (1, 2): 5.0, (2, 1): 9.0, (2, 2): "oom"}, model="third")


def test_a_rule_takes_the_largest_count_and_the_nearest_batch() -> None:
    config = rule_config(FIRST, {"n_gpus": "max", "batch_size": 256})
    assert config == Config({"n_gpus": 2, "batch_size": 2})
    assert rule_config(FIRST, {"n_gpus": "min"}) == Config({"n_gpus": 1, "batch_size": 1})
    assert rule_config(FIRST, {"nonesuch": 1}) is None


def test_shares_of_the_best_and_of_the_gain() -> None:
    default, rule, single = fixed_choices([FIRST, SECOND, THIRD], {})
    assert default.share_of_gain == 0 and default.shares_of_best == pytest.approx([0.25, 0.5, 1.0])
    assert rule.name == "all GPUs, largest batch" and (rule.failed, len(rule.shares_of_best)) == (1, 2)
    assert rule.mean_of_best == pytest.approx(math.sqrt(30 / 40 * 18 / 20))
    assert rule.share_of_gain == pytest.approx(math.log(3 * 1.8) / math.log(4 * 2))
    assert rule.median_share_of_gain == pytest.approx((20 / 30 + 8 / 10) / 2)
    assert rule.worst is not None and rule.worst.cell is FIRST
    assert single.name == "best single configuration (n_gpus=2 batch_size=1)"
    assert best_single([FIRST, SECOND]) == Config({"n_gpus": 2, "batch_size": 2})


def test_the_usual_rule_names_the_batch_that_it_takes() -> None:
    wide = cell({(1, 128): 1.0, (1, 256): 2.0, (1, 512): 3.0, (2, 128): 1.0})
    (name, values), *_ = usual_rules([wide]).items()
    assert name == "all GPUs, batch 256" and rule_config(wide, values) == Config({"n_gpus": 2, "batch_size": 256})


def test_the_robust_choice_loses_least_where_it_loses_most() -> None:
    (robust,) = robust_choices([FIRST, SECOND])
    assert robust.over == "model" and robust.config == Config({"n_gpus": 2, "batch_size": 2}) and robust.candidates == 4
    assert min(robust.choice.shares_of_best) == pytest.approx(0.75)
    (wider,) = robust_choices([FIRST, SECOND, THIRD])
    assert wider.config == Config({"n_gpus": 2, "batch_size": 1}) and wider.candidates == 3, "it ran in every cell"
    assert wider.choice.worst is not None and wider.choice.worst.of_best == pytest.approx(0.5)


def test_edges_steps_failures_and_scaling() -> None:
    table: dict[tuple[int, int], Result] = {
        (gpus, batch): 10.0 * gpus**0.5 * min(batch, 64) * (0.5 if batch == 128 else 1.0)
        for gpus in GPUS
        for batch in BATCHES
        if batch <= 256
    }
    table[1, 256] = table[2, 256] = "oom"
    shape = shape_of(cell(table))
    assert [(edge.knob, edge.place) for edge in shape.edges] == [("n_gpus", "high"), ("batch_size", "inside")]
    assert (shape.drops, shape.steps) == (4, 4 * 8 - 2) and shape.starts_failing == (("batch_size", 256, 2),)
    assert shape.fall is not None and (shape.fall.low, shape.fall.high) == (64, 128)
    assert shape.fall.ratio == pytest.approx(0.5) and shape.rise is not None and shape.rise.ratio == pytest.approx(2)
    assert [scale.gpus for scale in shape.scaling] == [1, 2, 4, 8]
    assert [scale.efficiency for scale in shape.scaling] == pytest.approx([1, 2**-0.5, 0.5, 8**-0.5])
    assert shape.scaling[-1].per_gpu == pytest.approx(640 * 8**0.5 / 8) and shape.failed["oom"] == 2
    assert shape.plateau == 2, "the best, and the same with a batch of 256"
    assert edge_counts([shape])["n_gpus"] == {"high": 1}


def test_a_page_says_it_in_words_and_pictures() -> None:
    found = find_study("Three models", [FIRST, SECOND, THIRD], {"two GPUs": {"n_gpus": 2}})
    lines = summary_lines(found)
    assert lines[0] == "The best is ×2 the default on average (geometric), ×2 in the median of 3 cells."
    assert any(line.startswith("two GPUs on engine: ") for line in lines)
    page = study_page(found)
    text = page_markdown(page)
    assert "## Robust choices" in text and "one repetition: no interval" in text
    assert all(f"pictures/{picture.name}.svg" in text for picture in page.pictures)
    assert relative([THIRD]).count("b-line") >= 2, "a cross where it failed"
    assert absolute([FIRST, THIRD], [THIRD]) != absolute([THIRD], [THIRD]), "one scale over all cells"


def test_many_groups_are_told_together() -> None:
    cells = [
        cell({(1, 1): 1.0, (1, 2): 2.0 + number % 3}, device=device, workload=str(number))
        for number in range(8)
        for device in ("old", "new")
    ]
    lines = summary_lines(find_study("x", cells))
    assert sum("change of device" in line for line in lines) == 1 and len(lines) < 12


def test_many_pairs_in_many_groups_have_a_row_together_and_the_rest_folded_away() -> None:
    cells = [
        cell({(1, 1): 1.0, (1, 2): 2.0 + (number * place) % 3}, model=str(number), workload=str(place))
        for number in range(5)
        for place in range(5)
    ]
    porting = study_page(find_study("x", cells)).sections[-1]
    rows = {row[:3]: row for row in porting.tables[0].rows}
    assert rows["model", "any", "any other"][4] == str(5 * 4 * 5) and ("model", "0", "1") not in rows
    assert "Every change in every group" in porting.details[0].caption
    assert len(porting.pictures) == 2, "one for each axis"


def test_cells_that_all_failed_have_a_report() -> None:
    nothing = cell({(1, 1): "oom", (1, 2): "oom"}, model="none")
    text = page_markdown(study_page(find_study("x", [nothing, FIRST])))
    assert "nothing ran" in text and "In 1 of 2 cells the default did not run." in text
