"""A profile against this machine and against another: what breaks it, and what does not."""

import sys
from pathlib import Path

import pytest

from infertune.domain.device import Device, detect
from infertune.domain.models import resolve_model
from infertune.profiles.comparing import profile_differences, verify
from infertune.profiles.profile import Fingerprint, fingerprint
from tests.builders import config, header
from tests.domain.test_models import hub_cache
from tests.profiles.test_profile import profile

H100 = Device(kind="gpu", name="NVIDIA H100", memory_bytes=80 * 1024**3, cores=8, driver="570.1", power_limit_w=700.0)


def here(**changes: object) -> Fingerprint:
    return fingerprint(header(device=detect(), model=resolve_model("builtin:tiny"))).model_copy(update=changes)


def broken(of: Fingerprint) -> list[str]:
    return [check.field for check in verify(of) if check.breaks]


def test_a_profile_of_this_machine_holds() -> None:
    checks = verify(here())
    assert broken(here()) == []
    fields = [check.field for check in checks]
    assert fields[0] == "device" and {"memory", "engine version", "model", "infertune version"} <= set(fields)
    assert all(check.here_value == check.profile_value for check in checks)


def test_a_profile_of_another_gpu_does_not() -> None:
    found = {check.field: check for check in verify(here(device=H100))}
    assert found["device"].breaks and found["driver"].breaks and found["power limit"].breaks
    assert str(found["driver"]) == "differs  driver: 570.1, here none"
    assert "number of cores" in found


def test_an_engine_upgrade_makes_it_stale() -> None:
    [check] = [check for check in verify(here(engine_version="0")) if check.breaks]
    assert check.field == "engine version" and "stale" in str(check)


def test_another_version_of_infertune_makes_no_difference() -> None:
    found = {check.field: check for check in verify(here(infertune_version="0.0.9"))}
    assert not found["infertune version"].breaks and "no matter" in str(found["infertune version"])


def test_a_model_that_has_changed_does_not_hold() -> None:
    changed = resolve_model("builtin:tiny").model_copy(update={"config_hash": "00"})
    assert broken(here(model=changed)) == ["model"]


@pytest.mark.parametrize("spec", ["nobody/knows-it", "/no/such/folder", "builtin:none", "../../etc"])
def test_a_model_that_is_not_here_is_unknown_and_not_asked_for(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    foreign = resolve_model("builtin:tiny").model_copy(update={"spec": spec, "path": spec, "weights": "real"})
    found = {check.field: check for check in verify(here(model=foreign))}
    assert found["model"].here_value is None and not found["model"].breaks
    assert "cannot be told here" in str(found["model"])


def test_a_hub_model_at_another_commit_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_cache(tmp_path, monkeypatch)
    model = resolve_model("org/name")
    assert broken(here(model=model)) == []
    assert broken(here(model=model.model_copy(update={"revision": "beef"}))) == ["revision"]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    found = {check.field: check for check in verify(here(model=model))}
    assert found["revision"].here_value is None and not found["revision"].breaks


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path) -> None:
    found = {check.field: check for check in verify(here(engine="replay"))}
    assert found["engine version"].breaks and found["engine version"].here_value == "not installed"


def test_two_profiles_differ_in_machine_settings_and_figures() -> None:
    one = profile()
    other = profile(
        fingerprint=one.fingerprint.model_copy(update={"engine_version": "2", "infertune_version": "9"}),
        config=config(slots=1, more=True),
        changed=config(more=True),
        samples=[50.0],
    )
    found = {difference.field: (difference.before, difference.now) for difference in profile_differences(one, other)}
    assert found["engine version"] == ("1", "2") and found["infertune version"] == ("0.1.0", "9")
    assert found["slots"] == ("2", "1") and found["more"] == ("–", "true")
    assert found["tok/s"] == ("201", "50")
    assert profile_differences(one, one) == []
