"""A trial of a ledger as a trial of an Optuna study: for the study of a run that goes on, and for an export."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from infertune.domain.figures import FIGURES
from infertune.domain.knobs import Config, Knob, Scalar
from infertune.domain.measurement import describe
from infertune.domain.trial import Trial
from infertune.units import parse_time

NUMBER = "trial"  # the user attribute that has a trial's number in the ledger


@dataclass(frozen=True)
class Shown:
    """A trial for a study.

    Attributes:
        trial: As in the ledger.
        figure: The objective's figure in its unit; None if the trial failed.
        windows: The same of each window.
        excess: By how much it breaks each limit, in the figure's unit; 0 and below where it is kept.
    """

    trial: Trial
    figure: float | None
    windows: tuple[float, ...] = ()
    excess: Mapping[str, float] = field(default_factory=dict)

    @property
    def state(self) -> TrialState:
        """Failed where there is no figure."""
        return TrialState.FAIL if self.figure is None else TrialState.COMPLETE

    @property
    def attributes(self) -> dict[str, Scalar]:
        """The user attributes: its place in the run, its costs, and every figure that is known."""
        trial = self.trial
        found: dict[str, Scalar] = {
            NUMBER: trial.number,
            "phase": trial.phase,
            "round": trial.round_number,
            "launch": trial.launch_number,
            "live": trial.live,
            "launch_s": trial.launch_s,
            "run_s": trial.run_s,
            "what": describe(trial.outcome),
        }
        if trial.device_id is not None:
            found["device"] = trial.device_id
        if self.excess:
            broken = [limit for limit, excess in self.excess.items() if excess > 0]
            found["limits"] = f"broken: {', '.join(broken)}" if broken else "kept"
        if trial.measurement:
            figures = {name: figure.of(trial.measurement) for name, figure in FIGURES.items()}
            found |= {name: value for name, value in figures.items() if value is not None}
        return found


def distributions_of(knobs: Sequence[Knob], config: Config) -> dict[str, BaseDistribution]:
    """The distributions of a space's knobs, one with a single value left out.

    Args:
        knobs: Of the space.
        config: May go beyond the end of a ladder.
    """
    wide = [knob.with_values([config[knob.name]]) if knob.ordinal else knob for knob in knobs]
    return {knob.name: _distribution(knob) for knob in wide if len(knob.values) > 1}


def parameters_of(config: Config, distributions: Mapping[str, BaseDistribution]) -> dict[str, Scalar]:
    """A configuration's values of the parameters that a study has."""
    return {name: config[name] for name in distributions}


def frozen(shown: Shown, knobs: Sequence[Knob]) -> FrozenTrial:
    """A trial that has ended."""
    distributions = distributions_of(knobs, shown.trial.config)
    started = parse_time(shown.trial.started_at).astimezone().replace(tzinfo=None)  # local, as Optuna writes times
    trial = create_trial(
        state=shown.state,
        value=shown.figure,
        params=parameters_of(shown.trial.config, distributions),
        distributions=distributions,
        user_attrs=shown.attributes,
        intermediate_values=dict(enumerate(shown.windows)),
        constraints=dict(shown.excess),
    )
    trial.datetime_start = started
    trial.datetime_complete = started + timedelta(seconds=shown.trial.cost_s)
    return trial


def _distribution(knob: Knob) -> BaseDistribution:
    if knob.kind == "choice":
        return CategoricalDistribution(knob.values)
    low, high = knob.numbers[0], knob.numbers[-1]
    doubling = low > 0 and knob.numbers[1] >= 1.5 * low  # the same where the ladder is longer
    if knob.kind == "int":
        return IntDistribution(round(low), round(high), log=doubling)
    return FloatDistribution(low, high, log=doubling)
