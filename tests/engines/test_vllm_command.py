"""A command that runs vLLM today: sorted into its parts without a shell, its secrets never kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infertune.domain.command import Command
from infertune.engines import read_command as of_engine
from infertune.engines.asking import Asked, understood
from infertune.engines.vllm.command import read_command
from infertune.errors import UsageError

SERVE = "vllm serve m/x --max-num-seqs 64"
SECRETS = ("sk-1", "hf_1", "pass-1")


@pytest.mark.parametrize(
    ("text", "settings", "server"),
    [
        ("vllm serve m/x --max-num-seqs 64 --port 80", ["--max-num-seqs=64"], ["--port=80"]),
        ("vllm serve m/x --max_num_seqs=64", ["--max-num-seqs=64"], []),
        ("vllm serve --enforce-eager m/x", ["--enforce-eager"], []),
        ("vllm serve --model m/x --no-enable-prefix-caching", ["--no-enable-prefix-caching"], []),
        ("vllm serve m/x \\\n  -tp 2 \\\n  -O3", ["--tensor-parallel-size=2", "--optimization-level=3"], []),
        ("vllm serve m/x -O.level=3", ["--compilation-config.mode=3"], []),
        ("vllm serve m/x -O '{\"mode\": 3}'", ['--compilation-config={"mode": 3}'], []),
        ("vllm serve m/x --seed -1", ["--seed=-1"], []),
        ("vllm serve m/x --served-model-name a b", [], ["--served-model-name", "a", "b"]),
        ("vllm serve m/x --lora-modules a=b c=d --enable-lora", ["--enable-lora"], ["--lora-modules", "a=b", "c=d"]),
        ("vllm serve m/x --speculative-config '{\"a b\": 1}'", ['--speculative-config={"a b": 1}'], []),
        ("python3 -u -m vllm.entrypoints.openai.api_server --model=m/x -q fp8", ["--quantization=fp8"], []),
        ("VLLM_USE_V1=1 env vllm serve m/x -ep", ["--enable-expert-parallel"], []),
        ("docker run --gpus all vllm/vllm-openai:v0.10 --model m/x --dtype half", ["--dtype=half"], []),
        ("docker run -it --entrypoint vllm vllm/vllm-openai serve m/x -dp 2", ["--data-parallel-size=2"], []),
        ("docker run vllm/vllm-openai bash -c 'vllm serve m/x -pp 2'", ["--pipeline-parallel-size=2"], []),
        ("bash -c 'vllm serve m/x --max-num-seqs 4'", ["--max-num-seqs=4"], []),
        ("$ vllm serve m/x", [], []),
        ("uv run vllm serve m/x", [], []),
        ("uv run --with vllm==0.11 --index-url https://u:sk-1@h/ vllm serve m/x", [], []),
        ("uvx --python 3.12 vllm@latest serve m/x -tp=2", ["--tensor-parallel-size=2"], []),
        ("numactl --cpunodebind=0 --membind=0 vllm serve m/x", [], []),
        ("conda run -n llm python3 -m vllm.entrypoints.openai.api_server --model m/x", [], []),
        ("sudo -E env -u A HF_HOME=/h timeout 10 vllm serve m/x", [], []),
        ("srun --gres=gpu:1 bash -c 'vllm serve m/x --seed 1'", ["--seed=1"], []),
        ('docker run -v $PWD:/m -v "$(pwd)/x":/n -v ~/.cache:/c ghcr.io/o/i vllm serve m/x', [], []),
        ("vllm serve m/x --seed 1  # as measured", ["--seed=1"], []),
        ("vllm serve m/x --seed '#1'", ["--seed=#1"], []),
        ("nohup vllm serve m/x --seed 1 > out.log 2>&1 &", ["--seed=1"], []),
        ("vllm serve m/x --seed 1 2>&1 | tee -a 'my log'", ["--seed=1"], []),
        ("vllm serve m/x --seed 1 </dev/null &>> $LOG &", ["--seed=1"], []),
        ("bash -c 'exec vllm serve m/x --seed 1 >/dev/null'", ["--seed=1"], []),
        ("vllm serve m/x --seed '1 > 2'", ["--seed=1 > 2"], []),
        (
            "vllm serve m/x -cc.mode=3 -sc.method ngram",
            ["--compilation-config.mode=3", "--speculative-config.method=ngram"],
            [],
        ),
    ],
)
def test_a_command_is_sorted_into_model_engine_and_server(text: str, settings: list[str], server: list[str]) -> None:
    found = read_command(text)
    assert (found.model, list(found.settings), list(found.server)) == ("m/x", settings, server)


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve m/x --api-key sk-1 hf_1 pass-1",
        "vllm serve m/x --api_key=sk-1 --hf-token hf_1",
        "vllm serve m/x --api-k sk-1",
        "uv run --index-url https://u:sk-1@h/ --index-password pass-1 vllm serve m/x --api-key x",
        "env HF_TOKEN=hf_1 numactl -N 0 vllm serve m/x",
        "srun --export=ALL,HF_TOKEN=hf_1 vllm serve m/x",
        "OPENAI_APIKEY=sk-1 HFTOKEN=hf_1 VLLM_DB_PASS=pass-1 vllm serve m/x",
        "docker run -e OPENAI_APIKEY=sk-1 -e GITHUB_PAT=hf_1 vllm/vllm-openai --model m/x",
        "docker run --log-opt splunk-token=sk-1 -l api_key=hf_1 vllm/vllm-openai --model m/x",
        "docker run --health-cmd 'curl -H \"Authorization: Bearer sk-1\" h' vllm/vllm-openai --model m/x",
        "vllm serve m/x --api-keys sk-1",
        "vllm serve m/x --api-key -sk-1",
        "vllm serve m/x --hf-token --port 1",
        'vllm serve m/x --model-loader-extra-config \'{"aws_secret_access_key": "sk-1", "a": [{"key": "hf_1"}]}\'',
        "vllm serve m/x --kv-transfer-config.extra_config.api_key sk-1",
        "srun --export ALL,HF_TOKEN=hf_1,X=1 vllm serve m/x",
        "apptainer exec --env=HF_TOKEN=hf_1 v.sif vllm serve m/x",
        "apptainer exec --env HF_TOKEN=hf_1 v.sif vllm serve m/x",
        "docker run -e HTTPS_PROXY=http://u:pass-1@proxy vllm/vllm-openai --model m/x",
        "VLLM_ASSETS=http://u:pass-1@h vllm serve m/x --otlp-traces-endpoint https://u:sk-1@h/",
        "HF_TOKEN=hf_1 MY_PASSWORD=pass-1 VLLM_API_KEY=sk-1 vllm serve m/x",
        "docker run -e HF_TOKEN=hf_1 --env=VLLM_API_KEY=sk-1 -eDB_PASSWORD=pass-1 vllm/vllm-openai --model m/x",
        "docker run -e HF_TOKEN=$HF_TOKEN vllm/vllm-openai --model m/x --api-key $KEY",
        'services:\n  v:\n    image: vllm/vllm-openai\n    command: ["--model", "m/x", "--api-key", "sk-1"]\n'
        "    environment: {HF_TOKEN: hf_1}\n",
    ],
)
def test_secrets_are_in_nothing_that_is_kept(text: str) -> None:
    found = read_command(text, file="compose.yaml" if text.startswith("services") else "")
    kept = found.model_dump_json() + found.text
    assert found.model == "m/x" and found.secrets and not any(secret in kept for secret in SECRETS)


@pytest.mark.parametrize(
    ("text", "program", "environment"),
    [
        ("uv run --with vllm==0.11 vllm serve m/x", "uv run --with vllm==0.11 vllm serve", ()),
        (
            "apptainer exec --env VLLM_X=1,HF_TOKEN=hf_1 v.sif vllm serve m/x",
            "apptainer exec --env VLLM_X=1,HF_TOKEN v.sif vllm serve",
            (("VLLM_X", "1"),),
        ),
        ("env -u A VLLM_X=1 vllm serve m/x", "env -u A vllm serve", (("VLLM_X", "1"),)),
    ],
)
def test_options_of_a_program_in_front_keep_their_values(
    text: str, program: str, environment: tuple[tuple[str, str], ...]
) -> None:
    found = read_command(text)
    assert (" ".join(found.program), found.environment) == (program, environment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{SERVE} | grep INFO", "'|' is for a shell"),
        (f"{SERVE} | tee log | sh", "'|' is for a shell"),
        (f"{SERVE}; rm -rf /", "';' is for a shell"),
        (f"{SERVE} > log; id", "is for a shell"),
        (f"{SERVE} > $(id)", "a shell would have to run"),
        (f"{SERVE} && true", "'&&' is for a shell"),
        (f"{SERVE} & id", "'&' is for a shell"),
        ("vllm serve $(cat model)", "a shell would have to run"),
        ('vllm serve "$(cat model)"', "a shell would have to run"),
        ("vllm serve `cat model`", "a shell would have to run"),
        ("vllm serve $MODEL", "the model takes a variable"),
        (f"{SERVE} --max-n$A-seqs 3", "an argument takes a variable"),
        (f"{SERVE} --dtype ${{DTYPE}}", "--dtype takes a variable"),
        (f"{SERVE} --dtype 'half", "quotes are not balanced"),
        (f"{SERVE}\nrm -rf /", "more than one line"),
        (f"{SERVE}\x1b[2J", "control characters"),
        (f"{SERVE} --block-size", "--block-size lacks its value"),
        (f"{SERVE} other/model", "what is 'other/model'"),
        ("rm -rf /", "'rm' is no vLLM server"),
        ("bash -c 'vllm serve m/x; id'", "';' is for a shell"),
        ("python serve.py", "this Python program is no vLLM server"),
        ("docker exec -it v vllm serve m/x", "starts no server; give what stands behind the container's name"),
        ("vllm bench throughput", "`vllm bench` is no server"),
        ("docker ps", "`docker ps` starts no server"),
        ("docker compose up", "`docker compose` starts no server; give the compose file itself"),
        ("docker run nginx", "the image 'nginx' is not vLLM's, and what it starts is not given"),
        ("numactl -N 0 ls", "'numactl' starts no vLLM server here"),
        (
            f"{SERVE} --enable-prefix-caching true",
            "--enable-prefix-caching takes no value, and 'true' stands behind it",
        ),
        (f"{SERVE} \u2014enforce-eager", "begins with a long dash; a flag begins with two hyphens"),
        (f"{SERVE} '--dtype half'", "'--dtype …' is one word with blanks; flag and value are two words"),
        ("", "no command"),
        ("A=1", "no command"),
        ("vllm serve " + "x" * 70_000, "letters"),
    ],
)
def test_what_only_a_shell_could_run_and_other_programs_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_command(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_refusal_never_repeats_a_value() -> None:
    with pytest.raises(UsageError) as caught:
        read_command("vllm serve m/x --api-key sk-1 --dtype $SECRET_1")
    assert "sk-1" not in str(caught.value)


COMPOSE = """
x-common: &common {image: vllm/vllm-openai:v0.10}
services:
  db: {image: postgres}
  chat:
    <<: *common
    environment: [MODEL=m/x]
    command: --model ${MODEL} --max-num-seqs 64
  embed:
    <<: *common
    entrypoint: [vllm, serve]
    command: [m/y, --max-num-seqs, "8"]
