"""The answer of a run from ledgers written by hand; every figure is worked out here."""

import math

import pytest
from scipy.stats import t as student

from infertune.domain.measurement import Crashed, Outcome
from infertune.domain.objective import get_objective
from infertune.domain.trial import Phase
from infertune.report.words.answer import answer_sentence
from infertune.runs.ledger import Ledger
from infertune.runs.summary import Summary, confirmed, final_rounds, ranked, summarise
from tests.builders import config, header, ledger_of, one_knob, oom

SPACE = one_knob(1, 2, 4)
DEFAULT, TWO, FOUR = (config(slots=n) for n in (1, 2, 4))
THROUGHPUT = get_objective("throughput")
Row = tuple[Phase, int, object, Outcome | float]


def run(*rows: tuple[Phase, int, object, Outcome | float], ended: str | None = "done") -> Ledger:
    return ledger_of(*rows, of=SPACE, ended=ended)  # type: ignore[arg-type]


def summary(*rows: Row, ended: str | None = "done") -> Summary:
    return summarise(run(*rows, ended=ended), THROUGHPUT)


def final(new: list[float], base: list[float]) -> list[Row]:
    return [row for n, (a, b) in enumerate(zip(new, base, strict=True))
            for row in (("final", n, FOUR, a), ("final", n, DEFAULT, b))]  # fmt: skip


SEARCH: list[Row] = [("search", 0, DEFAULT, 100.0), ("search", 0, TWO, 90.0), ("search", 0, FOUR, 150.0)]


def test_better_where_the_interval_of_the_gain_lies_above_1() -> None:
    """Three launches a side: pooled variance, four degrees of freedom, and the third look's level of 2.8%.

    Two rounds of +10% would have ended it, so those were not the first two: the third one counts half.
    """
    found = summary(*SEARCH, *final([110, 121, 110], [100, 100, 100]))
    mean = math.log(1.1) * 4 / 3
    pooled = (math.log(1.1) ** 2 * 2 / 3) / 4  # squares around each side's mean over their degrees of freedom
    margin = student.ppf(1 - 0.028 / 2, 4) * math.sqrt(pooled * 2 / 3)
    assert found.gain is not None
    assert found.gain.mean == pytest.approx(math.sqrt(1.1 * 1.21))
    assert found.candidate is not None and found.candidate.mean == pytest.approx(100 * math.exp(mean))
    assert found.gain.low == pytest.approx(math.exp(mean - margin)) and found.gain.low > 1
    assert found.answer == "better"
    assert (found.best_config, found.candidate_config) == (FOUR, FOUR)
    assert found.candidate_samples == pytest.approx((110, 121, 110))
    assert found.default is not None and found.default.mean == pytest.approx(100)

    assert summary(*SEARCH, *final([110, 150, 105], [100, 100, 100])).answer == "no better than the default"


def test_a_gain_that_is_certain_but_surely_below_one_percent_is_not_called_better() -> None:
    found = summary(*SEARCH, *final([100.5, 100.51, 100.49], [100, 100.01, 99.99]))
    assert found.gain is not None and found.gain.low is not None and found.gain.low > 1
    assert found.answer == "no better than the default"


def test_the_defaults_launches_of_the_confirmation_count_in_the_interval_and_the_winners_do_not() -> None:
    """They decided whether there was a comparison, so they are too low on average: the gain is that of the pairs."""
    rounds: list[Row] = [("confirm", 0, DEFAULT, 102.0), ("confirm", 0, FOUR, 190.0), ("confirm", 0, TWO, 90.0)]
    found = summary(*SEARCH, *rounds, *final([110, 112], [100, 100]))
    assert found.gain is not None and found.gain.n == 2
    assert found.default_samples == pytest.approx((100, 100, 102))
    assert found.candidate_samples == pytest.approx((110, 112))
    assert found.gain.mean == pytest.approx(math.sqrt(110 * 112) / 100)
    assert found.gain.low is not None and found.gain.high is not None
    middle = math.sqrt(found.gain.low * found.gain.high)
    assert middle == pytest.approx(math.sqrt(110 * 112) / (100 * 100 * 102) ** (1 / 3))


def test_a_gain_lies_in_its_interval_whatever_the_defaults_launches_before_it_were() -> None:
    """A profile cannot hold one that does not, and the interval lies around the mean with those launches."""
    rounds: list[Row] = [("confirm", number, DEFAULT, 80.0) for number in range(20)]
    gain = summary(*SEARCH, *rounds, *final([100, 101], [100, 101])).gain
    assert gain is not None and gain.low is not None and gain.high is not None
    assert 1 < gain.low == gain.mean < gain.high


def test_no_better_than_the_default_where_the_interval_holds_1_and_the_default_is_kept() -> None:
    found = summary(*SEARCH, *final([110, 95, 105], [100, 100, 100]))
    assert found.answer == "no better than the default"
    assert (found.best_config, found.candidate_config) == (DEFAULT, FOUR)


