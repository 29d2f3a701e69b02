"""The comparison of live values with fresh launches, on a simulated engine whose live values are exactly as fast."""

import re
import sys
from pathlib import Path

import pytest

from tests.benchmarks import live_against_fresh


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["live_against_fresh", "fake", *arguments])
    live_against_fresh.main()


def test_values_that_are_as_fast_live_have_a_ratio_of_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--knob", "max_num_seqs=8,64", "--rounds", "6")
    found = re.findall(
        r"(max_num_seqs=\d+): ([\d.]+), 95% interval ([\d.]+) to ([\d.]+), 6 rounds", capsys.readouterr().out
    )
    assert [name for name, *_ in found] == ["max_num_seqs=8", "max_num_seqs=64"]
    for _, ratio, low, high in found:
        assert float(ratio) == pytest.approx(1.0, abs=0.03)
        assert float(low) < 1.0 < float(high)


def test_what_was_measured_before_is_kept_and_a_torn_line_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rates = tmp_path / "rates.jsonl"
    asked = ("--knob", "max_num_seqs=8", "--out", str(tmp_path))
    run(monkeypatch, *asked, "--rounds", "2")
    first = rates.read_text().splitlines()
    rates.write_text("\n".join(first)[:-20])
    run(monkeypatch, *asked, "--rounds", "3")
    again = rates.read_text().splitlines()
    assert again[:4] == first[:4]
    assert len(again) == 1 + 3 * 2


@pytest.mark.parametrize(
    ("knob", "complaint"),
    [
        ("compiled=true", "compiled needs a launch; live knobs are max_num_seqs, max_num_batched_tokens"),
        ("max_num_seqs=9999", "max_num_seqs=9999 is out of range 4 to 4096"),
        ("speed=1", "unknown knob 'speed'"),
    ],
)
def test_a_knob_that_cannot_be_compared_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], knob: str, complaint: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--knob", knob)
    assert capsys.readouterr().err.startswith(complaint)


def test_rates_of_another_request_are_not_mixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run(monkeypatch, "--knob", "max_num_seqs=8", "--rounds", "1", "--out", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--knob", "max_num_seqs=8", "--rounds", "1", "--out", str(tmp_path), "--requests", "32")
