"""The numbers behind a page's charts and table, as the page's script reads them."""

import math
from collections import defaultdict

from scipy.special import stdtrit

from infertune.domain.figures import j_per_output_token
from infertune.domain.knobs import Config, Knob, format_scalar
from infertune.domain.measurement import Frozen, describe
from infertune.domain.trial import EXPLORING, Trial
from infertune.landscape import PLACES, Noise, Spot, point_on
from infertune.report.findings import Findings
from infertune.stats import geometric_mean
from infertune.units import parse_time

_LONGEST_GAP_S = 600.0  # between two trials; a longer one is a pause of the run, not work (judgement)


class KnobData(Frozen):
    """A knob: its values as text, the default's position, and whether it was varied."""

    name: str
    values: tuple[str, ...]
    ordinal: bool
    unit: str
    why: str
    default: int
    varied: bool


class SpotData(Frozen):
    """A configuration: positions of its values, and its figure with the ends of its 95% interval."""

    at: tuple[int, ...]
    figure: float | None
    low: float | None
    high: float | None
    n: int
    failed: int
    j: float | None
    tps: float | None
    front: str


class TrialData(Frozen):
    """A trial; `t` is seconds from the run's start to its end."""

    n: int
    phase: str
    round: int
    at: tuple[int, ...]
    figure: float | None
    status: str
    what: str
    j: float | None
    launch: float
    run: float
    t: float
    live: bool


class PhaseTime(Frozen):
    """Seconds of a phase by what they were spent on."""

    phase: str
    launch: float
    warmup: float
    windows: float
    ours: float


class ImportanceData(Frozen):
    """A knob's importance by both methods; None where one could not tell."""

    knob: str
    ped_anova: float | None
    share: float | None
    spread: float | None
    p: float | None


class PageData(Frozen):
    """Everything that the page's script draws."""

    unit: str
    lower_is_better: bool
    simulated_clock: bool
    searched: bool
    knobs: tuple[KnobData, ...]
    axes: tuple[str, ...]
    base_name: str
    default_at: tuple[int, ...]
    chosen_at: tuple[int, ...]
    chosen_name: str
    default_figure: float | None
    spots: tuple[SpotData, ...]
    trials: tuple[TrialData, ...]
    times: tuple[PhaseTime, ...]
    importance: tuple[ImportanceData, ...]


def page_data(found: Findings) -> PageData:
    """The page's numbers."""
    ledger, summary, objective = found.ledger, found.summary, found.objective
    knobs = ledger.header.space.knobs
    varied = {knob.name for knob in found.terrain.knobs}
    ends, simulated = _clock(ledger.trials, ledger.header.created_at)
    effects = {effect.knob: effect for effect in found.effects.effects} if found.effects else {}
    shares = found.importance.shares if found.importance else {}
    best = found.terrain.best
    chosen = summary.candidate_config if summary.gain or best is None else best.config
    return PageData(
        unit=objective.unit,
        lower_is_better=objective.lower_is_better,
        simulated_clock=simulated,
        searched=found.searched,
        knobs=tuple(_knob(knob, knob.name in varied) for knob in knobs),
        axes=found.knobs_that_matter,
        base_name=summary.base_name,
        default_at=_place(knobs, summary.default_config),
        chosen_at=_place(knobs, chosen),
        chosen_name="tuned" if summary.answer == "better" else "best found",
        default_figure=summary.default.mean if summary.default else None,
        spots=_spots(found),
        trials=tuple(_trial(found, trial, t) for trial, t in zip(ledger.trials, ends, strict=True)),
        times=_times(ledger.trials, ends, simulated),
        importance=tuple(
            ImportanceData(
                knob=name,
                ped_anova=_short(shares.get(name)),
                share=_short(effects[name].share) if name in effects else None,
                spread=_short(effects[name].spread) if name in effects else None,
                p=effects[name].p_value if name in effects else None,
            )
            for name in found.knobs_that_matter
        )
        if effects or shares
        else (),
    )


def margin(spot: Spot, noise: Noise | None) -> float | None:
    """Half of a spot's 95% interval on the log scale, by the pooled noise."""
    if noise is None or not spot.scores:
        return None
    return float(stdtrit(noise.degrees, 0.975)) * noise.deviation / math.sqrt(len(spot.scores))


def _knob(knob: Knob, varied: bool) -> KnobData:
    return KnobData(
        name=knob.name,
        values=tuple(map(format_scalar, knob.values)),
        ordinal=knob.ordinal,
        unit=knob.unit,
        why=knob.why,
        default=knob.values.index(knob.default),
        varied=varied,
    )


