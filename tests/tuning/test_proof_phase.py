"""What a choice of the proof may look at: nothing that was launched after it."""

import pytest

from infertune.domain.objective import get_objective
from infertune.domain.trial import Phase, Trial
from infertune.tuning.trials import Trials
from tests.builders import config, ledger_of, one_knob, trial

BASE = config(slots=1)


def on(device: str, number: int, phase: Phase, round_number: int, rate: float) -> Trial:
    return trial(number, BASE, rate, phase, round_number).model_copy(update={"device_id": device})


def trials(*found: Trial) -> Trials:
    ledger = ledger_of(of=one_knob(1, 2, 4))
    ledger.trials.extend(found)
    known = Trials.__new__(Trials)
    known.ledger, known.objective = ledger, get_objective("throughput")
    return known


def test_what_is_known_of_a_device_when_something_is_decided_is_not_changed_by_later_launches() -> None:
    search = [on("a", 0, "search", 0, 100.0), on("b", 1, "device", 0, 110.0)]
    later = [
        on(device, 2 + 2 * number + at, phase, number, rate)
        for phase, number in (("confirm", 0), ("confirm", 1), ("final", 2))
        for at, (device, rate) in enumerate((("a", 100.0), ("b", 140.0)))
    ]
    before, after = trials(*search), trials(*search, *later)
    first = search[0]
    assert after.result(first).score == before.result(first).score
    one_round = trials(*search, *later[:2])
    assert after.result(first, 1).score == one_round.result(first, 1).score
    assert after.result(first, 1).score != pytest.approx(after.result(first, 0).score)
    assert after.result(first, 2).score == after.result(first, 99).score
