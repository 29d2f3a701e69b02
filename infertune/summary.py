"""What a run found, computed from its ledger alone: the answer, its interval, and where the time went."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from infertune.engines.base import first_line
from infertune.figures import Economy, economy
from infertune.knobs import Config
from infertune.ledger import Ledger
from infertune.measurement import Frozen, describe
from infertune.objective import Objective
from infertune.stats import Estimate, geometric_mean, log_t_interval, paired_ratio
from infertune.trial import Trial

Answer = Literal[
    "better",
    "no better than the default",
    "the default cannot run here",
    "unconfirmed",
    "nothing ran",
]


class FailureLine(Frozen):
    """One failed trial, for people."""

    number: int
    config: str
    kind: str
    what: str


class Summary(Frozen):
    """The answer of a tune.

    Attributes:
        answer: In one phrase; `unconfirmed` where the run ended before the final comparison.
        unit: Of the figures.
        default_config: The engine's default.
        best_config: The recommended configuration: the default's unless another was shown to be better.
        candidate_config: The fastest found, whether or not it was shown to be better.
        default: The default over launches on unseen prompts; the search's own samples while unconfirmed.
        candidate: The same of the candidate.
        gain: Ratio candidate / default over pairs of launches; None while unconfirmed.
        default_samples: One figure a launch.
        candidate_samples: One figure a launch, paired with the default's.
        trials: How many trials there were in all.
        failures: Those that failed.
        default_economy: What the default costs in energy, carbon and money.
        candidate_economy: The same of the candidate.
        launches: How often an engine was launched.
        launch_s: Seconds spent on launches.
        run_s: Seconds spent on warm-up and windows.
    """

    answer: Answer
    unit: str
    default_config: Config
    best_config: Config
    candidate_config: Config
    default: Estimate | None
    candidate: Estimate | None
    gain: Estimate | None
    default_samples: tuple[float, ...] = ()
    candidate_samples: tuple[float, ...] = ()
    trials: int
    failures: tuple[FailureLine, ...] = ()
    default_economy: Economy = Economy()
    candidate_economy: Economy = Economy()
    launches: int
    launch_s: float
    run_s: float


def summarise(ledger: Ledger, objective: Objective) -> Summary:
    """The answer of a run, finished or not."""
    trials = ledger.trials
    default = default_config(ledger)
    pairs = final_pairs(trials, default, objective)
    candidate = pairs[0] if pairs else best_searched(trials, objective) or default
    if pairs:
        _, new, base = pairs
        gain = paired_ratio(new, base)
    else:
        new, base = figures(trials, candidate, objective), figures(trials, default, objective)
        gain = None
    answer = _answer(ledger, gain, objective, have_default=bool(base))
    return Summary(
        answer=answer,
        unit=objective.unit,
        default_config=default,
        best_config=default if answer == "no better than the default" else candidate,
        candidate_config=candidate,
        default=log_t_interval(base) if base else None,
        candidate=log_t_interval(new) if new else None,
        gain=gain,
        default_samples=tuple(base),
        candidate_samples=tuple(new),
        trials=len(trials),
        failures=tuple(_failure_line(trial) for trial in trials if trial.measurement is None),
        default_economy=_economy(trials, default, objective, final=pairs is not None),
        candidate_economy=_economy(trials, candidate, objective, final=pairs is not None),
        launches=len({trial.launch_number for trial in trials}),
        launch_s=sum(trial.launch_s for trial in trials),
        run_s=sum(trial.run_s for trial in trials),
    )


def default_config(ledger: Ledger) -> Config:
    """The engine's default configuration, which is also the first trial."""
    return Config({knob.name: knob.default for knob in ledger.header.space.knobs})


def figures(
    trials: Sequence[Trial], config: Config, objective: Objective, phases: Sequence[str] = ("search", "grid", "bench")
) -> list[float]:
    """One figure for every trial of a configuration that was measured in some phases."""
    found = []
    for trial in trials:
        if trial.phase in phases and trial.config == config and trial.measurement is not None:
            figure = objective.figure(trial.measurement)
            if figure is not None:
                found.append(figure)
    return found


def ranked(trials: Sequence[Trial], objective: Objective) -> list[tuple[Config, float]]:
    """Configurations of the search that keep the limits, with the geometric mean of their figures, best first."""
    samples: dict[Config, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.phase in ("search", "grid") and trial.measurement is not None:
            figure = objective.figure(trial.measurement)
            if figure is not None and objective.keeps_limits(trial.measurement):
                samples[trial.config].append(figure)
    return _best_first(samples, objective)


def best_searched(trials: Sequence[Trial], objective: Objective) -> Config | None:
    """The configuration that looked best in the search; its figure flatters it."""
    order = ranked(trials, objective)
    return order[0][0] if order else None


def confirmed(trials: Sequence[Trial], objective: Objective) -> list[tuple[Config, float]]:
    """Configurations that kept the limits in every confirmation round so far, best first."""
    rounds = {trial.round_number for trial in trials if trial.phase == "confirm"}
    samples: dict[Config, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.phase == "confirm" and trial.measurement is not None and objective.keeps_limits(trial.measurement):
            figure = objective.figure(trial.measurement)
            if figure is not None:
                samples[trial.config].append(figure)
    whole = {config: values for config, values in samples.items() if len(values) == len(rounds)}
    return _best_first(whole, objective)


def final_pairs(
    trials: Sequence[Trial], default: Config, objective: Objective
) -> tuple[Config, list[float], list[float]] | None:
    """The candidate of the final comparison with its figures and the default's, pair by pair; None before it."""
    by_round: dict[int, dict[Config, float]] = defaultdict(dict)
    for trial in trials:
        if trial.phase == "final" and trial.measurement is not None:
            figure = objective.figure(trial.measurement)
            if figure is not None:
                by_round[trial.round_number][trial.config] = figure
    candidates = {config for pair in by_round.values() for config in pair} - {default}
    if len(candidates) != 1:
        return None
    candidate = candidates.pop()
    whole = [pair for _, pair in sorted(by_round.items()) if candidate in pair and default in pair]
    if len(whole) < 2:
        return None
    return candidate, [pair[candidate] for pair in whole], [pair[default] for pair in whole]


def _economy(trials: Sequence[Trial], config: Config, objective: Objective, *, final: bool) -> Economy:
    phases = ("final",) if final else ("search", "grid", "bench")
    launches = [t.measurement for t in trials if t.config == config and t.phase in phases and t.measurement]
    return economy(launches, objective.prices)


def _best_first(samples: Mapping[Config, Sequence[float]], objective: Objective) -> list[tuple[Config, float]]:
    means = [(config, geometric_mean(values)) for config, values in samples.items()]
    return sorted(means, key=lambda pair: -objective.score_of(pair[1]))


def _answer(ledger: Ledger, gain: Estimate | None, objective: Objective, *, have_default: bool) -> Answer:
    if not any(trial.measurement for trial in ledger.trials):
        return "nothing ran"
    if gain is not None and gain.low is not None and gain.high is not None:
        worst_end = gain.high if objective.lower_is_better else gain.low
        return "better" if objective.better(worst_end, 1.0) else "no better than the default"
    if ledger.ending is None:
        return "unconfirmed"
    return "no better than the default" if have_default else "the default cannot run here"


def _failure_line(trial: Trial) -> FailureLine:
    kind = trial.outcome.kind if trial.outcome.kind != "infeasible" else trial.outcome.reason
    return FailureLine(
        number=trial.number, config=str(trial.config), kind=kind, what=first_line(describe(trial.outcome), 160)
    )
