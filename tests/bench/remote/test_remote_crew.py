import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from infertune.bench.remote.acceptance import check_one_model, read_hello
from infertune.bench.remote.clock import SimulatedClock
from infertune.bench.remote.crew import RemoteCrew
from infertune.bench.remote.hire import Wanted
from infertune.bench.remote.seats import Seat
from infertune.bench.remote.terms import Hello, Offer, Report
from infertune.cli.doctor import diagnose_nodes
from infertune.domain.knobs import Config
from infertune.domain.measurement import Infeasible
from infertune.domain.request import TuneRequest
from infertune.domain.trial import Attempt, Trial
from infertune.errors import BenchmarkError, MismatchError, UsageError
from infertune.runs.staff import crew_of
from infertune.tuning import tune as tuning
from infertune.tuning.sweep import LandscapeRequest, landscapes
from infertune.version import __version__
from tests.bench.remote.inline import Answer, InlineCluster
from tests.bench.remote.staging import crew, tuned
from tests.builders import CPU


def wall_s(trials: list[Trial]) -> float:
    """Simulated seconds of the busiest device: at least what the run took."""
    devices = {trial.device_id for trial in trials}
    return max(sum(t.cost_s for t in trials if t.device_id == device) for device in devices)


def test_every_worker_measures_the_base_once_and_then_what_the_search_asks_for(tmp_path: Path) -> None:
    ledger = tuned(tmp_path / "run", crew(InlineCluster(4)), trials=16)
    searched = [trial for trial in ledger.trials if trial.phase == "search"]
    bases = [trial for trial in ledger.trials if trial.phase == "device"]
    assert len(searched) == 16 and len({trial.config for trial in searched}) == 16
    assert len(bases) == 3 and {trial.config for trial in bases} == {searched[0].config}
    devices = {trial.device_id for trial in ledger.trials}
    assert devices == {f"simulated-{n}" for n in range(4)}
    assert {trial.device_id for trial in searched} == devices


def test_a_run_on_a_simulated_clock_is_the_same_again(tmp_path: Path) -> None:
    runs = [tuned(tmp_path / name, crew(InlineCluster(5)), trials=14, seed=3).trials for name in ("a", "b")]
    first, second = [[(t.phase, t.config, t.device_id, t.launch_number) for t in run] for run in runs]
    assert first == second


@pytest.mark.slow  # the posterior of 192 configurations takes its time
def test_sixty_four_simulated_workers_are_many_times_faster_than_one(tmp_path: Path) -> None:
    alone = tuned(tmp_path / "one", crew(InlineCluster(1)), trials=192, sampler="random")
    many = tuned(tmp_path / "many", crew(InlineCluster(64)), trials=192, sampler="random")
    searched = [trial for trial in many.trials if trial.phase in ("search", "device")]
    assert len({trial.device_id for trial in searched}) == 64
    ones = [trial for trial in alone.trials if trial.phase == "search"]
    assert wall_s(ones) > 20 * wall_s(searched)


def test_the_worker_whose_order_ends_first_on_the_clock_is_told_first(tmp_path: Path) -> None:
    ledger = tuned(tmp_path / "run", crew(InlineCluster(3)), trials=24, sampler="random")
    ends: dict[str | None, float] = {}
    told = []
    for trial in (t for t in ledger.trials if t.phase in ("search", "device")):
        if trial.phase == "device":  # launched from the start, and told to measure when the base was known
            ends[trial.device_id] = max(told[0], trial.launch_s) + trial.run_s
        else:
            ends[trial.device_id] = ends.get(trial.device_id, 0.0) + trial.cost_s
        told.append(ends[trial.device_id])
    assert told == pytest.approx(sorted(told))


def test_the_others_launch_the_base_while_the_first_measures_it(tmp_path: Path) -> None:
    ahead: list[Config] = []

    def note(number: int, answer: Answer) -> None:
        if answer.method == "launch_ahead":
            ahead.append(answer.given[0])

    ledger = tuned(tmp_path / "run", crew(InlineCluster(4, note)), trials=12)
    base, *devices = [trial for trial in ledger.trials if trial.phase == "device" or trial.number == 0]
    assert ahead == [base.config] * 3
    assert [trial.launch_s for trial in devices] == [base.launch_s] * 3 and not any(trial.live for trial in devices)
    numbers = {trial.launch_number for trial in (base, *devices)}
    assert len(numbers) == 4  # and no device launched twice for it
    again = tuned(tmp_path / "again", crew(InlineCluster(4)), trials=12, requests=base.measurement.n_requests)  # type: ignore[union-attr]
    assert [trial.config for trial in again.trials][:8] == [trial.config for trial in ledger.trials][:8]


