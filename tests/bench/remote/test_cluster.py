"""What is said of addresses at which no cluster can be, and what comes back from a worker of Ray."""

from pathlib import Path

import pytest

from infertune.bench.remote.hire import Wanted
from infertune.bench.remote.terms import LostError, Offer
from infertune.errors import BenchmarkError, UsageError

ray = pytest.importorskip("ray")

from infertune.bench.remote import cluster  # noqa: E402


def reach(workers: str) -> None:
    wanted = Wanted(workers, Offer(engine="fake"), "1", simulated=True, gpus=1)
    with cluster.connected(wanted.address, wanted.said, None, "cpu", 1, simulated=True):
        pass


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "https://head"])
def test_the_address_of_a_dashboard_is_told_by_where_it_stands(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = f"{address}: this is the address of a dashboard; give the head's instead, as in HOST:6379"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UsageError, match=f"^--workers {rest}$"):
        reach(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UsageError, match=f"^--workers {rest}$"):
        reach(address)
    with pytest.raises(UsageError, match=f"^RAY_ADDRESS={rest}$"):
        reach("2")


def test_a_variable_that_says_auto_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def init(address: str, **options: object) -> None:
        asked.append(address)
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(UsageError, match="^RAY_ADDRESS=auto: no Ray cluster runs here"):
        reach("auto")
    assert asked == ["auto"]


@pytest.mark.parametrize(("cause", "told"), [(LostError("was restarted"), LostError), (KeyError("x"), BenchmarkError)])
def test_a_worker_that_says_it_was_restarted_is_lost_and_another_error_is_a_fault(
    cause: Exception, told: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(answer: object) -> None:
        raise ray.exceptions.RayTaskError("measure", "Traceback\nlast line", cause).as_instanceof_cause()

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(told, match="was restarted|a worker failed"):
        cluster.RayCluster.result(object.__new__(cluster.RayCluster), None)


@pytest.mark.parametrize("address", ["head", "10.0.0.5", "ray://head", "head:"])
def test_an_address_without_a_port_is_told_by_what_is_missing(address: str) -> None:
    with pytest.raises(UsageError, match=rf"^--workers {address}: the port is missing; .* as in HOST:6379"):
        reach(address)


@pytest.mark.parametrize("workers", ["2", "auto"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("AF_UNIX path length cannot exceed 107 bytes: /x"), "AF_UNIX .*; set RAY_TMPDIR to a short folder"),
        (Exception("The current node timed out during startup."), "The current node timed out during startup.$"),
    ],
)
def test_a_cluster_of_our_own_that_cannot_start_is_told_in_one_line(
    workers: str, error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(address: str, **options: object) -> None:
        raise error

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(BenchmarkError, match=f"^--workers {workers}: Ray cannot start here: {told}"):
        reach(workers)


def test_whatever_ray_raises_at_an_address_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(address: str, **options: object) -> None:
        raise Exception("Node temp_dir was not found in NodeInfo.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UsageError, match="^RAY_ADDRESS=auto: Node temp_dir was not found"):
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        reach("auto")


def test_a_long_folder_for_temporary_files_is_told_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 100)))
    with pytest.raises(BenchmarkError, match="^--workers 2: Ray cannot start here: .*107 bytes.*; set RAY_TMPDIR to a"):
        reach("2")
