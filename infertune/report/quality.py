"""What a check of answers found, in words and rows: for the terminal, the report and the page."""

from collections.abc import Sequence

from infertune.domain.quality import Check, Interval
from infertune.units import printable

HEADINGS = ("", "against the reference", "95% interval", "noise floor")
_SHOWN_PROMPTS = 3
_SHOWN_CHARACTERS = 60


def figure_rows(check: Check) -> list[tuple[str, str, str, str]]:
    """Name, figure, its interval, and the reference's own second scores; empty where there are none."""
    figures, floor = check.figures, check.floor
    if figures is None or floor is None:
        return []
    rows = (
        ("perplexity", figures.perplexity_increase, floor.perplexity_increase, "+.2%"),
        ("KL divergence, nats", figures.kl_nats, floor.kl_nats, ".5f"),
        ("likeliest token agrees", figures.agreement, floor.agreement, ".1%"),
    )
    return [(name, f"{own.mean:{form}}", _ends(own, form), f"{base.mean:{form}}") for name, own, base, form in rows]


def verdict_sentence(check: Check) -> str:
    """The verdict with its reason."""
    scored = f", {check.n_prompts} prompts, {check.n_positions:,} tokens" if check.n_prompts else ""
    word = {"pass": "PASS", "fail": "FAIL", "open": "NOT DECIDED", "not checked": "NOT CHECKED"}[check.verdict]
    return f"{word}: {check.why}{scored}"


def changed_lines(check: Check) -> list[str]:
    """The prompts that changed most, one line each; their texts are a stranger's, made printable."""
    return [
        f"changed most: perplexity {one.perplexity_increase:+.1%}, KL {one.kl_nats:.4f}: "
        f"{_short(one.prompt[-_SHOWN_CHARACTERS:])!r} → {_short(one.answer[:_SHOWN_CHARACTERS])!r}"
        for one in check.worst[:_SHOWN_PROMPTS]
    ]


def answers_sentence(checks: Sequence[Check], unchecked: str = "") -> str:
    """What a run knows of its answers, for the headline's side; empty where nothing was checked and nothing lossy."""
    if unchecked:
        return f"answers not checked: {unchecked}"
    failed = [check for check in checks if check.verdict != "pass"]
    passed = [check for check in checks if check.verdict == "pass"]
    parts = []
    if passed and passed[-1].figures:
        figures = passed[-1].figures
        parts.append(
            f"answers checked: perplexity {figures.perplexity_increase.mean:+.2%} "
            f"({_ends(figures.perplexity_increase, '+.2%')}), likeliest token agrees in {figures.agreement.mean:.1%}"
        )
    if failed:
        what = "configuration was" if len(failed) == 1 else "configurations were"
        parts.append(f"{len(failed)} faster {what} left out for answering worse")
    return "; ".join(parts)


def _ends(interval: Interval, form: str) -> str:
    if interval.low is None or interval.high is None:
        return "–"
    return f"{interval.low:{form}} to {interval.high:{form}}"


def _short(text: str) -> str:
    return printable(" ".join(text.split()))
