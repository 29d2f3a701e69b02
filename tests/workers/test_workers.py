"""Workers on real Ray clusters on this machine: what is asked for happens, and no fault leaves an engine behind."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import infertune
from infertune.bench import locks
from infertune.bench.locks import device_lock
from infertune.version import __version__
from tests.bench.test_faults import MARK, ours, until
from tests.workers.cluster import EIGHT, LOOPBACK, Driver, actors, engines, nodes

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mark what a test starts, and look for survivors when its clusters are gone."""
    monkeypatch.setenv(MARK, str(tmp_path))
    for name, value in LOOPBACK.items():
        monkeypatch.setenv(name, value)
    yield
    try:
        until(lambda: not ours(tmp_path), 20, f"the end of {ours(tmp_path)}")
    finally:
        for process in ours(tmp_path):
            process.kill()


def measured(driver: Driver) -> dict[str | None, int]:
    """Device → how many points of the search were tried on it; each once, and as it had to come out."""
    found: dict[str | None, int] = {}
    searched = [trial for trial in driver.ledger.trials if trial.phase == "search"]
    assert len({trial.config for trial in searched}) == len(searched)
    kinds = {"no fault": "measured", "exception": "crashed"}
    assert all(trial.outcome.kind == kinds.get(str(trial.config["fault"]), "infeasible") for trial in searched)
    for trial in searched:
        found[trial.device_id] = found.get(trial.device_id, 0) + 1
    return found


def test_two_nodes_share_a_search_and_print_one_document(tmp_path: Path) -> None:
    with nodes(0, 1) as cluster:
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        code, errors = driver.end()
        assert code == 0, errors
        assert not engines(tmp_path), "an engine is left"
    shares = measured(driver)
    assert sum(shares.values()) == 8 and len(shares) == 2
    assert driver.answer["run"] == str(driver.out)
    assert list((driver.out / "logs").glob("launch-*.log"))


def test_a_killed_workers_trial_is_measured_all_the_same(tmp_path: Path) -> None:
    with nodes(0, 1) as cluster:
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        driver.reaches(2)
        until(lambda: engines(tmp_path), 30, "an engine")
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
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        driver.reaches(1)
        cluster.add(1)
        code, errors = driver.end()
        assert code == 0, errors
    assert sum(measured(driver).values()) == 8 and len(measured(driver)) == 2


def test_a_killed_driver_leaves_no_engine_and_its_run_goes_on(tmp_path: Path) -> None:
    with nodes(0, 1) as cluster:
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        driver.reaches(3)
        driver.kill()
        until(lambda: not engines(tmp_path), 30, "the end of the engines")
        before = [trial.config for trial in driver.ledger.trials]
        again = Driver(tmp_path, cluster.address, "--resume", str(driver.out))
        code, errors = again.end()
        assert code == 0, errors
    assert [trial.config for trial in again.ledger.trials][: len(before)] == before
    assert sum(measured(again).values()) == 8


def test_a_run_whose_head_is_gone_ends_with_a_line_and_goes_on_elsewhere(tmp_path: Path) -> None:
    with nodes(0, 1) as cluster:
        driver = Driver(tmp_path, cluster.address, *EIGHT)
        driver.reaches(3)
        cluster.behead()
        code, errors = driver.end()
        assert code == 5, errors
        assert "is gone" in errors and "--resume" in errors and "Traceback" not in errors
    until(lambda: not engines(tmp_path), 30, "the end of the engines")
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


def test_devices_of_different_models_are_refused(tmp_path: Path) -> None:
    with nodes(0, None) as cluster:
        code, errors = Driver(tmp_path, cluster.address, *EIGHT).end()
    assert code == 4 and "of different models" in errors, errors


def test_an_address_at_which_nobody_answers_is_one_line(tmp_path: Path) -> None:
    code, errors = Driver(tmp_path, "127.0.0.1:1", "--engine", "fake").end()
    assert code == 2 and errors.count("\n") == 1, errors
    assert "--workers 127.0.0.1:1: no Ray cluster answers there" in errors
