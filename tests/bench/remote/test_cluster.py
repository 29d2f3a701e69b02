"""What is said of addresses at which no cluster can be, and what comes back from a worker of Ray."""

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
