"""Who measures: the one bench of this process, or workers on several devices and machines.

The tuning loop gives a free worker an order, and takes what is done as it comes. A crew of one bench measures an order
when it is waited for, so that a run without workers does the same as it always did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from infertune.bench.bench import Asked, Bench
from infertune.bench.channel import Plan
from infertune.bench.isolation import Deadlines
from infertune.bench.serving import ServePlan
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.quality import Answered
from infertune.domain.trial import Attempt, Phase
from infertune.domain.workload import Request


@dataclass(frozen=True)
class Order:
    """What a worker is to measure.

    Attributes:
        phase: What it is measured for.
        config: All knobs.
        plan: What to run.
        fresh: Whether it gets a launch of its own.
        started_at: When it was given, ISO 8601 in UTC.
        round_number: The round of a confirmation, comparison or grid.
        only_here: If its worker is lost, it is not given to another one: it belongs to a round on one device.
    """

    phase: Phase
    config: Config
    plan: Plan | ServePlan
    fresh: bool
    started_at: str
    round_number: int = 0
    only_here: bool = False


@dataclass(frozen=True)
class Done:
    """What came of an order.

    Attributes:
        order: The order.
        device_id: The device of the worker; None where the run has one device only.
        attempt: What came of it; None if the worker was lost and the order belongs to its device only.
    """

    order: Order
    device_id: str | None
    attempt: Attempt | None


class Worker(Protocol):
    """One device with a bench.

    Attributes:
        device_id: Tells its device from the others of the run; None where there is one only.
    """

    @property
    def device_id(self) -> str | None:
        """Tells its device from the others."""

    @property
    def launched(self) -> Config | None:
        """What its loaded engine was launched with, None if none is loaded."""

    def takes(self, config: Config) -> bool:
        """Whether its loaded engine runs a configuration without a relaunch."""


class Answering(Protocol):
    """Where configurations answer and score prompts.

    Attributes:
        next_launch: Number of the next launch.
    """

    @property
    def next_launch(self) -> int:
        """Number of the next launch."""

    @property
    def launched(self) -> Config | None:
        """What the loaded engine was launched with."""

    def answer(self, config: Config, requests: Sequence[Request]) -> Asked:
        """Greedy answers of a configuration."""

    def score(self, config: Config, sequences: Sequence[Answered], vocabulary: str, batch: int | None = None) -> Asked:
        """How likely a configuration finds sequences."""

    def close(self) -> None:
        """Close the engine."""


class Crew(Protocol):
    """Workers that take orders.

    Attributes:
        deadlines: Of each stage; may be changed between orders.
    """

    deadlines: Deadlines

    @property
    def answering(self) -> Answering:
        """Where answers are checked: one of its workers, always the same while it lives."""

    @property
    def devices(self) -> Sequence[str | None]:
        """The devices of the workers that are there now."""

    def free(self) -> Sequence[Worker]:
        """The workers that are there and have no order."""

    def submit(self, worker: Worker, order: Order) -> None:
        """Give a free worker an order."""

    def launch_ahead(self, config: Config) -> None:
        """Let all free workers launch what they will be told to measure when more is known."""

    @property
    def busy(self) -> bool:
        """Whether an order is not done yet."""

    def next_done(self) -> Done | None:
        """Wait until an order is done; None if a worker became free in another way, such as a new one."""

    def widen(self, space: SearchSpace) -> None:
        """Take a space with longer ladders."""


class OneBench:
    """The crew of a run without workers: the bench of this process."""

    device_id: str | None = None

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._order: Order | None = None

    @property
    def deadlines(self) -> Deadlines:
        """Of each stage."""
        return self._bench.deadlines

    @deadlines.setter
    def deadlines(self, deadlines: Deadlines) -> None:
        self._bench.deadlines = deadlines

    @property
    def answering(self) -> Answering:
        """The bench."""
        return self._bench

    @property
    def devices(self) -> Sequence[str | None]:
        """Its only one."""
        return (None,)

    @property
    def launched(self) -> Config | None:
        """What the loaded engine was launched with."""
        return self._bench.launched

    def takes(self, config: Config) -> bool:
        """Whether the loaded engine runs a configuration without a relaunch."""
        return self._bench.takes(config)

    def free(self) -> Sequence[Worker]:
        """Itself, unless it has an order."""
        return () if self._order else (self,)

    def submit(self, worker: Worker, order: Order) -> None:
        """Keep an order until it is waited for."""
        self._order = order

    def launch_ahead(self, config: Config) -> None:
        """Nothing: it is never free while there is something to wait for."""

    @property
    def busy(self) -> bool:
        """Whether it has an order."""
        return self._order is not None

    def next_done(self) -> Done:
        """Measure the order."""
        order, self._order = self._order, None
        assert order
        return Done(order, None, self._bench.measure(order.config, order.plan, fresh=order.fresh))

    def widen(self, space: SearchSpace) -> None:
        """Take a space with longer ladders."""
        self._bench.widen(space)
