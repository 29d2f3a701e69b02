"""The interface of search strategies (ask and tell), and the result of one configuration."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from infertune.domain.knobs import Config


@dataclass(frozen=True)
class Result:
    """The result of measuring one configuration.

    Attributes:
        config: Every knob's value.
        score: ln(objective), higher is better; None if it failed or broke a limit.
        launch_s: Seconds of launching the engine, 0 where a loaded one was used.
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
    """Requests in the job of these results; None if unknown."""
    return next((result.n_requests for result in results if result.score is not None), None)


class Searcher(Protocol):
    """Ask and tell: never asks for a configuration that was told before, nor for one that breaks a rule.

    Several workers ask one strategy in turn: whoever is free asks with what its own engine was launched with, and with
    what the others are measuring. Results are told as they come, in any order. A configuration that was asked for but
    neither told nor named as pending, as when its worker was lost, may be asked for again.
    """

    def ask(self, launched: Config | None, pending: Collection[Config] = ()) -> Config | None:
        """The next configuration to measure, or None when there is nothing left besides what is pending.

        Args:
            launched: What the asking worker's engine was launched with; None if none is loaded. A configuration that
                differs in live knobs only is measured without a new launch.
            pending: Configurations that other workers are measuring now; none of them is asked for, and the next one
                is chosen as if they would come out as expected.
        """

    def tell(self, result: Result) -> None:
        """Take the result of a configuration."""

    def recall(self, results: Iterable[Result]) -> None:
        """Take many results at once, from a ledger."""

    def exhausted(self) -> bool:
        """Whether no remaining configuration is likely to gain 1%; False of a strategy without a model."""
