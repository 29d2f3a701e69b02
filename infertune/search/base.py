"""What a search strategy is told and what it answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from infertune.domain.knobs import Config


@dataclass(frozen=True)
class Result:
    """What came of one configuration.

    Attributes:
        config: All knobs.
        score: Logarithm of the objective, higher is better; None if it cannot run here or breaks a limit.
        launch_s: Seconds paid for launching an engine, 0 where a loaded one was used.
        run_s: Seconds of warm-up and windows.
        n_requests: Requests of its job, None if unknown.
        launch: Number of the engine's launch that it ran on, None if it was on one of its own.
    """

    config: Config
    score: float | None
    launch_s: float = 0.0
    run_s: float = 0.0
    n_requests: int | None = None
    launch: int | None = None


def requests_of(results: Iterable[Result]) -> int | None:
    """How many requests the jobs of these results had; None if unknown."""
    return next((result.n_requests for result in results if result.score is not None), None)


class Searcher(Protocol):
    """Asks and is told. It never asks for a configuration that was told before, nor for one that breaks a rule."""

    def ask(self, launched: Config | None) -> Config | None:
        """The next configuration to measure, or None when there is nothing left.

        Args:
            launched: What the loaded engine was launched with: a configuration that differs in live knobs only is
                measured without paying for a launch.
        """

    def tell(self, result: Result) -> None:
        """What came of a configuration."""

    def recall(self, results: Iterable[Result]) -> None:
        """Many tells at once, from a ledger."""

    def exhausted(self) -> bool:
        """Whether nothing that is left is likely to gain 1%; a strategy that cannot know says no."""
