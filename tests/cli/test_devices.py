"""Commands on a machine whose GPUs cannot be used, and `--device`."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infertune.domain.device import cpu
from infertune.runs.ledger import Ledger
from tests.cli.test_cli import ONE_POINT, SMALL, Shell, shell  # noqa: F401 - a fixture is found by its name
from tests.e2e.gates import profile

MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"
H100 = "0, GPU-aaaa-1111, NVIDIA H100 80GB HBM3, 81559, 700.00, 570.86.15"
T400 = "1, GPU-cccc-3333, NVIDIA T400, 2048, 30.00, 570.86.15"


@pytest.fixture
def smi(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:  # noqa: F811
    """Puts an nvidia-smi on PATH."""
    folder = shell.folder.parent / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def answer(*lines: str, code: int = 0) -> None:
        (folder / "nvidia-smi").write_text(
            "#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {code}\n"
        )
        (folder / "nvidia-smi").chmod(0o755)

    return answer


POINT = [f"--set={text}" for text in ONE_POINT]
MEASURING = [
    ["tune", *SMALL],
    ["bench", "--engine", "fake", "--requests", "8", "--launches", "2", "2"],
    ["landscape", "--engine", "fake", "--requests", "8", "--repeats", "1", *POINT],
    ["gate", "p.yaml", "--seed", "1"],
]


@pytest.mark.parametrize("arguments", MEASURING, ids=lambda arguments: arguments[0])
def test_a_broken_driver_is_no_machine_without_a_gpu(
    shell: Shell,  # noqa: F811
    smi: Callable[..., None],
    arguments: list[str],
) -> None:
    profile(shell.folder, set={"compiled": True})
    smi(MISMATCH, code=18)
    before = sorted(shell.folder.rglob("*"))
    answer = shell(*arguments)
    assert answer.code == 5 and answer.out == "" and answer.errors.count("\n") == 1
    assert MISMATCH in answer.errors and "--device cpu" in answer.errors and "code 18" in answer.errors
    assert sorted(shell.folder.rglob("*")) == before
    answer = shell(*arguments, "--device", "cpu", "--out", "run")
    assert answer.code == 0
    assert any(line.startswith("note: ") and MISMATCH in line for line in (answer.errors + answer.out).splitlines())
    assert Ledger.open(Path("run")).header.device == cpu()
    assert shell(*arguments, "--device", "gpu").code == 5


def test_what_only_looks_says_what_nvidia_smi_said(shell: Shell, smi: Callable[..., None]) -> None:  # noqa: F811
    path = str(profile(shell.folder))
    smi(MISMATCH, code=18)
    for arguments in (["doctor"], ["space", "--engine", "fake"], ["doctor", "--json"]):
        answer = shell(*arguments)
        assert answer.code == 0 and MISMATCH in answer.out
    assert MISMATCH in json.loads(answer.out)["notes"][0]
    assert MISMATCH in shell("profile", "verify", path).errors


def test_the_demonstration_runs_all_the_same_and_says_so(shell: Shell, smi: Callable[..., None]) -> None:  # noqa: F811
    smi(MISMATCH, code=18)
    answer = shell("fake", "--trials", "2", "--out", "run")
    assert answer.code == 0 and MISMATCH in answer.errors
    assert Ledger.open(Path("run")).header.device == cpu()


def test_the_processor_is_measured_beside_gpus_where_it_is_asked_for(
    shell: Shell,  # noqa: F811
    smi: Callable[..., None],
) -> None:
    smi(H100, T400)
    assert shell("tune", *SMALL, "--device", "cpu", "--out", "cpu", "--profiles", "cpu-profiles").code == 0
    answer = shell("tune", *SMALL, "--out", "gpu", "--profiles", "p")
    assert answer.code == 0 and "left out" in answer.errors and "1 × NVIDIA T400" in answer.errors
    assert Ledger.open(Path("cpu")).header.device == cpu()
    assert Ledger.open(Path("cpu")).header.request["device"] == "cpu"
    assert Ledger.open(Path("gpu")).header.device.name == "NVIDIA H100 80GB HBM3"
    assert "device" not in Ledger.open(Path("gpu")).header.request
    [made] = Path("cpu-profiles").rglob("*.yaml")
    answer = shell("gate", str(made))
    assert answer.code == 4 and "--device cpu" in answer.errors
    assert shell("gate", str(made), "--device", "cpu", "--seed", "1").code in (0, 3)
    assert shell("profile", "verify", str(made), "--device", "cpu").code == 0
    assert shell("profile", "verify", str(made)).code == 4
    assert shell("profile", "verify", str(made), "--device", "tpu").code == 2
    assert "left out" in shell("doctor").out


def test_a_run_is_resumed_on_the_device_it_was_started_on(shell: Shell, smi: Callable[..., None]) -> None:  # noqa: F811
    smi(H100)
    assert shell("tune", *SMALL, "--device", "cpu", "--out", "run").code == 0
    assert shell("tune", "--resume", "run", "--trials", "4").code == 0
    answer = shell("tune", "--resume", "run", "--device", "gpu")
    assert answer.code == 2 and "leave out --device" in answer.errors


@pytest.mark.parametrize("given", ["tpu", "cuda:0", ""])
def test_an_unknown_device_is_refused_with_those_there_are(shell: Shell, given: str) -> None:  # noqa: F811
    answer = shell("tune", *SMALL, "--device", given)
    assert answer.code == 2 and "--device" in answer.errors and ("'cpu'" in answer.errors or not given)


def test_an_engine_on_the_processor_is_shown_no_gpu(
    shell: Shell,  # noqa: F811
    smi: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from infertune.bench.isolation import EngineProcess

    smi(H100)
    seen: list[dict[str, str]] = []
    started = EngineProcess.__init__

    def start(self: EngineProcess, log: Path, python: object, environment: dict[str, str], meter: object) -> None:
        seen.append(environment)
        started(self, log, python, environment, meter)  # type: ignore[arg-type]

    monkeypatch.setattr(EngineProcess, "__init__", start)
    chosen = ["--set", "fault=no fault", "--requests", "8", "--launches", "1", "1", "--windows", "1"]
    answer = shell("bench", "--engine", "fake:faults", "--device", "cpu", *chosen)
    assert answer.code == 0, answer
    assert seen and all(environment["CUDA_VISIBLE_DEVICES"] == "" for environment in seen)
