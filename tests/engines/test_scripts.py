"""The line of a script or unit that starts a server, and the variables that are set there."""

import re

import pytest

from infertune.engines.scripts import command_line
from infertune.engines.vllm.command import read_command
from infertune.errors import UsageError

STARTS = re.compile(r"\bvllm\s+serve\b")


@pytest.mark.parametrize(
    ("setting", "environment"),
    [
        ("export CUDA_VISIBLE_DEVICES=0 HF_TOKEN=hf_1", (("CUDA_VISIBLE_DEVICES", "0"), ("HF_TOKEN", "hf_1"))),
        ('export VLLM_X="a b"  # for the chat team', (("VLLM_X", "a b"),)),
        ("declare -x VLLM_X='a'", (("VLLM_X", "a"),)),
        ("VLLM_X=1", ()),
        ("export VLLM_X", ()),
        ("VLLM_X=1 other", ()),
    ],
)
def test_each_variable_of_a_line_is_one(setting: str, environment: tuple[tuple[str, str], ...]) -> None:
    found = command_line(f"#!/bin/sh\n{setting}\nvllm serve m/x\n", STARTS)
    assert found and (found.text, found.environment) == ("vllm serve m/x", environment)


@pytest.mark.parametrize(
    "setting",
    ['Environment="VLLM_USE_V1=1" "VLLM_API_KEY=sk-1"', "Environment=VLLM_USE_V1=1 VLLM_API_KEY=sk-1"],
)
@pytest.mark.parametrize("start", ["ExecStart=", "ExecStart=-", "ExecStart=!!"])
def test_a_unit_sets_several_variables_and_starts_with_a_prefix(setting: str, start: str) -> None:
    text = f"[Unit]\nDescription=vllm serve, it's ours\n[Service]\n{start}/opt/vllm serve m/x --port 1\n{setting}\n"
    found = read_command(text, file="v.service")
    assert (found.program, found.environment) == (("/opt/vllm", "serve"), (("VLLM_USE_V1", "1"),))
    assert found.secrets == ("VLLM_API_KEY",)


def test_what_systemd_alone_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="--served-model-name takes a variable"):
        read_command("[Service]\nUser=v\nExecStart=vllm serve m/x --served-model-name %i\n", file="v.service")


@pytest.mark.parametrize(
    "line",
    [
        'echo "Starting vllm serve"',
        'pkill -f "vllm serve" || true',
        'if pgrep -f "vllm serve"; then exit; fi',
        "docker pull vllm/vllm-openai:latest",
        "sudo docker rm -f vllm/vllm-openai",
    ],
)
def test_a_line_that_only_names_a_server_does_not_start_it(line: str) -> None:
    assert read_command(f"#!/bin/sh\n{line}\nvllm serve m/x --seed 1\n", file="run.sh").settings == ("--seed=1",)


@pytest.mark.parametrize(
    ("before", "given", "settings"),
    [
        ("MODEL=m/x", "$MODEL", ()),
        ("MODEL=m/x\nN=4", '"${MODEL}" --max-num-seqs $N', ("--max-num-seqs=4",)),
        ("ORG=m\nMODEL=$ORG/x\nN=${N:-8}", "$MODEL --max-num-seqs=$N", ("--max-num-seqs=8",)),
        ("MODEL=m/x", "$MODEL --max-num-seqs ${N:-8}", ("--max-num-seqs=8",)),
        ('ARGS="--max-num-seqs 4 --dtype half"', "m/x $ARGS", ("--max-num-seqs=4", "--dtype=half")),
        ("ARGS=(\n  m/x  # ours\n  --max-num-seqs 4\n)\nARGS+=(--dtype half)", '"${ARGS[@]}"',
         ("--max-num-seqs=4", "--dtype=half")),
        ("A='a'", "m/x --hf-overrides '{\"rope_theta\": \"$A\"}'", ('--hf-overrides={"rope_theta": "$A"}',)),
    ],
)  # fmt: skip
def test_a_script_says_what_its_variables_stand_for(before: str, given: str, settings: tuple[str, ...]) -> None:
    found = read_command(f"#!/bin/bash\n{before}\nexec vllm serve {given}\n", file="run.sh")
    assert (found.model, found.settings) == ("m/x", settings)


def test_a_variable_may_hold_the_image() -> None:
    text = "#!/bin/sh\nIMAGE=vllm/vllm-openai:v0.10\ndocker run --gpus all $IMAGE --model m/x --seed 1\n"
    found = read_command(text, file="run.sh")
    assert found.program[-1] == "vllm/vllm-openai:v0.10" and found.settings == ("--seed=1",)


def test_what_the_script_does_not_say_is_refused() -> None:
    with pytest.raises(UsageError, match="the model takes a variable"):
        read_command("#!/bin/sh\nN=$1\nvllm serve $N\n", file="run.sh")


def test_a_value_within_quotes_may_go_over_lines() -> None:
    text = '#!/bin/sh\nvllm serve m/x \\\n --speculative-config \'{\n  "method": "ngram"\n }\' \\\n --port 1\n'
    assert read_command(text, file="run.sh").settings == ('--speculative-config={ "method": "ngram" }',)


def test_a_blank_behind_a_backslash_is_told_with_its_line() -> None:
    with pytest.raises(UsageError, match="line 2: a blank stands behind the backslash"):
        read_command("#!/bin/sh\nvllm serve m/x \\ \n --port 1\n", file="run.sh")