"""
MANIFEST = """
apiVersion: v1
kind: Service
---
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
      - {name: proxy, image: nginx}
      - name: vllm
        image: vllm/vllm-openai:latest
        command: ["/bin/sh", "-c"]
        args: ["vllm serve m/x --max-num-seqs 64 --enable-prefix-caching"]
        env: [{name: HF_TOKEN, valueFrom: {secretKeyRef: {name: s, key: k}}}]
"""


def words(found: Command) -> tuple[str | None, list[str]]:
    return found.model, list(found.settings)


def test_the_named_service_of_a_compose_file_is_read() -> None:
    assert words(read_command(COMPOSE, file="c.yaml", service="chat")) == ("m/x", ["--max-num-seqs=64"])
    assert words(read_command(COMPOSE, file="c.yaml", service="embed")) == ("m/y", ["--max-num-seqs=8"])
    with pytest.raises(UsageError, match="starts vLLM in chat, embed; name one, such as c.yaml:chat"):
        read_command(COMPOSE, file="c.yaml")
    with pytest.raises(UsageError, match="no service 'db' that starts vLLM; there are chat, embed"):
        read_command(COMPOSE, file="c.yaml", service="db")


def test_a_manifest_of_kubernetes_is_read() -> None:
    found = read_command(MANIFEST, file="k.yaml")
    assert words(found) == ("m/x", ["--max-num-seqs=64", "--enable-prefix-caching"])


def test_arguments_of_an_image_that_starts_the_server_need_no_command() -> None:
    text = "kind: Pod\nspec: {containers: [{name: a, image: vllm/vllm-openai, args: [--model, m/x, -tp, '2']}]}"
    assert words(read_command(text, file="pod.yaml")) == ("m/x", ["--tensor-parallel-size=2"])


def test_a_configuration_file_of_vllm_is_read_as_vllm_reads_it() -> None:
    text = "model: m/x\nmax-num-seqs: 64\nenforce_eager: true\nport: 80\ncompilation-config: {mode: 3}\napi-key: sk-1\n"
    found = read_command(text, file="serve.yaml")
    assert words(found) == ("m/x", ["--max-num-seqs=64", "--enforce-eager", '--compilation-config={"mode": 3}'])
    assert list(found.server) == ["--port=80"] and found.secrets == ("--api-key",)


def test_the_configuration_file_that_a_command_names_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("max-num-seqs: 64\n")
    assert words(read_command(f"vllm serve m/x --config {path}")) == ("m/x", ["--max-num-seqs=64"])
    with pytest.raises(UsageError, match="cannot read --config"):
        read_command("vllm serve m/x --config none.yaml")


SCRIPT = """#!/bin/bash
set -euo pipefail
export HF_TOKEN=hf_1
export VLLM_USE_V1="1"
pip install -q x
exec vllm serve m/x \\
  --max-num-seqs 64 --api-key $KEY