def _place(knobs: tuple[Knob, ...], config: Config) -> tuple[int, ...]:
    return tuple(
        next((n for n, value in enumerate(knob.values) if repr(value) == repr(config.root.get(knob.name))), -1)
        for knob in knobs
    )


def _spots(found: Findings) -> tuple[SpotData, ...]:
    knobs = found.ledger.header.space.knobs
    joules: dict[Config, list[float]] = defaultdict(list)
    rates: dict[Config, list[float]] = defaultdict(list)
    for trial in found.ledger.trials:
        if trial.phase in EXPLORING and trial.measurement:
            rates[trial.config].append(trial.measurement.output_tokens_per_s)
            if (joule := j_per_output_token(trial.measurement)) is not None:
                joules[trial.config].append(joule)
    front = {point.config: "front" for point in found.front}
    if len(found.front) > 1:
        front |= {point_on(found.front, place).config: place for place in reversed(PLACES)}
    spots = []
    for spot in found.terrain.spots:
        ends: list[float | None] = [None, None]
        half = margin(spot, found.terrain.noise)
        if half is not None:
            ends = [*sorted(map(found.figure_of, (spot.score - half, spot.score + half)))]
        known = joules[spot.config]
        spots.append(
            SpotData(
                at=_place(knobs, spot.config),
                figure=_short(found.figure_of(spot.score)) if spot.scores else None,
                low=_short(ends[0]),
                high=_short(ends[1]),
                n=len(spot.scores),
                failed=spot.failed,
                j=_short(geometric_mean(known)) if known else None,
                tps=_short(geometric_mean(rates[spot.config])) if rates[spot.config] else None,
                front=front.get(spot.config, ""),
            )
        )
    return tuple(spots)


def _trial(found: Findings, trial: Trial, end_s: float) -> TrialData:
    measurement = trial.measurement
    figure = found.objective.figure(measurement) if measurement else None
    status = status_of(trial)
    if measurement and not found.objective.keeps_limits(measurement):
        status = "over a limit"
    elif measurement and figure is None:
        status = "unknown"
    return TrialData(
        n=trial.number,
        phase=trial.phase,
        round=trial.round_number,
        at=_place(found.ledger.header.space.knobs, trial.config),
        figure=_short(figure),
        status=status,
        what="" if measurement else describe(trial.outcome)[:300],
        j=_short(j_per_output_token(measurement)) if measurement else None,
        launch=round(trial.launch_s, 2),
        run=round(trial.run_s, 2),
        t=round(end_s, 1),
        live=trial.live,
    )


def status_of(trial: Trial) -> str:
    """`measured`, or the class of its failure in words."""
    outcome = trial.outcome
    kind = outcome.reason if outcome.kind == "infeasible" else outcome.kind
    return {"oom": "out of memory", "timed_out": "timed out"}.get(kind, kind)


def _clock(trials: list[Trial], created_at: str) -> tuple[list[float], bool]:
    """Seconds from the run's start to each trial's end, and whether the clock is the engine's own (simulated)."""
    cost = sum(trial.cost_s for trial in trials)
    start = parse_time(created_at)
    starts = [(parse_time(trial.started_at) - start).total_seconds() for trial in trials]
    if trials and starts[-1] + trials[-1].cost_s < 0.9 * cost - 2 * len(trials):
        ends, at = [], 0.0
        for trial in trials:
            at += trial.cost_s
            ends.append(at)
        return ends, True
    return [begun + trial.cost_s for begun, trial in zip(starts, trials, strict=True)], False


def _times(trials: list[Trial], ends: list[float], simulated: bool) -> tuple[PhaseTime, ...]:
    """Seconds of each phase. `ours` is infertune's own time: within trials, and in gaps of up to 10 minutes."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    before = 0.0
    for trial, end in zip(trials, ends, strict=True):
        row = sums[trial.phase]
        row[0] += trial.launch_s
        warmup = trial.measurement.warmup_s if trial.measurement else 0.0
        windows = sum(w.duration_s for w in trial.measurement.windows) if trial.measurement else 0.0
        failed = 0.0 if trial.measurement else trial.run_s
        row[1] += warmup
        row[2] += windows + failed
        gap = 0.0 if simulated else end - trial.cost_s - before
        row[3] += max(0.0, trial.run_s - warmup - windows - failed) + (gap if 0 < gap < _LONGEST_GAP_S else 0.0)
        before = end
    return tuple(
        PhaseTime(
            phase=phase,
            launch=round(row[0], 1),
            warmup=round(row[1], 1),
            windows=round(row[2], 1),
            ours=round(row[3], 1),
        )
        for phase, row in sums.items()
    )


def _short(value: float | None) -> float | None:
    """Five significant digits: more than the measurements have."""
    return None if value is None else float(f"{value:.5g}")
