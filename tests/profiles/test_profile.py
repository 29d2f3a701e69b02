"""Profiles: what is saved is loaded, and nothing in a stranger's file runs or ends in a traceback."""

import json
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from infertune.documents import plain_yaml
from infertune.domain.knobs import Config
from infertune.domain.models import Model
from infertune.domain.objective import get_objective
from infertune.errors import UsageError
from infertune.profiles.profile import Profile, changed_settings, fingerprint, load_profile, profile_of, profile_path
from infertune.runs.summary import summarise
from tests.builders import config, header, ledger_of, one_knob

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
HOSTILE = st.sampled_from(
    [
        "!!python/object/apply:os.system ['x']",
        "*x",
        "&x",
        "yes",
        "1.5",
        "2024-01-01",
        "null",
        "a: b",
        "- x",
        "#",
        "\n---\n",
    ]
)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-1e9, 1e9) | text | HOSTILE | st.none()


def model(name: str = "tiny") -> Model:
    return Model(
        spec=name, name=name, path=name, weights="dummy", config_hash="00", parameters=1, active_parameters=1,
        weight_bytes=2, kv_bytes_per_token=4, context_tokens=8, vocab_size=16, dtype="bfloat16",
    )  # fmt: skip


def profile(**changes: object) -> Profile:
    """A sound profile from a run by hand, some fields changed."""
    rows = [("final", r, config(slots=n), 100.0 * n + r) for r in range(3) for n in (1, 2)]
    ledger = ledger_of(*rows, of=one_knob(1, 2))  # type: ignore[arg-type]
    found = profile_of(ledger, summarise(ledger, get_objective("throughput")), "throughput")
    fields = {name: getattr(found, name) for name in Profile.model_fields}
    return Profile.model_validate({**fields, "fingerprint": fingerprint(header(model=model())), **changes})


@settings(max_examples=60, deadline=None)
@given(
    text | HOSTILE,
    st.dictionaries(text, scalars, max_size=4),
    st.lists(st.floats(1e-9, 1e9), max_size=4),
)
def test_a_profile_is_loaded_as_it_was_saved_whatever_its_names(
    name: str, settings_: dict[str, object], samples: list[float]
) -> None:
    chosen = Config.model_validate(settings_)
    of = fingerprint(header(model=model(name)))
    wanted = profile(fingerprint=of, config=chosen, changed=chosen, samples=samples)
    with tempfile.TemporaryDirectory() as folder:
        found = load_profile(wanted.save(Path(folder) / "deep" / "p.yaml"))
        assert [path.name for path in Path(folder, "deep").iterdir()] == ["p.yaml"]
    assert found == wanted
    assert found.config.key == wanted.config.key
    assert found.fingerprint.model is not None and found.fingerprint.model.name == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "plain",
        "schema_version: 2",
        "{",
        "a: !!python/object/apply:os.system ['touch /tmp/infertune-was-here']",
        "x: !!python/name:os.system",
        "created_at: 2024-13-45",
        "x: !!bool maybe",
        "x: !!timestamp soon",
        "x: !!int many",
        "x: " + "9" * 5000,
        "[" * 5000,
        "&a [*a]",
        "? [a]\n: b",
        '"two\\nlines": 1',
        "---\n---\n",
        "\x07",
    ],
)
def test_a_file_that_is_no_profile_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        load_profile(path)
    assert len(str(refused.value).splitlines()) == 1
    assert str(path) in str(refused.value)
    assert not Path("/tmp/infertune-was-here").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("answer", "superb"),
        ("samples", [float("nan")]),
        ("samples", "many"),
        ("gain", [1.0, 2.0]),
        ("schema_version", 0),
        ("config", {"slots": [1, 2]}),
        ("config", {"share": float("inf")}),
        ("config", {"slots": 2**63}),
        ("schema_version", 16**3500),
        ("samples", [-1.0]),
        ("samples", [0.0]),
        ("samples", [1.0, 1e50]),
        ("default_samples", [1e-50]),
        ("script", "rm -rf"),
    ],
)
def test_one_wrong_field_is_named(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({**profile().model_dump(mode="json"), field: value}))
    with pytest.raises(UsageError, match=rf"no profile that this version of infertune reads: {field}"):
        load_profile(path)


