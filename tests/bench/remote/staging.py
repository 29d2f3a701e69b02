"""Runs on an inline cluster, and what happens to its workers in them."""

from collections.abc import Callable
from pathlib import Path

from infertune.bench.remote.crew import RemoteCrew
from infertune.bench.remote.terms import Offer
from infertune.domain.request import TuneRequest
from infertune.engines.base import EngineOptions
from infertune.runs.ledger import Ledger
from infertune.runs.observer import Observer
from infertune.runs.whole_rounds import on_one_device
from infertune.tuning import tune as tuning
from tests.bench.remote.inline import Answer, InlineCluster


def crew(cluster: InlineCluster, notes: list[str] | None = None, engine: str = "fake") -> RemoteCrew:
    said = notes if notes is not None else []
    variant = EngineOptions(variant=engine.partition(":")[2])
    offer = Offer(engine=engine, options=variant)
    found = RemoteCrew(cluster, offer, "1", simulated=True, most=None, on_note=said.append)
    found.gather()
    return found


class Notes(Observer):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def tuned(folder: Path, workers: RemoteCrew | None, observer: Observer | None = None, **options: object) -> Ledger:
    request = TuneRequest.model_validate(
        {"engine": "fake", "device": "cpu", "out": folder, "profiles": folder / "profiles", **options}
    )
    return tuning._tune(request, observer or Observer(), None, workers, None).ledger


def losing(calls: set[int], method: str) -> Callable[[int, Answer], None]:
    seen = 0

    def lose(number: int, answer: Answer) -> None:
        nonlocal seen
        if answer.method == method:
            seen += 1
            answer.place.lost = seen in calls

    return lose


def restarting(calls: set[int], method: str, phase: str = "") -> Callable[[int, Answer], None]:
    """Ends workers while nobody waits for them, just before some calls of a method; Ray restarts them at once."""
    seen = 0

    def restart(number: int, answer: Answer) -> None:
        nonlocal seen
        if answer.method == method and (not phase or answer.given[0].phase == phase):
            seen += 1
            if seen in calls:
                answer.place.restart()

    return restart


def whole_rounds(ledger: Ledger) -> set[int]:
    finals = on_one_device([trial for trial in ledger.trials if trial.phase == "final"])
    configs = {trial.config for trial in finals}
    of = {n: [t.config for t in finals if t.round_number == n] for n in {t.round_number for t in finals}}
    return {number for number, measured in of.items() if set(measured) == configs and len(measured) == len(configs)}
