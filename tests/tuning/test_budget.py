"""What a tune may spend: the search's part and the confirmation's, sessions before this one included."""

import math
from pathlib import Path

import pytest

from infertune.domain.request import TuneRequest
from infertune.domain.trial import Trial
from infertune.runs.ledger import Ledger
from infertune.tuning.budget import Budget
from infertune.tuning.tune import tune
from tests.builders import config, header, one_knob, trial

SPACE = one_knob(*range(1, 60))


def costing(number: int, launch_s: float, run_s: float) -> Trial:
    changes = {"launch_s": launch_s, "run_s": run_s}
    return trial(number, config(slots=number + 1), 100.0).model_copy(update=changes)


def budget(seconds: float | None, *costs: tuple[float, float], **asked: object) -> tuple[Budget, Ledger]:
    """A budget over a ledger that holds trials of some launch and run seconds, as after a resume."""
    ledger = Ledger(Path("nowhere"), header(SPACE), [costing(n, *cost) for n, cost in enumerate(costs)])
    request = TuneRequest.model_validate({"engine": "fake", "budget": seconds, **asked})
    return Budget(request, ledger), ledger


def test_without_a_budget_there_is_no_end() -> None:
    endless, _ = budget(None, (50.0, 50.0))
    assert endless.left_s() == math.inf
    assert endless.search_s() is None
    assert not endless.search_is_over()
    assert endless.has_room_for(1000)


def test_what_earlier_sessions_spent_is_gone() -> None:
    spent, _ = budget(1000.0, (30.0, 10.0), (0.0, 10.0))
    assert 949 < spent.left_s() <= 950


def test_simulated_seconds_count_though_no_time_passes() -> None:
    spending, ledger = budget(1000.0)
    assert 999 < spending.left_s() <= 1000
    ledger.trials.append(costing(0, 300.0, 100.0))
    assert 599 < spending.left_s() <= 600
    ledger.trials.append(costing(1, 600.0, 100.0))
    assert spending.left_s() == pytest.approx(-100, abs=1)


def test_before_any_launch_the_search_may_take_everything() -> None:
    fresh, _ = budget(1000.0)
    assert fresh.search_s() == 1000.0
    assert not fresh.search_is_over()


def test_the_search_leaves_what_the_confirmation_is_expected_to_cost() -> None:
    """Two finalists and the default two times each and two pairs at the end: ten launches of 20 s."""
    asked = {"finalists": 2, "confirm_launches": 2, "final_launches": (2, 4)}
    few, ledger = budget(1000.0, (15.0, 5.0), (0.0, 5.0), **asked)
    assert few.search_s() == 1000.0 - 10 * 20.0
    assert not few.search_is_over()
    ledger.trials.append(costing(2, 0.0, 780.0))
    assert few.search_is_over()


def test_the_confirmation_takes_a_half_at_most() -> None:
    """Launches of 50 s: four of the final comparison take 200 s, four of a confirmation would take 200 s more."""
    dear, _ = budget(300.0, (40.0, 10.0), confirm_launches=1, final_launches=(2, 4))
    assert dear.search_s() == 300.0 - 200.0
    dearer, _ = budget(360.0, (40.0, 10.0), confirm_launches=1, final_launches=(2, 4))
    assert dearer.search_s() == 360.0 - 200.0
    assert budget(600.0, (40.0, 10.0), confirm_launches=1, final_launches=(2, 4))[0].search_s() == 600.0 - 300.0


def test_the_fewest_rounds_of_the_final_comparison_take_three_quarters_at_most() -> None:
    """Where they need more the budget cannot be held: the search gets a half, so that it finds what to compare."""
    asked = {"finalists": 1, "final_launches": (2, 4)}
    assert budget(1000.0, (140.0, 47.0), **asked)[0].search_s() == pytest.approx(1000.0 - 4 * 187.0)
    assert budget(1000.0, (140.0, 48.0), **asked)[0].search_s() == 500.0


def test_no_trial_begins_that_would_overrun_the_searchs_part() -> None:
    """Four launches of 60 s are kept for the proof of 600 s. A trial takes 10 s, or 60 s with a launch."""
    spent, ledger = budget(600.0, (50.0, 10.0), finalists=1, final_launches=(2, 4))
    assert spent.search_s() == 600.0 - 240.0

    def over_after(live_trials: int) -> tuple[bool, bool, bool]:
        ledger.trials[1:] = [costing(1 + number, 0.0, 10.0) for number in range(live_trials)]
        return spent.search_is_over(next_is_live=False), spent.search_is_over(next_is_live=True), spent.search_is_over()

    assert over_after(20) == (False, False, False)  # 260 s of 360 were spent
    assert over_after(25) == (True, False, False)  # 310 s
    assert over_after(30) == (True, True, True)


