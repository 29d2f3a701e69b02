"""Workers on real Ray clusters on this machine: what is asked for happens, and no fault leaves an engine behind."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import infertune
from infertune.bench import locks
from infertune.bench.locks import device_lock
from infertune.runs.ledger import Ledger
from infertune.version import __version__
from tests import apart
from tests.bench.test_faults import MARK, ours, until
from tests.workers.cluster import EIGHT, FAULTY, LOOPBACK, SHORT, SIXTEEN, Driver, actors, engines, nodes

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mark what a test starts, and look for survivors when its clusters are gone."""
    monkeypatch.setenv(MARK, str(tmp_path))
    for name, value in LOOPBACK.items():
        monkeypatch.setenv(name, value)
    yield
    try:
        until(lambda: not (engines(tmp_path) or actors(tmp_path)), 60, "the end of every engine and worker")
    finally:
        # Ray's own agents outlive a node that was killed for as long as they like: they are ended, not judged.
        for process in ours(tmp_path):
            process.kill()


def measured(driver: Driver) -> dict[str | None, int]:
    """Device → how many points of the search were tried on it; each once, and as it had to come out."""
    found: dict[str | None, int] = {}
    searched = [trial for trial in driver.ledger.trials if trial.phase == "search"]
    assert len({trial.config for trial in searched}) == len(searched)
    kinds = {"no fault": "measured", "rejected": "infeasible", "oom at load": "infeasible", "oom in run": "infeasible"}
    assert all(trial.outcome.kind == kinds.get(str(trial.config["fault"]), "crashed") for trial in searched)
    for trial in searched:
        found[trial.device_id] = found.get(trial.device_id, 0) + 1
    return found


def test_two_nodes_share_a_search_and_print_one_document(tmp_path: Path) -> None:
    with nodes(0, 1) as cluster:
        driver = Driver(tmp_path, cluster.address, *SIXTEEN)
        code, errors = driver.end()
        assert code == 0, errors
        assert not engines(tmp_path), "an engine is left"
    shares = measured(driver)
    assert sum(shares.values()) == 16 and len(shares) == 2
    assert driver.answer["run"] == str(driver.out)
    assert list((driver.out / "logs").glob("launch-*.log"))


def test_a_killed_workers_trial_is_measured_all_the_same(tmp_path: Path) -> None:
    with nodes(0, 1) as cluster:
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        driver.reaches(2)
        until(lambda: engines(tmp_path), 60, "an engine")
        actors(tmp_path)[0].kill()
        code, errors = driver.end()
        assert code == 0 and "is lost" in errors, errors
        assert not engines(tmp_path), "an engine is left"
    assert sum(measured(driver).values()) == 8


def test_a_node_that_goes_in_mid_trial_loses_nothing(tmp_path: Path) -> None:
    with nodes(0) as cluster:
        second = cluster.add(1)
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        driver.reaches(3)
        cluster.remove(second)
        code, errors = driver.end()
        assert code == 0, errors
        assert not engines(tmp_path), "an engine is left"
    assert sum(measured(driver).values()) == 8


def test_a_node_that_comes_gets_work(tmp_path: Path) -> None:
    with nodes(0) as cluster:
        driver = Driver(tmp_path, cluster.address, *SIXTEEN)
        driver.reaches(1)
        cluster.add(1)
        code, errors = driver.end()
        assert code == 0, errors
    assert sum(measured(driver).values()) == 16 and len(measured(driver)) == 2


def test_a_killed_driver_leaves_no_engine_and_its_run_goes_on(tmp_path: Path) -> None:
    with nodes(0, 1) as cluster:
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        driver.reaches(3)
        driver.kill()
        until(lambda: not engines(tmp_path), 60, "the end of the engines")
        before = [trial.config for trial in driver.ledger.trials]
        again = Driver(tmp_path, cluster.address, "--resume", str(driver.out))
        code, errors = again.end()
        assert code == 0, errors
    assert [trial.config for trial in again.ledger.trials][: len(before)] == before
    assert sum(measured(again).values()) == 8


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_the_engines_of_all_workers_and_write_what_there_is(tmp_path: Path, sent: int) -> None:
    with nodes(0, 1) as cluster:
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        driver.reaches(3)
        driver.process.send_signal(sent)
        code, errors = driver.end()
        assert code == 130 and "--resume" in errors and "Traceback" not in errors, errors
        until(lambda: not engines(tmp_path), 60, "the end of the engines")
    assert (driver.out / "report.html").exists()


def test_a_run_whose_head_is_gone_ends_with_a_line_and_goes_on_elsewhere(tmp_path: Path) -> None:
    with nodes(0, 1) as cluster:
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        driver.reaches(3)
        cluster.behead()
        code, errors = driver.end()
        assert code == 5, errors
        assert "is gone" in errors and "--resume" in errors and "Traceback" not in errors
    until(lambda: not engines(tmp_path), 60, "the end of the engines")
    with nodes(1) as cluster:
        again = Driver(tmp_path, cluster.address, "--resume", str(driver.out))
        code, errors = again.end()
        assert code == 0, errors
    assert sum(measured(again).values()) == 8


