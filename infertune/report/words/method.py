"""How a run was measured, and what limits its figures, in sentences."""

from infertune.report.findings import Findings
from infertune.report.words.answer import settings_text
from infertune.report.words.counting import counted
from infertune.report.words.devices import device_sentences
from infertune.runs.summary import Summary
from infertune.units import format_duration

_OFFLINE = (
    "Throughput is output tokens over the wall time of a whole job: all requests are submitted at once, each with an "
    "exact output length. A job with fewer tokens than asked for is a failure.",
    "The engine is warmed up on other requests until two consecutive rates agree within 3%.",
)
_SERVED = (
    "Requests are sent when they are due, however slow the answers are; latencies count from when they were due. The "
    "first fifth and the last tenth of the requests of a load are not counted. A request that failed has broken every "
    "limit.",
    "Goodput is the requests a second within the limits, at the highest rate at which the promised share keeps them, "
    "interpolated between loads. A queue that grows breaks the promise.",
    "The server is warmed up by a burst of other requests.",
)
_BUSY = 0.1  # share of the processor used by others from which it is mentioned; judgement


def selection_sentence(found: Findings) -> str:
    """Which figures are overestimated by having been selected (selection bias), and which are not."""
    if not found.searched:
        return "Every figure is from the map itself, so the best one is overestimated (selection bias)."
    if found.summary.gain is None:
        return (
            "These are the search's figures, and the best one is overestimated (selection bias): no final comparison "
            "was made."
        )
    return (
        "The search's figures are mostly single measurements, so the best one is overestimated (selection bias). The "
        f"answer's are from fresh launches on prompts that the search had not seen, {found.summary.base_name} and "
        "candidate in turn."
    )


def method_sentences(found: Findings) -> list[str]:
    """How it was measured, and by which methods it was evaluated."""
    first = found.first
    lines = list(_SERVED if first is not None and first.windows[0].service is not None else _OFFLINE)
    lines += [
        "One engine launch is one sample; windows on one launch are sub-samples. Intervals are 95% Student t on the "
        "logarithms of launch means.",
    ]
    lines.append(selection_sentence(found))
    lines += [
        "The interval of a single point is the pooled noise of all repeats: a point has too few of its own.",
        "A jump is a difference between neighbours (one knob changed, nothing measured between) beyond the pooled "
        "noise by Student's t at a false discovery rate of 5% (Benjamini & Hochberg 1995), and of at least 5%.",
        "Peaks are ranked by persistence (Edelsbrunner et al. 2002) and tested with Tukey's studentized range.",
        "Importance: PED-ANOVA (Watanabe et al. 2023, through Optuna), and as a check an additive model of ln(figure) "
        "with Freedman-Lane permutations (999), which also tests interactions of pairs.",
    ]
    return lines


def caveat_sentences(found: Findings) -> list[str]:
    """What limits the figures of this run."""
    header, trials = found.ledger.header, found.ledger.trials
    lines = []
    if header.model and header.model.weights == "dummy":
        lines.append("Dummy weights: the speed is that of the architecture, the generated text has no meaning.")
    settings = found.to_set(found.summary.default_config)
    if settings.root and header.command != "bench":
        what = "“Default” is the engine's default with what the command set"
        if found.summary.stock_config is not None:
            what = "“Current” is what runs today"
        lines.append(f"{what}: `{settings_text(settings)}`.")
    if found.ledger.ending is None:
        lines.append("The run was interrupted: the report shows the trials made before.")
    if any(trial.live for trial in trials):
        lines.append(
            "Trials marked live ran on an engine launched for another configuration: they "
            "cost no launch, and all points of one launch share its deviation from the mean of launches."
        )
    loads = [
        window.other_load.cpu_by_others
        for trial in trials
        if trial.measurement
        for window in trial.measurement.windows
        if window.other_load.cpu_by_others is not None
    ]
    if loads and max(loads) >= _BUSY:
        busy = sum(load >= _BUSY for load in loads)
        lines.append(
            f"Other processes used {_BUSY:.0%} of the processor or more in {busy} of {len(loads)} windows "
            f"(most {max(loads):.0%})."
        )
    lines += device_sentences(found)
    cold = sum(not trial.measurement.warmed_up for trial in trials if trial.measurement)
    if cold:
        lines.append(f"In {counted(cold, 'trial')} the warm-up reached its limit before two rates agreed.")
    lines += list(dict.fromkeys((*header.notes, *_engine_notes(found))))
    return lines


def ending_sentence(found: Findings) -> str:
    """How many trials, at what cost, and why search and proof ended."""
    summary = found.summary
    why = f"the search ended because {found.ledger.ending or 'the run was interrupted'}"
    proof = [f"proving ended because {summary.proof}"] if summary.proof else []
    return "; ".join([*spent_sentences(summary), why, *proof])


def spent_sentences(summary: Summary) -> list[str]:
    """What search, proof and the check of answers cost, a line each."""
    whole_s = sum(part.launch_s + part.run_s for part in summary.spent) or 1.0
    lines = []
    for part in summary.spent:
        launches, launch_s = counted(part.launches, "launch"), format_duration(part.launch_s)
        run_s, share = format_duration(part.run_s), (part.launch_s + part.run_s) / whole_s
        if part.what == "answers":
            own = f" on {launches} of their own, {launch_s} launching" if part.launches else ""
            lines.append(f"answers: {counted(part.trials, 'check')}{own}, {run_s} scoring, {share:.1%} of the whole")
        else:
            trials = counted(part.trials, "trial")
            lines.append(f"{part.what}: {trials} on {launches}, {launch_s} launching, {run_s} measuring")
    return lines


def _engine_notes(found: Findings) -> list[str]:
    return [note for trial in found.ledger.trials if trial.measurement for note in trial.measurement.facts.notes]
