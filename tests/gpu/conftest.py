"""The GPU under test; without a visible GPU every test here is skipped with the reason."""

import os

import pytest

from infertune.domain import device
from infertune.domain.device import Device


@pytest.fixture
def gpu() -> Device:
    found = device.detect()
    if found.kind != "gpu":
        pytest.skip(f"no NVIDIA GPU is visible: {found}; CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')}")
    return found


@pytest.fixture
def one_gpu(gpu: Device, monkeypatch: pytest.MonkeyPatch) -> Device:
    """The first GPU alone, so that the device detected and the device used are the same."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpu.uuids[0])
    return device.detect()