def test_a_live_trial_does_not_make_launches_look_cheap() -> None:
    asked = {"finalists": 1, "confirm_launches": 3, "final_launches": (2, 4)}
    one, _ = budget(1000.0, (15.0, 5.0), **asked)
    many, _ = budget(1000.0, (15.0, 5.0), *[(0.0, 1.0)] * 20, **asked)
    assert one.search_s() == many.search_s()


def test_there_is_room_for_as_many_launches_as_the_mean_of_those_before_allows() -> None:
    """Launches cost 10 s; 95 s are left."""
    spent, _ = budget(2000.0, (9.0, 1.0), (0.0, 1895.0))
    assert spent.has_room_for(9) and not spent.has_room_for(10)


def test_a_single_finalist_needs_no_confirmation_and_none_is_kept_for_it() -> None:
    one, _ = budget(1000.0, (15.0, 5.0), finalists=1, final_launches=(2, 4))
    assert one.search_s() == 1000.0 - 4 * 20.0


def test_what_is_compared_besides_needs_launches_too() -> None:
    asked = {"finalists": 1, "final_launches": (2, 4)}
    two, ledger = budget(1000.0, (15.0, 5.0), **asked)
    ledger.header = ledger.header.model_copy(update={"stock": config(slots=2)})
    assert two.search_s() == 1000.0 - 6 * 20.0


def test_what_was_brought_from_elsewhere_counts_once_where_it_is_the_default() -> None:
    asked = {"finalists": 1, "final_launches": (2, 4)}
    two, ledger = budget(1000.0, (15.0, 5.0), **asked)
    for ported, launches in ((SPACE.default, 4), (config(slots=2), 6)):
        ledger.header = ledger.header.model_copy(update={"ported": ported})
        assert two.search_s() == 1000.0 - launches * 20.0


def test_launches_of_the_proof_cost_what_they_did_once_there_are_any() -> None:
    """60 s and 40 s of loads in the search; at a goodput five loads of 40 s, until the proof's first tells."""
    spent, ledger = budget(2000.0, (60.0, 40.0), (0.0, 1400.0), objective="goodput", slo=["ttft_s<1"])
    assert spent.has_room_for(1) and not spent.has_room_for(2)  # 500 s are left
    ledger.trials.append(costing(2, 100.0, 50.0).model_copy(update={"phase": "final"}))
    assert spent.has_room_for(2) and not spent.has_room_for(3)
    ledger.trials[-1] = costing(2, 100.0, 10.0).model_copy(update={"phase": "final"})
    assert spent.has_room_for(3)


def test_devices_that_measure_at_once_spend_what_the_busiest_does() -> None:
    spent, ledger = budget(1000.0, (30.0, 10.0), (0.0, 10.0))
    for number, device in enumerate(("a", "b")):
        ledger.trials[number] = ledger.trials[number].model_copy(update={"device_id": device})
    ledger.trials.append(costing(2, 0.0, 25.0).model_copy(update={"device_id": "b"}))
    again = Budget(TuneRequest.model_validate({"engine": "fake", "budget": 1000.0}), ledger)
    assert 959 < again.left_s() <= 960


def test_a_tune_that_had_time_for_the_default_alone_says_so(tmp_path: Path) -> None:
    found = tune(engine="fake", trials=1, out=tmp_path / "run", profiles=tmp_path / "profiles").summary
    assert (found.answer, found.trials) == ("unconfirmed", 1)
    assert found.proof == "nothing but what is to be beaten was tried"


@pytest.mark.parametrize("seed", range(2))
def test_a_tune_ends_within_its_budget_where_the_proof_fits(tmp_path: Path, seed: int) -> None:
    """Simulated launches of 75 s; the search of all of them is ended by the time."""
    found = tune(
        engine="fake:plateau,noise=0.01,launch=75s", budget="10m", window="3s", requests=256, seed=seed,
        out=tmp_path / "run", profiles=tmp_path / "profiles",
    )  # fmt: skip
    spent_s = sum(one.cost_s for one in found.ledger.trials)
    assert spent_s <= 10 * 60 and found.summary.answer == "better"
    assert "time budget" in (found.ledger.ending or "")


@pytest.mark.parametrize("limit", ["5m", "7m"])
def test_a_budget_that_cannot_be_held_still_finds_what_is_better(tmp_path: Path, limit: str) -> None:
    """Four launches of the proof alone take 340 s."""
    found = tune(
        engine="fake:plateau,noise=0.01,launch=75s", budget=limit, window="3s", requests=256, seed=1,
        out=tmp_path / "run", profiles=tmp_path / "profiles",
    )  # fmt: skip
    assert found.summary.answer == "better" and sum(one.phase == "final" for one in found.ledger.trials) == 4
