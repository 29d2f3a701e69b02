"""The device, from what nvidia-smi answers and CUDA_VISIBLE_DEVICES leaves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from infertune.domain import cgroups, device, nvidia
from infertune.domain.cgroups import Limits
from infertune.domain.device import (
    Device,
    cpu,
    detect,
    engine_environment,
    lock_names,
    memory_used_bytes,
    survey,
    survey_to_measure,
)
from infertune.errors import BenchmarkError

H100 = "0, GPU-aaaa-1111, NVIDIA H100 80GB HBM3, 81559, 700.00, 570.86.15"
SECOND = "1, GPU-bbbb-2222, NVIDIA H100 80GB HBM3, 81559, 650.00, 570.86.15"
OTHER = "1, GPU-cccc-3333, NVIDIA T400, 2048, 30.00, 570.86.15"
Smi = Callable[..., None]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    """Put an nvidia-smi on PATH that answers these lines, and `-L` with a listing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def answer(*lines: str | bytes, code: int = 0, listing: str = "", errors: str = "", then: str = "") -> None:
        content = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
        (tmp_path / "answer").write_bytes(content)
        (tmp_path / "listing").write_text(listing)
        (tmp_path / "errors").write_text(errors)
        program = folder / "nvidia-smi"
        program.write_text(
            f'#!/bin/sh\nfrom={tmp_path}/answer\n[ "$1" = -L ] && from={tmp_path}/listing\n'
            f'while IFS= read -r line; do echo "$line"; done < $from\n'
            f'while IFS= read -r line; do echo "$line" >&2; done < {tmp_path}/errors\n{then}\nexit {code}\n'
        )
        program.chmod(0o755)

    return answer


def test_two_boards_alike_are_one_device_of_two(smi: Smi) -> None:
    smi(H100, SECOND)
    found = detect()
    assert (found.kind, found.name, found.count) == ("gpu", "NVIDIA H100 80GB HBM3", 2)
    assert found.uuids == lock_names(found) == ("GPU-aaaa-1111", "GPU-bbbb-2222")
    assert (found.memory_bytes, found.power_limit_w, found.driver) == (81559 * 1024**2, 700.0, "570.86.15")
    assert found.slug == "2x-nvidia-h100-80gb-hbm3"


def test_boards_unlike_the_first_are_left_out_and_named(smi: Smi) -> None:
    smi(H100, OTHER, OTHER.replace("1, GPU-cccc", "2, GPU-dddd"))
    assert (detect().count, detect().slug) == (1, "nvidia-h100-80gb-hbm3")
    [note] = survey().notes
    assert "left out" in note and "2 × NVIDIA T400" in note and "CUDA_VISIBLE_DEVICES" in note


def test_boards_of_one_model_need_no_note(smi: Smi) -> None:
    smi(H100, SECOND)
    assert survey().notes == () and survey().fault == ""


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        ("0", ["GPU-aaaa-1111"]),
        ("1", ["GPU-bbbb-2222"]),
        ("1,0", ["GPU-bbbb-2222", "GPU-aaaa-1111"]),
        ("GPU-bbbb-2222", ["GPU-bbbb-2222"]),
        ("GPU-bbbb", ["GPU-bbbb-2222"]),
        ("1,7,0", ["GPU-bbbb-2222"]),
        ("1,-1,0", ["GPU-bbbb-2222"]),
        (" 1 , 0 ", ["GPU-bbbb-2222", "GPU-aaaa-1111"]),
    ],
)
def test_cuda_visible_devices_chooses_by_index_or_uuid_and_ends_at_the_first_unknown(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, visible: str, uuids: list[str]
) -> None:
    smi(H100, SECOND)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list(detect().uuids) == uuids


@pytest.mark.parametrize("visible", ["", "-1", "9", "GPU-", "none", "0,0", "0,1,GPU-aaaa", "MIG-", "MIG-9,0"])
def test_cuda_visible_devices_that_leave_nothing_leave_the_processor(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    smi(H100, SECOND)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert detect() == cpu()


# As `nvidia-smi -L` writes it (NVIDIA's MIG user guide), the last in the form of drivers before 470.
LISTING = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa-1111)
  MIG 3g.40gb     Device  0: (UUID: MIG-c738-4736)
  MIG 1g.10gb+me  Device  1: (UUID: MIG-a28a-d590)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb-2222)
  MIG 2g.20gb     Device  0: (UUID: MIG-GPU-bbbb-2222/5/0)
