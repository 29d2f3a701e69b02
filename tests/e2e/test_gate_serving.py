"""Gates of a server's profile: on goodput, and on what requests take at the profile's rate."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from infertune.bench.channel import LoadCommand, ServedReply
from infertune.bench.measure import Session
from infertune.domain.measurement import Window
from infertune.domain.request import GateRequest, make_request
from infertune.errors import BenchmarkError, UsageError
from infertune.gating.comparison import compared
from infertune.gating.gate import gate_request
from infertune.gating.result import GateResult, MetricResult
from infertune.gating.verdict import FEWEST_RUNS
from infertune.report.gate import verdict_sentence
from tests.e2e.gates import edited, goodput_profile


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return goodput_profile(tmp_path_factory.mktemp("profile"))


@pytest.fixture
def slower(profile: Path, tmp_path: Path) -> Path:
    """The same profile with the setting left out that makes it fast."""
    document = yaml.safe_load(profile.read_text())
    document["config"]["compiled"] = False
    document["changed"] = {}
    document["effects"] = {}
    path = tmp_path / "slower.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def gate(profile: Path, folder: Path, **options: object) -> GateResult:
    given = {"profile": profile, "out": folder / "run", "seed": 1, "device": "cpu", "window": "8s", **options}
    return gate_request(make_request(GateRequest, given))


def the(result: GateResult, name: str) -> MetricResult:
    return next(metric for metric in result.metrics if metric.name == name)


def changed_loads(monkeypatch: pytest.MonkeyPatch, changes: Callable[[Session, Window], dict[str, object]]) -> None:
    """Loads whose `Service` has some other fields, by the session, which knows what it loaded, and the window."""
    handled = Session.handle

    def handle(self: Session, command: object) -> object:
        if isinstance(command, LoadCommand):
            self.compiled = command.setup.config["compiled"]  # type: ignore[attr-defined]
        reply = handled(self, command)  # type: ignore[arg-type]
        if not isinstance(reply, ServedReply) or reply.window.service is None:
            return reply
        service = reply.window.service.model_copy(update=changes(self, reply.window))
        return reply.model_copy(update={"window": reply.window.model_copy(update={"service": service})})

    monkeypatch.setattr(Session, "handle", handle)


def test_a_profile_that_serves_as_much_as_before_passes_on_goodput(profile: Path, tmp_path: Path) -> None:
    result = gate(profile, tmp_path, seed=2)  # the stored gain holds in 11 of 12 pairs of seeds; it is an interval
    assert result.answer == "pass" and the(result, "goodput_per_s").gated
    assert result.stored_gain and result.stored_gain.holds


def test_a_server_that_takes_fewer_requests_fails_on_goodput(profile: Path, slower: Path, tmp_path: Path) -> None:
    result = gate(slower, tmp_path, against=str(profile))
    assert result.answer == "regression" and result.exit_code == 1
    assert (the(result, "goodput_per_s").ratio or 1) < 0.92


def test_a_server_that_keeps_the_promise_at_half_the_rate_only_is_found(
    profile: Path, slower: Path, tmp_path: Path
) -> None:
    tight = {"slo": ["ttft_s<5", "tpot_s<0.013"]}  # each token is late long before a queue grows
    base = edited(Path(shutil.copy(profile, tmp_path / "base.yaml")), **tight)
    result = gate(edited(slower, **tight), tmp_path, against=str(base))
    assert result.exit_code == 1 and (the(result, "goodput_per_s").ratio or 1) < 0.65


def test_a_promise_that_no_rate_keeps_is_told_in_a_sentence(slower: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"has no goodput: .* times the limit is used; --metric attainment"):
        gate(edited(slower, slo=["tpot_s<0.000001"]), tmp_path)


def test_at_the_rate_of_the_profile_a_slower_server_keeps_fewer_promises(
    profile: Path, slower: Path, tmp_path: Path
) -> None:
    result = gate(slower, tmp_path, against=str(profile), metric=("attainment", "ttft_p99_s"))
    assert result.answer == "regression"
    assert the(result, "attainment").base_samples[0] > 0.85 > the(result, "attainment").new_samples[0]
    assert any("requests/s" in note for note in result.notes)


def test_goodput_and_a_figure_at_the_profiles_rate_are_not_gated_on_at_once(profile: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another rate than --metric attainment"):
        gate(profile, tmp_path, metric=("goodput_per_s", "attainment"))


def test_a_stored_gate_of_loads_compares_runs_of_the_same_size(profile: Path, tmp_path: Path) -> None:
    def earlier(run: str, **options: object) -> int:
        asked = {"mode": "stored", "launches": 1, "metric": ("attainment",), "history": tmp_path / "history", **options}
        return len(the(gate(profile, tmp_path / run, **asked), "attainment").base_samples)

    assert [earlier("1", requests=100), earlier("2", requests=100)] == [0, 1]
    assert [earlier("3", requests=200), earlier("4", window="5s"), earlier("5")] == [0, 0, 0]
    assert earlier("6") == 1


@pytest.mark.parametrize(("failing", "code"), [((True,), 1), ((True, False), 3), ((False,), 3)])
def test_a_server_that_is_quick_because_it_fails_does_not_pass(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[bool, ...], code: int
) -> None:
    def fails(session: Session, window: Window) -> dict[str, object]:
        sick = session.compiled in failing  # type: ignore[attr-defined]
        return {"n_failed": window.n_requests // 2, "failures": ("HTTP 503 (9)",)} if sick else {}

    changed_loads(monkeypatch, fails)
    result = gate(profile, tmp_path, metric=("ttft_p99_s",))
    assert result.exit_code == code and result.pairs == 4
    assert re.search(r"ttft_p99_s is not compared: \d+ of \d+ requests of \w+ failed", verdict_sentence(result))
    assert the(result, "latency_p99_s").ratio is None and the(result, "attainment").ratio


def test_a_profile_of_goodput_per_joule_says_that_it_is_gated_on_goodput(profile: Path, tmp_path: Path) -> None:
    thrifty = edited(goodput_profile(tmp_path), objective="goodput-per-joule", unit="req/J")
    note = "gated on goodput_per_s, but the profile was tuned for goodput-per-joule; --metric chooses"
    assert note in compared(make_request(GateRequest, {"profile": thrifty, "device": "cpu"})).notes
    assert not any("gated on" in text for text in compared(make_request(GateRequest, {"profile": profile})).notes)


def test_loads_that_were_sent_late_are_no_ground_for_a_verdict(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_loads(monkeypatch, lambda session, window: {"late": True, "late_p99_s": 0.2})
    with pytest.raises(BenchmarkError, match="loaded late: .* sent requests up to 0.2 s after they were due"):
        gate(profile, tmp_path, metric=("attainment",))


def test_a_stored_gate_after_runs_that_kept_the_promise_wholly_lets_a_request_miss(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = [1.0] * FEWEST_RUNS

    def keeps(session: Session, window: Window) -> dict[str, object]:
        return {"attainment": shares[-1], "n_counted": 70, "n_worth": 70.0}

    changed_loads(monkeypatch, keeps)
    asked = {"mode": "stored", "launches": 1, "metric": ("attainment",), "history": tmp_path / "h", "requests": 100}
    for number in range(FEWEST_RUNS):
        gate(profile, tmp_path / f"{number}", **asked)
    for share, answer in ((69 / 70, "pass"), (60 / 70, "regression")):
        shares.append(share)
        result = gate(profile, tmp_path / f"{share}", **asked)
        limit = the(result, "attainment").limit
        assert result.answer == answer and limit and 0.94 < limit < 69 / 70
