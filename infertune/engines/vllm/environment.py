"""What vLLM has to find in its environment, and the remedy for its command in a CPU build."""

import os
from pathlib import Path

from infertune.domain.device import limited
from infertune.domain.models import cache_folder
from infertune.engines.base import Setup
from infertune.engines.installed import installed_versions
from infertune.engines.vllm.memory import cpu_cache_gib
from infertune.engines.vllm.probe import QUIET
from infertune.engines.vllm.space import CPU_CACHE
from infertune.writing import write_inside

KEY = "VLLM_API_KEY"  # a server that finds it answers nobody without it, and one that is measured needs none
_CPU_BINDING = "VLLM_CPU_OMP_THREADS_BIND"


def environment_of(setup: Setup) -> tuple[dict[str, str], list[str]]:
    """The variables to set where the user has not, and notes on those that change a result."""
    assert setup.model, "vLLM needs a model"
    found = {name: value for name, value in QUIET.items() if name not in os.environ}
    if setup.model.weights == "dummy" and "HF_HUB_OFFLINE" not in os.environ:
        found["HF_HUB_OFFLINE"] = "1"
    notes: list[str] = []
    if setup.device.kind == "gpu":
        return found, notes
    ours = os.environ.get("OMP_NUM_THREADS") in (None, str(setup.device.cores))  # see `engine_environment`
    if limited(setup.device) and ours and _CPU_BINDING not in os.environ:
        # vLLM starts a thread on every core but one that it may run on, and knows nothing of a quota.
        threads = max(1, setup.device.cores - 1)
        found |= {_CPU_BINDING: "nobind", "OMP_NUM_THREADS": str(threads)}
        notes.append(
            f"the CPU quota allows {setup.device.cores} cores: vLLM computes with {threads} threads, not bound to cores"
        )
    if not os.environ.get(CPU_CACHE):
        space_gib = cpu_cache_gib(setup.model, setup.device, setup.config.root.get("max_model_len"))
        found[CPU_CACHE] = str(space_gib)
        notes.append(f"{CPU_CACHE} was not set; {space_gib} GiB were used")
    return found, notes


def metadata_path() -> Path | None:
    """A folder for PYTHONPATH without which the `vllm` command of a CPU build fails; None where it needs none.

    The command asks for the metadata of a distribution called vllm; that of the CPU build is called vllm-cpu.
    """
    found = installed_versions(("vllm", "vllm-cpu"))
    if "vllm" in found or "vllm-cpu" not in found:
        return None
    version = found["vllm-cpu"] + ("" if "+" in found["vllm-cpu"] else "+cpu")
    folder = f"vllm-metadata/{version}"
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"
    write_inside(cache_folder(), f"{folder}/vllm-{version}.dist-info/METADATA", text, "metadata")
    return cache_folder() / folder
