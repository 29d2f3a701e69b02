"""The table of tunes: one row a tune, with what its own summary says."""

from pathlib import Path

import pytest

import infertune
from infertune.units import format_percent, format_rate
from tests.gpu import table


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> infertune.Study:
    folder = tmp_path_factory.mktemp("runs")
    return infertune.tune(engine="fake", trials=12, trust="quick", out=folder / "run", profiles=folder / "profiles")


def test_a_tune_has_a_row_with_default_tuned_gain_energy_launches_and_minutes(
    study: infertune.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table.main([str(study.ledger.folder)]) == 0
    head, rule, row = capsys.readouterr().out.splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    summary = study.summary
    assert summary.default and summary.candidate and summary.gain and summary.gain.low
    assert cells[1].startswith("fake ")
    assert cells[2:4] == [format_rate(summary.default.mean), format_rate(summary.candidate.mean)]
    assert cells[4].startswith(f"{format_percent(summary.gain.mean)} ({format_percent(summary.gain.low)} to ")
    assert cells[4].endswith(f": {summary.answer}")
    assert cells[7].startswith(f"{summary.launches}, ")
    assert float(cells[8]) == pytest.approx((summary.launch_s + summary.run_s) / 60, abs=0.05)


def test_a_tune_that_was_ended_early_has_a_row_and_a_run_of_another_command_has_none(
    study: infertune.Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (study.ledger.folder / "trials.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "trials.jsonl").write_text("".join(lines[:4]))
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "trials.jsonl").write_text(lines[0].replace('"command":"tune"', '"command":"bench"'))
    assert table.main([str(tmp_path / "cut"), str(tmp_path / "bench")]) == 0
    [_, _, row] = capsys.readouterr().out.splitlines()
    assert "unconfirmed" in row


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([str(tmp_path / "nothing")]) == 2
    assert str(tmp_path / "nothing") in capsys.readouterr().err
