"""What a run found, computed from its ledger alone: the answer, its interval, and where the time went."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from infertune.domain.figures import Economy, economy
from infertune.domain.knobs import Config
from infertune.domain.measurement import Frozen, describe
from infertune.domain.objective import Objective
from infertune.domain.quality import Check
from infertune.domain.record_checks import recorded_request
from infertune.domain.request import TuneRequest
from infertune.domain.trial import EXPLORING, Trial
from infertune.engines.base import first_line
from infertune.runs.final import FinalRounds
from infertune.runs.ledger import Ledger
from infertune.runs.rejection import rejected_by, unchecked_lossy
from infertune.runs.spending import Spent, spent_on
from infertune.runs.whole_rounds import failed_in, on_one_device
from infertune.sequential import TRUST, looks_within, rounds_asked
from infertune.stats import Estimate, geometric_mean, log_t_interval

Answer = Literal[
    "better",
    "no better than the default",
    "no better than current",
    "the default cannot run here",
    "current cannot run here",
    "the default breaks a limit",
    "current breaks a limit",
    "nothing keeps the limits",
    "unconfirmed",
    "nothing ran",
]


class FailureLine(Frozen):
    """One failed trial, as the report and the terminal show it."""

    number: int
    config: str
    kind: str
    what: str


class Summary(Frozen):
    """The answer of a tune.

    Attributes:
        answer: In one phrase; `unconfirmed` where the run ended before the final comparison, or before anything but
            the default was tried, or where launches failed in that comparison: those of the default, of every winner,
            or so many that it has no two whole rounds.
        unit: Of the figures.
        default_config: What is to be beaten: the engine's default with what the request set, or what runs today.
        best_config: The recommended configuration: the default's unless another was shown to be better.
        candidate_config: The fastest found, whether or not it was shown to be better.
        default: The default over launches on unseen prompts; without a final comparison those of the confirmation, and
            without that the search's own.
        candidate: The same of the candidate.
        gain: Ratio candidate / default of the final comparison, with a 95% interval that makes up for ending early
            (`infertune.sequential`); None while unconfirmed. Its mean makes up for it too, and so may
            differ a little from candidate / default.
        proof: Why proving ended, in words; empty while it has not, or where nothing was proved.
        default_breaks: The limits that the default breaks on more than half of its launches.
        candidate_breaks: The same of the candidate.
        default_samples: One figure a launch: those paired with the candidate's first, then those of the confirmation.
        candidate_samples: One figure a launch, paired with the default's.
        ported_config: What was best elsewhere, for a run that started from there.
        ported: It over the final comparison's launches; None where it was not in it.
        ported_samples: One figure a launch, paired with the default's.
        ported_gain: Ratio ported / default.
        retuned_gain: Ratio candidate / ported; None where they are the same.
        stock_config: The engine's default, where `default_config` is what runs today; else None.
        stock: It over the final comparison's launches; None where it was not in it.
        stock_samples: One figure a launch, paired with the others.
        stock_gain: Ratio stock / what runs today.
        trials: How many trials there were in all.
        tried: How many configurations they were of.
        failures: Those that failed.
        default_economy: What the default costs in energy, carbon and money.
        candidate_economy: The same of the candidate.
        launches: How often an engine was launched.
        launch_s: Seconds spent on launches.
        run_s: Seconds spent on warm-up and windows.
        spent: The same for search, proof and the check of answers apart.
        checks: What was found of the answers of configurations.
        unchecked: Whether `best_config` changes what may spoil answers, and nobody has looked.
    """

    answer: Answer
    unit: str
    default_config: Config
    best_config: Config
    candidate_config: Config
    default: Estimate | None
    candidate: Estimate | None
    gain: Estimate | None
    proof: str = ""
    default_breaks: tuple[str, ...] = ()
    candidate_breaks: tuple[str, ...] = ()
    default_samples: tuple[float, ...] = ()
    candidate_samples: tuple[float, ...] = ()
    ported_config: Config | None = None
    ported: Estimate | None = None
    ported_samples: tuple[float, ...] = ()
    ported_gain: Estimate | None = None
    retuned_gain: Estimate | None = None
    stock_config: Config | None = None
    stock: Estimate | None = None
    stock_samples: tuple[float, ...] = ()
    stock_gain: Estimate | None = None
    trials: int
    tried: int
    failures: tuple[FailureLine, ...] = ()
    default_economy: Economy = Economy()
    candidate_economy: Economy = Economy()
    launches: int
    launch_s: float
    run_s: float
    spent: tuple[Spent, ...] = ()
    checks: tuple[Check, ...] = ()
    unchecked: bool = False

    @property
    def base_name(self) -> str:
        """The name of `default_config`: `current` for a run with `--current`, else `default`."""
        return "default" if self.stock_config is None else "current"


def summarise(ledger: Ledger, objective: Objective) -> Summary:
    """The answer of a run, finished or not."""
    trials = ledger.trials
    default = default_config(ledger)
    final = final_rounds(ledger, objective)
    candidate = final.candidate if final else _best_without_final(ledger, objective)
    phases: Sequence[str] = ("final",)
    if final:
        new, base = list(final.candidate_samples), [*final.default_samples, *final.more_default_samples]
        gain = final.gain()
    else:
        phases = _best_known(trials, candidate, default)
        new, base = (figures(trials, config, objective, phases) for config in (candidate, default))
        gain = None
    ported = final.ported_samples if final else ()
    stock = final.stock_samples if final else ()
    broken = {config: _broken(trials, config, objective) for config in (default, candidate)}
    answer = _answer(ledger, final, broken[default], broken[candidate])
    best = default if answer.startswith(("no better", "nothing keeps")) else candidate
    return Summary(
        answer=answer,
        unit=objective.unit,
        default_config=default,
        best_config=best,
        candidate_config=candidate,
        default=_side(final, base),
        candidate=_side(final, new),
        gain=gain,
        proof=ledger.proof_ending,
        default_breaks=broken[default],
        candidate_breaks=broken[candidate],
        default_samples=tuple(base),
        candidate_samples=tuple(new),
        ported_config=ledger.header.ported,
        ported=_side(final, ported),
        ported_samples=ported,
        ported_gain=final.gain(ported) if final and ported else None,
        retuned_gain=final.retuned_gain() if final and ported and candidate != ledger.header.ported else None,
        stock_config=ledger.header.stock,
        stock=_side(final, stock),
        stock_samples=stock,
        stock_gain=final.gain(stock) if final and stock else None,
        trials=len(trials),
        tried=len({trial.config for trial in trials}),
        failures=tuple(_failure_line(trial) for trial in trials if trial.measurement is None),
        default_economy=_economy(trials, default, objective, phases),
        candidate_economy=_economy(trials, candidate, objective, phases),
        launches=len({trial.launch_number for trial in trials}),
        launch_s=sum(trial.launch_s for trial in trials),
        run_s=sum(trial.run_s for trial in trials),
        spent=tuple(spent_on(ledger)),
        checks=tuple(ledger.checks),
        unchecked=unchecked_lossy(ledger, best),
    )


def default_config(ledger: Ledger) -> Config:
    """The baseline and first trial: the engine's default with the settings held by `--set`, or those of `--current`."""
    return Config({knob.name: knob.default for knob in ledger.header.space.knobs})


