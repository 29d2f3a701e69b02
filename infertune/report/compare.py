"""The comparison of several runs: of GPUs, engines, models, or dummy and real weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from infertune.report.answer import Contender, best_name, contenders_of
from infertune.report.escaping import escaped
from infertune.report.findings import Findings
from infertune.report.page.assembly import render
from infertune.report.pictures import intervals
from infertune.report.words import gain_text, headline, interval_text, settings_text
from infertune.stats import Estimate, unpaired_ratio
from infertune.units import format_percent, format_rate

_MUST_AGREE = ("workload", "requests", "objective")


@dataclass(frozen=True)
class Row:
    """One run in the comparison.

    Attributes:
        label: A short name that no other run has.
        unit: The unit of its figures.
        facts: What was measured: name → text, the same names in every row.
        contenders: The configurations that it compared.
        to_first: What this run says to use over what the first says; None for the first, and where the units differ.
        figures: Its figures for the table: name → text.
        headline: The run's own answer.
    """

    label: str
    unit: str
    facts: dict[str, str]
    contenders: tuple[Contender, ...]
    to_first: Estimate | None
    figures: dict[str, str]
    headline: str


@dataclass(frozen=True)
class Comparison:
    """Several runs.

    Attributes:
        rows: One row a run, in the order given.
        base: What the runs had to beat: `default`, `current`, or `default or current` where they differ.
        unit: The unit of the first run's figures.
        differs: The names of the facts that differ between runs.
        same: The facts that all runs share: name → text.
        warnings: Why the figures cannot be compared.
    """

    rows: tuple[Row, ...]
    base: str
    unit: str
    differs: tuple[str, ...]
    same: dict[str, str]
    warnings: tuple[str, ...]


def compare(runs: Sequence[Findings]) -> Comparison:
    """Compare runs with the first of them."""
    first = runs[0]
    base = " or ".join(sorted({found.summary.base_name for found in runs}, reverse=True))
    facts = [_facts(found) for found in runs]
    differs = tuple(name for name in facts[0] if len({fact[name] for fact in facts}) > 1)
    rows = []
    for found, label, fact in zip(runs, run_names(runs), facts, strict=True):
        ratio = None
        if found is not first and found.objective.unit == first.objective.unit:
            ratio = _ratio(found.advised_samples, first.advised_samples)
        row = Row(
            label=label,
            unit=found.objective.unit,
            facts=fact,
            contenders=contenders_of(found),
            to_first=ratio,
            figures=_figures(found, ratio, base, is_first=found is first),
            headline=headline(found),
        )
        rows.append(row)
    warnings = [
        f"Not the same {name}: the figures measure different things and cannot be compared."
        for name in _MUST_AGREE
        if name in differs
    ]
    if any(found.searched and found.summary.gain is None for found in runs):
        warnings.append("Not every run reached its final comparison: figures without a gain are the search's own.")
    commands = {found.ledger.header.command for found in runs}
    if {"tune", "landscape"} <= commands:
        warnings.append(
            "A map's best is overestimated (selection bias); a tune's is from fresh launches on unseen prompts."
        )
    return Comparison(
        rows=tuple(rows),
        base=base,
        unit=first.objective.unit,
        differs=differs,
        same={name: text for name, text in facts[0].items() if name not in differs and text},
        warnings=tuple(warnings),
    )


def comparison_picture(compared: Comparison) -> str:
    """Bars of what every run compared, with intervals; runs in another unit than the first's are left out."""
    bars = [
        (f"{_cut(row.label)}: {contender.name}", contender)
        for row in compared.rows
        if row.unit == compared.unit
        for contender in row.contenders
    ]
    return intervals(
        bars, compared.unit, f"{compared.base.capitalize()} and best of every run, with 95% intervals", width=760
    )


