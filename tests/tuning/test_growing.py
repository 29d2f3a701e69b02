"""A ladder goes on where the best of a search lies clearly at its end, as far as job and rules allow."""

from dataclasses import replace

import pytest

from infertune.domain.knobs import Int, Knob, SearchSpace, doubling
from infertune.domain.objective import get_objective
from infertune.domain.trial import Trial
from infertune.landscape import why_no_further
from infertune.report import find
from infertune.report.words import edge_sentences
from infertune.tuning.growing import grown
from infertune.tuning.tune import resumed_request, tune, tune_request
from tests.builders import config, ledger_of, measured, tokens_for_every_sequence, trial

THROUGHPUT = get_objective("throughput")
SPACE = SearchSpace(
    (
        Int("slots", doubling(1, 8), 1, scope="live", is_concurrency=True, most=64),
        Int("budget", (64, 128), 64, scope="live"),
    )
)


def search(*rows: tuple[int, float], n_requests: int = 1000) -> list[Trial]:
    return [
        trial(number, config(slots=slots, budget=64), measured(rate, n_requests=n_requests))
        for number, (slots, rate) in enumerate(rows)
    ]


def slots(*rows: tuple[int, float], space: SearchSpace = SPACE, n_requests: int = 1000) -> tuple[object, ...]:
    return grown(space, search(*rows, n_requests=n_requests), THROUGHPUT)["slots"].values


def test_the_end_that_is_clearly_best_is_doubled_and_once_more_where_the_next_is() -> None:
    assert slots((1, 100), (8, 200)) == (1, 2, 4, 8, 16)
    assert slots((1, 100), (8, 200), (16, 300)) == (1, 2, 4, 8, 16, 32)
    assert slots((1, 100), (8, 200), (16, 150)) == (1, 2, 4, 8, 16)


def test_a_lead_within_noise_and_a_best_further_down_leave_the_ladder_as_it_is() -> None:
    assert slots((1, 100), (8, 100.5)) == (1, 2, 4, 8)
    assert slots((4, 200), (8, 100)) == (1, 2, 4, 8)
    assert slots((8, 200)) == (1, 2, 4, 8)  # nothing to compare it with


def test_a_job_without_more_requests_and_the_engines_own_limit_end_it() -> None:
    assert slots((1, 100), (8, 200), n_requests=8) == (1, 2, 4, 8)
    limited = SPACE.with_knob(SPACE["slots"].model_copy(update={"most": 15}))
    assert slots((1, 100), (8, 200), space=limited) == (1, 2, 4, 8)
    chosen = SPACE.with_knob(SPACE["slots"].restricted((1, 8)))
    assert slots((1, 100), (8, 200), space=chosen) == (1, 8)


def test_a_rule_that_forbids_the_next_rung_ends_it() -> None:
    ruled = replace(SPACE.with_knob(Int("budget", (4, 8), 8)), constraints=(tokens_for_every_sequence(),))
    trials = [trial(n, config(slots=s, budget=8), r) for n, (s, r) in enumerate(((1, 100.0), (8, 200.0)))]
    assert grown(ruled, trials, THROUGHPUT)["slots"].values == (1, 2, 4, 8)


def test_the_header_of_a_run_has_the_ladders_that_its_trials_reached() -> None:
    rows = [("search", 0, config(slots=value, budget=64), 100.0 * value) for value in (1, 8, 16)]
    ledger = ledger_of(*rows, of=SPACE)  # type: ignore[arg-type]
    assert ledger.header.space.knobs[0].values == (1, 2, 4, 8, 16)
    ledger_of(("search", 0, config(slots=3, budget=64), 1.0), of=SPACE)  # within the ladder: taken as it is


@pytest.mark.slow
def test_a_tune_goes_beyond_a_ladder_and_a_resumed_one_has_the_same_space(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infertune.engines.fake import engine as fake

    rising = fake.Landscape(lambda c: 10.0 * c["max_num_seqs"], lambda c: c["max_num_seqs"] / 2000)
    monkeypatch.setitem(fake.LANDSCAPES, "flat", rising)
    folder = tmp_path_factory.mktemp("grown")
    quick = {"finalists": 1, "final_launches": (2, 2), "requests": 3000, "seed": 1, "trials": 14}
    study = tune(engine="fake:flat", out=folder / "run", profiles=folder / "profiles", **quick)
    tried = [t.config["max_num_seqs"] for t in study.ledger.trials if t.phase == "search"]
    assert 1024 in tried and study.summary.best_config["max_num_seqs"] == 1024
    knob = next(knob for knob in study.ledger.header.space.knobs if knob.name == "max_num_seqs")
    assert knob.values[-1] in (1024, 2048)  # 2048 does not load: it was found out, or never asked for

    cut = folder / "cut"
    cut.mkdir()
    lines = (study.ledger.folder / "trials.jsonl").read_text().splitlines(keepends=True)
    (cut / "trials.jsonl").write_text("".join(lines[: 1 + tried.index(1024) + 1]))
    again = tune_request(resumed_request(cut, {}), resume=cut)
    assert again.summary.best_config["max_num_seqs"] == 1024


@pytest.mark.parametrize(
    ("ladder", "n_requests", "chosen", "words"),
    [
        (SPACE["slots"], 8, False, "a job has 8 requests"),
        (SPACE["slots"], 8, True, "give larger values"),
        (SPACE["slots"].model_copy(update={"most": 15}), 1000, False, "the engine takes 15 at most"),
        (SPACE["budget"], 1000, False, "this machine or the engine allows no more"),
        (SPACE["slots"], 1000, False, "a rule between the knobs forbids more, or the search ended"),
    ],
)
def test_why_a_search_looked_no_further_is_said(ladder: Knob, n_requests: int, chosen: bool, words: str) -> None:
    assert words in why_no_further(ladder, n_requests, chosen=chosen)


def test_the_report_says_that_the_best_lies_at_the_end_of_a_ladder() -> None:
    rows = [("search", 0, config(slots=value, budget=64), 100.0 * value) for value in (1, 4, 8)]
    found = find(ledger_of(*rows, of=SPACE), THROUGHPUT)  # type: ignore[arg-type]
    [sentence] = edge_sentences(found)
    assert sentence.startswith("The best lies at the end of slots, at 8: ")
    rows.append(("search", 0, config(slots=2, budget=64), 900.0))
    assert edge_sentences(find(ledger_of(*rows, of=SPACE), THROUGHPUT)) == []  # type: ignore[arg-type]
