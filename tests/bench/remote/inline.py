"""A cluster without processes: its workers are real `NodeWorker`s of this process, and can be lost on request."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from infertune.bench.remote.node import NodeWorker
from infertune.bench.remote.terms import LostError
from infertune.errors import BenchmarkError


@dataclass(eq=False)
class Place:
    """A worker; `lost` until it is asked to say hello again; `fault` is what it answers instead of what it is asked."""

    node: NodeWorker = field(default_factory=NodeWorker)
    lost: bool = False
    fault: str = ""
    asked: list["Answer"] = field(default_factory=list)  # and not done yet: a worker does one after the other

    def restart(self) -> None:
        """A fresh process in the place of one that ended, as Ray makes it: nobody has said hello to it."""
        for answer in self.asked:
            answer.lost = True
        self.node, self.asked = NodeWorker(), []


@dataclass(eq=False)
class Answer:
    place: Place
    method: str
    given: tuple[Any, ...]
    lost: bool = False

    def run(self) -> object:
        return getattr(self.place.node, self.method)(*self.given)


class InlineCluster:
    """As many workers as `room` says; `on_call` may lose, restart or spoil one before it is asked."""

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
        self._calls += 1
        self._on_call(self._calls, answer)
        worker.asked.append(answer)
        return answer

    def wait(self, answers: Sequence[Answer], timeout_s: float) -> list[Answer]:
        return list(answers[-1:])  # a worker that joins is heard before one that measures

    def result(self, answer: Answer) -> object:
        if answer.place.lost or answer.lost:
            raise LostError("its process is gone")
        while (next_one := answer.place.asked.pop(0)) is not answer:
            with contextlib.suppress(LostError, AssertionError):  # nobody looks at what came of it
                next_one.run()
        if answer.place.fault:
            raise BenchmarkError(f"a worker failed: {answer.place.fault}")
        try:
            return answer.run()
        except AssertionError:
            raise BenchmarkError("a worker failed: AssertionError") from None

    def dismiss(self, worker: Place) -> None:
        self.dismissed += 1

    def check_head(self) -> None:
        pass