def test_another_version_of_infertune_on_a_node_is_refused_with_both(tmp_path: Path) -> None:
    copy = tmp_path / "other" / "infertune"
    shutil.copytree(Path(infertune.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "version.py").write_text('"""Another."""\n\n__version__ = "9.9.9"\n')
    with nodes(0) as cluster:
        cluster.add(1, env_vars={"PYTHONPATH": str(copy.parent)})
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        code, errors = driver.end()
    assert code == 4 and "9.9.9" in errors and __version__ in errors, errors
    assert not driver.out.exists()


def test_a_device_that_is_busy_with_another_run_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "NAMESPACE", str(tmp_path))
    with nodes(0, 1) as cluster, device_lock(("cpu core 1",), wait=False):
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        code, errors = driver.end()
    assert code == 0 and "cpu core 1 is in use by another infertune run" in errors, errors
    assert len(measured(driver)) == 1


def test_with_wait_a_busy_device_takes_part_when_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "NAMESPACE", str(tmp_path))
    with nodes(0, 1) as cluster:
        with device_lock(("cpu core 1",), wait=False):
            driver = Driver(tmp_path, cluster.address, *SIXTEEN, "--wait")
            driver.reaches(2)
            assert len({trial.device_id for trial in driver.ledger.trials}) == 1
        code, errors = driver.end()
    assert code == 0, errors
    shares = measured(driver)
    assert sum(shares.values()) == 16 and len(shares) == 2


def test_devices_of_different_models_are_refused(tmp_path: Path) -> None:
    with nodes(0, None) as cluster:
        code, errors = Driver(tmp_path, cluster.address, *EIGHT).end()
    assert code == 4 and "of different models" in errors, errors


def test_an_address_at_which_nobody_answers_is_one_line(tmp_path: Path) -> None:
    code, errors = Driver(tmp_path, "127.0.0.1:1", "--engine", "fake").end()
    assert code == 2 and errors.count("\n") == 1, errors
    assert "--workers 127.0.0.1:1: no Ray cluster answers there" in errors


def test_a_mixed_cluster_makes_one_landscape_for_each_model_of_device(tmp_path: Path) -> None:
    with nodes(0, None) as cluster:
        driver = Driver(
            tmp_path, cluster.address, *FAULTY, "--set", "fault=no fault", "--repeats", "2", command="landscape"
        )
        code, errors = driver.end()
        assert code == 0, errors
        assert not engines(tmp_path), "an engine is left"
    runs = [Ledger.open(Path(run["run"])) for run in driver.answer["runs"]]
    assert sorted(ledger.header.device.cores for ledger in runs) == [1, os.cpu_count()]
    for ledger in runs:
        assert len(ledger.trials) == 4 and len({trial.device_id for trial in ledger.trials}) == 1


def test_doctor_lists_the_nodes_with_their_engines_and_versions(tmp_path: Path) -> None:
    with nodes(0, 1) as cluster:
        found = subprocess.run(
            [*apart.command(tmp_path), "doctor", "--workers", cluster.address, "--json"],
            capture_output=True, text=True, timeout=240, check=True,
        )  # fmt: skip
    listed = json.loads(found.stdout)["nodes"]
    assert sorted(node["workers"] for node in listed) == [0, 1, 1]
    assert all(node["found"]["infertune_version"] == __version__ and not node["fault"] for node in listed)
    names = {engine["name"] for node in listed for engine in node["found"]["engines"]}
    assert {"fake", "hf"} <= names


@pytest.mark.hf
@pytest.mark.slow
def test_pipelines_are_tuned_on_two_workers_of_one_core(tmp_path: Path) -> None:
    with nodes(0, 1) as cluster:
        driver = Driver(
            tmp_path, cluster.address, "builtin:tiny", "--engine", "hf", "--device", "cpu", "--weights", "dummy",
            "--workload", "synthetic:in=16,out=8", "--requests", "16", "--window", "1s",
            "--knob", "batch_size=1,4,8,16", "--trials", "6", *SHORT[2:],
        )  # fmt: skip
        code, errors = driver.end(within_s=540)
        assert code == 0, errors
        assert not engines(tmp_path), "an engine is left"
    trials = [trial for trial in driver.ledger.trials if trial.phase in ("search", "device")]
    assert len({trial.device_id for trial in trials}) == 2
    assert driver.ledger.header.device.cores == 1
    assert all(trial.measurement for trial in trials)


def test_workers_of_this_machine_listen_on_the_loopback_address_only(tmp_path: Path) -> None:
    driver = Driver(tmp_path, "2", "--engine", "fake", "--trials", "12", "--sampler", "random", *SHORT[2:])
    listening: set[str] = set()
    while driver.process.poll() is None:
        for process in ours(tmp_path):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                found = [one for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
                listening.update(one.laddr.ip for one in found)
        time.sleep(0.2)  # between two looks at processes of somebody else's
    code, errors = driver.end()
    assert code == 0, errors
    assert listening and all(address.endswith("127.0.0.1") for address in listening), listening
    assert driver.answer["run"] == str(driver.out)  # and nothing of Ray's stands beside it


@pytest.mark.slow
def test_sixty_four_simulated_workers_share_a_search(tmp_path: Path) -> None:
    driver = Driver(
        tmp_path, "64", "--engine", "fake:plateau,devices=3%", "--trials", "192", "--sampler", "random", *SHORT[2:]
    )
    code, errors = driver.end(within_s=900)
    assert code == 0, errors
    trials = [trial for trial in driver.ledger.trials if trial.phase in ("search", "device")]
    costs_s: dict[str | None, float] = {}
    for trial in trials:
        costs_s[trial.device_id] = costs_s.get(trial.device_id, 0.0) + trial.cost_s
    assert len(costs_s) == 64
    assert sum(costs_s.values()) > 30 * max(costs_s.values())
    assert "The run used 64 devices of one model" in (driver.out / "report.md").read_text()
