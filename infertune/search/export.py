"""A run as an Optuna study, for optuna-dashboard and Optuna's own plots."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from infertune.domain.knobs import Knob
from infertune.domain.trial import Trial
from infertune.errors import UsageError
from infertune.units import parse_time


@dataclass(frozen=True)
class Result:
    """A trial for the study.

    Attributes:
        trial: As in the ledger.
        figure: The objective's figure in its unit; None if the trial failed.
        what: One line: the rate, or what went wrong.
    """

    trial: Trial
    figure: float | None
    what: str


def export_study(storage: str, name: str, knobs: Sequence[Knob], results: Sequence[Result], *, minimize: bool) -> int:
    """Write trials into a new study of a database; the number of trials.

    Values are the objective's figures in their unit. A failed trial is failed in the study too; the reason is a user
    attribute.

    Args:
        storage: A URL that SQLAlchemy takes, such as `sqlite:///runs.db`.
        name: Of the study.
        knobs: Of the run's space; one that has a single value is left out.
        results: In the order of the ledger.
        minimize: Whether lower figures are better.

    Raises:
        UsageError: The database cannot be written, or has a study of that name.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {knob.name: _distribution(knob) for knob in knobs if len(knob.values) > 1}
    trials = []
    for result in results:
        started = parse_time(result.trial.started_at).replace(tzinfo=None)  # in UTC: a database has no zones
        trial = optuna.trial.create_trial(
            state=TrialState.FAIL if result.figure is None else TrialState.COMPLETE,
            value=result.figure,
            params={knob: result.trial.config[knob] for knob in distributions},
            distributions=distributions,
            user_attrs={
                "trial": result.trial.number,
                "phase": result.trial.phase,
                "live": result.trial.live,
                "what": result.what,
            },
        )
        trial.datetime_start = started
        trial.datetime_complete = started + timedelta(seconds=result.trial.cost_s)
        trials.append(trial)
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="minimize" if minimize else "maximize")
        study.add_trials(trials)
    except optuna.exceptions.DuplicatedStudyError:
        raise UsageError(f"{storage} has a study {name!r} already; choose another file") from None
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError) as error:
        reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"--to-optuna {storage} cannot be written: {reason}; it is like sqlite:///runs.db") from None
    return len(trials)


def _distribution(knob: Knob) -> BaseDistribution:
    if knob.kind == "int":
        return IntDistribution(round(knob.numbers[0]), round(knob.numbers[-1]))
    if knob.kind == "float":
        return FloatDistribution(knob.numbers[0], knob.numbers[-1])
    return CategoricalDistribution(knob.values)
