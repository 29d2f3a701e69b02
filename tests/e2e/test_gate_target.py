"""Gates of servers that run already: one against another, and one against its own earlier runs."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from infertune.domain.request import GateRequest, make_request
from infertune.engines.serving.process import ServerProcess
from infertune.errors import BenchmarkError, UsageError
from infertune.gating.comparison import compared
from infertune.gating.gate import gate_request
from infertune.gating.result import GateResult
from tests.e2e.gates import goodput_profile
from tests.engines.serving.loaded_stub import start

QUICK_S, SLOW_S = 0.004, 0.008  # a token of the two stubs
METRIC = ("tpot_p50_s",)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return goodput_profile(tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    """The addresses of a quick one and a slow one."""
    with ExitStack() as running:
        processes = [ServerProcess(start(f"--token-s={token_s}")) for token_s in (QUICK_S, SLOW_S)]
        for process in processes:
            running.callback(process.end)
        quick, slow = (f"http://127.0.0.1:{process.port}" for process in processes)
        yield quick, slow


def gate(profile: Path, folder: Path, **options: object) -> GateResult:
    given = {"profile": profile, "out": folder / "run", "seed": 1, "device": "cpu", "window": "1s", **options}
    return gate_request(make_request(GateRequest, given))


def judged(profile: Path, folder: Path, **options: object) -> GateResult:
    """A gate, again where this machine was too busy to send its loads on time; skipped where it stays so."""
    late = ""
    for number in range(3):
        try:
            return gate(profile, folder / str(number), **options)
        except BenchmarkError as error:
            late = str(error)
            if "was loaded late" not in late:
                raise
    pytest.skip(late)


@pytest.mark.slow
@pytest.mark.timed
def test_a_slower_server_is_a_regression(profile: Path, servers: tuple[str, str], tmp_path: Path) -> None:
    quick, slow = servers
    result = judged(profile, tmp_path, target=slow, baseline_target=quick, metric=METRIC)
    assert result.answer == "regression" and result.exit_code == 1
    assert result.question == f"is {slow} worse than {quick} by 5% or more?"
    metric = next(found for found in result.metrics if found.name == "tpot_p50_s")
    assert metric.ratio and 1.6 < metric.ratio < 2.2
    assert result.new.engine == "target 9.9" and any("settings are not looked for" in note for note in result.notes)


@pytest.mark.slow
@pytest.mark.timed
def test_a_server_is_compared_with_its_own_earlier_runs(
    profile: Path, servers: tuple[str, str], tmp_path: Path
) -> None:
    quick, slow = servers
    asked = {"mode": "stored", "launches": 2, "metric": METRIC, "history": tmp_path / "history"}
    first = judged(profile, tmp_path / "1", target=quick, **asked)
    again = judged(profile, tmp_path / "2", target=quick, **asked)
    other = judged(profile, tmp_path / "3", target=slow, **asked)
    assert [found.exit_code for found in (first, again, other)] == [3, 3, 3], "a verdict needs 8 earlier runs"
    assert any("1 of the 8 earlier runs" in note for note in again.notes)
    assert any("0 of the 8 earlier runs" in note for note in other.notes), "those of another server do not count"


@pytest.fixture(scope="module")
def two_models() -> Iterator[str]:
    """The address of a server with two models."""
    process = ServerProcess(start("--models=one,two"))
    yield f"http://127.0.0.1:{process.port}"
    process.end()


def arms(profile: Path, **options: object) -> list[tuple[str, object, object]]:
    """Of the base and of the candidate: name, model, and what earlier runs must agree in."""
    given = {"profile": profile, "seed": 1, "device": "cpu", "window": "1s", **options}
    found = compared(make_request(GateRequest, given))
    return [(arm.label, arm.config["served_model"], arm.job.held.root) for arm in (found.base, found.candidate)]


def test_models_of_a_server_are_compared(profile: Path, two_models: str) -> None:
    url = two_models
    one, two = (f"{url} with served_model={name}" for name in ("one", "two"))
    assert arms(profile, target=url, set={"served_model": "two"}, baseline_set={"served_model": "one"}) == [
        (one, "one", {"url": url, "served_model": "one"}),
        (two, "two", {"url": url, "served_model": "two"}),
    ]
    of_both = arms(profile, target=url, set={"served_model": "two"}, baseline_target=url)
    assert [model for _, model, _ in of_both] == ["two", "two"]
    stored = arms(profile, target=url, mode="stored")
    assert stored == [(url, "one", {"url": url})] * 2, "as runs were kept before a model could be named"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--baseline-target URL, or its own earlier runs with --mode stored"),
        ({"against": "default", "baseline_target": "URL"}, "leave out --against; nothing is changed on it"),
        ({"baseline_set": {"a": 1}, "baseline_target": "URL"}, "unknown knob 'a'.*served_model"),
        ({"set": {"served_model": "x"}, "baseline_target": "URL"}, "served_model=x"),
        ({"baseline_set": {"served_model": "stub"}, "mode": "stored"}, "--baseline-set names a base"),
        ({"engine": "vllm-serve", "baseline_target": "URL"}, "leave out --engine"),
        ({"metric": ("quality",), "baseline_target": "URL"}, "needs an engine that infertune launches"),
        ({"mode": "stored", "baseline_target": "URL"}, "--baseline-target names a base, and --mode stored has none"),
        ({"target": None, "baseline_target": "URL"}, "name that one with --target URL"),
        ({"baseline_target": "http://127.0.0.1:9"}, "no server at http://127.0.0.1:9"),
        ({"baseline_target": "http://me:secret@127.0.0.1"}, "a URL without user, password and query"),
    ],
)
def test_what_cannot_be_compared_is_said_first(
    profile: Path, servers: tuple[str, str], tmp_path: Path, options: dict[str, object], message: str
) -> None:
    quick, _ = servers
    given = {name: quick if value == "URL" else value for name, value in options.items()}
    with pytest.raises(UsageError, match=message):
        gate(profile, tmp_path, **{"target": quick, **given})
    assert not (tmp_path / "run").exists()
