"""A run as an Optuna study, for optuna-dashboard and Optuna's own plots."""

from collections.abc import Sequence

import optuna
from sqlalchemy.exc import SQLAlchemyError

from infertune.domain.knobs import Knob
from infertune.errors import UsageError
from infertune.search.storage import check_storage, open_storage, reason_of, shown_storage
from infertune.search.study_trials import Shown, frozen


def export_study(storage: str, name: str, knobs: Sequence[Knob], trials: Sequence[Shown], *, minimize: bool) -> int:
    """Write trials into a new study of a storage; the number of trials.

    Values are the objective's figures in their unit. A failed trial is failed in the study too; the reason is a user
    attribute.

    Args:
        storage: A URL that SQLAlchemy takes, such as `sqlite:///runs.db`, or a journal file `FILE.log`.
        name: Of the study.
        knobs: Of the run's space; one that has a single value is left out.
        trials: In the order of the ledger.
        minimize: Whether lower figures are better.

    Raises:
        UsageError: The storage cannot be written, or has a study of that name.
    """
    check_storage(storage, "--to-optuna")
    try:
        study = optuna.create_study(
            storage=open_storage(storage), study_name=name, direction="minimize" if minimize else "maximize"
        )
        study.add_trials([frozen(trial, knobs) for trial in trials])
    except optuna.exceptions.DuplicatedStudyError:
        raise UsageError(f"{shown_storage(storage)} has a study {name!r} already; choose another file") from None
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError, OSError) as error:
        raise UsageError(
            f"--to-optuna {shown_storage(storage)} cannot be written: {reason_of(error, storage)}; "
            "it is like sqlite:///runs.db"
        ) from None
    return len(trials)
