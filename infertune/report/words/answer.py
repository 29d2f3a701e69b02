"""The answer of a run in sentences."""

from infertune.domain.knobs import Config
from infertune.report.findings import Findings
from infertune.runs.summary import Summary
from infertune.stats import Estimate
from infertune.units import format_percent, format_rate


def answer_sentence(summary: Summary) -> str:
    """The answer of a tune in one sentence."""
    gain = summary.gain
    base = base_text(summary)
    interval = ""
    if gain is not None and gain.low is not None and gain.high is not None:
        interval = (
            f" ({format_percent(gain.mean)}, 95% interval {format_percent(gain.low)} to {format_percent(gain.high)})"
        )
    match summary.answer:
        case "better":
            return f"Tuned is better than {base}{interval}."
        case "unconfirmed" if summary.tried == 1:
            return f"Unconfirmed: the run ended before anything but {base} was tried."
        case "unconfirmed" if summary.proof:
            return f"Unconfirmed: {summary.proof}."
        case "unconfirmed":
            return "Unconfirmed: the run ended before the final comparison."
        case "nothing ran":
            return "Nothing ran: no configuration could be measured."
        case "the default cannot run here" | "current cannot run here":
            return f"{base[0].upper()}{base[1:]} cannot run here; the configuration below can."
        case "the default breaks a limit" | "current breaks a limit":
            verb = "breaks" if summary.stock_config is None else "break"  # the default, the current settings
            limits = ", ".join(summary.default_breaks)
            return f"{base[0].upper()}{base[1:]} {verb} {limits}; the configuration below does not{interval}."
        case "nothing keeps the limits":
            return f"No configuration that was tried keeps {', '.join(summary.default_breaks)}."
        case _:
            breaks = f" The best candidate breaks {', '.join(summary.candidate_breaks)}."
            return f"No better than {base}: keep {base}{interval}.{breaks if summary.candidate_breaks else ''}"


def base_text(summary: Summary) -> str:
    """What the candidate is compared with, as it stands inside a sentence."""
    return "the default" if summary.stock_config is None else "the current settings"


def use_sentence(found: Findings) -> str:
    """What to do with the answer's settings; empty where the list of settings says it, or where nothing was found."""
    to_set = found.to_set(found.advised)
    lines = []
    stays = found.advised == found.summary.default_config
    if stays and found.summary.answer in ("unconfirmed", "nothing keeps the limits"):
        return ""
    if not to_set.root and stays:
        lines.append("Change nothing: the engine's default settings are the ones to use.")
    elif not to_set.root:
        lines.append("The engine's own default settings are better than what runs today: use them.")
    elif found.searched and stays:
        kept = "what the command itself set" if found.summary.stock_config is None else "what runs today"
        lines.append(f"Change nothing besides {kept}.")
    if found.searched and found.summary.candidate_config != found.advised:
        tried = settings_text(found.changed(found.summary.candidate_config), found.summary.base_name)
        lines.append(f"The best candidate, `{tried}`, was not shown to be better.")
    return " ".join(lines)


def transfer_sentence(summary: Summary) -> str:
    """What a ported configuration gains here, and what tuning it further adds; empty where none was ported."""
    if summary.ported is None:
        return ""
    ported = f"Ported against {summary.base_name}: {gain_text(summary.ported_gain)}."
    if summary.retuned_gain is None:
        return f"{ported} Retuning found nothing better than what was ported."
    return f"{ported} Retuned against ported: {gain_text(summary.retuned_gain)}."


def gain_text(gain: Estimate | None) -> str:
    """A ratio as a percentage with its interval; empty without one."""
    if gain is None or gain.low is None or gain.high is None:
        return ""
    return f"{format_percent(gain.mean)} ({format_percent(gain.low)} to {format_percent(gain.high)})"


def headline(found: Findings) -> str:
    """The answer of any run in one sentence."""
    summary, command = found.summary, found.ledger.header.command
    if command == "tune" or summary.candidate is None:
        return answer_sentence(summary)
    rate = f"{format_rate(summary.candidate.mean)} {summary.unit}"
    if command == "bench":
        return f"One configuration, measured on {summary.candidate.n} launches: {rate}."
    n = len(found.terrain.measured)
    if summary.default is None:
        return f"The best of {n} measured configurations reaches {rate}; the default was not among them."
    change = format_percent(summary.candidate.mean / summary.default.mean)
    return (
        f"The best of {n} measured configurations reaches {rate}, {change} to the default. "
        "A map, not a proof: the best of many measured figures is overestimated."
    )


def interval_text(estimate: Estimate | None) -> str:
    """The two ends of an interval, or `one sample` where there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "one sample"
    return f"{format_rate(estimate.low)} – {format_rate(estimate.high)}"


def settings_text(config: Config, none: str = "default") -> str:
    """Settings on one line; `none` where there are none."""
    return str(config) if config.root else none
