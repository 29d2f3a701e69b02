"""`report.md`: the report in GitHub-flavoured Markdown, as a pull request shows it."""

from infertune.domain.figures import Economy
from infertune.domain.knobs import format_scalar
from infertune.domain.measurement import describe
from infertune.domain.trial import Trial
from infertune.landscape import PLACES, point_on
from infertune.profiles.profile import changed_settings
from infertune.report import pictures
from infertune.report.answer import contenders_of
from infertune.report.escaping import code_span, escaped, sentence
from infertune.report.findings import Findings
from infertune.report.quality import answers_sentences, changed_lines, figure_rows, reference_sentence
from infertune.report.serving import HEADINGS as SERVING_HEADINGS
from infertune.report.serving import serving_sentences, time_rows
from infertune.report.words import (
    caveat_sentences,
    cliff_sentence,
    cliffs,
    edge_sentences,
    ending_sentence,
    headline,
    importance_sentences,
    interval_text,
    method_sentences,
    noise_sentence,
    peak_sentence,
    plateau_sentences,
    selection_sentence,
    step_sentence,
    transfer_sentence,
    use_sentence,
)
from infertune.runs.summary import Summary
from infertune.stats import Estimate
from infertune.units import format_duration, format_rate

PICTURES = "pictures"

_MOST_ROWS = 40  # trials in the table; judgement: the rest is in landscape.csv


def to_markdown(found: Findings) -> str:
    """The report as GitHub-flavoured Markdown; its pictures are `pictures/NAME.svg` beside it."""
    ledger, summary = found.ledger, found.summary
    header = ledger.header
    model = header.model
    weights = f" ({escaped(model.weights)} weights)" if model else ""
    shown = {
        name: f"![{escaped(caption)}]({PICTURES}/{name}.svg)" for name, (caption, _) in pictures.drawn(found).items()
    }
    lines = [
        f"# {escaped(header.engine)} {escaped(model.name if model else 'simulated')} on {escaped(str(header.device))}",
        "",
        f"**{sentence(headline(found))}**",
        "",
        f"| | {summary.unit} | 95% interval | launches |",
        "| --- | ---: | ---: | ---: |",
        *(_estimate_row(contender.name, contender.estimate) for contender in contenders_of(found)),
        "",
        *_shown(shown, "answer"),
        sentence(selection_sentence(found)),
        "",
        *([sentence(transfer_sentence(summary)), ""] if summary.ported else []),
        *_settings(found),
        *_economy(summary),
        *_serving(found, shown),
        *_answers(summary, shown),
        *_landscape(found, shown),
        *(["## How the search went", "", *_shown(shown, "progress")] if found.searched and "progress" in shown else []),
        *_front(found, shown),
        "## What was measured",
        "",
        f"- Engine: {escaped(f'{header.engine} {header.engine_version or str()}')}; "
        f"infertune {escaped(header.infertune_version)}",
        f"- Model: {code_span(model.spec)}{weights}, {escaped(model.parameters_text)}, {escaped(model.dtype)}"
        if model
        else "- Model: none",
        f"- Workload: {code_span(header.workload.spec)}, {found.requests} requests a {found.unit_of_work}",
        f"- {sentence(ending_sentence(found))}",
        *(f"- {sentence(line)}" for line in (*caveat_sentences(found), *method_sentences(found))),
        "",
        *_failures(summary),
        "## Trials",
        "",
        *_trial_table(ledger.trials),
        "",
    ]
    return "\n".join(lines)


def _serving(found: Findings, shown: dict[str, str]) -> list[str]:
    """The promise, the rates at which it is kept, and where a request's time goes; nothing for offline jobs."""
    lines = serving_sentences(found)
    if not lines:
        return []
    return [
        "## Serving",
        "",
        *(f"- {sentence(line)}" for line in lines),
        "",
        *_shown(shown, "serving"),
        f"| {' | '.join(SERVING_HEADINGS)} |",
        "| --- |" + " ---: |" * (len(SERVING_HEADINGS) - 1),
        *(f"| {' | '.join(row)} |" for row in time_rows(found)),
        "",
    ]


def _answers(summary: Summary, shown: dict[str, str]) -> list[str]:
    """What the checked configurations do to answers; nothing where nothing is known."""
    lines = answers_sentences(summary)
    if not lines:
        return []
    rows = [
        f"| {code_span(str(changed_settings(check.checked, summary.default_config)))} | {check.verdict} | "
        + " | ".join(f"{figure} ({ends})" for _, figure, ends, _ in figures)
        + f" | {figures[0][3]} |"
        for check in summary.checks
        if (figures := figure_rows(check))
    ]
    table = ["| configuration | | perplexity | KL, nats | likeliest token agrees | noise floor |"]
    table += ["| --- | --- | ---: | ---: | ---: | ---: |", *rows, ""]
    changed = [line for check in summary.checks for line in changed_lines(check)]
    about = reference_sentence(summary)
    return [
        "## Answers",
        "",
        *([sentence(about), ""] if about else []),
        *(f"- {sentence(line)}" for line in lines),
        "",
        *_shown(shown, "quality"),
        *(table if rows else []),
        *([*(f"- {escaped(line)}" for line in changed), ""] if changed else []),
    ]