def test_no_better_where_the_search_itself_found_nothing() -> None:
    found = summary(("search", 0, DEFAULT, 100.0), ("search", 0, TWO, 90.0))
    assert (found.answer, found.best_config, found.gain) == ("no better than the default", DEFAULT, None)
    assert found.default is not None and (found.default.mean, found.default.n) == (pytest.approx(100), 1)


def test_unconfirmed_where_a_budget_left_room_for_the_default_alone() -> None:
    found = summary(("search", 0, DEFAULT, 100.0))
    assert (found.answer, found.best_config, found.tried) == ("unconfirmed", DEFAULT, 1)
    failed = summary(("search", 0, DEFAULT, 100.0), ("search", 0, FOUR, oom()))
    assert (failed.answer, failed.tried) == ("no better than the default", 2)


def test_where_the_default_won_the_confirmation_its_figures_are_told_and_not_the_searchs() -> None:
    rows: list[Row] = [
        ("confirm", n, config, rate + n) for n in range(3) for config, rate in ((DEFAULT, 110.0), (FOUR, 100.0))
    ]
    found = summary(*SEARCH, *rows)
    assert (found.answer, found.gain) == ("no better than the default", None)
    assert (found.best_config, found.candidate_config) == (DEFAULT, FOUR)
    assert found.default_samples == pytest.approx((110, 111, 112))
    assert found.candidate_samples == pytest.approx((100, 101, 102))


def test_unconfirmed_while_the_run_has_not_ended() -> None:
    found = summary(*SEARCH, ended=None)
    assert (found.answer, found.best_config, found.gain) == ("unconfirmed", FOUR, None)
    assert found.candidate_samples == pytest.approx((150.0,))


def test_the_default_cannot_run_here_where_only_others_can() -> None:
    found = summary(("search", 0, DEFAULT, oom()), ("search", 0, TWO, 90.0))
    assert (found.answer, found.best_config, found.default) == ("the default cannot run here", TWO, None)


def test_the_default_that_ran_once_can_run_here_and_a_comparison_whose_launches_failed_confirms_nothing() -> None:
    rows: list[Row] = [("search", 0, DEFAULT, oom()), ("search", 0, TWO, 90.0), ("final", 0, DEFAULT, 80.0)]
    found = summary(*rows, ("final", 0, TWO, oom()))
    assert (found.answer, found.best_config, found.gain) == ("unconfirmed", DEFAULT, None)
    cannot: list[Row] = [*rows[:2], ("final", 0, DEFAULT, oom()), ("final", 0, TWO, 90.0)]
    assert summary(*cannot).answer == "the default cannot run here"


CRASH = Crashed(stage="load", detail="RuntimeError: port is taken")


def test_a_launch_of_the_final_comparison_that_crashed_once_and_was_made_again_costs_no_round() -> None:
    rows: list[Row] = [("final", 0, FOUR, CRASH), *final([120, 121], [100, 101])]
    found = summary(*SEARCH, *rows)
    assert (found.answer, found.candidate_samples) == ("better", (pytest.approx(120), pytest.approx(121)))


def test_a_winner_that_failed_twice_in_a_round_is_out_and_the_next_one_is_the_candidate() -> None:
    out: list[Row] = [("final", 0, DEFAULT, 100.0), ("final", 0, FOUR, CRASH), ("final", 0, FOUR, CRASH)]
    alone = summary(*SEARCH, *final([150, 151], [100, 101]), *out[1:])
    assert (alone.answer, alone.best_config) == ("unconfirmed", DEFAULT), "150 tok/s, but it does not start"
    pairs: list[Row] = [("final", n, c, rate) for n in (1, 2) for c, rate in ((DEFAULT, 100.0 + n), (TWO, 120.0 + n))]
    found = summary(*SEARCH, *out, *pairs)
    assert (found.answer, found.best_config) == ("better", TWO)
    assert found.default_samples == pytest.approx((101, 102))


def test_where_the_base_failed_twice_in_a_round_its_earlier_rounds_confirm_nothing() -> None:
    found = summary(*SEARCH, *final([99, 98], [100, 101]), ("final", 2, DEFAULT, CRASH), ("final", 2, DEFAULT, CRASH))
    assert (found.answer, found.best_config, found.gain) == ("unconfirmed", FOUR, None)


def test_a_default_that_breaks_a_limit_is_not_kept_for_being_faster() -> None:
    slow = get_objective("throughput", ["output_tokens_per_s<120"])
    rows: list[Row] = [("search", 0, DEFAULT, 200.0), ("search", 0, FOUR, 110.0), *final([110, 111], [200, 201])]
    found = summarise(run(*rows), slow)
    assert (found.answer, found.best_config) == ("the default breaks a limit", FOUR)
    assert (found.default_breaks, found.candidate_breaks) == (("output_tokens_per_s<120",), ())
    assert answer_sentence(found).startswith(
        "The default breaks output_tokens_per_s<120; the configuration below does not (-44."
    )


