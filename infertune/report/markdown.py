"""`report.md`: what a pull request shows."""

from infertune.figures import Economy
from infertune.knobs import Config
from infertune.landscape import PLACES, pareto_front, point_on
from infertune.ledger import Ledger
from infertune.measurement import describe
from infertune.stats import Estimate
from infertune.summary import Summary
from infertune.trial import Trial
from infertune.units import format_duration, format_percent, format_rate

_MOST_ROWS = 40


def to_markdown(ledger: Ledger, summary: Summary) -> str:
    """The report as GitHub-flavoured Markdown."""
    header = ledger.header
    model = header.model
    weights = f" ({model.weights} weights)" if model else ""
    lines = [
        f"# {header.engine} {_cell(model.name if model else 'simulated')} on {_cell(str(header.device))}",
        "",
        f"**{answer_sentence(summary)}**",
        "",
        f"| | {summary.unit} | 95% interval | launches |",
        "| --- | ---: | ---: | ---: |",
        _estimate_row("default", summary.default),
        *([_estimate_row("ported", summary.ported)] if summary.ported else []),
        _estimate_row("tuned" if summary.answer == "better" else "best candidate", summary.candidate),
        "",
        *([transfer_sentence(summary), ""] if summary.ported else []),
        *_settings(summary),
        *_economy(summary),
        "## What was measured",
        "",
        f"- Engine: {header.engine} {header.engine_version or ''}; infertune {header.infertune_version}",
        f"- Model: `{_cell(model.spec)}`{weights}, {model.parameters / 1e9:.3g} B parameters, {model.dtype}"
        if model
        else "- Model: none",
        f"- Workload: `{_cell(header.workload.spec)}`, {_requests(ledger)} requests a job, all submitted at once; "
        "output tokens over the whole job's wall time",
        f"- {summary.trials} trials on {summary.launches} launches: {format_duration(summary.launch_s)} launching, "
        f"{format_duration(summary.run_s)} measuring; the search ended because "
        f"{ledger.ending or 'the run was interrupted'}",
        *(f"- {_cell(note)}" for note in _notes(ledger)),
        "",
        "Search figures are single looks on one engine and flatter the best; only the table above is from fresh "
        "launches on prompts that the search had not seen."
        if summary.gain
        else "These figures are the search's own and flatter the best: no final comparison was made.",
        "",
        *_front(ledger),
        "## Trials",
        "",
        *_trial_table(ledger.trials),
        "",
    ]
    return "\n".join(lines)


def answer_sentence(summary: Summary) -> str:
    """The answer in one sentence."""
    gain = summary.gain
    interval = ""
    if gain is not None and gain.low is not None and gain.high is not None:
        interval = (
            f" ({format_percent(gain.mean)}, 95% interval {format_percent(gain.low)} to {format_percent(gain.high)})"
        )
    match summary.answer:
        case "better":
            return f"Tuned is better than the default{interval}."
        case "unconfirmed":
            return "Unconfirmed: the run ended before the final comparison."
        case "nothing ran":
            return "Nothing ran: no configuration could be measured."
        case "the default cannot run here":
            return "The default cannot run here; the configuration below can."
        case answer:
            return f"{answer[0].upper()}{answer[1:]}: keep the default{interval}."


def transfer_sentence(summary: Summary) -> str:
    """What the configuration brought from elsewhere is worth here, and what retuning added; empty if there was none."""
    if summary.ported is None:
        return ""
    ported = f"Ported against default: {gain_text(summary.ported_gain)}."
    if summary.retuned_gain is None:
        return f"{ported} Retuning found nothing better than what was ported."
    return f"{ported} Retuned against ported: {gain_text(summary.retuned_gain)}."


def gain_text(gain: Estimate | None) -> str:
    """A ratio as a percentage with its interval; empty without one."""
    if gain is None or gain.low is None or gain.high is None:
        return ""
    return f"{format_percent(gain.mean)} ({format_percent(gain.low)} to {format_percent(gain.high)})"


def interval_text(estimate: Estimate | None) -> str:
    """An interval's two ends, or why there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "one sample"
    return f"{format_rate(estimate.low)} – {format_rate(estimate.high)}"


def _estimate_row(name: str, estimate: Estimate | None) -> str:
    if estimate is None:
        return f"| {name} | – | – | 0 |"
    return f"| {name} | {format_rate(estimate.mean)} | {interval_text(estimate)} | {estimate.n} |"


def _economy(summary: Summary) -> list[str]:
    """What default and candidate cost; one sentence where no energy is known."""
    default, candidate = summary.default_economy, summary.candidate_economy
    rows = [row for row in economy_rows(default, candidate) if row[1] != "–" or row[2] != "–"]
    if not rows:
        return [f"Energy: not known ({_cell(default.basis)}).", ""]
    lines = ["| per configuration | default | candidate |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {a} | {b} |" for name, a, b in rows]
    return [
        *lines,
        "",
        f"Energy: {_cell(candidate.basis)}; gross unless it says net. CO₂: {_cell(candidate.carbon)}.",
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


def _front(ledger: Ledger) -> list[str]:
    """Throughput against energy: the configurations that nothing beats in both; nothing where energy is unknown."""
    front = pareto_front(ledger.trials)
    if len(front) < 2:
        return []
    places = {point_on(front, place).config: place for place in reversed(PLACES)}
    rows = [
        f"| {places.get(point.config, '')} | {format_rate(point.output_tokens_per_s)} | "
        f"{point.j_per_output_token:.3g} | `{_cell(str(point.config))}` |"
        for point in front
    ]
    return [
        "## Throughput against energy",
        "",
        "No other configuration of the search beats these in both; "
        "`infertune profile export RUN --point greenest` takes one.",
        "",
        "| | tok/s | J/token | configuration |",
        "| --- | ---: | ---: | --- |",
        *rows,
        "",
    ]


def _settings(summary: Summary) -> list[str]:
    config, default = summary.candidate_config, summary.default_config
    changed = {name: value for name, value in config.root.items() if value != default[name]}
    if not changed:
        return []
    title = "Settings that differ from the default" + ("" if summary.answer == "better" else " in the best candidate")
    return [f"{title}: `{_cell(str(Config(changed)))}`", ""]


def _trial_table(trials: list[Trial]) -> list[str]:
    rows = [
        f"| {t.number} | {t.phase} | `{_cell(str(t.config))}` | {_cell(describe(t.outcome))} | "
        f"{format_duration(t.cost_s)} |"
        for t in trials[:_MOST_ROWS]
    ]
    more = [f"… and {len(trials) - _MOST_ROWS} more in `landscape.csv`"] if len(trials) > _MOST_ROWS else []
    return ["| # | phase | configuration | outcome | cost |", "| ---: | --- | --- | --- | ---: |", *rows, *more]


def _notes(ledger: Ledger) -> tuple[str, ...]:
    """What was chosen, changed or cut on the way, each once: by us beforehand, then by the engine."""
    seen = [note for t in ledger.trials if t.measurement for note in t.measurement.facts.notes]
    return tuple(dict.fromkeys((*ledger.header.notes, *seen)))


def _requests(ledger: Ledger) -> str:
    return next((str(t.measurement.windows[0].n_requests) for t in ledger.trials if t.measurement), "no")


def _cell(text: str) -> str:
    """Text that cannot break out of a table cell or a code span."""
    return text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;").replace("\n", " ")
