"""What a report says in sentences: plain text, for the page, for Markdown and for the terminal alike."""

import math
from collections import Counter

from infertune.domain.knobs import Config, format_scalar
from infertune.landscape import Step
from infertune.report.findings import Findings
from infertune.runs.summary import Summary
from infertune.stats import Estimate
from infertune.units import format_duration, format_percent, format_rate

_MOST_STEPS = 8
_CLEAR = 0.05
_MATERIAL = 0.005  # of the variance: less is nobody's concern, however sure it is


def answer_sentence(summary: Summary) -> str:
    """The answer of a tune in one sentence."""
    gain = summary.gain
    base = _base_text(summary)
    interval = ""
    if gain is not None and gain.low is not None and gain.high is not None:
        interval = (
            f" ({format_percent(gain.mean)}, 95% interval {format_percent(gain.low)} to {format_percent(gain.high)})"
        )
    match summary.answer:
        case "better":
            return f"Tuned is better than {base}{interval}."
        case "unconfirmed":
            return "Unconfirmed: the run ended before the final comparison."
        case "nothing ran":
            return "Nothing ran: no configuration could be measured."
        case "the default cannot run here" | "current cannot run here":
            return f"{base[0].upper()}{base[1:]} cannot run here; the configuration below can."
        case _:
            return f"No better than {base}: keep {base}{interval}."


def _base_text(summary: Summary) -> str:
    """What is to be beaten, in a sentence."""
    return "the default" if summary.stock_config is None else "the current settings"


def use_sentence(found: Findings) -> str:
    """What to make of the answer's settings; empty where they speak for themselves."""
    to_set = found.to_set(found.advised)
    lines = []
    if not to_set.root:
        lines.append("Change nothing: the engine's default settings are the ones to use.")
    elif found.searched and found.advised == found.summary.default_config:
        kept = "what the command itself set" if found.summary.stock_config is None else "what runs today"
        lines.append(f"Change nothing besides {kept}.")
    if found.searched and found.summary.candidate_config != found.advised:
        tried = settings_text(found.changed(found.summary.candidate_config))
        lines.append(f"The best candidate, `{tried}`, was not shown to be better.")
    return " ".join(lines)


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
        "A map, not a proof: the best of many looks better than it is."
    )