def test_a_task_ends_on_the_clock_when_its_launch_was_ready_and_it_had_been_told() -> None:
    def ends(starts_s: float, launches_s: float) -> float:
        seat, clock = Seat(0, None), SimulatedClock()
        attempt = Attempt(
            Infeasible(reason="oom", stage="run", detail=""), launch_s=40.0, run_s=10.0, launch_number=0, live=False
        )
        seat.stage, seat.report = "busy", Report(attempt, None, faithful=False)
        seat.starts_s, seat.launches_s = starts_s, launches_s
        assert clock.next_done([seat]) is seat
        return clock.now_s

    assert ends(0.0, 0.0) == 50.0
    assert ends(52.0, 0.0) == 62.0  # launched long ago
    assert ends(30.0, 0.0) == 50.0  # is still launching


def test_a_change_on_a_running_server_is_of_the_launch_that_it_was_made_on(tmp_path: Path) -> None:
    options = {"slo": ("ttft_s<0.5",), "objective": "goodput", "attain": "90%", "window": "5s", "trust": "quick"}
    ledger = tuned(
        tmp_path / "run", crew(InlineCluster(2), engine="fake-serve"), engine="fake-serve", trials=10, **options
    )
    launched: dict[str | None, int] = {}
    for trial in ledger.trials:
        assert not trial.live or trial.launch_number == launched[trial.device_id]
        launched[trial.device_id] = trial.launch_number
    assert any(trial.live for trial in ledger.trials)


def test_rounds_of_the_proof_are_on_several_devices_at_once(tmp_path: Path) -> None:
    ledger = tuned(tmp_path / "run", crew(InlineCluster(4)), trials=12, sampler="random", final_launches=(4, 4))
    finals = [trial for trial in ledger.trials if trial.phase == "final"]
    by_round = {n: {t.device_id for t in finals if t.round_number == n} for n in range(4)}
    assert all(len(devices) == 1 for devices in by_round.values())
    assert len(set.union(*by_round.values())) > 1


def test_a_node_that_joins_gets_work(tmp_path: Path) -> None:
    cluster = InlineCluster(1)

    def grow(number: int, answer: Answer) -> None:
        if answer.method == "measure" and answer.given[0].phase == "search":
            cluster.room = 2

    cluster._on_call = grow
    ledger = tuned(tmp_path / "run", crew(cluster), trials=12)
    assert {trial.device_id for trial in ledger.trials if trial.phase == "search"} == {"simulated-0", "simulated-1"}


def test_launch_numbers_are_of_one_launch_only(tmp_path: Path) -> None:
    ledger = tuned(tmp_path / "run", crew(InlineCluster(4)), trials=24, sampler="random")
    owner: dict[int, str | None] = {}
    for trial in ledger.trials:
        assert owner.setdefault(trial.launch_number, trial.device_id) == trial.device_id
        if trial.live:
            assert trial.launch_number in owner


def test_a_cluster_without_room_is_refused() -> None:
    with pytest.raises(UsageError, match="no node has room for a worker, which needs a place"):
        crew(InlineCluster(0))


class Busy(InlineCluster):
    """Places whose devices another process holds; nobody comes to those behind `come`."""

    def __init__(self, come: int) -> None:
        super().__init__(room=come)
        self._come = come

    def wait(self, answers: Sequence[Answer], timeout_s: float) -> list[Answer]:
        return super().wait([a for a in answers if a.place in self.places[: self._come]], timeout_s)

    def result(self, answer: Answer) -> object:
        return "process 7 holds its device" if answer.method == "open" else super().result(answer)


def opened(folder: Path, come: int, most: int, room: int) -> Sequence[str | None]:
    """The devices of a crew, all of them busy, on a cluster that has more room by the time it is opened."""
    cluster = Busy(come)
    workers = RemoteCrew(cluster, Offer(engine="fake"), "1", simulated=True, most=most, on_note=lambda text: None)
    workers.gather()
    cluster.room = room
    request = TuneRequest.model_validate({"engine": "fake", "device": "cpu", "out": folder / "run"})
    job = tuning.prepare(request, device=workers.device())
    with crew_of(job, folder / "run", 0, lambda text: None, workers) as crew_there:
        return crew_there.devices


