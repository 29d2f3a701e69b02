"""A crew of workers that a cluster holds: who measures what, and what becomes of a lost worker's order.

On a simulated clock each worker has its own: what was started earlier and costs fewer seconds is done first, whatever
real time it took. A run on simulated engines is then the same on every cluster.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence

from infertune.bench.crew import Answering, Done, Order, Worker
from infertune.bench.isolation import Deadlines
from infertune.bench.remote.acceptance import Patience, check_one_model, counted, models_of
from infertune.bench.remote.clock import SimulatedClock
from infertune.bench.remote.lead import Lead
from infertune.bench.remote.roster import Roster
from infertune.bench.remote.seats import Cluster, Seat, Task
from infertune.bench.remote.terms import Blueprint, LostError, Offer, Report
from infertune.domain.device import Device
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.trial import Attempt
from infertune.errors import BenchmarkError

_LOOK_EVERY_S = 1.0  # at the head and for new nodes, while nothing comes (judgement)
_ALL_JOIN_S = 180.0  # for the workers that have room at the start (judgement: the first import takes up to a minute)
_CLOSE_S = 30.0  # for workers to close their engines (judgement: twice what an engine gets)
_MOST_LAUNCHES_OF_AN_ORDER = 4  # roomy and exact, and the same once more after a transient failure


class RemoteCrew:
    """Workers of a cluster; they take orders once the crew is open.

    Attributes:
        deadlines: Of each stage; sent along with every order.
    """

    def __init__(
        self,
        cluster: Cluster,
        offer: Offer,
        engine_version: str | None,
        *,
        simulated: bool,
        most: int | None,
        on_note: Callable[[str], None],
    ) -> None:
        """A crew in which nobody is yet.

        Args:
            cluster: Where its workers live.
            offer: What they are asked for.
            engine_version: The driver's, which theirs must be.
            simulated: Whether the engine has a simulated clock.
            most: Workers at most; None for as many as there is room for, nodes that come later included.
            on_note: Is told what the user should know.
        """
        self.deadlines = Deadlines()
        self._cluster = cluster
        self._on_note = on_note
        self._keep_log: Callable[[str, str], None] = lambda name, text: None
        self._roster = Roster(cluster, offer, engine_version, most, on_note)
        self._seats = self._roster.seats  # the roster's own list
        self._homeless: deque[Task] = deque()
        self._done: deque[Done] = deque()
        self._next_launch = 0
        self._clock = SimulatedClock() if simulated else None
        self._patience = Patience(on_note)

    # Coming together

    def gather(self) -> None:
        """Wait until everybody is there for whom there is room.

        Raises:
            UsageError: There is no room for any worker.
            MismatchError: Some have another version of infertune or of the engine.
            BenchmarkError: Nobody came, or none has a device that can be used.
        """
        deadline = time.perf_counter() + _ALL_JOIN_S
        while not self._roster.all_came() and time.perf_counter() <= deadline:
            self._pump()
        self._roster.check()

    @property
    def models(self) -> dict[str, Device]:
        """The models of their devices: slug → a device."""
        return {slug: of[0].device for slug, of in models_of(self._roster.hellos).items() if of[0].device}

    def device(self, slug: str | None = None) -> Device:
        """The device that a run is of, without what tells one board from another.

        Args:
            slug: Of its model; None where all must be of one.

        Raises:
            MismatchError: The devices are of different models.
        """
        if slug is None:
            check_one_model(self._roster.hellos)
            slug = next(iter(self.models))
        return self.models[slug].model_copy(update={"uuids": ()})

    def open(self, slug: str, blueprint: Blueprint, first_launch: int, keep_log: Callable[[str, str], None]) -> None:
        """Let the workers with devices of one model take their devices; from here on they take orders.

        Args:
            slug: The model's.
            blueprint: What their benches are made of.
            first_launch: Number of the first launch.
            keep_log: Is given the name and the end of each log.

        Raises:
            BenchmarkError: All devices are busy with something else.
        """
        self._keep_log = keep_log
        self._next_launch = max(first_launch, self._next_launch)
        self._roster.open(slug, blueprint)
        started = time.perf_counter()
        while any(seat.stage == "opening" for seat in self._seats):
            if time.perf_counter() > started + _LOOK_EVERY_S and blueprint.wait and self.free():
                break  # the others come when their devices are free
            self._pump()
        # A seat without room stays `joining`: whoever is to come there never does.
        if not any(seat.is_there or seat.stage == "opening" for seat in self._seats) and self._roster.all_came():
            raise self._roster.fault("no worker is left")
        self._roster.has_news = False
        self._on_note(counted([seat.hello for seat in self._seats if seat.is_there and seat.hello]))

    def rest(self) -> None:
        """Let all give their devices back; they may be opened again, for another model."""
        for seat in self._seats:
            if seat.is_there:
                self._cluster.call(seat.worker, "close")
                seat.stage, seat.launched = "joined", None

    def close(self) -> None:
        """Let all close their engines, and end their processes; nobody is waited for who measures or launches."""
        with contextlib.suppress(BenchmarkError):
            self._cluster.check_head()
            idle = [s for s in self._seats if s.stage in ("joined", "free") and not s.launches_ahead]
            closing = [self._cluster.call(seat.worker, "close") for seat in idle]
            deadline = time.perf_counter() + _CLOSE_S
            while closing and (left_s := deadline - time.perf_counter()) > 0:
                come = self._cluster.wait(closing, min(left_s, _LOOK_EVERY_S))
                closing = [answer for answer in closing if answer not in come]
                self._cluster.check_head()
            for seat in self._seats:
                self._cluster.dismiss(seat.worker)
        self._seats.clear()

    # The crew's side: see `infertune.bench.crew.Crew`

    @property
    def answering(self) -> Answering:
        """Where answers are checked: the first worker that is there."""
        return Lead(self)

    @property
    def devices(self) -> Sequence[str | None]:
        """The devices of the workers that are there."""
        return [seat.device_id for seat in self._seats if seat.is_there]

    def free(self) -> Sequence[Worker]:
        """The workers without an order, after those of lost workers were given to others."""
        free = [seat for seat in self._seats if seat.stage == "free"]
        while self._homeless and free:
            self._give(free.pop(0), self._homeless.popleft())
        return free

    def submit(self, worker: Worker, order: Order) -> None:
        """Send an order."""
        assert isinstance(worker, Seat)
        self._give(worker, Task(order))

    def launch_ahead(self, config: Config) -> None:
        """Let all free workers launch; what they are told next waits until they have."""
        for seat in self._seats:
            if seat.stage == "free":
                first = self._reserved(_MOST_LAUNCHES_OF_AN_ORDER)
                self._cluster.call(seat.worker, "launch_ahead", config, self.deadlines, first)
                seat.launches_ahead, seat.launches_s = True, self._now_s()

    @property
    def busy(self) -> bool:
        """Whether an order is not done yet."""
        return bool(self._homeless or self._done) or any(seat.stage == "busy" for seat in self._seats)

    def next_done(self) -> Done | None:
        """Wait until an order is done; None if a worker has joined."""
        while True:
            self._roster.hire()
            self.free()
            if self._clock and not self._done and not self._homeless and (first := self._clock.next_done(self._seats)):
                self._end_task(first)
            if self._done:
                return self._done.popleft()
            if self._roster.has_news:
                self._roster.has_news = False
                return None
            self._patience.check(any(seat.is_there for seat in self._seats))
            self._pump()

    def widen(self, space: SearchSpace) -> None:
        """Send longer ladders."""
        self._roster.widen(space.knobs)

    # For the lead

    @property
    def lead(self) -> Seat | None:
        """The first worker that is there."""
        return next((seat for seat in self._seats if seat.is_there), None)

    @property
    def next_launch(self) -> int:
        """Number of the next launch of any worker."""
        return self._next_launch

    def ask(self, method: str, *given: object) -> Report:
        """Ask the lead, once there is one, and wait for its answer.

        Raises:
            LostError: It is lost, or failed and is not used any more.
            BenchmarkError: No worker has come for long.
        """
        while (seat := self.lead) is None:
            self._roster.hire()
            self._patience.check(somebody=False)
            self._pump()
        self._patience.check(somebody=True)
        answer = self._cluster.call(seat.worker, method, *given, self.deadlines, self._reserved(1))
        while not self._cluster.wait([answer], _LOOK_EVERY_S):
            self._cluster.check_head()
        try:
            report = self._cluster.result(answer)
        except LostError as error:
            self._lose(seat, str(error))
            raise
        except BenchmarkError as error:
            seat.answer = None
            self._pass_on(seat, str(error))
            self._roster.refuse(seat, error)
            raise LostError(str(error)) from None
        assert isinstance(report, Report)
        self._take(seat, report)
        return report

    # What comes from workers

    def _pump(self) -> None:
        """Wait a second at most for one answer, and take it in."""
        waited_for = {seat.answer: seat for seat in self._seats if seat.answer is not None}
        come = self._cluster.wait(list(waited_for), _LOOK_EVERY_S)
        if not come:
            self._cluster.check_head()
            return
        seat = waited_for[come[0]]
        seat.answer = None
        try:
            found = self._cluster.result(come[0])
        except LostError as error:
            self._lose(seat, str(error))
            return
        except BenchmarkError as error:
            self._pass_on(seat, str(error))
            self._roster.refuse(seat, error)
            return
        if seat.stage == "joining":
            self._roster.join(seat, *found)
        elif seat.stage == "opening":
            self._roster.take_place(seat, found)
        else:
            self._take(seat, found)
            seat.report = found
            if self._clock is None:
                self._end_task(seat)

    def _lose(self, seat: Seat, why: str) -> None:
        """A worker is gone: its order goes to another one, and Ray restarts it where there is room."""
        self._cluster.check_head()
        again = "; what it measured is asked again" if seat.task else ""
        self._pass_on(seat, why)
        if seat.hello:
            self._on_note(f"worker {seat.device_id} on {seat.hello.host} is lost{again}")
        self._roster.greet(seat)

    def _pass_on(self, seat: Seat, why: str) -> None:
        """End the order of a worker that will not answer it, or keep it for another worker."""
        task, seat.task = seat.task, None
        if task is None:
            return
        if done := task.lost(seat.device_id, why, self._reserved(1)):
            self._done.append(done)
        else:
            self._homeless.append(task)

    def _give(self, seat: Seat, task: Task) -> None:
        seat.stage, seat.task, seat.report = "busy", task, None
        seat.starts_s = self._now_s()
        seat.launches_s = seat.launches_s if seat.launches_ahead and not task.order.fresh else seat.starts_s
        seat.launches_ahead = False
        first = self._reserved(_MOST_LAUNCHES_OF_AN_ORDER)
        seat.answer = self._cluster.call(seat.worker, "measure", task.order, self.deadlines, first)

    def _now_s(self) -> float:
        return self._clock.now_s if self._clock else 0.0

    def _reserved(self, launches: int) -> int:
        """Numbers of launches that no other order uses: the first of them."""
        first = self._next_launch
        self._next_launch += launches
        return first

    def _take(self, seat: Seat, report: Report) -> None:
        seat.take(report)
        for note in report.notes:
            self._on_note(f"{seat.device_id}: {note}")
        for name, text in report.logs:
            self._keep_log(name, text)

    def _end_task(self, seat: Seat) -> None:
        assert seat.task and seat.report and isinstance(seat.report.found, Attempt)
        self._done.append(Done(seat.task.order, seat.device_id, seat.report.found))
        seat.stage, seat.task, seat.report = "free", None, None