"""
UNIT = """[Service]
Environment=HF_TOKEN=hf_1
Environment="VLLM_USE_V1=1"
ExecStart=/opt/vllm serve m/x --max-num-seqs 64 --api-key sk-1
Restart=always
"""


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("run.sh", SCRIPT),
        ("run.sh", SCRIPT.replace("\n", "\r\n")),
        ("vllm.service", UNIT),
        ("pod.yaml", "kind: Pod\nspec:\n  containers:\n  - name: v\n    command: [sh, -c]\n    args:\n    - |\n"
         + "\n".join(f"      {line}" for line in SCRIPT.splitlines())),
    ],
)  # fmt: skip
def test_the_one_line_of_a_script_that_starts_vllm_is_read(file: str, text: str) -> None:
    found = read_command(text, file=file)
    assert words(found) == ("m/x", ["--max-num-seqs=64"])
    assert found.secrets == ("HF_TOKEN", "--api-key") and found.environment == (("VLLM_USE_V1", "1"),)
    assert not any(secret in found.model_dump_json() for secret in SECRETS)


def test_a_block_of_arguments_in_a_compose_file_is_one_line_to_it() -> None:
    text = "services:\n  v:\n    image: vllm/vllm-openai\n    command: |\n      --model m/x\n      --max-num-seqs 64\n"
    assert words(read_command(text, file="c.yaml")) == ("m/x", ["--max-num-seqs=64"])


WITH_VARIABLES = """
services:
  v:
    image: ${IMAGE:-vllm/vllm-openai}:$TAG
    env_file: [own.env, {path: absent.env, required: false}]
    environment: {SIZE: "${SEQS}"}
    command: --model ${MODEL} --max-num-seqs ${SEQS-8} --max-model-len ${LENGTH:-4096} ${MORE:+--enforce-eager}
      --api-key $KEY