"""


@pytest.mark.parametrize(
    ("visible", "uuid", "name", "gigabytes", "power_limit_w"),
    [
        ("MIG-c738-4736", "MIG-c738-4736", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", 40, 700.0),
        ("MIG-a28a", "MIG-a28a-d590", "NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", 10, 700.0),
        ("MIG-GPU-bbbb-2222/5/0", "MIG-GPU-bbbb-2222/5/0", "NVIDIA H100 80GB HBM3 MIG 2g.20gb", 20, 650.0),
        ("MIG-a28a,MIG-c738", "MIG-a28a-d590", "NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", 10, 700.0),
    ],
)
def test_a_mig_slice_is_a_device_of_its_own_with_its_memory_and_its_boards_driver(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, visible: str, uuid: str, name: str, gigabytes: int, power_limit_w: float
) -> None:
    smi(H100, SECOND, listing=LISTING)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = detect()
    assert (found.kind, found.count, found.name, found.uuids) == ("gpu", 1, name, (uuid,))
    assert found.memory_bytes == pytest.approx(gigabytes * 10**9, abs=1024**2)
    assert (found.power_limit_w, found.driver) == (power_limit_w, "570.86.15")
    assert found.slug != "nvidia-h100-80gb-hbm3", "its profiles are not those of the whole board"


@pytest.mark.parametrize("visible", ["MIG-c738-4736", "MIG-9", "MIG-"])
def test_a_mig_slice_that_is_not_there_or_not_one_leaves_the_processor(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    smi(SECOND if visible.startswith("MIG-c") else H100, listing=LISTING)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert detect() == cpu()


def test_an_unknown_power_limit_is_none(smi: Smi) -> None:
    smi(H100.replace("700.00", "[N/A]"))
    assert detect().power_limit_w is None


def test_a_board_without_memory_of_its_own_has_the_machines(smi: Smi) -> None:
    smi(H100.replace("81559", "[N/A]"))
    assert (detect().kind, detect().memory_bytes) == ("gpu", cpu().memory_bytes)


NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running."
)
FAULTS = {
    "another version of the driver": (
        dict(code=18),
        ["Failed to initialize NVML: Driver/library version mismatch", "NVML library version: 535.54"],
        ["code 18", "Driver/library version mismatch NVML library version: 535.54"],
    ),
    "a board that is lost": (
        dict(code=255),
        ["Unable to determine the device handle for GPU0000:05:00.0: GPU is lost."],
        ["code 255", "GPU is lost"],
    ),
    "an error without words": (dict(code=1), [], ["code 1", "says nothing"]),
    "words on standard error": (dict(code=3, errors="no permission\n"), [], ["code 3", '"no permission"']),
    "boards, and an error": (dict(code=15), [H100], ["code 15"]),
    "nothing": ({}, [], ["lists no GPU", "says nothing"]),
    "blanks": ({}, ["", " "], ["lists no GPU"]),
    "words": ({}, ["a,b"], ['lists no GPU and says "a,b"']),
    "bytes": ({}, [b"\xff\xfe\x00\x81"], ["lists no GPU"]),
    "too many columns": ({}, ["1,2,3,4,5,6,7"], ["lists no GPU"]),
    "columns without a UUID": ({}, ["0, x, NVIDIA, 1, 1, 5"], ["lists no GPU"]),
    "a page of words": ({}, ["word " * 1000], ["…"]),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_machine_whose_gpus_cannot_be_used_is_not_taken_for_one_without(smi: Smi, case: str) -> None:
    options, lines, words = FAULTS[case]
    smi(*lines, **options)
    found = survey()
    assert found.device == detect() == cpu()
    assert all(word in found.fault for word in words), found.fault
    assert len(found.fault) < 400 and "\n" not in found.fault
    assert any(found.fault in note for note in found.notes)
    for wanted in ("auto", "gpu"):
        with pytest.raises(BenchmarkError, match="--device cpu") as error:
            survey_to_measure(wanted)  # type: ignore[arg-type]
        assert found.fault in str(error.value) and error.value.exit_code == 5


@pytest.mark.parametrize("case", FAULTS)
def test_the_processor_can_be_asked_for_and_the_fault_is_told_all_the_same(smi: Smi, case: str) -> None:
    options, lines, words = FAULTS[case]
    smi(*lines, **options)
    found = survey_to_measure("cpu")
    assert found.device == cpu() and all(any(word in note for note in found.notes) for word in words)


def test_an_nvidia_smi_that_hangs_is_not_waited_for(smi: Smi, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(then="while :; do :; done")
    monkeypatch.setattr(nvidia, "_TIMEOUT_S", 0.2)
    monkeypatch.setattr(device, "_ASK_IN_PASSING_S", 0.2)
    assert "does not answer within 0.2 s" in survey().fault
    assert survey_to_measure("cpu").device == cpu()
    assert memory_used_bytes(Device(kind="gpu", name="x", memory_bytes=1, cores=1, uuids=("GPU-1",))) is None


@pytest.mark.parametrize("where", ["", " >&2"])
def test_an_nvidia_smi_that_writes_without_end_is_ended(smi: Smi, where: str) -> None:
    smi(then=f"while :; do echo {'word' * 500}{where}; done")
    fault = survey().fault
    assert fault.startswith('nvidia-smi ends with code -13 and says "wordword') and len(fault) < 400


def test_an_nvidia_smi_that_cannot_be_started_is_a_fault(smi: Smi, tmp_path: Path) -> None:
    smi(H100)
    (tmp_path / "bin" / "nvidia-smi").write_bytes(b"\x7fELF of another machine")
    assert "cannot be started: Exec format error" in survey().fault


@pytest.mark.parametrize("code", [0, 6])
def test_a_driver_that_has_no_board_leaves_the_processor_and_a_note(smi: Smi, code: int) -> None:
    smi("No devices were found", code=code)
    found = survey_to_measure()
    assert found.device == cpu() and found.notes == ('nvidia-smi says "No devices were found"',)


@pytest.mark.parametrize("vendor", ["0x1002", "0x10de"])
@pytest.mark.parametrize("kind", ["0x030000", "0x030200", "0x040300"])
def test_tools_without_a_driver_are_a_fault_where_the_bus_has_a_board(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vendor: str, kind: str
) -> None:
    smi(NO_DRIVER, code=9)
    folder = tmp_path / "pci" / "0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")
    there = nvidia.has_board(tmp_path / "pci")
    assert there == (vendor == "0x10de" and kind.startswith("0x03"))
    monkeypatch.setattr(nvidia, "has_board", lambda: there)
    found = survey()
    assert bool(found.fault) == there
    assert any("couldn't communicate with the NVIDIA driver" in note for note in found.notes)


def test_a_bus_that_cannot_be_read_may_have_a_board(tmp_path: Path) -> None:
    assert nvidia.has_board(tmp_path / "absent") and nvidia.has_board(tmp_path)


def test_a_warning_beside_the_boards_is_told(smi: Smi) -> None:
    smi(H100, "WARNING: infoROM is corrupted at gpu 0000:01:00.0", code=14)
    found = survey_to_measure()
    assert found.device.kind == "gpu" and "infoROM is corrupted" in found.notes[0]


@pytest.mark.parametrize("visible", ["9", "GPU-x", "0,0"])
def test_a_visible_list_that_leaves_no_gpu_is_told(smi: Smi, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    smi(H100, SECOND)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    [note] = survey_to_measure().notes
    assert f"CUDA_VISIBLE_DEVICES={visible}" in note and "2 × NVIDIA H100" in note
    with pytest.raises(BenchmarkError, match="CUDA_VISIBLE_DEVICES"):
        survey_to_measure("gpu")


@pytest.mark.parametrize("visible", ["", "-1"])
def test_gpus_that_the_user_hides_are_neither_used_nor_a_fault(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    smi(H100)
    assert survey_to_measure().device == cpu() and survey().notes == ()
    smi("Failed to initialize NVML: Driver/library version mismatch", code=18)
    assert survey_to_measure().device == cpu() and "mismatch" in survey().notes[0]


def test_the_device_that_is_asked_for_is_taken(smi: Smi) -> None:
    with pytest.raises(BenchmarkError, match="no NVIDIA GPU is visible"):
        survey_to_measure("gpu")
    smi(H100)
    assert survey_to_measure("gpu").device.kind == survey_to_measure().device.kind == "gpu"
    assert survey_to_measure("cpu").device == cpu() and survey("cpu").notes == ()


def test_without_nvidia_smi_the_device_is_the_processor(smi: Smi) -> None:
    found = detect()
    assert (found.kind, found.count, found.uuids, found.driver, found.power_limit_w) == ("cpu", 1, (), None, None)
    assert "cpu core 0" in lock_names(found)
    assert found.cores >= 1 and found.memory_bytes > 0


def test_memory_is_the_control_groups_where_that_is_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "limits", lambda: Limits(memory_bytes=1024**2))
    assert cpu().memory_bytes == 1024**2
    monkeypatch.setattr(cgroups, "limits", lambda: Limits(memory_bytes=2**62))
    assert 0 < cpu().memory_bytes < 2**62


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 8), (64.0, 8), (8.0, 8), (2.0, 2), (1.5, 2), (2.01, 3), (0.5, 1), (0.001, 1)]
)
def test_cores_are_the_quotas_rounded_up_where_that_is_less(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(cgroups, "limits", lambda: Limits(cores=quota))
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert cpu().cores == cores
    smi(H100)
    assert detect().cores == cores
    notes = [note for note in survey().notes if "CPU quota" in note]
    assert bool(notes) == (cores < 8) and all(f"{quota:.3g} of 8 cores" in note for note in notes)


def test_an_engine_on_the_processor_sees_no_gpu_and_no_more_cores_than_the_quota_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda pid: set(range(8)))
    whole = Device(kind="cpu", name="x", memory_bytes=1, cores=8)
    gpu = Device(kind="gpu", name="x", memory_bytes=1, cores=8, uuids=("GPU-1",))
    assert engine_environment(whole) == {"CUDA_VISIBLE_DEVICES": ""}
    assert engine_environment(gpu) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert engine_environment(gpu.model_copy(update={"cores": 3}))["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in engine_environment(whole.model_copy(update={"cores": 3}))


MIXED = (H100, OTHER, SECOND.replace("1, GPU", "2, GPU"))


@pytest.mark.parametrize(
    ("visible", "order", "shown"),
    [
        (None, None, "0,2"),
        (None, "PCI_BUS_ID", "0,2"),
        (None, "FASTEST_FIRST", "GPU-aaaa-1111,GPU-bbbb-2222"),
        ("0,1,2", None, "0,2"),
        (" GPU-bbbb , 1, 0", None, "GPU-bbbb,0"),
        ("1,0", None, "1"),
        ("2,0,9,1", None, None),
        ("0", None, None),
    ],
)
def test_an_engine_sees_the_gpus_of_the_device_alone(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, visible: str | None, order: str | None, shown: str | None
) -> None:
    smi(*MIXED)
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert engine_environment(detect()).get("CUDA_VISIBLE_DEVICES") == shown


@pytest.mark.parametrize("lines", [(H100, SECOND), ()])
def test_an_engine_is_shown_what_the_user_shows_where_all_gpus_are_the_devices(
    smi: Smi, lines: tuple[str, ...]
) -> None:
    smi(H100, SECOND)
    found = detect()
    smi(*lines)
    assert "CUDA_VISIBLE_DEVICES" not in engine_environment(found)


def test_a_processor_is_filed_by_name_and_cores() -> None:
    shown = Device(kind="cpu", name="AMD EPYC 7B13", memory_bytes=8 * 1024**3, cores=2)
    assert shown.slug == "cpu-amd-epyc-7b13-2-cores"
    assert str(shown) == "AMD EPYC 7B13, 2 cores, 8.0 GiB memory, no GPU"


X86 = "processor\t: 0\nmodel name\t: AMD EPYC 9B14\nflags\t\t: fpu avx2 avx512f{}\n\nprocessor\t: 1\n"


@pytest.mark.parametrize(
    ("cpuinfo", "name", "has"),
    [
        (X86.format(" avx512_bf16"), "AMD EPYC 9B14", True),
        (X86.format(" amx_bf16"), "AMD EPYC 9B14", True),
        (X86.format(""), "AMD EPYC 9B14", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", None, True),
        ("processor\t: 0\nFeatures\t: fp asimd\n", None, False),
        ("", None, True),  # nobody says
    ],
)
def test_a_processor_that_emulates_bfloat16_says_so(
    monkeypatch: pytest.MonkeyPatch, cpuinfo: str, name: str | None, has: bool
) -> None:
    monkeypatch.setattr(device.Path, "read_text", lambda self: cpuinfo if "cpuinfo" in str(self) else "max\n")
    found = cpu()
    assert found.has_bfloat16 is has and found.name and name in (None, found.name)
    assert ["dtype=float32" in note for note in found.notes] == ([] if has else [True])