@pytest.mark.parametrize(
    ("old", "new", "line_of"),
    [
        ("count: 1", "count: many", "count: many"),
        ("count: 1", "script: 1", "script: 1"),
        ("answer: better", "answer: superb", "answer: superb"),
        ("seed: 0", "", "  workload:"),
        ("n_requests: null", "n_requests: 2000000000", "n_requests: 2000000000"),
        ("memory_bytes: 8589934592", "memory_bytes: 1" + "0" * 309, "memory_bytes: 1000"),
        ("cores: 4", "cores: 0", "cores: 0"),
        ("parameters: 1", "parameters: 0x" + "f" * 3500, "parameters: 0xff"),
        ("seed: 0", "seed: 0x" + "f" * 3500, "seed: 0xff"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, old: str, new: str, line_of: str) -> None:
    text = profile().text().replace(old, new, 1)
    (tmp_path / "p.yaml").write_text(text)
    line = next(n for n, line in enumerate(text.splitlines(), start=1) if line_of in line)
    with pytest.raises(UsageError, match=rf"\(line {line}\)$"):
        load_profile(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("config_", "changed", "fault"),
    [
        ({"slots": 2}, {"slots": 4}, "'slots' is 4 here and 2 in config"),
        ({"slots": 1}, {"slots": True}, "'slots' is true here and 1 in config"),
        ({"slots": 2}, {"slots": 2, "compiled": True}, "'compiled' is true here and nothing in config"),
        ({}, {"slots": 2}, "'slots' is 2 here and nothing in config"),
    ],
)
def test_what_is_exported_and_what_is_gated_must_be_the_same(
    tmp_path: Path, config_: dict[str, object], changed: dict[str, object], fault: str
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({**profile().model_dump(mode="json"), "config": config_, "changed": changed}))
    with pytest.raises(UsageError, match=rf"changed: {fault}: make the two the same \(line \d+\)$"):
        load_profile(path)


def test_a_profile_of_a_later_infertune_asks_for_an_upgrade(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("schema_version: 7\nanswer_in_full: [1]\n")
    with pytest.raises(UsageError, match="schema version 7, this infertune reads 1: upgrade infertune"):
        load_profile(tmp_path / "p.yaml")


def test_a_profile_without_a_schema_version_is_refused(tmp_path: Path) -> None:
    document = profile().model_dump(mode="json")
    del document["schema_version"]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(UsageError, match="p.yaml is no profile .* names no schema_version"):
        load_profile(tmp_path / "p.yaml")


@given(text, text, text)
def test_a_strangers_names_lead_to_no_other_folder(model_name: str, workload: str, device: str) -> None:
    of = header(model=model(f"../{model_name}/..")).model_copy()
    found = fingerprint(of).model_copy(
        update={
            "workload": of.workload.model_copy(update={"name": f"/../{workload}"}),
            "device": of.device.model_copy(update={"name": f"../{device}"}),
            "engine": "../..",
        }
    )
    path = profile_path(Path("/profiles"), found)
    assert len(path.parts) == 5 and ".." not in path.parts and path.is_relative_to("/profiles")
    assert path.name.endswith(".yaml") and "--" in path.name


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no profile: it is not UTF-8 text"):
        load_profile(tmp_path / "p.yaml")


def test_a_file_over_64_kib_is_not_read(tmp_path: Path) -> None:
    path = profile().save(tmp_path / "p.yaml")
    with path.open("a") as file:
        file.write("#" * 64 * 1024)
    with pytest.raises(UsageError, match="too large to be a profile"):
        load_profile(path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"created_at": "2026-11-27T12:33:24+00:NaN"}, "created_at"),
        ({"objective": "fame"}, "objective"),
        ({"slo": ("power_w<soon",)}, "slo"),
        ({"slo": ("fame<1",)}, "slo"),
        ({"gain": (1.0, 1.1, 1.2)}, "gain"),
        ({"gain": (1e300, 1e299, 1e301)}, "gain"),
        ({"config": {"slots": 10**30}}, "config"),
        ({"config": {"slots": float("inf")}}, "config"),
        ({"samples": (0.0,)}, "samples"),
    ],
)
def test_what_makes_no_sense_is_refused_with_field_and_line(
    tmp_path: Path, change: dict[str, object], field: str
) -> None:
    document = {**profile().model_dump(mode="json"), **change}
    (tmp_path / "p.yaml").write_text(plain_yaml(json.loads(json.dumps(document))))
    with pytest.raises(UsageError, match=rf"reads: {field}.*\(line \d+\)") as refused:
        load_profile(tmp_path / "p.yaml")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot read profile"):
        load_profile(tmp_path / name)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write profile"):
        profile().save(tmp_path / "file" / "p.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_profile_is_filed_by_device_engine_model_and_workload() -> None:
    found = fingerprint(header(model=model("qwen2.5-0.5b")))
    assert profile_path(Path("p"), found) == Path("p/cpu-test-cpu-4-cores/fake/qwen2.5-0.5b--synthetic-in-8-out-4.yaml")


def test_only_settings_that_differ_are_to_be_typed() -> None:
    assert changed_settings(config(a=1, b=2), config(a=1, b=3)) == config(b=2)


def test_a_run_that_found_nothing_better_recommends_the_default_with_its_own_samples() -> None:
    of = one_knob(1, 2)
    rows = [("search", 0, config(slots=1), 100.0), ("search", 0, config(slots=2), 101.0)]
    finals = [("final", r, config(slots=n), rate) for r in range(3) for n, rate in ((1, 100.0 + r), (2, 99.0 + 2 * r))]
    ledger = ledger_of(*rows, *finals, of=of)  # type: ignore[arg-type]
    found = profile_of(ledger, summarise(ledger, get_objective("throughput")), "throughput")
    assert found.answer == "no better than the default"
    assert (found.config, found.changed) == (config(slots=1), Config({}))
    assert found.samples == found.default_samples == pytest.approx((100, 101, 102))


def test_a_run_that_found_better_recommends_it_with_its_gain() -> None:
    of = one_knob(1, 2)
    rows = [("final", r, config(slots=n), 100.0 * n + r) for r in range(3) for n in (1, 2)]
    ledger = ledger_of(*rows, of=of)  # type: ignore[arg-type]
    found = profile_of(ledger, summarise(ledger, get_objective("throughput")), "throughput")
    assert (found.config, found.changed) == (config(slots=2), config(slots=2))
    assert found.samples == pytest.approx((200, 201, 202))
    assert found.gain is not None and found.gain[1] > 1.9
