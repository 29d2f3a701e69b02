"""The landscape in sentences: noise, plateau, peaks, steps, and which knobs matter."""

import math
from collections import Counter

from infertune.domain.knobs import format_scalar
from infertune.landscape import Step, at_end, why_no_further
from infertune.report.findings import Findings
from infertune.report.words.answer import settings_text
from infertune.report.words.counting import begins_to, counted, possessive, verb_be
from infertune.units import format_percent

_MOST_STEPS = 8  # steps listed; judgement: a reader looks at no more
_CLEAR = 0.05  # p-value below which an effect is called clear: the customary level
_MATERIAL = 0.005  # share of the variance from which a clear effect is mentioned; judgement


def noise_sentence(found: Findings) -> str:
    """The standard deviation of repeated measurements, or that it is not known."""
    noise = found.terrain.noise
    if noise is None:
        return "Nothing was measured twice: the noise is not known, and no jump, plateau or peak is tested against it."
    return (
        f"Repeated measurements differ by {noise.deviation:.1%} (standard deviation, {noise.degrees} degrees of "
        f"freedom; from {noise.source})."
    )


def plateau_sentences(found: Findings) -> list[str]:
    """How many configurations are within 2% of the best, and how many cannot be told from it."""
    plateau, best = found.terrain.plateau, found.terrain.best
    if plateau is None or best is None:
        return []
    n = len(found.terrain.measured)
    reach = (
        ""
        if plateau.connected == plateau.within
        else f", {plateau.connected} of them connected to it through neighbours"
    )
    lines = [
        f"{counted(plateau.within, 'configuration')} of {n} {verb_be(plateau.within)} within 2% of the best by "
        f"{possessive(plateau.within)} mean{reach} (the best itself included)."
    ]
    if plateau.level_with_best is not None:
        lines.append(
            f"{counted(plateau.level_with_best, 'configuration')} cannot be told from the best within the noise "
            "(comparison with the best, one-sided t at 95%, Bonferroni-corrected)."
        )
    return lines


def peak_sentence(found: Findings) -> str:
    """How many local optima there are, and how many of them are beyond noise."""
    terrain = found.terrain
    if not terrain.measured:
        return "Nothing was measured, so there is no landscape."
    if not terrain.mapped:
        return (
            f"Peaks are not counted: {len(terrain.spots)} of {terrain.grid:,} combinations were measured, and a search "
            "measures mostly near the best. `infertune landscape` measures a whole grid of chosen knobs."
        )
    raw = len(terrain.peaks)
    real = [peak for peak in terrain.peaks if peak.real]
    if terrain.noise is None:
        return (
            f"{counted(raw, 'configuration')} {verb_be(raw)} better than all neighbours; without repeated "
            "measurements it is not known which of them are noise."
        )
    words = f"{counted(raw, 'configuration')} {verb_be(raw)} better than all neighbours; beyond noise, "
    words += f"{counted(len(real), 'peak')} {'remains' if len(real) == 1 else 'remain'}"
    if len(real) > 1:
        others = [
            f"{settings_text(found.changed(peak.config), found.summary.base_name)}"
            + (
                f" ({peak.prominence - 1:.0%} above the lowest point on the way to a better one)"
                if peak.prominence
                else ""
            )
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
            f"{format_percent(step.ratio)}{spread}, beyond noise in {step.jumps} of {counted(step.pairs, 'pair')}"
        )
    if step.starts_failing:
        parts.append(
            f"{counted(step.starts_failing, 'configuration')} {begins_to(step.starts_failing, 'fail')} at {high}"
        )
    if step.stops_failing:
        parts.append(f"{counted(step.stops_failing, 'configuration')} {begins_to(step.stops_failing, 'run')} at {high}")
    return f"{step.knob} {low} → {high}: {'; '.join(parts)}"


