"""The study of a run that goes on: every trial is asked and told on it, so that optuna-dashboard shows the run live.

The ledger is the truth, the study a view of it: what the search does never depends on the study, and a storage that
fails costs a warning. A run that is continued goes on with its study.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from infertune.domain.knobs import Config, Knob, Scalar
from infertune.search.storage import open_storage, reason_of, shown_storage
from infertune.search.study_trials import NUMBER, Shown, distributions_of, frozen, parameters_of

_RUN = "run_id"
_NOTE_CHARACTERS = 2045  # of one part of optuna-dashboard's note (its SYSTEM_ATTR_MAX_LENGTH)


class LiveStudy:
    """A run's study in a storage. Once the storage fails it is left alone, after one warning."""

    def __init__(
        self,
        storage: str,
        name: str,
        run_id: str,
        about: Mapping[str, Scalar],
        *,
        minimize: bool,
        unit: str,
        on_warning: Callable[[str], None],
    ) -> None:
        """Open the run's study, or make it.

        Args:
            storage: Checked by `check_storage`.
            name: Of the study; numbered if a study of another run has it.
            run_id: Tells runs apart.
            about: User attributes of the study: what was tuned, and where.
            minimize: Whether lower figures are better.
            unit: Of the objective.
            on_warning: Is told, once, why the storage failed.
        """
        self._storage = storage
        self._on_warning = on_warning
        self._study: optuna.Study | None = None
        self._open: list[tuple[Config, optuna.Trial]] = []
        self._sampler = _Decided()
        self.name = name
        direction: Literal["minimize", "maximize"] = "minimize" if minimize else "maximize"
        self._safely(lambda: self._make(name, {**about, _RUN: run_id}, direction, unit))

    def catch_up(self, shown: Sequence[Shown], knobs: Sequence[Knob]) -> None:
        """Add what the ledger has and the study lacks; what an earlier session left running ends as failed."""

        def write(study: optuna.Study) -> None:
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                study.tell(trial.number, state=TrialState.FAIL)
            finished = study.get_trials(deepcopy=False)
            known = {trial.user_attrs.get(NUMBER) for trial in finished}
            study.add_trials([frozen(one, knobs) for one in shown if one.trial.number not in known])

        self._with_study(write)

    def starts(self, config: Config, knobs: Sequence[Knob]) -> None:
        """A configuration is being measured: a running trial."""

        def write(study: optuna.Study) -> None:
            distributions = distributions_of(knobs, config)
            self._sampler.decided = parameters_of(config, distributions)
            self._open.append((config, study.ask(distributions)))

        self._with_study(write)

    def ends(self, shown: Shown, knobs: Sequence[Knob]) -> None:
        """A trial is in the ledger."""

        def write(study: optuna.Study) -> None:
            mine = next((pair for pair in self._open if pair[0] == shown.trial.config), None)
            if mine is None:
                study.add_trial(frozen(shown, knobs))
                return
            self._open.remove(mine)
            trial = mine[1]
            for step, value in enumerate(shown.windows):
                trial.report(value, step)
            for name, excess in shown.excess.items():
                trial.set_constraint(name, excess)
            for name, attribute in shown.attributes.items():
                trial.set_user_attr(name, attribute)
            study.tell(trial, shown.figure, state=shown.state)

        self._with_study(write)

    def interrupted(self) -> None:
        """What is running ends as failed."""

        def write(study: optuna.Study) -> None:
            while self._open:
                study.tell(self._open.pop()[1], state=TrialState.FAIL)

        self._with_study(write)

    def answer(self, text: str, figures: Mapping[str, Scalar]) -> None:
        """The run's answer: a note, as optuna-dashboard shows it, and user attributes."""

        def write(study: optuna.Study) -> None:
            for name, value in figures.items():
                study.set_user_attr(name, value)
            storage, number = study._storage, study._study_id
            version = storage.get_study_system_attrs(number).get("dashboard:note_ver", 0)
            parts = [text[at : at + _NOTE_CHARACTERS] for at in range(0, len(text), _NOTE_CHARACTERS)]
            storage.set_study_system_attr(number, "dashboard:note_ver", version + 1)
            for part, body in enumerate(parts):
                storage.set_study_system_attr(number, f"dashboard:note_str:{part}", body)

        self._with_study(write)

    def _make(
        self, name: str, about: Mapping[str, Scalar], direction: Literal["minimize", "maximize"], unit: str
    ) -> None:
        storage = open_storage(self._storage)
        taken = {one.study_name: one.user_attrs.get(_RUN) for one in optuna.get_all_study_summaries(storage)}
        number = 1
        while taken.get(self.name, about[_RUN]) != about[_RUN]:
            number += 1
            self.name = f"{name}-{number}"
        self._study = optuna.create_study(
            storage=storage, study_name=self.name, direction=direction, sampler=self._sampler, load_if_exists=True
        )
        for attribute, value in about.items():
            self._study.set_user_attr(attribute, value)
        self._study.set_metric_names([unit])

    def _with_study(self, write: Callable[[optuna.Study], None]) -> None:
        if (study := self._study) is not None:
            self._safely(lambda: write(study))

    def _safely(self, write: Callable[[], None]) -> None:
        """Any driver of a third party is behind this, with errors of its own."""
        try:
            write()
        except Exception as error:
            self._study = None
            self._on_warning(
                f"the study in {shown_storage(self._storage)} is no longer kept up to date: "
                f"{reason_of(error, self._storage)}; the run goes on, and its ledger has every trial: "
                "--resume RUN with --storage brings a study up to date"
            )


class _Decided(BaseSampler):
    """Returns what the search has decided on."""

    def __init__(self) -> None:
        self.decided: dict[str, Scalar] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.decided[param_name]