def test_where_nothing_keeps_the_limits_nothing_is_recommended() -> None:
    fast = get_objective("throughput", ["output_tokens_per_s>1000"])
    found = summarise(run(*SEARCH), fast)
    assert (found.answer, found.gain) == ("nothing keeps the limits", None)
    assert answer_sentence(found) == "No configuration that was tried keeps output_tokens_per_s>1000."


def test_a_winner_that_breaks_a_limit_in_the_final_comparison_is_not_better() -> None:
    slow = get_objective("throughput", ["output_tokens_per_s<120"])
    rows: list[Row] = [("search", 0, DEFAULT, 100.0), ("search", 0, FOUR, 119.0), *final([130, 131], [100, 101])]
    found = summarise(run(*rows), slow)
    assert (found.answer, found.best_config) == ("no better than the default", DEFAULT)
    assert answer_sentence(found).endswith("The best candidate breaks output_tokens_per_s<120.")


def test_nothing_ran_where_every_trial_failed() -> None:
    crash = Crashed(stage="run", detail="killed by SIGSEGV\nlong trace", signal="SIGSEGV")
    found = summary(("search", 0, DEFAULT, oom()), ("search", 0, TWO, crash))
    assert (found.answer, found.default, found.candidate, found.gain) == ("nothing ran", None, None, None)
    assert [(f.number, f.config, f.kind) for f in found.failures] == [(0, "slots=1", "oom"), (1, "slots=2", "crashed")]
    assert found.failures[1].what == "crashed in run: killed by SIGSEGV"


def test_an_empty_ledger_says_that_nothing_ran() -> None:
    assert summary(ended=None).answer == "nothing ran"


def test_a_round_of_the_final_comparison_without_its_partner_is_dropped() -> None:
    rows = [*final([120, 130, 125], [100, 100, 100]), ("final", 3, FOUR, 999.0), ("final", 4, DEFAULT, 1.0)]
    failed = [("final", 5, FOUR, CRASH), ("final", 5, DEFAULT, 100.0)]
    found = summary(*SEARCH, *rows, *failed)  # type: ignore[arg-type]
    assert found.candidate_samples == pytest.approx((120, 130, 125))
    assert found.default_samples == pytest.approx((100, 100, 100))
    assert found.gain is not None and found.gain.n == 3


def test_one_whole_pair_is_no_comparison_yet() -> None:
    assert final_rounds(run(*final([120], [100])), THROUGHPUT) is None
    assert summary(*SEARCH, *final([120], [100]), ended=None).answer == "unconfirmed"


def test_a_comparison_of_more_rounds_than_usual_has_stricter_levels() -> None:
    usual_run = run(*final([120, 121], [100, 101]))
    asked = header(SPACE, request={"engine": "fake", "final_launches": [2, 40]})
    found = final_rounds(Ledger(usual_run.folder, asked, list(usual_run.trials)), THROUGHPUT)
    assert found is not None and found.looks == (2, 3, 4, 6, 9, 12, 40) == found.trust.looks
    usual = final_rounds(usual_run, THROUGHPUT)
    assert usual is not None and usual.looks == (2, 3, 4, 6, 9, 12) == usual.trust.looks


def test_pairs_are_matched_by_round_whatever_their_order_in_the_ledger() -> None:
    rows = final([120, 60, 240], [100, 50, 200])
    found = final_rounds(run(*reversed(rows)), THROUGHPUT)
    assert found is not None
    assert found.candidate == FOUR
    ratios = [a / b for a, b in zip(found.candidate_samples, found.default_samples, strict=True)]
    assert ratios == pytest.approx([1.2, 1.2, 1.2])


def test_ranking_takes_the_geometric_mean_of_repeats_in_the_search_only() -> None:
    rows = [("search", 0, TWO, 100.0), ("search", 0, TWO, 400.0), ("search", 0, FOUR, 250.0), ("final", 0, TWO, 9999.0)]
    order = ranked(run(*rows).trials, THROUGHPUT)  # type: ignore[arg-type]
    assert [(chosen, round(figure)) for chosen, figure in order] == [(FOUR, 250), (TWO, 200)]


def test_a_finalist_that_failed_in_any_confirmation_round_is_out() -> None:
    rows = [
        ("confirm", 0, DEFAULT, 100.0), ("confirm", 0, TWO, 300.0), ("confirm", 0, FOUR, 120.0),
        ("confirm", 1, FOUR, 120.0), ("confirm", 1, TWO, oom()), ("confirm", 1, DEFAULT, 100.0),
    ]  # fmt: skip
    assert [chosen for chosen, _ in confirmed(run(*rows).trials, THROUGHPUT)] == [FOUR, DEFAULT]  # type: ignore[arg-type]


def test_costs_are_summed_over_all_trials_failed_ones_too() -> None:
    found = summary(*SEARCH, ("search", 0, TWO, oom()))
    assert (found.trials, found.launches, found.launch_s, found.run_s) == (4, 4, 8.0, 12.0)
