"""Progress of a run. The command line prints it; from Python nothing is printed unless you pass an observer."""

from pathlib import Path

from infertune.domain.knobs import Config
from infertune.domain.trial import Trial
from infertune.runs.summary import Summary


class Observer:
    """Base class of observers: every method does nothing. None is called inside a measured interval."""

    def run_starts(self, folder: Path, default: Config, base_name: str = "default") -> None:
        """A run starts or continues: its folder, and the default configuration."""

    def part_starts(self, number: int, of: int, name: str, left_s: float | None) -> None:
        """One of several runs starts: its number from 1, its name, and the seconds left for all; None if unknown."""

    def phase(self, name: str, steps: int | None, budget_s: float | None = None) -> None:
        """A phase begins.

        Args:
            name: In words.
            steps: How many trials it will have at most, None if only time limits it.
            budget_s: The seconds left for it, None if only trials limit it.
        """

    def trial_starts(self, config: Config, *, live: bool) -> None:
        """A configuration is about to be measured, `live` if no launch is needed."""

    def trial_ends(self, trial: Trial, *, figure: float | None, best: float | None, default: float | None) -> None:
        """A trial is in the ledger; its figure of the objective, the best so far and the default's."""

    def interrupted(self) -> None:
        """Ctrl-C: the engine is gone, and what can be said of the run so far is written next.

        From here on a further Ctrl-C leaves that out.
        """

    def run_ends(self, summary: Summary) -> None:
        """Profile and report are written; the answer, which is unconfirmed where the run was interrupted."""

    def note(self, text: str) -> None:
        """Something that the user should know."""
