"""A cluster without processes: its workers are real `NodeWorker`s of this process, and can be lost on request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from infertune.bench.remote.node import NodeWorker
from infertune.bench.remote.terms import LostError


@dataclass(eq=False)
class Place:
    """A worker; `lost` until it is asked to say hello again."""

    node: NodeWorker = field(default_factory=NodeWorker)
    lost: bool = False
    asked: list["Answer"] = field(default_factory=list)  # and not done yet: a worker does one after the other


@dataclass(eq=False)
class Answer:
    place: Place
    method: str
    given: tuple[Any, ...]

    def run(self) -> object:
        return getattr(self.place.node, self.method)(*self.given)


class InlineCluster:
    """As many workers as `room` says; `on_call` may lose one before it answers."""

    needs = "a place"

    def __init__(self, room: int, on_call: Callable[[int, Answer], None] = lambda number, answer: None) -> None:
        self.room = room
        self.places: list[Place] = []
        self.dismissed = 0
        self._on_call = on_call
        self._calls = 0

    def capacity(self) -> int:
        return self.room

    def hire(self) -> Place:
        self.places.append(Place())
        return self.places[-1]

    def call(self, worker: Place, method: str, *given: object) -> Answer:
        answer = Answer(worker, method, given)
        if method == "hello" and worker.lost:  # restarted: a fresh process
            worker.node, worker.lost, worker.asked = NodeWorker(), False, []
        worker.asked.append(answer)
        self._calls += 1
        self._on_call(self._calls, answer)
        return answer

    def wait(self, answers: Sequence[Answer], timeout_s: float) -> list[Answer]:
        return list(answers[-1:])  # a worker that joins is heard before one that measures

    def result(self, answer: Answer) -> object:
        if answer.place.lost:
            raise LostError("its process is gone")
        while (next_one := answer.place.asked.pop(0)) is not answer:
            next_one.run()
        return answer.run()

    def dismiss(self, worker: Place) -> None:
        self.dismissed += 1

    def check_head(self) -> None:
        pass