"""


def test_variables_of_a_compose_file_come_from_the_files_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    (tmp_path / ".env").write_text(
        "# of this machine\nexport MODEL='m/x'  # ours\nSEQS=64\nLENGTH=\nKEY=sk-1\nTAG=v1\n"
    )
    (tmp_path / "own.env").write_text("VLLM_USE_V1=1\nHF_TOKEN=hf_1\n")
    found = read_command(WITH_VARIABLES, file=str(file))
    assert words(found) == ("m/x", ["--max-num-seqs=64", "--max-model-len=4096"])
    assert found.environment == (("VLLM_USE_V1", "1"),) and set(found.secrets) == {"--api-key", "HF_TOKEN"}
    assert "sk-1" not in str(found) and "hf_1" not in str(found)
    (tmp_path / ".env").write_text("MODEL=m/x\nKEY=sk-1\n")
    assert words(read_command(WITH_VARIABLES, file=str(file)))[1][0] == "--max-num-seqs=8"
    (tmp_path / ".env").write_text("SEQS=64\n")
    with pytest.raises(UsageError, match="takes a variable that only a shell fills in"):
        read_command(WITH_VARIABLES, file=str(file))
    for text, message in (("A=1\nno words\n", "line 2 is not NAME=VALUE"), ("A='1\n", "line 1: the quotes are")):
        (tmp_path / ".env").write_text(text)
        with pytest.raises(UsageError, match=message):
            read_command(WITH_VARIABLES, file=str(file))


POD = "- metadata: {name: a}\n  spec: {containers: [{name: v, image: vllm/vllm-openai, args: [--model, m/a]}]}\n"
PODS = "kind: List\nitems:\n" + POD + POD.replace("name: a", "name: b").replace("m/a", "m/b")


def test_containers_of_one_name_are_told_apart_by_their_resource() -> None:
    assert words(read_command(PODS, file="p.yaml", service="b/v")) == ("m/b", [])
    with pytest.raises(UsageError, match="starts vLLM in a/v, b/v; name one, such as p.yaml:a/v"):
        read_command(PODS, file="p.yaml")


@pytest.mark.parametrize(
    ("file", "text", "here"),
    [
        ("d/c.yaml", "services: {v: {image: vllm/vllm-openai, command: --model /m/x, volumes: ['./w:/m:ro']}}",
         "./d/w/x"),
        ("c.yaml", "services: {v: {image: vllm/vllm-openai, command: --model /m/x, volumes: ['/w:/m', '/v:/m/x']}}",
         "/v"),
        ("c.yaml", "services: {v: {image: vllm/vllm-openai, command: --model /m/x, volumes: [{type: bind, source: /w, "
         "target: /m}]}}", "/w/x"),
        ("c.yaml", "services: {v: {image: vllm/vllm-openai, command: --model /m/x, volumes: ['models:/m']}}", None),
        ("c.yaml", "services: {v: {image: vllm/vllm-openai, command: --model /m/x, volumes: ['${W}/w:/m']}}", None),
        ("k.yaml", "spec: {volumes: [{name: w, hostPath: {path: /w}}], containers: [{name: v, image: vllm/vllm-openai, "
         "args: [--model, /m/x], volumeMounts: [{name: w, mountPath: /m, subPath: s}]}]}", "/w/s/x"),
        ("k.yaml", "spec: {volumes: [{name: w, persistentVolumeClaim: {claimName: c}}], containers: [{name: v, "
         "image: vllm/vllm-openai, args: [--model, /m/x], volumeMounts: [{name: w, mountPath: /m}]}]}", None),
        ("", "docker run -v /w:/m vllm/vllm-openai --model /m/x", "/w/x"),
        ("", "docker run --mount type=bind,src=/w,dst=/m vllm/vllm-openai --model /m/x", "/w/x"),
        ("", "docker run -v /w:/mm vllm/vllm-openai --model /m/x", None),
        ("", "docker run -v /w:/m vllm/vllm-openai --model m/x", None),
        ("", "vllm serve /m/x", None),
    ],
)  # fmt: skip
def test_a_models_folder_in_a_container_is_found_here_by_the_mounts(file: str, text: str, here: str | None) -> None:
    found = read_command(text, file=file)
    assert found.model_here == here and found.contained == ("vllm serve" not in text)
    assert found.served == (here or found.model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: Pod\nspec: {containers: [{name: v, image: vllm/vllm-openai, args: {a: b}}]}", "args of v is no list"),
        ("servingEngineSpec: {a: 1}", "'servingEngineSpec' is no argument of `vllm serve`; of a chart's values, give"),
        (
            "kind: Pod\nspec: {{ .Values.x }}",
            "is not YAML: line 2: .*; of a template, give what `helm template` makes of it",
        ),
        ("services: {v: {image: vllm/vllm-openai, command: '--model $M'}}", "f.yaml: --model takes a variable"),
        ("services: {db: {image: postgres}}", "no service or container of it starts vLLM"),
        ("a: 1\nb: [", "f.yaml is not YAML: line 2: expected the node content"),
        ("- 1\n- 2\n", "holds no command"),
        ("config: other.yaml\nmodel: m/x", "cannot name another one"),
    ],
)
def test_files_without_such_a_command_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_command(text, file="f.yaml")


def test_aliases_cannot_make_a_file_grow_without_end() -> None:
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))
    with pytest.raises(UsageError, match="starts vLLM"):
        read_command(f"kind: Pod\na0: &a0 [1]\n{levels}", file="bomb.yaml")


def test_the_whole_command_is_one_line_that_a_shell_reads_back() -> None:
    found = read_command("VLLM_USE_V1=1 vllm serve 'm x' --hf-overrides '{\"a\": \"b c\"}' --port 80")
    assert read_command(found.text) == found


def test_only_engines_with_a_server_read_commands() -> None:
    with pytest.raises(UsageError, match="is not started by a command"):
        of_engine("hf", SERVE)


REFUSED_BY_PARSER = {
    "--device=cuda": "has no argument --device=cuda: leave it out of the command",
    "--swap-space=16": "has no argument --swap-space=16: leave it out of the command, or name the interpreter of a",
    "--max-num-seqs=x": "--current: argument --max-num-seqs: invalid int value: 'x'",
    "--limit-mm-per-prompt=image=2": "Value image=2 cannot be converted to JSON.",
    "--compilation-config={bad": "Invalid JSON: key must be a string",
}


@pytest.mark.vllm
def test_what_the_installed_parser_refuses_of_a_command_is_one_line_for_its_user() -> None:
    script = (
        "import json, sys\n"
        "from infertune.engines.vllm.parser import RefusedError, given_in\n"
        "for word in sys.argv[1:]:\n"
        "    try:\n        given_in([word])\n"
        "    except RefusedError as error:\n        print(json.dumps([word, str(error)]))\n"
    )
    command = [sys.executable, "-c", script, *REFUSED_BY_PARSER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith('["--'))
    assert found.keys() == REFUSED_BY_PARSER.keys()
    for word, message in REFUSED_BY_PARSER.items():
        assert message in found[word] and found[word].startswith("--current: ") and "pydantic.dev" not in found[word]


@pytest.mark.parametrize(
    "given",
    ["--api-key=sk-1 hf_1", "api-key=sk-1", "'--api-key sk-1'", "--seed 1 api-key=sk-1"],
)
def test_no_message_repeats_a_secret(given: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_command(f"vllm serve m/x {given}")
    assert not any(secret in str(refused.value) for secret in SECRETS)


def test_a_switch_whose_name_says_credentials_is_no_secret() -> None:
    assert read_command("vllm serve m/x --allow-credentials").server == ("--allow-credentials",)


def test_a_value_of_json_may_go_over_several_lines() -> None:
    found = read_command('vllm serve m/x --hf-overrides \'{\n "max_position_embeddings": 512,\n\t"a": "b  c"\n}\'')
    assert found.settings == ('--hf-overrides={ "max_position_embeddings": 512, "a": "b  c" }',)
    with pytest.raises(UsageError, match="the value of --chat-template goes over several lines"):
        read_command("vllm serve m/x --chat-template '{% for m in messages %}\n{% endfor %}'")


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (
            "docker run --gpus all --entrypoint /bin/bash vllm/vllm-openai -c 'vllm serve m/x --seed 1'",
            "docker run --gpus all --entrypoint vllm vllm/vllm-openai serve",
        ),
        (
            "docker run --entrypoint python3 vllm/vllm-openai "
            "-m vllm.entrypoints.openai.api_server --model m/x --seed 1",
            "docker run --entrypoint python3 vllm/vllm-openai -m vllm.entrypoints.openai.api_server",
        ),
    ],
)
def test_an_entrypoint_is_what_the_export_starts(text: str, program: str) -> None:
    found = read_command(text)
    assert " ".join(found.program) == program and found.settings == ("--seed=1",)


_COMPOSE = """
services:
  llm:
    image: vllm/vllm-openai
    environment: {MODEL: m/x, HF_TOKEN: hf_secret}
    entrypoint: [sh, -c, 'vllm serve $$MODEL --max-num-seqs $${SEQS:-32}']
