"""The report's section on answers."""

from infertune.domain.knobs import Config
from infertune.domain.quality import Changed, Check, Figures, Interval
from infertune.report.quality import changed_lines, figure_rows, verdict_sentence


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
