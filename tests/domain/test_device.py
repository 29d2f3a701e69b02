"""The device, from what nvidia-smi answers and CUDA_VISIBLE_DEVICES leaves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from infertune.domain import device
from infertune.domain.device import Device, cpu, detect

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

    def answer(*lines: str | bytes, code: int = 0, listing: str = "") -> None:
        content = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
        (tmp_path / "answer").write_bytes(content)
        (tmp_path / "listing").write_text(listing)
        program = folder / "nvidia-smi"
        program.write_text(
            f'#!/bin/sh\nfrom={tmp_path}/answer\n[ "$1" = -L ] && from={tmp_path}/listing\n'
            f'while IFS= read -r line; do echo "$line"; done < $from\nexit {code}\n'
        )
        program.chmod(0o755)

    return answer


def test_two_boards_alike_are_one_device_of_two(smi: Smi) -> None:
    smi(H100, SECOND)
    found = detect()
    assert (found.kind, found.name, found.count) == ("gpu", "NVIDIA H100 80GB HBM3", 2)
    assert found.uuids == found.lock_names == ("GPU-aaaa-1111", "GPU-bbbb-2222")
    assert (found.memory_bytes, found.power_limit_w, found.driver) == (81559 * 1024**2, 700.0, "570.86.15")
    assert found.slug == "2x-nvidia-h100-80gb-hbm3"


def test_boards_unlike_the_first_are_left_out(smi: Smi) -> None:
    smi(H100, OTHER)
    assert (detect().count, detect().slug) == (1, "nvidia-h100-80gb-hbm3")


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


@pytest.mark.parametrize(
    "lines", [[], ["No devices were found"], ["a,b"], [b"\xff\xfe\x00\x81"], ["1,2,3,4,5,6,7"], ["", " "]]
)
def test_an_answer_that_lists_no_board_leaves_the_processor(smi: Smi, lines: list[str | bytes]) -> None:
    smi(*lines)
    assert detect() == cpu()


def test_a_failing_nvidia_smi_leaves_the_processor(smi: Smi) -> None:
    smi("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", H100, code=9)
    assert detect() == cpu()


def test_without_nvidia_smi_the_device_is_the_processor(smi: Smi) -> None:
    found = detect()
    assert (found.kind, found.count, found.uuids, found.driver, found.power_limit_w) == ("cpu", 1, (), None, None)
    assert found.lock_names == ("cpu",)
    assert found.cores >= 1 and found.memory_bytes > 0


def test_memory_is_the_control_groups_where_that_is_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.Path, "read_text", lambda self: "1073741824\n" if "cgroup" in str(self) else "")
    assert cpu().memory_bytes == 1024**3
    monkeypatch.setattr(device.Path, "read_text", lambda self: "max\n")
    assert cpu().memory_bytes > 0


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