def comparison_markdown(compared: Comparison) -> str:
    """The comparison as GitHub-flavoured Markdown, its picture beside it."""
    names = list(compared.rows[0].figures)
    lines = [
        f"# {len(compared.rows)} runs compared",
        "",
        *(f"> {escaped(warning)}\n" for warning in compared.warnings),
        f"![{compared.base} and best of every run, with 95% intervals](comparison.svg)",
        "",
        f"| run | {' | '.join((*compared.differs, *names))} |",
        f"| --- |{' --- |' * len(compared.differs)}{' ---: |' * (len(names) - 1)} --- |",
        *(
            f"| {escaped(row.label)} | "
            + " | ".join(escaped(text) for text in (*(row.facts[n] for n in compared.differs), *row.figures.values()))
            + " |"
            for row in compared.rows
        ),
        "",
        *(f"- {escaped(row.label)}: {escaped(row.headline)}" for row in compared.rows),
        "",
        f"What differs: {', '.join(compared.differs) or 'nothing that a run records'}.",
        "The same in all:",
        "",
        *(f"- {name}: {escaped(text)}" for name, text in compared.same.items()),
        "",
        _NOTE,
        "",
    ]
    return "\n".join(lines)


def comparison_html(compared: Comparison) -> str:
    """The comparison as one page without a request and without a script."""
    return render("comparison.html.j2", compared=compared, picture=comparison_picture(compared), note=_NOTE)


_NOTE = (
    "Ratios to the first run are Welch's t on the logarithms of launch means. They account for the "
    "noise between launches, not for that between days: two runs of the same thing on two days may differ by more."
)


def _facts(found: Findings) -> dict[str, str]:
    header = found.ledger.header
    model = header.model
    return {
        "device": str(header.device),
        "engine": header.engine,
        "engine version": header.engine_version or "",
        "model": model.spec if model else "none",
        "revision": (model.revision or "") if model else "",
        "weights": model.weights if model else "",
        "dtype": model.dtype if model else "",
        "config.json": model.config_hash if model else "",
        "workload": header.workload.spec,
        "requests": f"{found.requests} a job, {header.workload.content_hash}",
        "settings of the command": settings_text(found.to_set(found.summary.default_config)),
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(_versions(found).items())),
        "objective": " under ".join([found.objective.name, *(limit.text for limit in found.objective.limits)]),
        "command": header.command,
        "infertune": header.infertune_version,
        "day": header.created_at[:10],
    }


def _versions(found: Findings) -> dict[str, str]:
    return found.first.facts.versions if found.first else {}


def _figures(found: Findings, ratio: Estimate | None, base: str, *, is_first: bool) -> dict[str, str]:
    summary = found.summary
    joules = (summary.default_economy.j_per_output_token, summary.candidate_economy.j_per_output_token)
    grams = (summary.default_economy.co2e_g_per_million_tokens, summary.candidate_economy.co2e_g_per_million_tokens)
    by_name = {contender.name: contender.estimate for contender in contenders_of(found)}
    best = by_name.get(best_name(summary)) or by_name.get("measured")
    return {
        base: _estimate(by_name.get(summary.base_name), found.objective.unit),
        "tuned, else best": _estimate(best, found.objective.unit),
        "gain": gain_text(summary.gain) or "not confirmed",
        "what to use, against the first run's": "–" if is_first or ratio is None else _change(ratio),
        f"J/token, {base} → best": _arrow(joules),
        "g CO₂e per million tokens": _arrow(grams),
        "settings to use": settings_text(found.to_set(found.advised)),
    }


def _estimate(estimate: Estimate | None, unit: str) -> str:
    if estimate is None:
        return "–"
    return f"{format_rate(estimate.mean)} {unit} ({interval_text(estimate)})"


def _change(ratio: Estimate) -> str:
    return gain_text(ratio) or format_percent(ratio.mean)


def _arrow(pair: tuple[float | None, float | None]) -> str:
    return " → ".join("–" if value is None else f"{value:.3g}" for value in pair) if any(pair) else "–"


def _ratio(new: Sequence[float], base: Sequence[float]) -> Estimate | None:
    return unpaired_ratio(new, base) if new and base else None


def run_names(runs: Sequence[Findings]) -> list[str]:
    """The folders' names, with as much of their paths as tells them apart."""
    parts = [found.ledger.folder.resolve().parts for found in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-depth:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{number}: {part[-1]}" for number, part in enumerate(parts, start=1)]


def _cut(label: str) -> str:
    return label if len(label) <= 34 else f"{label[:16]}…{label[-17:]}"
