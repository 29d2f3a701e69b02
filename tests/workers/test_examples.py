"""The examples of docs/workers.md say what Ray and infertune take."""

import shlex
from pathlib import Path

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
