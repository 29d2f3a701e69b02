"""The GPU under test; without a visible one every test here is skipped and says why."""

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
    """The first GPU alone: what it is asked for and what runs on it are then one board."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpu.uuids[0])
    return device.detect()