def interval_text(estimate: Estimate | None) -> str:
    """An interval's two ends, or why there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "one sample"
    return f"{format_rate(estimate.low)} – {format_rate(estimate.high)}"


def settings_text(config: Config) -> str:
    """Settings on one line; `default` where there are none."""
    return str(config) if config.root else "default"


def noise_sentence(found: Findings) -> str:
    """How far repeats lie apart, or that nobody knows."""
    noise = found.terrain.noise
    if noise is None:
        return (
            "Nothing was measured twice, so noise is unknown, and no jump, plateau or peak below is tested against it."
        )
    return (
        f"Repeats lie {noise.deviation:.1%} apart (standard deviation, {noise.degrees} degrees of freedom; "
        f"from {noise.source})."
    )


def plateau_sentences(found: Findings) -> list[str]:
    """How wide the region within 2% of the best is."""
    plateau, best = found.terrain.plateau, found.terrain.best
    if plateau is None or best is None:
        return []
    n = len(found.terrain.measured)
    reach = "" if plateau.connected == plateau.within else f", {plateau.connected} of them side by side with it"
    lines = [
        f"{_count(plateau.within, 'configuration')} of {n} {_are(plateau.within)} within 2% of the best by "
        f"{_their(plateau.within)} mean{reach} (the best itself included)."
    ]
    if plateau.level_with_best is not None:
        lines.append(
            f"Noise does not tell {_count(plateau.level_with_best, 'configuration')} from the best "
            "(comparison with the best, one-sided t at 95% with Bonferroni's bound)."
        )
    return lines


def peak_sentence(found: Findings) -> str:
    """How many peaks there are, and how many once noise is allowed for."""
    terrain = found.terrain
    if not terrain.measured:
        return "Nothing was measured, so there is no landscape."
    if not terrain.mapped:
        return (
            f"Peaks are not counted: {len(terrain.spots)} of {terrain.grid:,} combinations were visited, and a search "
            "follows the slope rather than mapping it. `infertune landscape` maps a grid of chosen knobs."
        )
    raw = len(terrain.peaks)
    real = [peak for peak in terrain.peaks if peak.real]
    if terrain.noise is None:
        return (
            f"{_count(raw, 'configuration')} {_are(raw)} better than all neighbours; without repeats nobody knows "
            "which are noise."
        )
    words = f"{_count(raw, 'configuration')} {_are(raw)} better than all neighbours; once noise is allowed for, "
    words += f"{_count(len(real), 'true peak')} {'remains' if len(real) == 1 else 'remain'}"
    if len(real) > 1:
        others = [
            f"{settings_text(found.changed(peak.config))}"
            + (f" ({peak.prominence - 1:.0%} above the way to a better one)" if peak.prominence else "")
            for peak in real[1:4]
        ]
        words += ": besides the best, " + "; ".join(others)
    return words + "."


def step_sentence(step: Step) -> str:
    """What happens between two values of a knob."""
    low, high = format_scalar(step.low), format_scalar(step.high)
    parts = []
    if step.ratio is not None and step.ratio_least is not None and step.ratio_most is not None and step.jumps:
        spread = ""
        if step.pairs > 1:
            spread = f" ({format_percent(step.ratio_least)} to {format_percent(step.ratio_most)})"
        parts.append(
            f"{format_percent(step.ratio)}{spread}, beyond noise in {step.jumps} of {_count(step.pairs, 'pair')}"
        )
    if step.starts_failing:
        parts.append(f"{_count(step.starts_failing, 'configuration')} {_start(step.starts_failing, 'fail')} at {high}")
    if step.stops_failing:
        parts.append(f"{_count(step.stops_failing, 'configuration')} {_start(step.stops_failing, 'run')} at {high}")
    return f"{step.knob} {low} → {high}: {'; '.join(parts)}"


def cliffs(found: Findings) -> list[Step]:
    """The steps worth telling, jumps first, the largest first."""
    steps = found.terrain.steps

    def size(step: Step) -> float:
        return abs(math.log(step.ratio or 1)) if step.jumps else 0.0

    order = sorted(steps, key=lambda s: (-size(s), -(s.starts_failing + s.stops_failing), s.knob, str(s.low)))
    return order[:_MOST_STEPS]


def cliff_sentence(found: Findings) -> str:
    """Where throughput jumps, in a sentence."""
    jumps = [step for step in cliffs(found) if step.jumps]
    failing = [step for step in found.terrain.steps if step.starts_failing or step.stops_failing]
    if not jumps:
        start = "No two neighbours differ by more than noise and 5%" if found.terrain.noise else "Jumps are not tested"
    else:
        step = jumps[0]
        ends = f"{step.knob} {format_scalar(step.low)} → {format_scalar(step.high)}"
        worse = 1 if found.objective.lower_is_better else -1
        falls = [s for s in jumps if worse * math.log(s.ratio or 1) > 0]
        start = f"The steepest step is {ends} ({format_percent(step.ratio or 1)})"
        if falls and falls[0] is not step:
            fall = falls[0]
            start += (
                f"; the steepest for the worse is {fall.knob} {format_scalar(fall.low)} → {format_scalar(fall.high)} "
                f"({format_percent(fall.ratio or 1)})"
            )
    if failing:
        counts = Counter[str]()
        for step in failing:
            counts[step.knob] += step.starts_failing + step.stops_failing
        start += f"; configurations begin to fail along {', '.join(name for name, _ in counts.most_common(3))}"
    return start + "."


def importance_sentences(found: Findings) -> list[str]:
    """Which knobs matter and which interact, with the methods' agreement."""
    effects, importance = found.effects, found.importance
    if effects is None and importance is None:
        return [f"Too few configurations ({len(found.terrain.measured)}) to say which knobs matter."]
    lines = []
    if effects:
        clear = [e for e in effects.effects if e.p_value < _CLEAR and e.share >= _MATERIAL]
        idle = [e.knob for e in effects.effects if e not in clear]
        if clear:
            told = ", ".join(f"{e.knob} (×{e.spread:.3g} between its best and worst value)" for e in clear)
            lines.append(f"Over everything that was measured, these matter: {told}.")
        if idle:
            lines.append(f"No effect worth mentioning was seen of {', '.join(idle)}.")
        pairs = [i for i in effects.interactions if i.p_value < _CLEAR and i.share >= _MATERIAL]
        if pairs:
            told = ", ".join(f"{i.first} × {i.second} ({i.share:.1%} of the variance)" for i in pairs[:4])
            lines.append(f"These interact, so one must not be set without the other: {told}.")
        elif effects.interactions:
            tested = _count(len(effects.interactions), "pair")
            lines.append(f"No interaction was seen in the {tested} of knobs that could be tested.")
        else:
            lines.append("There are too few configurations to see interactions.")
    if importance:
        top = next(iter(importance.shares.items()))
        lines.append(
            f"For being among the best {importance.best_share:.0%}, {top[0]} decides most ({top[1]:.0%} by PED-ANOVA)."
        )
    return lines