@pytest.mark.parametrize(("come", "most"), [(1, 1), (1, 2), (2, 4)])
def test_busy_devices_are_refused_at_once_however_many_workers_were_asked_for(
    tmp_path: Path, come: int, most: int
) -> None:
    with pytest.raises(BenchmarkError, match="process 7 holds its device"):
        opened(tmp_path, come, most, room=come)


def test_a_worker_that_has_room_and_is_still_to_come_is_waited_for(tmp_path: Path) -> None:
    assert opened(tmp_path, come=1, most=2, room=2) == []


def test_other_versions_are_refused_with_both() -> None:
    hello = Hello(host="b", python="3.12", engine_version="0.31", device=CPU, device_id="b").model_dump_json()
    with pytest.raises(MismatchError, match=f"a worker has infertune 9.9, the driver has {__version__}"):
        read_hello("9.9", "what this version does not understand", "vllm", "0.32")
    with pytest.raises(MismatchError, match="b has vllm 0.31, the driver has 0.32"):
        read_hello(__version__, hello, "vllm", "0.32")
    assert read_hello(__version__, hello, "vllm", "0.31").host == "b"


def test_devices_of_different_models_are_refused_with_both() -> None:
    other = CPU.model_copy(update={"cores": 2})
    hellos = [Hello(host=h, python="3.12", device=d, device_id=h) for h, d in (("a", CPU), ("b", CPU), ("c", other))]
    check_one_model(hellos[:2])
    with pytest.raises(MismatchError, match=r"2 × Test CPU, 4 cores.* \(a\), 1 × Test CPU, 2 cores.* \(c\)"):
        check_one_model(hellos)


def test_a_slow_device_is_named_and_does_not_mislead_the_search(tmp_path: Path) -> None:
    options = {"engine": "fake:plateau,devices=10%,noise=0.5%", "trials": 16, "sampler": "random", "seed": 1}
    ledger = tuned(tmp_path / "run", crew(InlineCluster(4), engine="fake:plateau,devices=10%,noise=0.5%"), **options)
    page = (tmp_path / "run" / "report.md").read_text()
    assert "The run used 4 devices of one model" in page
    assert "is off by more than its noise" in page
    assert ledger.proof_ending


def test_workers_without_ray_are_refused_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    request = TuneRequest.model_validate({"engine": "fake", "workers": "4", "out": tmp_path / "run"})
    with pytest.raises(UsageError, match=r"^--workers needs Ray: pip install infertune\[ray\]$"):
        tuning.tune_request(request)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "1025", "99999999999", "9" * 5000, "nan"])
def test_a_number_that_is_none_of_workers_is_refused_with_the_range(tmp_path: Path, text: str) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed, which is told first")
    message = (
        f"^--workers {re.escape(text)}: it takes auto, a whole number from 1 to 1024, or the address of a cluster$"
    )
    options = {"engine": "fake", "workers": text, "out": tmp_path / "run"}
    with pytest.raises(UsageError, match=message):
        tuning.tune_request(TuneRequest.model_validate(options))
    with pytest.raises(UsageError, match=message):
        landscapes(LandscapeRequest.model_validate(options))
    with pytest.raises(UsageError, match=message):
        diagnose_nodes(text)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("text", "most"), [("1", 1), ("1024", 1024), ("auto", None), ("10.0.0.5:6379", None)])
def test_a_number_of_workers_auto_and_an_address_are_taken(text: str, most: int | None) -> None:
    assert Wanted(text, Offer(engine="fake"), None, simulated=True, gpus=1).most == most


def test_a_ledger_names_no_cluster_and_a_strangers_is_not_believed(tmp_path: Path) -> None:
    request = TuneRequest.model_validate({"engine": "fake", "workers": "10.0.0.5:6379"})
    assert "workers" not in request.model_dump(mode="json", exclude_defaults=True)
    ledger = tuned(tmp_path / "run", crew(InlineCluster(2)), trials=4, sampler="random")
    path = ledger.folder / "trials.jsonl"
    path.write_text(path.read_text().replace('"request":{', '"request":{"workers":"10.0.0.5:6379",', 1))
    assert tuning.resumed_request(ledger.folder, {}).workers is None
