"""What must be the same for a profile's figures to hold, and what need not."""

import pytest

from infertune.domain.device import Device
from infertune.domain.differences import device_differences
from infertune.domain.models import Model
from infertune.domain.workload import WorkloadRecord
from infertune.errors import MismatchError
from infertune.profiles.fingerprint import check_device, check_fingerprint, differences
from infertune.profiles.profile import Fingerprint
from tests.builders import CPU

GPU = Device(
    kind="gpu",
    name="NVIDIA H100 80GB HBM3",
    uuids=("GPU-1",),
    memory_bytes=80 * 1024**3,
    cores=16,
    power_limit_w=700.0,
    driver="570.1",
)
MODEL = Model(
    spec="org/name", name="name", path="org/name", weights="real", revision="a1", config_hash="00", parameters=1,
    active_parameters=1, weight_bytes=2, kv_bytes_per_token=4, context_tokens=8, vocab_size=16, dtype="bfloat16",
)  # fmt: skip
WORKLOAD = WorkloadRecord(name="w", spec="jsonl:w.jsonl", content_hash="ab", n_requests=10, seed=0)
FOUND = Fingerprint(
    device=GPU, engine="one", engine_version="1.0", model=MODEL, workload=WORKLOAD, infertune_version="0.1.0"
)


def with_device(**changes: object) -> Fingerprint:
    return FOUND.model_copy(update={"device": GPU.model_copy(update=changes)})


def with_model(**changes: object) -> Fingerprint:
    return FOUND.model_copy(update={"model": MODEL.model_copy(update=changes)})


def with_workload(**changes: object) -> Fingerprint:
    return FOUND.model_copy(update={"workload": WORKLOAD.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("now", "field"),
    [
        (with_device(name="NVIDIA A100"), "device"),
        (with_device(count=2), "number of GPUs"),
        (with_device(memory_bytes=40 * 1024**3), "memory"),
        (with_device(driver="580.0"), "driver"),
        (with_device(power_limit_w=500.0), "power limit"),
        (with_device(power_limit_w=None), "power limit"),
        (FOUND.model_copy(update={"engine": "two"}), "engine"),
        (FOUND.model_copy(update={"engine_version": "1.1"}), "engine version"),
        (with_model(config_hash="11"), "model"),
        (FOUND.model_copy(update={"model": None}), "model"),
        (with_model(weights="dummy"), "weights"),
        (with_model(dtype="float16"), "dtype"),
        (with_model(revision="b2"), "revision"),
        (with_workload(content_hash="cd"), "workload"),
        (with_workload(seed=1), "workload's seed"),
    ],
)
def test_every_field_that_figures_depend_on_is_named_when_it_differs(now: Fingerprint, field: str) -> None:
    [difference] = differences(FOUND, now)
    assert difference.field == field
    assert differences(FOUND, now, compared={field}) == []
    with pytest.raises(MismatchError, match=f"p.yaml does not hold here: {field} was .* and is now .*;"):
        check_fingerprint(FOUND, now, "p.yaml")


@pytest.mark.parametrize(
    "now",
    [
        FOUND,
        with_device(uuids=("GPU-2",)),
        with_device(memory_bytes=80 * 1024**3 - 300 * 1024**2),
        with_device(power_limit_w=700.4),
        with_device(cores=8),
        with_model(path="/elsewhere", spec="./elsewhere", name="elsewhere"),
        with_model(revision=None),
        with_workload(spec="jsonl:/elsewhere/w.jsonl", name="elsewhere", n_requests=20),
        FOUND.model_copy(update={"infertune_version": "9.9"}),
    ],
)
def test_what_figures_do_not_depend_on_may_differ(now: Fingerprint) -> None:
    assert differences(FOUND, now) == []
    check_fingerprint(FOUND, now, "p.yaml")


def test_a_processor_is_told_apart_by_its_cores() -> None:
    assert [d.field for d in device_differences(CPU, CPU.model_copy(update={"cores": 2}))] == ["number of cores"]


def test_all_differences_are_in_one_line_that_fits() -> None:
    hostile = GPU.model_copy(update={"name": "x\ny\x1b[31m" + "z" * 500, "driver": "1"})
    with pytest.raises(MismatchError) as refused:
        check_device(GPU, hostile, "p.yaml")
    message = str(refused.value)
    assert "device was" in message and "driver was 570.1 and is now 1" in message
    assert "\n" not in message and "\x1b" not in message and len(message) < 300


def test_where_only_the_engines_version_differs_the_cure_is_to_compare() -> None:
    with pytest.raises(MismatchError, match="--baseline-python"):
        check_fingerprint(FOUND, FOUND.model_copy(update={"engine_version": "2"}), "p.yaml")
