"""A trial: one attempt to measure one configuration, as it stands in the ledger."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from infertune.domain.judging import RequestRows
from infertune.domain.knobs import Config
from infertune.domain.measurement import Frozen, IsoTime, Measurement, Outcome, Seconds

Phase = Literal["search", "device", "confirm", "final", "grid", "bench", "base", "new"]
MOST_LAUNCHES = 2**31  # of a run, and of its trials and rounds: at one a second, 68 years
MOST_ID_CHARACTERS = 2000  # of a device: sixteen GPUs' UUIDs have 640 (judgement)
EXPLORING: tuple[Phase, ...] = ("search", "grid", "bench")


@dataclass(frozen=True)
class Attempt:
    """The outcome of measuring a configuration, and its cost in seconds.

    Attributes:
        outcome: A measurement, or the kind of failure.
        launch_s: Seconds spent on launching.
        run_s: Seconds of warm-up and windows.
        launch_number: Which launch it ran on.
        live: Whether that launch was for another configuration.
        rows: The requests of each window of a server, for the run's side file.
    """

    outcome: Outcome
    launch_s: float
    run_s: float
    launch_number: int
    live: bool
    rows: tuple[RequestRows, ...] = ()


class Trial(Frozen):
    """One attempt at one configuration.

    Attributes:
        number: Position in the ledger, from 0.
        phase: `search` and `grid` explore; `device` measures the base on a further device of the run; `confirm`
            re-measures finalists, `final` the winner, on unseen prompts;
            `base` and `new` are the two sides of a gate.
        round_number: Interleaved round in confirm, final and grid phases, pair of a gate; 0 in search.
        config: The configuration.
        outcome: What came of it.
        started_at: ISO 8601 time in UTC.
        launch_number: Which launch of the engine it ran on, from 0 within the run's session.
        launch_s: Seconds paid for launching, 0 on an engine that was already loaded.
        run_s: Seconds of warm-up and windows.
        live: Whether it ran on an engine that had been launched for another configuration.
        device_id: Which of the run's devices it ran on; None where the run has one only.
    """

    number: int = Field(ge=0, lt=MOST_LAUNCHES)
    phase: Phase
    round_number: int = Field(default=0, ge=0, lt=MOST_LAUNCHES)
    config: Config
    outcome: Outcome
    started_at: IsoTime
    launch_number: int = Field(default=0, ge=0, lt=MOST_LAUNCHES)
    launch_s: Seconds
    run_s: Seconds
    live: bool = False
    device_id: str | None = Field(default=None, max_length=MOST_ID_CHARACTERS)

    @classmethod
    def of(
        cls,
        number: int,
        phase: Phase,
        round_number: int,
        config: Config,
        started_at: str,
        attempt: Attempt,
        device_id: str | None = None,
    ) -> "Trial":
        """A trial from an attempt and its place in the ledger."""
        return cls(
            number=number,
            phase=phase,
            round_number=round_number,
            config=config,
            outcome=attempt.outcome,
            started_at=started_at,
            launch_number=attempt.launch_number,
            launch_s=attempt.launch_s,
            run_s=attempt.run_s,
            live=attempt.live,
            device_id=device_id,
        )

    @property
    def measurement(self) -> Measurement | None:
        """The measurement, or None if the trial failed."""
        return self.outcome if isinstance(self.outcome, Measurement) else None

    @property
    def cost_s(self) -> float:
        """Launch and run, in seconds."""
        return self.launch_s + self.run_s
