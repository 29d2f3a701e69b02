"""Who is in a crew: hired, greeted, taken or refused, and given a device of its own."""

from collections.abc import Callable

from infertune.bench.remote.acceptance import read_hello
from infertune.bench.remote.seats import Cluster, Seat
from infertune.bench.remote.terms import Blueprint, Hello, Offer
from infertune.domain.knobs import Knob
from infertune.errors import BenchmarkError, InfertuneError, MismatchError, UsageError


class Roster:
    """The places of a crew, and who is in them.

    Attributes:
        seats: The places, by rank.
        has_news: Whether a worker has taken its device since somebody looked last.
    """

    def __init__(
        self,
        cluster: Cluster,
        offer: Offer,
        engine_version: str | None,
        most: int | None,
        on_note: Callable[[str], None],
    ) -> None:
        """No places yet.

        Args:
            cluster: Where workers live.
            offer: What they are asked for.
            engine_version: The driver's, which theirs must be.
            most: Workers at most; None for as many as there is room for, nodes that come later included.
            on_note: Is told what the user should know.
        """
        self.seats: list[Seat] = []
        self.has_news = False
        self._cluster = cluster
        self._offer = offer
        self._engine_version = engine_version
        self._most = most
        self._on_note = on_note
        self._blueprint: Blueprint | None = None
        self._slug = ""
        self._faults: list[InfertuneError] = []

    @property
    def hellos(self) -> list[Hello]:
        """Those that are there and can measure."""
        return [seat.hello for seat in self.seats if seat.hello and seat.stage not in ("joining", "refused")]

    def hire(self) -> None:
        """Add places up to as many as were asked for, or as there is room for."""
        while len(self.seats) < (self._most or self._cluster.capacity()):
            seat = Seat(len(self.seats), self._cluster.hire())
            self.seats.append(seat)
            self.greet(seat)

    def all_came(self) -> bool:
        """Whether everybody for whom there is room has said who it is, those included that are hired now.

        Raises:
            UsageError: There is no room for any worker.
        """
        self.hire()
        room = min(len(self.seats), self._cluster.capacity())
        if not room:
            raise UsageError(f"--workers: no node has room for a worker, which needs {self._cluster.needs}")
        return sum(seat.stage != "joining" for seat in self.seats) >= room

    def check(self) -> None:
        """Refuse a crew in which nobody can measure, or which does not fit the driver; tell of one that is small.

        Raises:
            MismatchError: Some have another version of infertune or of the engine.
            BenchmarkError: Nobody came, or none has a device that can be used.
        """
        for fault in self._faults:
            if isinstance(fault, MismatchError):
                raise fault
        if not self.hellos:
            raise self.fault("no worker came; `ray status` says what is amiss")
        if self._most and len(self.hellos) < self._most:
            self._on_note(f"{len(self.hellos)} of {self._most} workers are there; others join when there is room")

    def fault(self, otherwise: str) -> InfertuneError:
        """Why the first worker that is not used is not; an error with other words where all are used."""
        return self._faults[0] if self._faults else BenchmarkError(otherwise)

    def greet(self, seat: Seat) -> None:
        """Ask a worker who it is: a new one, or one that was restarted."""
        seat.stage, seat.launched, seat.task, seat.launches_ahead = "joining", None, None, False
        offer = self._offer.model_copy(update={"rank": seat.rank})
        seat.answer = self._cluster.call(seat.worker, "hello", offer.model_dump_json())

    def open(self, slug: str, blueprint: Blueprint) -> None:
        """Let those with devices of one model take them, and all of that model that join later.

        Args:
            slug: The model's.
            blueprint: What their benches are made of.
        """
        self._slug, self._blueprint = slug, blueprint
        self._faults.clear()
        for seat in self.seats:
            if seat.stage == "joined":
                self._open(seat)

    def widen(self, knobs: tuple[Knob, ...]) -> None:
        """Send longer ladders."""
        assert self._blueprint
        self._blueprint = self._blueprint.with_knobs(knobs)
        for seat in self.seats:
            if seat.is_there:
                seat.knobs = knobs
                self._cluster.call(seat.worker, "widen", knobs)

    def join(self, seat: Seat, version: str, text: str) -> None:
        """Take in who a worker says it is; see `read_hello`."""
        try:
            hello = read_hello(version, text, self._offer.engine, self._engine_version)
        except MismatchError as error:
            self.refuse(seat, error)
            return
        seat.hello = hello
        if hello.fault:
            self.refuse(seat, BenchmarkError(f"{hello.host}: {hello.fault}"))
            return
        seat.stage = "joined"
        if self._blueprint:
            self._open(seat)

    def take_place(self, seat: Seat, refusal: str) -> None:
        """Take in that a worker has its device; `refusal` says why not, and is empty otherwise."""
        assert seat.hello and self._blueprint
        if refusal:
            self.refuse(seat, BenchmarkError(f"{seat.hello.host}: {refusal}"))
            return
        if seat.knobs != self._blueprint.knobs:  # ladders were lengthened meanwhile
            seat.knobs = self._blueprint.knobs
            self._cluster.call(seat.worker, "widen", seat.knobs)
        seat.stage, self.has_news = "free", True

    def refuse(self, seat: Seat, why: InfertuneError) -> None:
        """Use a worker no longer; its process stays, or Ray would offer the same place again."""
        seat.stage = "refused"
        self._faults.append(why)
        self._on_note(f"a worker is not used: {why}")

    def _open(self, seat: Seat) -> None:
        assert self._blueprint and seat.hello and seat.hello.device
        if seat.hello.device.slug != self._slug:
            return  # it joined for a run of another model, or came later
        if any(other is not seat and other.is_there and other.device_id == seat.device_id for other in self.seats):
            self.refuse(seat, BenchmarkError(f"{seat.device_id} has a worker already"))
            return
        seat.stage, seat.knobs, seat.launches_ahead = "opening", self._blueprint.knobs, False
        seat.answer = self._cluster.call(seat.worker, "open", self._offer.engine, self._blueprint)