def nothing_beside_default(ledger: Ledger) -> bool:
    """Whether no other configuration than the baseline was tried: then nothing can be said of it."""
    default = default_config(ledger)
    return all(trial.config == default for trial in ledger.trials)


def figures(
    trials: Sequence[Trial], config: Config, objective: Objective, phases: Sequence[str] = EXPLORING
) -> list[float]:
    """One figure for every launch on which a configuration was measured in some phases, in order."""
    found: dict[int, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.phase in phases and trial.config == config and trial.measurement is not None:
            figure = objective.figure(trial.measurement)
            if figure is not None:
                found[trial.launch_number].append(figure)
    return [geometric_mean(values) if len(values) > 1 else values[0] for values in found.values()]


def ranked(trials: Sequence[Trial], objective: Objective) -> list[tuple[Config, float]]:
    """Configurations of the search that keep the limits, with the geometric mean of their figures, best first."""
    samples: dict[Config, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.phase in ("search", "grid") and trial.measurement is not None:
            figure = objective.figure(trial.measurement)
            if figure is not None and objective.keeps_limits(trial.measurement):
                samples[trial.config].append(figure)
    return _best_first(samples, objective)


def requests_of(trials: Iterable[Trial]) -> int | None:
    """How many requests the jobs of a run have; None while nothing ran."""
    return next((trial.measurement.n_requests for trial in trials if trial.measurement), None)


def best_searched(trials: Sequence[Trial], objective: Objective) -> Config | None:
    """The best configuration of the search. Its figure is biased upwards: it is a maximum over noisy measurements."""
    order = ranked(trials, objective)
    return order[0][0] if order else None


def confirmed(trials: Sequence[Trial], objective: Objective) -> list[tuple[Config, float]]:
    """Configurations that kept the limits in every confirmation round so far, best first."""
    trials = on_one_device(trials)
    rounds = {trial.round_number for trial in trials if trial.phase == "confirm"}
    samples: dict[Config, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.phase == "confirm" and trial.measurement is not None and objective.keeps_limits(trial.measurement):
            figure = objective.figure(trial.measurement)
            if figure is not None:
                samples[trial.config].append(figure)
    whole = {config: values for config, values in samples.items() if len(values) == len(rounds)}
    return _best_first(whole, objective)


def final_rounds(ledger: Ledger, objective: Objective) -> FinalRounds | None:
    """The final comparison of a run, without who is out of it; None before two whole rounds, or if the base is out."""
    default, ported, stock = default_config(ledger), ledger.header.ported, ledger.header.stock
    out = failed_in(_finals(ledger), objective)
    if default in out:
        return None
    by_round: dict[int, dict[Config, float]] = defaultdict(dict)
    trials = on_one_device(ledger.trials)
    for trial in trials:
        if trial.phase == "final" and trial.measurement is not None:
            figure = objective.figure(trial.measurement)
            if figure is not None:
                by_round[trial.round_number][trial.config] = figure
    compared = {config for found in by_round.values() for config in found} - {default} - out
    candidates = compared - {ported, stock}
    if not candidates:  # the winner is one of the two: the better of them in what came before
        order = (*confirmed(ledger.trials, objective), *ranked(ledger.trials, objective))
        candidates = set([config for config, _ in order if config in compared][:1]) or compared
    if len(candidates) != 1:
        return None
    candidate = next(iter(candidates))
    whole = [found for _, found in sorted(by_round.items()) if {default, *compared} <= found.keys()]
    if len(whole) < 2:
        return None
    samples = {config: tuple(found[config] for found in whole) for config in {default, *compared}}
    several = len({trial.device_id for trial in trials if trial.phase in ("confirm", "final")}) > 1
    request = recorded_request("tune", ledger.header.request)
    assert isinstance(request, TuneRequest)
    least, most = rounds_asked(TRUST[request.trust], request.final_launches)
    trust = TRUST[request.trust].up_to(most)
    return FinalRounds(
        objective,
        trust,
        looks_within(trust, least, most),
        candidate,
        samples[candidate],
        samples[default],
        ported_samples=_of_another(samples, ported, default),
        stock_samples=_of_another(samples, stock, default),
        more_default_samples=() if several else tuple(figures(trials, default, objective, ("confirm",))),
    )


def _finals(ledger: Ledger) -> list[Trial]:
    return [trial for trial in ledger.trials if trial.phase == "final"]


def _of_another(
    samples: Mapping[Config, tuple[float, ...]], config: Config | None, default: Config
) -> tuple[float, ...]:
    return samples.get(config, ()) if config is not None and config != default else ()


def _side(final: FinalRounds | None, samples: Sequence[float]) -> Estimate | None:
    """A configuration's figure over launches, by the noise of the whole final comparison where there was one."""
    if not samples:
        return None
    return final.side(samples) if final else log_t_interval(samples)


def _best_without_final(ledger: Ledger, objective: Objective) -> Config:
    """The best configuration so far; the best other than the default if a complete tune ended without a final."""
    default, finals = default_config(ledger), _finals(ledger)
    beaten = ledger.header.command == "tune" and ledger.ending is not None and not finals
    out = failed_in(finals, objective)
    for order in (confirmed(ledger.trials, objective), ranked(ledger.trials, objective)):
        for config, _ in order:
            if (not beaten or config != default) and config not in out and not rejected_by(ledger, config):
                return config
    return default


def _best_known(trials: Sequence[Trial], *configs: Config) -> Sequence[str]:
    """The confirmation phase if all configurations were measured in it, else the exploring phases."""
    there = {trial.config for trial in trials if trial.phase == "confirm" and trial.measurement}
    return ("confirm",) if there.issuperset(configs) else EXPLORING


def _economy(trials: Sequence[Trial], config: Config, objective: Objective, phases: Sequence[str]) -> Economy:
    launches = [t.measurement for t in trials if t.config == config and t.phase in phases and t.measurement]
    return economy(launches, objective.prices)


def _best_first(samples: Mapping[Config, Sequence[float]], objective: Objective) -> list[tuple[Config, float]]:
    means = [(config, geometric_mean(values)) for config, values in samples.items()]
    return sorted(means, key=lambda pair: -objective.score_of(pair[1]))


def _answer(
    ledger: Ledger, final: FinalRounds | None, default_breaks: Sequence[str], candidate_breaks: Sequence[str]
) -> Answer:
    """The answer, from the final comparison and the limits that each of the two breaks."""
    measured = {trial.config for trial in ledger.trials if trial.measurement}
    if not measured:
        return "nothing ran"
    if final is None and (ledger.ending is None or ledger.header.command != "tune" or nothing_beside_default(ledger)):
        return "unconfirmed"
    if default_breaks and candidate_breaks:
        return "nothing keeps the limits"
    if default_breaks:
        return "the default breaks a limit" if ledger.header.stock is None else "current breaks a limit"
    if final is not None and final.is_better and not candidate_breaks:
        return "better"
    default_ran = default_config(ledger) in measured
    if final is None and default_ran and _finals(ledger):
        return "unconfirmed"  # launches of the final comparison failed
    if final is not None or default_ran:
        return "no better than the default" if ledger.header.stock is None else "no better than current"
    return "the default cannot run here" if ledger.header.stock is None else "current cannot run here"


def _broken(trials: Iterable[Trial], config: Config, objective: Objective) -> tuple[str, ...]:
    """The limits that a configuration breaks on more than half of its launches, as the user wrote them."""
    found = [trial.measurement for trial in trials if trial.config == config and trial.measurement]
    return tuple(
        limit.text for limit in objective.limits if 2 * sum(limit.kept(launch) for launch in found) < len(found)
    )


def _failure_line(trial: Trial) -> FailureLine:
    kind = trial.outcome.kind if trial.outcome.kind != "infeasible" else trial.outcome.reason
    return FailureLine(
        number=trial.number, config=str(trial.config), kind=kind, what=first_line(describe(trial.outcome), 160)
    )