def _shown(shown: dict[str, str], name: str) -> list[str]:
    return [shown[name], ""] if name in shown else []


def _landscape(found: Findings, shown: dict[str, str]) -> list[str]:
    """The landscape in words, tables and pictures; nothing where no knob was varied."""
    terrain = found.terrain
    if len(terrain.measured) < 2 or not terrain.knobs:
        return []
    plateau = terrain.plateau
    spans = [
        f"| {code_span(span.knob)} | {escaped(', '.join(map(format_scalar, span.values)))} | "
        f"{len(span.values)} of {span.tried} |"
        for span in (plateau.spans if plateau else ())
    ]
    return [
        "## The landscape",
        "",
        sentence(" ".join((cliff_sentence(found), *edge_sentences(found)))),
        "",
        *_shown(shown, "landscape"),
        *(f"- {sentence(step_sentence(step))}" for step in cliffs(found)),
        "",
        *(sentence(line) for line in plateau_sentences(found)),
        "",
        "| knob | values within 2% of the best | of those tried |",
        "| --- | --- | ---: |",
        *spans,
        "",
        sentence(peak_sentence(found)),
        "",
        sentence(noise_sentence(found)),
        "",
        "## Which knobs matter",
        "",
        *(f"{sentence(line)}\n" for line in importance_sentences(found)),
        *_shown(shown, "importance"),
    ]


def _failures(summary: Summary) -> list[str]:
    """How many trials failed, by kind of failure."""
    if not summary.failures:
        return []
    kinds: dict[str, list[str]] = {}
    for line in summary.failures:
        kinds.setdefault(line.kind, []).append(line.what)
    rows = [f"| {kind} | {len(what)} | {escaped(what[0])} |" for kind, what in sorted(kinds.items())]
    return ["## What failed", "", "| class | trials | the first of them |", "| --- | ---: | --- |", *rows, ""]


def _estimate_row(name: str, estimate: Estimate | None) -> str:
    if estimate is None:
        return f"| {name} | – | – | 0 |"
    return f"| {name} | {format_rate(estimate.mean)} | {interval_text(estimate)} | {estimate.n} |"


def _economy(summary: Summary) -> list[str]:
    """Energy, CO₂ and price of default and candidate; one sentence where no energy is known."""
    default, candidate = summary.default_economy, summary.candidate_economy
    rows = [row for row in economy_rows(default, candidate) if row[1] != "–" or row[2] != "–"]
    if not rows:
        return [f"Energy: not known ({escaped(default.basis)}).", ""]
    lines = [f"| per configuration | {summary.base_name} | candidate |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {a} | {b} |" for name, a, b in rows]
    return [
        *lines,
        "",
        f"Energy: {escaped(candidate.basis)}; gross unless it says net. CO₂: {escaped(candidate.carbon)}.",
        "",
    ]


def economy_rows(default: Economy, candidate: Economy) -> list[tuple[str, str, str]]:
    """Name and unit, the default's value, the candidate's; a dash where unknown."""
    figures = (
        ("J per output token", "j_per_output_token"),
        ("net J per output token", "net_j_per_output_token"),
        ("mean W", "power_w"),
        ("g CO₂e per million tokens", "co2e_g_per_million_tokens"),
        ("cost per million tokens", "cost_per_million_tokens"),
    )
    return [(name, _number(getattr(default, key)), _number(getattr(candidate, key))) for name, key in figures]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _front(found: Findings, shown: dict[str, str]) -> list[str]:
    """Throughput against energy: the configurations of the Pareto front; nothing where energy is unknown."""
    front = found.front
    if len(front) < 2:
        return []
    places = {point_on(front, place).config: place for place in reversed(PLACES)}
    rows = [
        f"| {places.get(point.config, '')} | {format_rate(point.output_tokens_per_s)} | "
        f"{point.j_per_output_token:.3g} | {code_span(str(point.config))} |"
        for point in front
    ]
    return [
        "## Throughput against energy",
        "",
        "No other configuration of the search beats these in both; "
        "`infertune profile export RUN --point greenest` takes one.",
        "",
        *_shown(shown, "energy"),
        "| | tok/s | J/token | configuration |",
        "| --- | ---: | ---: | --- |",
        *rows,
        "",
    ]


def _settings(found: Findings) -> list[str]:
    to_set = found.to_set(found.advised)
    lines = [sentence(use_sentence(found)), f"Settings to use: {code_span(str(to_set))}" if to_set.root else ""]
    return [line for text in lines if text for line in (text, "")]


def _trial_table(trials: list[Trial]) -> list[str]:
    rows = [
        f"| {t.number} | {t.phase} | {code_span(str(t.config))} | {escaped(describe(t.outcome))} | "
        f"{format_duration(t.cost_s)} |"
        for t in trials[:_MOST_ROWS]
    ]
    more = [f"… and {len(trials) - _MOST_ROWS} more in `landscape.csv`"] if len(trials) > _MOST_ROWS else []
    return ["| # | phase | configuration | outcome | cost |", "| ---: | --- | --- | --- | ---: |", *rows, *more]
