"""The examples of docs/workers.md say what Ray and infertune take."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from infertune.cli import app

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ENTRY = "infertune tune MODEL --workers auto --budget 1h --out /shared/runs/first --profiles /shared/profiles"


def test_the_commands_of_the_examples_have_flags_that_there_are() -> None:
    flags = {flag for parameter in get_command(app).commands["tune"].params for flag in parameter.opts}  # type: ignore[attr-defined]
    assert {word for word in shlex.split(ENTRY) if word.startswith("--")} <= flags
    assert ENTRY in (EXAMPLES / "ray-job.yaml").read_text().replace("\\\n#     ", "")
    assert yaml.safe_load((EXAMPLES / "rayjob.kuberay.yaml").read_text())["spec"]["entrypoint"] == ENTRY


def test_the_runtime_environment_has_fields_of_rays_and_text_values() -> None:
    found = yaml.safe_load((EXAMPLES / "ray-job.yaml").read_text())
    assert set(found) == {"pip", "env_vars"}
    assert all(isinstance(value, str) for value in found["env_vars"].values())


def test_the_head_of_the_kubernetes_example_has_no_worker_and_the_others_have_gpus() -> None:
    cluster = yaml.safe_load((EXAMPLES / "rayjob.kuberay.yaml").read_text())["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
    limits = cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert int(limits["nvidia.com/gpu"]) > 0


@pytest.mark.ray
@pytest.mark.parametrize(
    ("command", "flags"),
    [("start", ("--head", "--address", "--port", "--resources")), ("job submit", ("--address", "--runtime-env"))],
)
def test_rays_own_commands_take_the_flags_that_the_page_names(command: str, flags: tuple[str, ...]) -> None:
    script = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", *command.split(), "--help"]
    shown = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert all(flag in shown for flag in flags)