def flattery_sentence(found: Findings) -> str:
    """Which figures to believe."""
    if not found.searched:
        return "Every figure is from the map itself: the best of many points looks better than it is."
    if found.summary.gain is None:
        return "These figures are the search's own and flatter the best: no final comparison was made."
    return (
        "Search figures are single looks on one engine and flatter the best; only the answer's are from fresh launches "
        "on prompts that the search had not seen, default and winner in turn."
    )


def method_sentences(found: Findings) -> list[str]:
    """How it was measured, in plain words."""
    lines = [
        "Throughput is output tokens over the wall time of a whole job: all requests are submitted at once, each with "
        "an exact output length. A job that came back short is no measurement.",
        "The engine is warmed up on other requests until two consecutive rates agree within 3%.",
        "One engine launch is one sample; windows on one launch are sub-samples. Intervals are 95% Student t on the "
        "logarithms of launch means.",
    ]
    lines.append(flattery_sentence(found))
    lines += [
        "Intervals of single points are the pooled noise of all repeats, not the point's own, which are too few.",
        "A jump is a difference between neighbours (one knob changed, nothing measured between) beyond the pooled "
        "noise by Student's t at a false discovery rate of 5% (Benjamini & Hochberg 1995), and of 5% at least.",
        "Peaks are ranked by persistence (Edelsbrunner et al. 2002) and tested with Tukey's studentized range.",
        "Importance: PED-ANOVA (Watanabe et al. 2023, through Optuna), and as a check an additive model of ln(figure) "
        "with Freedman-Lane permutations (999), which also tests interactions of pairs.",
    ]
    return lines


def caveat_sentences(found: Findings) -> list[str]:
    """What to bear in mind about this very run."""
    header, trials = found.ledger.header, found.ledger.trials
    lines = []
    if header.model and header.model.weights == "dummy":
        lines.append("Dummy weights: speeds are those of the architecture; the text means nothing.")
    settings = found.to_set(found.summary.default_config)
    if settings.root and header.command != "bench":
        what = "“Default” is the engine's default with what the command set"
        if found.summary.stock_config is not None:
            what = "“Current” is what runs today"
        lines.append(f"{what}: `{settings_text(settings)}`.")
    if found.ledger.ending is None:
        lines.append("The run was interrupted: these are the trials it had made.")
    if any(trial.live for trial in trials):
        lines.append(
            "Trials marked live ran on an engine launched for another configuration: a cheap estimate, and points of "
            "one launch share its luck."
        )
    loads = [
        window.other_load.cpu_by_others
        for trial in trials
        if trial.measurement
        for window in trial.measurement.windows
        if window.other_load.cpu_by_others is not None
    ]
    if loads and max(loads) >= 0.1:
        busy = sum(load >= 0.1 for load in loads)
        lines.append(
            f"Other processes used 10% of the processor or more in {busy} of {len(loads)} windows "
            f"(most {max(loads):.0%})."
        )
    cold = sum(not trial.measurement.warmed_up for trial in trials if trial.measurement)
    if cold:
        lines.append(f"In {_count(cold, 'trial')} the warm-up ended at its cap, before two rates agreed.")
    lines += list(dict.fromkeys((*header.notes, *_engine_notes(found))))
    return lines


def ending_sentence(found: Findings) -> str:
    """How many trials, at what cost, and why search and proof ended."""
    summary = found.summary
    why = f"the search ended because {found.ledger.ending or 'the run was interrupted'}"
    proof = [f"proving ended because {summary.proof}"] if summary.proof else []
    return "; ".join([*spent_sentences(summary), why, *proof])


def spent_sentences(summary: Summary) -> list[str]:
    """What search and proof cost, a line each."""
    return [
        f"{part.what}: {_count(part.trials, 'trial')} on {_count(part.launches, 'launch')}, "
        f"{format_duration(part.launch_s)} launching, {format_duration(part.run_s)} measuring"
        for part in summary.spent
    ]


def _engine_notes(found: Findings) -> list[str]:
    return [note for trial in found.ledger.trials if trial.measurement for note in trial.measurement.facts.notes]


def _count(n: int, what: str) -> str:
    plural = what + ("es" if what.endswith("ch") else "s")
    return f"{n:,} {what if n == 1 else plural}"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _their(n: int) -> str:
    return "its" if n == 1 else "their"


def _start(n: int, verb: str) -> str:
    return f"{'begins' if n == 1 else 'begin'} to {verb}"