def cliffs(found: Findings) -> list[Step]:
    """The most important steps: jumps by their size, then steps at which failures begin or end."""
    steps = found.terrain.steps

    def size(step: Step) -> float:
        return abs(math.log(step.ratio or 1)) if step.jumps else 0.0

    order = sorted(steps, key=lambda s: (-size(s), -(s.starts_failing + s.stops_failing), s.knob, str(s.low)))
    return order[:_MOST_STEPS]


def edge_sentences(found: Findings) -> list[str]:
    """Where the best lies at the end of a ladder, and why the search went no further; none for a landscape."""
    if not found.searched:
        return []
    scores = {spot.config: spot.score for spot in found.terrain.measured}
    best, header = found.summary.candidate_config, found.ledger.header
    chosen = header.request.get("knob")
    names = set(chosen) if isinstance(chosen, dict) else set()
    n_requests = found.first.n_requests if found.first else None
    return [
        f"The best lies at the end of {knob.name}, at {format_scalar(knob.values[-1])}: "
        f"{why_no_further(knob, n_requests, chosen=knob.name in names)}."
        for knob in header.space.knobs
        if at_end(knob, best, scores)
    ]


def cliff_sentence(found: Findings) -> str:
    """Where throughput jumps, in a sentence."""
    jumps = [step for step in cliffs(found) if step.jumps]
    failing = [step for step in found.terrain.steps if step.starts_failing or step.stops_failing]
    if not jumps:
        start = (
            "No two neighbours differ by more than noise and 5%"
            if found.terrain.noise
            else "Jumps are not tested without repeats"
        )
    else:
        step = jumps[0]
        ends = f"{step.knob} {format_scalar(step.low)} → {format_scalar(step.high)}"
        worse = 1 if found.objective.lower_is_better else -1
        falls = [s for s in jumps if worse * math.log(s.ratio or 1) > 0]
        start = f"The steepest step is {ends} ({format_percent(step.ratio or 1)})"
        if falls and falls[0] is not step:
            fall = falls[0]
            start += (
                f"; the steepest fall is {fall.knob} {format_scalar(fall.low)} → {format_scalar(fall.high)} "
                f"({format_percent(fall.ratio or 1)})"
            )
    if failing:
        counts = Counter[str]()
        for step in failing:
            counts[step.knob] += step.starts_failing + step.stops_failing
        start += f"; configurations begin to fail along {', '.join(name for name, _ in counts.most_common(3))}"
    return start + "."


def importance_sentences(found: Findings) -> list[str]:
    """Which knobs matter and which interact, by both methods."""
    effects, importance = found.effects, found.importance
    if effects is None and importance is None:
        return [f"Too few configurations ({len(found.terrain.measured)}) to say which knobs matter."]
    lines = []
    if effects:
        clear = [e for e in effects.effects if e.p_value < _CLEAR and e.share >= _MATERIAL]
        idle = [e.knob for e in effects.effects if e not in clear]
        if clear:
            told = ", ".join(f"{e.knob} (×{e.spread:.3g} between its best and worst value)" for e in clear)
            lines.append(f"These knobs matter over everything measured: {told}.")
        if idle:
            lines.append(f"No clear effect was seen of {', '.join(idle)}.")
        pairs = [i for i in effects.interactions if i.p_value < _CLEAR and i.share >= _MATERIAL]
        if pairs:
            told = ", ".join(f"{i.first} × {i.second} ({i.share:.1%} of the variance)" for i in pairs[:4])
            lines.append(f"These interact, so choose their values together: {told}.")
        elif effects.interactions:
            tested = counted(len(effects.interactions), "pair")
            lines.append(f"No interaction was seen in the {tested} of knobs that could be tested.")
        else:
            lines.append("There are too few configurations to see interactions.")
    if importance:
        top = next(iter(importance.shares.items()))
        lines.append(
            f"For being among the best {importance.best_share:.0%}, {top[0]} decides most ({top[1]:.0%} by PED-ANOVA)."
        )
    return lines
