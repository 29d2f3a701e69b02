"""Workers that are lost, restarted or fail, and runs that go on elsewhere."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pytest

from infertune.bench.bench import Asked
from infertune.bench.channel import AnsweredReply
from infertune.bench.crew import Order
from infertune.bench.remote import node
from infertune.bench.remote.node import NodeWorker
from infertune.bench.remote.terms import Offer
from infertune.domain.device import Device
from infertune.domain.knobs import Config
from infertune.domain.quality import NotScored
from infertune.domain.request import TuneRequest
from infertune.errors import UsageError
from infertune.runs import staff
from infertune.runs.observer import Observer
from infertune.runs.staff import crew_of
from infertune.tuning import sweep
from infertune.tuning import tune as tuning
from infertune.tuning.sweep import LandscapeRequest, landscapes, resumed_landscape
from tests.bench.remote.inline import Answer, InlineCluster, Place
from tests.bench.remote.staging import Notes, crew, losing, restarting, tuned, whole_rounds
from tests.builders import CPU

LOSSY = "fake:plateau,loss=0.01%"  # it scores answers


def test_a_worker_that_is_lost_while_it_launches_ahead_measures_after_its_restart(tmp_path: Path) -> None:
    cluster = InlineCluster(3, losing({2}, "launch_ahead"))
    ledger = tuned(tmp_path / "run", crew(cluster), trials=8)
    bases = [trial for trial in ledger.trials if trial.phase == "device"]
    assert len(bases) == 2 and all(trial.measurement for trial in ledger.trials if trial.phase in ("search", "device"))


def test_a_worker_that_is_restarted_while_it_launches_ahead_measures_all_the_same(tmp_path: Path) -> None:
    notes: list[str] = []
    cluster = InlineCluster(3, restarting({2}, "launch_ahead"))
    ledger = tuned(tmp_path / "run", crew(cluster, notes), trials=8)
    bases = [trial for trial in ledger.trials if trial.phase == "device"]
    assert len(bases) == 2 and all(trial.measurement for trial in ledger.trials if trial.phase in ("search", "device"))
    assert sum("is lost" in note for note in notes) == 1 and not any("not used" in note for note in notes)


def test_a_worker_that_is_restarted_before_the_base_is_measured_measures_it(tmp_path: Path) -> None:
    ledger = tuned(tmp_path / "run", crew(InlineCluster(1, restarting({1}, "measure"))), trials=4)
    assert ledger.trials[0].measurement and ledger.proof_ending


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_worker_that_is_restarted_before_or_in_a_round_of_the_proof_takes_part_again(
    tmp_path: Path, call: int
) -> None:
    notes: list[str] = []
    cluster = InlineCluster(2, restarting({call}, "measure", "final"))
    ledger = tuned(tmp_path / "run", crew(cluster, notes), trials=12, sampler="random", final_launches=(4, 4))
    rounds = whole_rounds(ledger)
    assert rounds == set(range(4)) and ledger.proof_ending == "all 4 rounds were made"
    assert sum("is lost" in note for note in notes) == 1 and not any("not used" in note for note in notes)


@pytest.mark.parametrize("phase", ["search", "final"])
def test_what_a_worker_answers_with_an_error_is_measured_by_another(tmp_path: Path, phase: str) -> None:
    spoiled: list[Config] = []
    notes: list[str] = []

    def spoil(number: int, answer: Answer) -> None:
        if answer.method == "measure" and answer.given[0].phase == phase and not spoiled:
            spoiled.append(answer.given[0].config)
            answer.place.fault = "KeyError: 'x'"

    workers = crew(InlineCluster(2, spoil), notes)
    ledger = tuned(tmp_path / "run", workers, trials=12, sampler="random", final_launches=(4, 4))
    assert spoiled[0] in [trial.config for trial in ledger.trials if trial.phase == phase and trial.measurement]
    assert whole_rounds(ledger) == set(range(4))
    refused = [note for note in notes if "not used" in note]
    assert refused == ["a worker is not used: a worker failed: KeyError: 'x'"]


def answers(folder: Path, cluster: InlineCluster, notes: list[str]) -> tuple[Asked, Sequence[str | None]]:
    """What comes of asking a crew for answers, and the devices that are then there."""
    workers = crew(cluster, notes, LOSSY)
    request = TuneRequest.model_validate({"engine": LOSSY, "device": "cpu", "out": folder})
    job = tuning.prepare(request, device=workers.device())
    with crew_of(job, folder, 0, notes.append, workers) as opened:
        return opened.answering.answer(job.space.default, job.workload.draw("search", 2)), opened.devices


@pytest.mark.parametrize("lose", [restarting, losing])
def test_a_lead_that_is_lost_while_it_is_asked_is_asked_again(
    tmp_path: Path, lose: Callable[[set[int], str], Callable[[int, Answer], None]]
) -> None:
    notes: list[str] = []
    asked, devices = answers(tmp_path / "run", InlineCluster(1, lose({1}, "answer")), notes)
    assert isinstance(asked.found, AnsweredReply) and devices == ["simulated-0"]
    assert sum("is lost" in note for note in notes) == 1


def test_what_two_leads_were_lost_over_is_not_asked_a_third_time(tmp_path: Path) -> None:
    asked, _ = answers(tmp_path / "run", InlineCluster(2, losing({1, 2, 3, 4}, "answer")), [])
    assert isinstance(asked.found, NotScored) and "2 workers were lost over it" in asked.found.detail


def test_a_lead_that_answers_with_an_error_is_used_no_more_and_another_is_asked(tmp_path: Path) -> None:
    def spoil(number: int, answer: Answer) -> None:
        if answer.method == "answer" and answer.place is cluster.places[0]:
            answer.place.fault = "KeyError: 'x'"

    notes: list[str] = []
    cluster = InlineCluster(2, spoil)
    asked, devices = answers(tmp_path / "run", cluster, notes)
    assert isinstance(asked.found, AnsweredReply) and devices == ["simulated-1"]
    assert [n for n in notes if "not used" in n] == ["a worker is not used: a worker failed: KeyError: 'x'"]


@pytest.mark.parametrize("method", ["answer", "score"])
def test_a_worker_that_is_lost_while_answers_are_checked_rejects_no_configuration(tmp_path: Path, method: str) -> None:
    held = {"compiled": False, "max_num_seqs": 64, "max_num_batched_tokens": 2048, "memory_share": 0.8}
    given = {"trials": 4, "knob": {"bits": [16, 8], "block_size": [16, 32]}, "set": held, "seed": 3}
    workers = crew(InlineCluster(2, losing({1, 3}, method)), engine=LOSSY)
    ledger = tuned(tmp_path / "run", workers, engine=LOSSY, **given)
    assert ledger.checks and {check.verdict for check in ledger.checks} == {"pass"}


def test_who_launches_ahead_is_not_waited_for_at_the_end(tmp_path: Path) -> None:
    closed: list[Place] = []

    def note(number: int, answer: Answer) -> None:
        if answer.method == "close":
            closed.append(answer.place)

    cluster = InlineCluster(3, note)
    workers = crew(cluster)
    request = TuneRequest.model_validate({"engine": "fake", "device": "cpu", "out": tmp_path / "run"})
    job = tuning.prepare(request, device=workers.device())
    with pytest.raises(KeyboardInterrupt), crew_of(job, tmp_path / "run", 0, lambda text: None, workers) as opened:
        order = Order("search", job.space.default, job.plan("search", 4), fresh=False, started_at="")
        opened.submit(opened.free()[0], order)
        opened.launch_ahead(job.space.default)
        raise KeyboardInterrupt
    assert not closed and cluster.dismissed == 3


def test_rounds_that_are_whole_stay_so_when_the_run_goes_on_elsewhere(tmp_path: Path) -> None:
    options = {"trials": 12, "sampler": "random", "final_launches": (4, 4)}
    ledger = tuned(tmp_path / "run", crew(InlineCluster(2)), **options)
    finals = [trial for trial in ledger.trials if trial.phase == "final"]
    kept = [trial.number for trial in finals if trial.round_number in (0, 1)]
    assert kept == list(range(kept[0], kept[0] + 4))
    path = ledger.folder / "trials.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    cut = next(at for at, line in enumerate(lines) if f'"number":{kept[-1] + 1},' in line)
    path.write_text("".join(lines[:cut]))
    given = {"engine": "fake", "device": "cpu", "out": ledger.folder, "profiles": tmp_path / "profiles", **options}
    request = TuneRequest.model_validate(given)
    resumed = tuning._tune(request, Observer(), ledger.folder, None, None).ledger
    rounds = [trial.round_number for trial in resumed.trials if trial.phase == "final"]
    assert sorted(rounds) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_landscape_of_a_cluster_of_two_models_goes_on_on_that_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def device(engine: object, offer: Offer) -> Device:
        return CPU.model_copy(update={"cores": 2 + 2 * (offer.rank % 2), "uuids": (f"simulated-{offer.rank}",)})

    monkeypatch.setattr(node, "_device", device)
    monkeypatch.setattr(sweep, "workers_of", lambda request, on_note: contextlib.nullcontext(crew(InlineCluster(2))))
    held = {"max_num_seqs": 8, "max_num_batched_tokens": 256, "block_size": 16, "memory_share": 0.9}
    given = {"engine": "fake", "set": held, "repeats": 1}
    request = LandscapeRequest.model_validate({**given, "out": tmp_path / "run"})
    runs = [found.ledger.folder for found in landscapes(request)]
    assert len(runs) == 2
    for run in runs:
        request = resumed_landscape(run, {})
        assert [found.ledger.folder for found in landscapes(request, None, run)] == [run]


def test_a_log_that_cannot_be_written_is_told_once_and_costs_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> Path:
        raise UsageError("log: No space left on device")

    def logs(self: NodeWorker) -> list[tuple[str, str]]:
        return [("launch-0000.log", "text")]

    monkeypatch.setattr(staff, "write_inside", full)
    monkeypatch.setattr(NodeWorker, "_new_logs", logs)
    observer = Notes()
    ledger = tuned(tmp_path / "run", crew(InlineCluster(2)), observer, trials=4)
    assert ledger.proof_ending is not None
    said = [note for note in observer.said if "No space left" in note]
    assert said == ["log: No space left on device; the run goes on without its logs"]


def test_a_fresh_launch_after_one_ahead_starts_on_the_clock_when_it_is_ordered() -> None:
    cluster = InlineCluster(1)
    workers = crew(cluster)
    seat = workers._seats[0]
    for fresh, starts_s in ((False, 3.0), (True, 10.0)):
        seat.stage, seat.launches_ahead, seat.launches_s = "free", True, 3.0
        assert workers._clock
        workers._clock.now_s = 10.0
        workers.submit(seat, Order("final", Config({}), None, fresh, ""))  # type: ignore[arg-type]
        assert (seat.launches_s, seat.starts_s) == (starts_s, 10.0)


def test_a_lost_workers_trial_is_asked_again_and_nothing_is_lost(tmp_path: Path) -> None:
    observer = Notes()
    cluster = InlineCluster(3, losing({5, 9}, "measure"))
    ledger = tuned(tmp_path / "run", crew(cluster, notes=observer.said), observer, trials=12, sampler="random")
    searched = [trial.config for trial in ledger.trials if trial.phase == "search"]
    assert len(searched) == len(set(searched)) == 12
    assert all(trial.outcome.kind != "crashed" for trial in ledger.trials)
    assert sum("is lost" in note for note in observer.said) == 2
    assert ledger.ending is not None


def test_an_order_over_which_two_workers_are_lost_is_a_crash_of_its_configuration(tmp_path: Path) -> None:
    fatal: list[Config] = []

    def lose(number: int, answer: Answer) -> None:
        if answer.method == "measure":
            order: Order = answer.given[0]
            if order.config["compiled"] is True and not fatal:
                fatal.append(order.config)
            answer.place.lost = order.config in fatal

    ledger = tuned(tmp_path / "run", crew(InlineCluster(3, lose)), trials=14, knob={"compiled": (False, True)})
    crashed = [trial for trial in ledger.trials if trial.outcome.kind == "crashed"]
    assert [trial.config for trial in crashed] == fatal
    assert "2 workers were lost over it" in crashed[0].outcome.model_dump()["detail"]


def test_a_round_of_the_proof_stays_on_one_device_and_starts_again_elsewhere_if_that_is_lost(tmp_path: Path) -> None:
    lost: list[str] = []

    def lose(number: int, answer: Answer) -> None:
        if answer.method == "measure" and answer.given[0].phase == "final" and answer.given[0].round_number == 1:
            finals = [one for one in lost if one == "final"]
            lost.append("final")
            answer.place.lost = len(finals) == 1  # the second launch of the round

    ledger = tuned(tmp_path / "run", crew(InlineCluster(2, lose)), trials=12, trust="quick")
    finals = [trial for trial in ledger.trials if trial.phase == "final"]
    for number in {trial.round_number for trial in finals}:
        of = [trial for trial in finals if trial.round_number == number]
        whole = [d for d in {t.device_id for t in of} if len({t.config for t in of if t.device_id == d}) == 2]
        assert whole, f"round {number} is on no device whole"
    assert len(lost) > 2 and ledger.proof_ending


def test_a_study_in_a_storage_has_nothing_running_once_a_run_that_lost_a_worker_is_over(tmp_path: Path) -> None:
    lost: list[Answer] = []

    def lose(number: int, answer: Answer) -> None:
        if answer.method == "measure" and answer.given[0].phase == "final" and not lost:
            lost.append(answer)
            answer.place.lost = True

    url = f"sqlite:///{tmp_path}/s.db"
    options = {"trials": 4, "sampler": "random", "final_launches": (2, 2), "storage": url}
    ledger = tuned(tmp_path / "run", crew(InlineCluster(2, lose)), **options)
    states = [trial.state.name for trial in optuna.load_study(study_name="run", storage=url).trials]
    assert "RUNNING" not in states and states.count("COMPLETE") == sum(bool(t.measurement) for t in ledger.trials)
