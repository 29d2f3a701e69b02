"""Gates of a server's profile: on goodput, and on what requests take at the profile's rate."""

from pathlib import Path

import pytest
import yaml

from infertune.bench.channel import ServedReply
from infertune.bench.measure import Session
from infertune.domain.request import GateRequest, make_request
from infertune.errors import BenchmarkError, UsageError
from infertune.gating.gate import gate_request
from infertune.gating.result import GateResult, MetricResult
from tests.e2e.gates import goodput_profile


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


def test_a_profile_that_serves_as_much_as_before_passes_on_goodput(profile: Path, tmp_path: Path) -> None:
    result = gate(profile, tmp_path, seed=2)  # the stored gain holds in 11 of 12 pairs of seeds; it is an interval
    assert result.answer == "pass" and the(result, "goodput_per_s").gated
    assert result.stored_gain and result.stored_gain.holds


def test_a_server_that_takes_fewer_requests_fails_on_goodput(profile: Path, slower: Path, tmp_path: Path) -> None:
    result = gate(slower, tmp_path, against=str(profile))
    assert result.answer == "regression" and result.exit_code == 1
    assert (the(result, "goodput_per_s").ratio or 1) < 0.92


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


def test_loads_that_were_sent_late_are_no_ground_for_a_verdict(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = Session.handle

    def late(self: Session, command: object) -> object:
        reply = handled(self, command)  # type: ignore[arg-type]
        if not isinstance(reply, ServedReply) or reply.window.service is None:
            return reply
        service = reply.window.service.model_copy(update={"late": True, "late_p99_s": 0.2})
        return reply.model_copy(update={"window": reply.window.model_copy(update={"service": service})})

    monkeypatch.setattr(Session, "handle", late)
    with pytest.raises(BenchmarkError, match=r"loaded late: requests were sent up to 0.2 s"):
        gate(profile, tmp_path, metric=("attainment",))
