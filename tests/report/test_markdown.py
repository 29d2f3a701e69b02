"""`report.md`: the answer first, its figures, and nothing in it that breaks out of its cell."""

import math
import re

import pytest

from infertune.domain.knobs import Choice, SearchSpace
from infertune.domain.measurement import Crashed
from infertune.domain.objective import get_objective
from infertune.report import find, to_markdown
from infertune.report.words import answer_sentence, interval_text
from infertune.runs.ledger import Ledger
from infertune.runs.summary import summarise
from infertune.sequential import TRUST, contrast, side
from infertune.stats import log_t_interval
from tests.builders import config, header, ledger_of, one_knob, oom

SPACE = one_knob(1, 2)
FINAL = [("final", r, config(slots=n), 100.0 * n + r) for r in range(3) for n in (1, 2)]
SEARCH = [("search", 0, config(slots=1), 100.0), ("search", 0, config(slots=2), 200.0)]

WORSE = ("search", 0, config(slots=2), 90.0)


def run(*rows: object, ended: str | None = "done") -> Ledger:
    return ledger_of(*rows, of=SPACE, ended=ended)  # type: ignore[arg-type]


def report(ledger: Ledger) -> str:
    return to_markdown(find(ledger, get_objective("throughput")))


@pytest.mark.parametrize(
    ("rows", "ended", "sentence"),
    [
        ([*SEARCH, *FINAL], "done", r"^Tuned is better than the default \(\+9\d\.\d%, 95% interval \+\d.* to \+\d"),
        (SEARCH, None, r"^Unconfirmed: the run ended before the final comparison\.$"),
        ([SEARCH[0]], "done", r"^Unconfirmed: the run ended before anything but the default was tried\.$"),
        ([SEARCH[0], WORSE], "done", r"^No better than the default: keep the default\.$"),
        ([("search", 0, config(slots=1), oom())], "done", r"^Nothing ran: no configuration could be measured\.$"),
        (
            [("search", 0, config(slots=1), oom()), SEARCH[1]],
            "done",
            r"^The default cannot run here; the configuration below can\.$",
        ),
    ],
)  # fmt: skip
def test_the_answer_is_one_sentence(rows: list[object], ended: str | None, sentence: str) -> None:
    found = summarise(run(*rows, ended=ended), get_objective("throughput"))
    assert re.search(sentence, answer_sentence(found))
    assert f"**{answer_sentence(found)}**" in report(run(*rows, ended=ended)).splitlines()[2]


def test_no_better_is_told_with_its_interval() -> None:
    rows = [("final", r, config(slots=n), 100.0 + r * n) for r in range(3) for n in (1, 2)]
    sentence = answer_sentence(summarise(run(*SEARCH, *rows), get_objective("throughput")))
    assert re.search(r"^No better than the default: keep the default \(\+1\.0%, 95% interval -\d", sentence)


def test_figures_of_the_search_are_said_to_be_overestimated() -> None:
    assert "no final comparison was made" in report(run(*SEARCH, ended=None))
    assert "from fresh launches on prompts that the search had not seen" in report(run(*SEARCH, *FINAL))


def test_the_table_shows_means_intervals_and_launches() -> None:
    lines = report(run(*SEARCH, *FINAL)).splitlines()
    logs = [[math.log(rate) for rate in rates] for rates in ((200, 201, 202), (100, 101, 102))]
    tuned, default = (side(scores, contrast(*logs), 3, TRUST["normal"]) for scores in logs)
    assert f"| default | 101 | {interval_text(default)} | 3 |" in lines
    assert f"| tuned | 201 | {interval_text(tuned)} | 3 |" in lines
    assert interval_text(default) == "99.5 – 103"
    assert "Settings to use: `slots=2`" in lines


def test_a_single_sample_has_no_interval() -> None:
    assert interval_text(log_t_interval([100.0])) == interval_text(None) == "one sample"


def test_every_trial_has_a_row_up_to_forty() -> None:
    rows = [("search", 0, config(slots=1), 100.0 + n) for n in range(45)]
    text = report(run(*rows))
    assert len(re.findall(r"^\| \d+ \| search \|", text, re.M)) == 40
    assert "… and 5 more in `landscape.csv`" in text


def test_hostile_text_stays_in_its_cell() -> None:
    nasty = "a|b`c<script>alert(1)</script>\nd"
    of = SearchSpace((Choice("mode", (nasty, "x"), "x"),))
    crash = Crashed(stage="run", detail=nasty)
    plain = ledger_of(
        ("search", 0, config(mode="x"), 100.0), ("search", 0, config(mode=nasty), 200.0),
        ("search", 0, config(mode=nasty), crash), of=of,
    )  # fmt: skip
    ledger = Ledger(plain.folder, header(of, notes=[nasty]), plain.trials)
    text = report(ledger)
    assert "<script" not in text
    assert "b`c" not in text
    for link in ("![x](https://evil/p.png)", "[click](http://evil)", "@team", "**bold**", "one\rtwo"):
        shown = report(Ledger(plain.folder, header(of, notes=[link]), plain.trials))
        assert link not in shown
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \| search", line)]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [6, 6, 6]
