"""The GitHub action: its own script, run by bash as a runner would, on a simulated engine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.test_gate import profile

ACTION = yaml.safe_load((Path(__file__).parent.parent / "action.yml").read_text())


def step(name: str) -> dict[str, object]:
    return next(step for step in ACTION["runs"]["steps"] if step["name"] == name)


def gate(folder: Path, **inputs: str) -> tuple[int, dict[str, str]]:
    """Exit code and outputs of the gate's step."""
    given = {name: spec.get("default", "") for name, spec in ACTION["inputs"].items()} | inputs
    variables = {
        name: given[str(text).removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, text in step("Gate")["env"].items()  # type: ignore[attr-defined]
    }
    outputs = folder / "outputs"
    outputs.write_text("")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", str(step("Gate")["run"])],
        cwd=folder,
        env={**os.environ, **variables, "GITHUB_OUTPUT": str(outputs), "RUNNER_TEMP": str(folder)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    return done.returncode, dict(line.split("=", 1) for line in outputs.read_text().splitlines())


@pytest.mark.slow
def test_a_pass_and_a_regression_come_out_as_exit_code_and_outputs(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    fast = profile(tmp_path / "work", "fast one.yaml", set={"compiled": True})
    slow = profile(tmp_path / "work", "slow.yaml")
    code, outputs = gate(tmp_path, python=sys.executable, profile=str(fast))
    assert (code, outputs["answer"], outputs["exit-code"]) == (0, "pass", "0")
    assert (tmp_path / "infertune-gate.xml").is_file() and (Path(outputs["run"]) / "trials.jsonl").is_file()
    arguments = f"--against\n{fast}\n--margin\n3%\n"
    code, outputs = gate(tmp_path, python=sys.executable, profile=str(slow), args=arguments)
    assert (code, outputs["answer"], outputs["exit-code"]) == (1, "regression", "1")


def test_inputs_are_never_run_by_the_shell(tmp_path: Path) -> None:
    hostile = "$(touch pwned); `touch pwned` && touch pwned"
    code, outputs = gate(tmp_path, python=sys.executable, profile=hostile, args=hostile, junit=hostile)
    assert code == 2 and outputs["answer"] == ""
    assert not list(tmp_path.glob("*pwned"))


@pytest.mark.parametrize("name", ["Install infertune", "Gate"])
def test_no_input_stands_in_a_script(name: str) -> None:
    assert "${{" not in str(step(name)["run"])
