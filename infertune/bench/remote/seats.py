"""A crew's places, and the cluster that fills them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from infertune.bench.crew import Done, Order
from infertune.bench.remote.terms import Hello, Report
from infertune.domain.knobs import Config, Knob, SearchSpace
from infertune.domain.measurement import Crashed
from infertune.domain.trial import Attempt

MOST_LOSSES = 2  # of workers by one order, before it counts as the configuration's fault (judgement)


class Cluster(Protocol):
    """Where workers live. Workers and answers are the cluster's own objects, which nobody else looks into."""

    @property
    def needs(self) -> str:
        """What a node must have for a worker, in words."""

    def capacity(self) -> int:
        """How many workers the nodes that are there can hold."""

    def hire(self) -> Any:
        """A worker, which comes into being when a node has room for it."""

    def call(self, worker: Any, method: str, *given: object) -> Any:
        """Ask a worker for something; its answer comes later."""

    def wait(self, answers: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those of some answers that have come, the first of them at the latest after so many seconds."""

    def result(self, answer: Any) -> Any:
        """An answer that has come.

        Raises:
            LostError: Its worker is lost.
            BenchmarkError: The worker cannot be started, or failed.
        """

    def dismiss(self, worker: Any) -> None:
        """End a worker's process for good."""

    def check_head(self) -> None:
        """See whether the cluster is there.

        Raises:
            BenchmarkError: It is not.
        """


@dataclass
class Task:
    """An order under way.

    Attributes:
        order: The order.
        losses: How many workers were lost over it.
    """

    order: Order
    losses: int = 0

    def lost(self, device_id: str, why: str, launch_number: int) -> Done | None:
        """What comes of it once its worker is lost; None if another worker is to measure it.

        Args:
            device_id: The worker's.
            why: The worker was lost, in words.
            launch_number: For a crash, which no other order uses.
        """
        self.losses += 1
        if self.order.only_here:
            return Done(self.order, device_id, None)
        if self.losses < MOST_LOSSES:
            return None
        crashed = Crashed(stage="run", detail=f"{self.losses} workers were lost over it: {why}")
        return Done(self.order, device_id, Attempt(crashed, 0.0, 0.0, launch_number, live=False))


class Seat:
    """A place in the crew: a worker, through all its restarts.

    Attributes:
        rank: Its number, from 0.
        worker: The cluster's object.
        stage: `joining` until it has said who it is, `opening` while it takes its device, `refused` for good.
        answer: What it was asked last and has not answered; None if nothing.
        hello: Who it is, as it said last.
        task: What it measures.
        report: What came of it, while a simulated clock has not reached its end.
        launched: What its loaded engine was launched with, as far as the driver knows.
        faithful: Whether that engine takes no other configuration.
        starts_s: When its task began on a simulated clock.
        launches_s: When the launch for it began there: earlier, if it was launched ahead.
        launches_ahead: Whether it launches, or has launched, for a task that is still to come.
    """

    def __init__(self, rank: int, worker: Any) -> None:
        self.rank = rank
        self.worker = worker
        self.stage: Literal["joining", "joined", "opening", "free", "busy", "refused"] = "joining"
        self.answer: Any = None
        self.hello: Hello | None = None
        self.task: Task | None = None
        self.report: Report | None = None
        self.launched: Config | None = None
        self.faithful = False
        self.knobs: tuple[Knob, ...] = ()
        self.starts_s = self.launches_s = 0.0
        self.launches_ahead = False

    @property
    def device_id(self) -> str:
        """Tells its device from the others."""
        assert self.hello
        return self.hello.device_id

    @property
    def is_there(self) -> bool:
        """Whether its worker takes orders, now or when it has done its own."""
        return self.stage in ("free", "busy")

    def takes(self, config: Config) -> bool:
        """Whether its loaded engine runs a configuration without a relaunch, as far as the driver knows."""
        if self.launched is None or self.faithful:
            return False
        space = SearchSpace(self.knobs)
        return space.launch_key(self.launched) == space.launch_key(config)

    def take(self, report: Report) -> None:
        """Keep what a report says of its engine."""
        self.launched, self.faithful = report.launched, report.faithful
