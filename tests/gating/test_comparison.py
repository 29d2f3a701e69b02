"""What a gate compares, where a model is part of it; nothing is loaded here."""

import sys
from pathlib import Path

import pytest

from infertune.domain.figures import Economy
from infertune.domain.knobs import Config
from infertune.domain.request import GateRequest, JobRequest, make_request
from infertune.errors import MismatchError, UsageError
from infertune.gating.comparison import Comparison, compared
from infertune.profiles.fingerprint import fingerprint_of
from infertune.profiles.profile import Profile
from infertune.runs.job import prepare

pytestmark = pytest.mark.hf


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """A profile of a batch size of 8, as it stands in p.yaml of the working folder."""
    monkeypatch.chdir(tmp_path)
    job = prepare(JobRequest(engine="hf", model="builtin:tiny", seed=5))
    profile = Profile(
        fingerprint=fingerprint_of(job), objective="throughput", unit="tok/s", answer="better",
        config=job.engine_defaults.updated({"batch_size": 8}), changed=Config({"batch_size": 8}), samples=(2.0, 2.1),
        default_samples=(1.0, 1.1), gain=(1.9, 1.8, 2.0), economy=Economy(), default_economy=Economy(), run="r",
        created_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    profile.save(Path("p.yaml"))
    return profile


def of(**flags: object) -> Comparison:
    return compared(make_request(GateRequest, {"profile": Path("p.yaml"), **flags}))


def test_the_job_is_the_profiles_own(saved: Profile) -> None:
    found = of(seed=1)
    assert found.candidate.config == saved.config
    assert found.candidate.job.workload.record() == saved.fingerprint.workload, "its seed is the profile's"
    assert found.candidate.job.request.seed == 1, "the launches' seed is the user's"
    assert found.candidate.job.model == saved.fingerprint.model
    assert found.base.config == found.candidate.job.engine_defaults and found.against_default and found.one_engine
    assert found.candidate.job.space.most_concurrent == 8, "a job need not fill more slots than base and candidate have"


def test_another_interpreter_or_model_runs_the_same_settings(saved: Profile) -> None:
    found = of(baseline_python=Path(sys.executable))
    assert found.base.config == found.candidate.config and not found.one_engine and not found.against_default
    assert found.base.label.startswith("hf ")
    found = of(baseline_model="builtin:small")
    assert found.base.job.model and found.base.job.model.name == "small"
    assert found.base.label == "builtin:small" and found.base.config == found.candidate.config and not found.one_engine
    found = of(baseline_model="builtin:small", against="default")
    assert found.base.label == "builtin:small default" and found.base.config == found.base.job.engine_defaults


def test_another_model_than_the_profiles_is_refused(saved: Profile) -> None:
    with pytest.raises(MismatchError, match="model was builtin:tiny .* and is now builtin:small"):
        of(model="builtin:small")
    assert saved.fingerprint.model
    changed = saved.fingerprint.model.model_copy(update={"config_hash": "beef", "dtype": "float64"})
    fingerprint = saved.fingerprint.model_copy(update={"model": changed})
    saved.model_copy(update={"fingerprint": fingerprint}).save(Path("p.yaml"))
    with pytest.raises(MismatchError, match="model was .*beef.*; dtype was float64"):
        of()


def test_a_stored_gate_and_a_calibration_have_no_base(saved: Profile) -> None:
    for flags in ({"mode": "stored"}, {"calibrate": True}):
        found = of(**flags)
        assert found.base is found.candidate
        with pytest.raises(UsageError, match="names a base"):
            of(**flags, baseline_model="builtin:small")
