"""`bench` and `landscape` on the simulated engine: they end with a report that says how, however they end."""

from pathlib import Path

import pytest

from infertune.domain.knobs import Config
from infertune.domain.request import R, make_request
from infertune.errors import BenchmarkError, InterruptedRunError
from infertune.runs.ledger import Ledger
from infertune.runs.observer import Observer
from infertune.tuning.sweep import BenchRequest, LandscapeRequest, bench_request, landscape_request


class Impatient(Observer):
    """Presses Ctrl-C when a trial starts."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def trial_starts(self, config: Config, *, live: bool) -> None:
        """Once too often."""
        self.patience -= 1
        if self.patience < 0:
            raise KeyboardInterrupt


def asked(kind: type[R], out: Path, **flags: object) -> R:
    return make_request(kind, {"engine": "fake", "out": out, **flags})


def test_a_bench_ends_and_says_why(tmp_path: Path) -> None:
    found = bench_request(asked(BenchRequest, tmp_path / "run", launches=(2, 3)))
    ledger = Ledger.open(tmp_path / "run")
    assert ledger.ending in ("all 3 launches were made", "the 95% interval is within ±2%")
    assert found.samples and "The run was interrupted" not in (tmp_path / "run" / "report.html").read_text()


def test_a_bench_that_cannot_run_leaves_its_report(tmp_path: Path) -> None:
    full = {"memory_share": 0.95, "max_num_seqs": 512, "max_num_batched_tokens": 16384}
    with pytest.raises(BenchmarkError, match="out of memory"):
        bench_request(asked(BenchRequest, tmp_path / "run", set=full))
    assert "out of memory" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize("command", ["bench", "landscape"])
def test_an_interrupted_run_leaves_the_report_of_what_it_has(tmp_path: Path, command: str) -> None:
    with pytest.raises(InterruptedRunError):
        if command == "bench":
            bench_request(asked(BenchRequest, tmp_path / "run", launches=(5, 9)), Impatient(2))
        else:
            landscape_request(asked(LandscapeRequest, tmp_path / "run"), Impatient(2))
    assert len(Ledger.open(tmp_path / "run").trials) == 2
    assert "The run was interrupted" in (tmp_path / "run" / "report.html").read_text()


def test_a_map_has_its_cost_where_prices_are_given(tmp_path: Path) -> None:
    few = {"max_num_seqs": [64, 128], "max_num_batched_tokens": [2048]}
    held = {"compiled": False, "block_size": 16, "memory_share": 0.8}
    flags = {"knob": few, "set": held, "price_per_hour": 3.6, "repeats": 1}
    found = landscape_request(asked(LandscapeRequest, tmp_path / "run", **flags))
    rate = found.summary.candidate.mean if found.summary.candidate else 0
    cost = found.summary.candidate_economy.cost_per_million_tokens
    assert cost == pytest.approx(3.6 / 3600 / rate * 1e6)
    assert "cost per million tokens" in (tmp_path / "run" / "report.md").read_text()
