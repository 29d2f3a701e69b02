"""The report's section on answers."""

from pathlib import Path

import pytest

from infertune import tune
from infertune.domain.knobs import Config
from infertune.domain.objective import get_objective
from infertune.domain.quality import Changed, Check, Figures, Interval
from infertune.report.quality import changed_lines, figure_rows, verdict_sentence
from infertune.report.words import spent_sentences
from infertune.runs.ledger import Ledger
from infertune.runs.summary import summarise


def check(verdict: str = "fail", **more: object) -> Check:
    """A check with figures."""
    one = Interval(mean=0.02, low=0.01, high=0.03)
    figures = Figures(kl_nats=one, log_loss_nats=one, perplexity_increase=one, agreement=one)
    known = {
        "checked": Config({"bits": 8}),
        "verdict": verdict,
        "why": "perplexity",
        "figures": figures,
        "floor": figures,
    }
    return Check.model_validate({**known, **more})


def test_figures_stand_beside_the_noise_floor() -> None:
    rows = figure_rows(check())
    assert rows[0] == ("perplexity", "+2.00%", "+1.00% to +3.00%", "+2.00%")
    assert [name for name, *_ in rows] == ["perplexity", "KL divergence, nats", "likeliest token agrees"]
    assert figure_rows(check(figures=None)) == []


def test_texts_of_strangers_are_one_printable_line() -> None:
    evil = Changed(prompt="a\n\x1b[31m\u202eb", answer="<script>\r\n::error::", kl_nats=0.1, perplexity_increase=0.2)
    (line,) = changed_lines(check(worst=(evil,)))
    assert line.isprintable()


def test_a_verdict_says_how_much_was_scored() -> None:
    assert verdict_sentence(check(n_prompts=16, n_positions=2000)) == "FAIL: perplexity, 16 prompts, 2,000 tokens"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tune that searched a lossy knob, of which one value fails."""
    out = tmp_path_factory.mktemp("lossy") / "run"
    held = {"compiled": False, "max_num_seqs": 64, "max_num_batched_tokens": 2048, "memory_share": 0.8}
    knobs = {"bits": [16, 8, 4], "block_size": [16]}
    engine = "fake:plateau,loss=0.2%"
    tune(engine=engine, device="cpu", knob=knobs, set=held, trials=3, out=out, profiles=out / "profiles")
    return out


def test_speed_against_perplexity_is_a_picture_where_lossy_knobs_were_searched(run: Path) -> None:
    picture = (run / "pictures" / "quality.svg").read_text()
    assert "bits=8" in picture and "limit +1.0%" in picture and picture.count("<circle") >= 2
    assert "(pictures/quality.svg)" in (run / "report.md").read_text()
    assert "<figcaption>\n    What the search measured, against" in (run / "report.html").read_text()


def test_without_lossy_knobs_there_is_no_such_picture(tmp_path: Path) -> None:
    tune(engine="fake", device="cpu", trials=2, out=tmp_path / "run", profiles=tmp_path / "profiles")
    assert not (tmp_path / "run" / "pictures" / "quality.svg").exists()


def test_what_the_check_cost_stands_beside_search_and_proof(run: Path) -> None:
    ledger = Ledger.open(run)
    found = summarise(ledger, get_objective("throughput"))
    part = found.spent[-1]
    assert part.what == "answers" and part.trials == len(ledger.checks)
    assert part.run_s == sum(check.score_s for check in ledger.checks) > 0
    assert spent_sentences(found)[-1].startswith("answers: ") and "% of the whole" in spent_sentences(found)[-1]
