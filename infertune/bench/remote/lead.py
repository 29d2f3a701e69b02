"""The worker on which answers are checked."""

from collections.abc import Sequence
from typing import Protocol

from infertune.bench.bench import Asked
from infertune.bench.remote.seats import MOST_LOSSES, Seat
from infertune.bench.remote.terms import LostError, Report
from infertune.domain.knobs import Config
from infertune.domain.quality import Answered, NotScored
from infertune.domain.workload import Request


class AskingCrew(Protocol):
    """What of a crew the lead needs."""

    @property
    def lead(self) -> Seat | None:
        """The first worker that is there."""

    @property
    def next_launch(self) -> int:
        """Number of the next launch of any worker."""

    def ask(self, method: str, *given: object) -> Report:
        """Ask the lead, once there is one, and wait; raises LostError."""


class Lead:
    """The first worker of a crew that is there, asked and waited for."""

    def __init__(self, crew: AskingCrew) -> None:
        self._crew = crew

    @property
    def next_launch(self) -> int:
        """Number of the next launch of any worker."""
        return self._crew.next_launch

    @property
    def launched(self) -> Config | None:
        """What its engine was launched with, as far as the driver knows."""
        return self._crew.lead.launched if self._crew.lead else None

    def answer(self, config: Config, requests: Sequence[Request]) -> Asked:
        """Greedy answers of a configuration."""
        return self._asked("answer", config, requests)

    def score(self, config: Config, sequences: Sequence[Answered], vocabulary: str, batch: int | None = None) -> Asked:
        """How likely a configuration finds sequences."""
        return self._asked("score", config, sequences, vocabulary, batch)

    def close(self) -> None:
        """Nothing: the engine goes when the next one is launched."""

    def _asked(self, method: str, *given: object) -> Asked:
        """What the lead answers; where it is lost, whoever leads next is asked, as often as an order is given again."""
        why = ""
        for _ in range(MOST_LOSSES):
            try:
                found = self._crew.ask(method, *given).found
            except LostError as error:
                why = str(error)
                continue
            assert isinstance(found, Asked)
            return found
        return Asked(NotScored(kind="failed", detail=f"{MOST_LOSSES} workers were lost over it: {why}"), 0.0, 0.0)
