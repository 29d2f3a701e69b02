"""What the gate promises, simulated in every cell: 5,000 gates each, the same as `python -m tests.benchmarks.gate`."""

import numpy as np
import pytest

from infertune.gating.verdict import LOOKS, judge_pairs
from tests.benchmarks import gate

N = 5000


@pytest.mark.parametrize("noise", gate.NOISES)
def test_the_promise_holds_in_every_cell(noise: str) -> None:
    broken = []
    for cv in gate.CVS:
        broken += gate.broken_promises(noise, cv, gate.cells_of(noise, cv, N), N)
    assert broken == []


def test_a_rule_that_breaks_the_promise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "ALPHA_A_LOOK", 0.03)
    assert gate.broken_promises("normal", 0.02, gate.cells_of("normal", 0.02, N), N)


def test_the_stored_rule_keeps_its_level_under_normal_noise() -> None:
    for n_runs in (8, 20):
        assert not gate.above(gate.stored_false_alarms("normal", n_runs, 20_000), 0.01, 20_000)
        assert gate.stored_false_alarms("normal", n_runs, 20_000, drop_in_sd=5.0) > 0.9


def test_the_noises_are_as_large_as_they_are_said_to_be() -> None:
    rng = np.random.default_rng(0)
    for name, (draw, _) in gate.NOISES.items():
        sample = draw(rng, 40_000, 4)
        assert sample.std() == pytest.approx(1.0, abs=0.06), name
        assert sample.mean() == pytest.approx(0.0, abs=0.03), name


def test_the_simulation_judges_as_the_gate_does() -> None:
    gains = gate.gains("normal", 0.03, 0.06, 60, seed=5)
    simulated, pairs = gate.answers_of(gains)
    for row, answer, used in zip(gains, simulated, pairs, strict=True):
        for look in LOOKS:
            found = judge_pairs({"rate": list(row[:look])}, gate.MARGIN).answer
            if found != "inconclusive":
                break
        assert {"pass": 1, "regression": -1, "inconclusive": 0}[found] == answer
        assert look == used
