"""What a check of answers found, in words and rows: for the terminal, the report and the page."""

from infertune.domain.knobs import Effect
from infertune.domain.quality import Check, Interval, Verdict
from infertune.profiles.answers import CheckedAnswers
from infertune.profiles.profile import Profile, changed_settings
from infertune.runs.summary import Summary
from infertune.units import printable

HEADINGS = ("", "against the reference", "95% interval", "noise floor")
_WORDS: dict[Verdict, str] = {
    "pass": "answers as well",
    "fail": "answers worse and is left out",
    "open": "not shown to answer as well, and left out",
    "not checked": "could not be checked, and is left out",
}
_EFFECTS: dict[Effect, str] = {
    "exact": "not changed by",
    "numeric": "another order of sums by",
    "lossy": "perhaps spoiled by",
}
_SHOWN_PROMPTS = 3
_SHOWN_CHARACTERS = 60


def figure_rows(check: Check) -> list[tuple[str, str, str, str]]:
    """Name, figure, its interval, and the reference's own second scores; empty where there are none."""
    return _rows(check)


def _rows(check: Check | CheckedAnswers) -> list[tuple[str, str, str, str]]:
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


def profile_lines(profile: Profile) -> list[str]:
    """What a profile's settings do to answers, and what the check of them found."""
    names = {effect: [n for n, own in profile.effects.items() if own == effect] for effect in _EFFECTS}
    parts = [f"{words} {', '.join(names[effect])}" for effect, words in _EFFECTS.items() if names[effect]]
    lines = [f"answers: {'; '.join(parts)}"] if parts else []
    found = profile.answers
    if found is None:
        return lines
    if found.figures is None:
        return [*lines, "answers not checked"]
    figures = [f"{name} {own} ({ends}), noise floor {floor}" for name, own, ends, floor in _rows(found)]
    return [*lines, f"answers checked with {found.n_prompts} prompts: {found.why}", *figures]


def changed_lines(check: Check) -> list[str]:
    """The prompts that changed most, one line each; their texts are a stranger's, made printable."""
    return [
        f"changed most: perplexity {one.perplexity_increase:+.1%}, KL {one.kl_nats:.4f}: "
        f"{_short(one.prompt[-_SHOWN_CHARACTERS:])!r} → {_short(one.answer[:_SHOWN_CHARACTERS])!r}"
        for one in check.worst[:_SHOWN_PROMPTS]
    ]


def answers_sentences(summary: Summary) -> list[str]:
    """What a run knows of its answers; empty where nothing was checked and nothing that may spoil them is advised."""
    lines = []
    if summary.unchecked:
        lines.append("Answers not checked: the settings to use may spoil them, and nobody has looked.")
    for check in summary.checks:
        changed = changed_settings(check.checked, summary.default_config)
        lines.append(f"`{changed}`: {_WORDS[check.verdict]}. {check.why[:1].upper()}{check.why[1:]}.")
    return lines


def reference_sentence(summary: Summary) -> str:
    """What was compared with what; empty where nothing was checked."""
    with_figures = [check for check in summary.checks if check.figures]
    if not with_figures:
        return ""
    most = max(with_figures, key=lambda check: check.n_prompts)
    return (
        f"Compared were the scores of the greedy answers of the {summary.base_name} to {most.n_prompts} prompts "
        f"({most.n_positions:,} tokens) that neither search nor proof saw. A configuration passes if its perplexity on "
        f"them rises by at most {most.limits.max_loss:.2%} over the noise floor: the {summary.base_name} against "
        "itself in another order and other batches."
    )


def _ends(interval: Interval, form: str) -> str:
    if interval.low is None or interval.high is None:
        return "–"
    return f"{interval.low:{form}} to {interval.high:{form}}"


def _short(text: str) -> str:
    return printable(" ".join(text.split()))
