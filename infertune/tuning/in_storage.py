"""A tune as an Optuna study while it goes on (`--storage`): an observer that passes everything on, and shows it."""

import hashlib
from pathlib import Path

from infertune.domain.knobs import Config
from infertune.domain.measurement import Measurement
from infertune.domain.objective import Objective
from infertune.domain.trial import Trial
from infertune.report.words import answer_sentence, settings_text
from infertune.runs.ledger import Ledger
from infertune.runs.observer import Observer
from infertune.runs.summary import Summary
from infertune.search.live_study import LiveStudy
from infertune.search.study_trials import Shown


def shown(trial: Trial, objective: Objective) -> Shown:
    """A trial as a study shows it."""
    if trial.measurement is None:
        return Shown(trial, None)
    windows = [objective.figure(one) for one in _by_window(trial.measurement)]
    excess = {limit.text: limit.excess(trial.measurement) for limit in objective.limits}
    return Shown(
        trial,
        objective.figure(trial.measurement),
        tuple(figure for figure in windows if figure is not None),
        {text: value for text, value in excess.items() if value is not None},
    )


def _by_window(measurement: Measurement) -> list[Measurement]:
    """A measurement's windows, each as a measurement of its own."""
    return [measurement.model_copy(update={"windows": (window,)}) for window in measurement.windows]


class InStorage(Observer):
    """Passes everything on to another observer, and keeps the run's study up to date with the ledger."""

    def __init__(self, inner: Observer, storage: str, ledger: Ledger, objective: Objective) -> None:
        """Open the study, and bring it up to date.

        Args:
            inner: Is told of everything.
            storage: Where the study is kept.
            ledger: The run's.
            objective: What is tuned for.
        """
        self._inner = inner
        self._ledger = ledger
        self._objective = objective
        header = ledger.header
        about = {
            "model": str(header.model.spec) if header.model else "none",
            "engine": f"{header.engine} {header.engine_version or ''}".strip(),
            "device": str(header.device),
            "workload": header.workload.spec,
            "objective": objective.name,
            "sampler": str(header.request.get("sampler", "auto")),
            "infertune": header.infertune_version,
        }
        self._study = LiveStudy(
            storage,
            Path(ledger.folder).resolve().name,
            hashlib.sha256(header.model_dump_json(exclude={"space"}).encode()).hexdigest()[:16],
            about,
            minimize=objective.lower_is_better,
            unit=objective.unit,
            on_warning=inner.note,
        )
        self._study.catch_up([shown(trial, objective) for trial in ledger.trials], header.space.knobs)

    def run_starts(self, folder: Path, default: Config, base_name: str = "default") -> None:
        """Pass it on."""
        self._inner.run_starts(folder, default, base_name)

    def phase(self, name: str, steps: int | None, budget_s: float | None = None) -> None:
        """Pass it on."""
        self._inner.phase(name, steps, budget_s)

    def trial_starts(self, config: Config, *, live: bool) -> None:
        """A running trial."""
        self._inner.trial_starts(config, live=live)
        self._study.starts(config, self._ledger.header.space.knobs)

    def trial_ends(self, trial: Trial, *, figure: float | None, best: float | None, default: float | None) -> None:
        """Its values, attributes and limits."""
        self._inner.trial_ends(trial, figure=figure, best=best, default=default)
        self._study.ends(shown(trial, self._objective), self._ledger.header.space.knobs)

    def interrupted(self) -> None:
        """What is running has failed."""
        self._study.interrupted()
        self._inner.interrupted()

    def note(self, text: str) -> None:
        """Pass it on."""
        self._inner.note(text)

    def run_ends(self, summary: Summary) -> None:
        """The answer, as the study's note and attributes."""
        self._inner.run_ends(summary)
        self._study.interrupted()  # a round whose worker was lost was measured again elsewhere
        sentence = answer_sentence(summary)
        best = settings_text(summary.best_config)
        self._study.answer(
            f"**{sentence}**\n\nRecommended: `{best}`\n\nThe run's ledger and report: `{self._ledger.folder}`",
            {"answer": sentence, "recommended": best},
        )