"""


@pytest.mark.parametrize(
    ("text", "file"),
    [
        (_COMPOSE, "compose.yaml"),
        ("docker run -e MODEL=m/x --entrypoint sh vllm/vllm-openai -c 'vllm serve $MODEL --max-num-seqs 32'", ""),
        ("env MODEL=m/x bash -c 'vllm serve \"$MODEL\" --max-num-seqs 32'", ""),
    ],
)
def test_a_shell_fills_in_the_variables_that_it_is_given(text: str, file: str) -> None:
    found = read_command(text, file=file)
    assert (found.model, found.settings) == ("m/x", ("--max-num-seqs=32",))
    with pytest.raises(UsageError, match="only a shell fills in") as refused:
        read_command(text.replace("MODEL=m/x", "HF_TOKEN=hf_secret").replace("$MODEL", "$HF_TOKEN"), file=file)
    assert "hf_secret" not in str(refused.value)


VALUE = "sEcReT-1234"
HUB_TOKEN = "hf_" + "aB3" * 11


@pytest.mark.parametrize(
    "text",
    [
        f"vllm serve m/x --tokenizer https://u:{VALUE}@h/t",
        f"vllm serve m/x --download-dir http://u:{VALUE}@h/x",
        f'vllm serve m/x --kv-transfer-config \'{{"url": "redis://:{VALUE}@h"}}\'',
        f'vllm serve m/x --hf-overrides \'{{"a": "Bearer {VALUE}"}}\'',
        f'vllm serve m/x --hf-overrides \'{{"headers": {{"A": "Basic {VALUE.replace("-", "")}"}}}}\'',
        f"vllm serve m/x --otlp-traces-endpoint 'https://h/x?a=1&api-key={VALUE}&b=2'",
        f'vllm serve m/x --model-loader-extra-config \'{{"aws_access_key_id": "{VALUE}"}}\'',
        f'vllm serve m/x --override-generation-config \'{{"api_key": "{VALUE}"\'',
        f"vllm serve m/x --api-key: {VALUE}",
        f"vllm serve m/x --api\u2014key {VALUE}",
        f"VLLM_API_KEY_1={VALUE} vllm serve m/x",
        f"VLLM_S3_ACCESS_KEY_ID={VALUE} vllm serve m/x",
        f"VLLM_ARGS='--port 1 --api-key {VALUE}' vllm serve m/x",
        f"docker run -e OPENAI_API_KEY_PROD={VALUE} -e MY_AUTH_HEADER={VALUE} vllm/vllm-openai --model m/x",
        f"docker run -e ARGS='--api-key {VALUE}' vllm/vllm-openai --model m/x",
        f"srun --export=ALL,KEY_2={VALUE} vllm serve m/x",
        f"HF_TOKEN={VALUE} docker run -e MINE={VALUE} vllm/vllm-openai --model m/x",
        f"vllm serve m/x --revision {HUB_TOKEN}",
        f'export HF_TOKEN={VALUE}\nexport VLLM_ARGS="--api-key $HF_TOKEN"\nvllm serve m/x $VLLM_ARGS\n',
        f"KEY={VALUE}\nvllm serve m/x --download-dir /x/$KEY\n",
    ],
)
def test_a_secret_is_kept_in_no_other_place_either(text: str) -> None:
    found = read_command(text, file="run.sh" if text.endswith("\n") else "")
    kept = found.model_dump_json() + found.text
    assert found.model == "m/x" and found.secrets
    assert not any(secret in kept for secret in (VALUE, VALUE.replace("-", ""), HUB_TOKEN))


def test_a_token_is_in_no_message() -> None:
    with pytest.raises(UsageError, match="what is ''") as error:
        read_command(f"vllm serve m/x {HUB_TOKEN}")
    assert HUB_TOKEN not in str(error.value)


def test_the_file_of_a_key_is_kept() -> None:
    found = read_command("SSL_KEY=/etc/ssl/k.pem\nvllm serve m/x --ssl-keyfile $SSL_KEY\n", file="run.sh")
    assert found.server == ("--ssl-keyfile=/etc/ssl/k.pem",) and found.secrets == ()


class _Takes:
    """An engine that takes any argument."""

    def understand(self, asked: Asked, *found: object) -> str:
        return "understood"


@pytest.mark.parametrize("asked", [Asked(held={"hf_token": VALUE}), Asked(searched={"a.api-key": (VALUE,)})])
def test_a_secret_is_refused_as_a_setting_without_its_value(asked: Asked) -> None:
    with pytest.raises(UsageError, match="a secret would be written into the run's files; .*HF_TOKEN=") as error:
        understood(_Takes(), asked, None, None, None)  # type: ignore[arg-type]
    assert VALUE not in str(error.value)
    use_login = Asked(held={"hf_token": True})
    assert understood(_Takes(), use_login, None, None, None) == "understood"  # type: ignore[arg-type, comparison-overlap]


def test_a_secret_by_its_name_that_holds_the_model_is_told_not_emptied() -> None:
    with pytest.raises(UsageError, match="MODEL_KEY holds the model's name, and is a secret by its own"):
        read_command("MODEL_KEY=meta-llama/Llama-3.1-8B\nvllm serve $MODEL_KEY", file="run.sh")


def test_names_that_sound_like_secrets_and_are_none_are_kept() -> None:
    text = "VLLM_USE_V1=1 vllm serve hf-internal-testing/tiny --max-num-batched-tokens 512 --skip-tokenizer-init"
    found = read_command(
        f"{text} --ssl-keyfile /k.pem --enable-prompt-tokens-details --tokenizer /models/sk-8b_instruct"
    )
    assert found.secrets == () and found.model == "hf-internal-testing/tiny" and "--ssl-keyfile=/k.pem" in found.server
    assert "--tokenizer=/models/sk-8b_instruct" in found.settings
