"""A `llama-server` command of today: taken apart, understood by the installed server, and written again."""

import shlex
from pathlib import Path

import pytest

from infertune.domain.command import Command
from infertune.domain.device import Device
from infertune.domain.knobs import Config
from infertune.domain.models import resolve_model
from infertune.domain.workload import parse_workload
from infertune.engines import command_changes, export_served, read_command
from infertune.engines.asking import Asked
from infertune.engines.base import Served
from infertune.engines.llamacpp.engine import LlamaCppEngine
from infertune.errors import UsageError
from infertune.runs.asked import resting_at_current

CPU = Device(kind="cpu", name="Some CPU", memory_bytes=16 * 1024**3, cores=4)
TINY = resolve_model("builtin:tiny")
WORKLOAD = parse_workload("synthetic:in=16,out=8")
TODAY = (
    "CUDA_VISIBLE_DEVICES=0 HF_TOKEN=hf_1 numactl --cpunodebind=0 /opt/llama.cpp/llama-server -m /models/a.gguf "
    "--host 0.0.0.0 --port 8080 -c 4096 -np 8 -t 4 -fa on -ctk q8_0 --no-kv-unified --api-key sk-1 --temp 0.7 "
    "--poll 0 --metrics -a chat"
)


def read(text: str = TODAY, file: str = "") -> Command:
    return read_command("llamacpp", text, file=file)


def test_a_command_is_taken_apart_and_its_secrets_are_left_out() -> None:
    found = read()
    assert found.model == "/models/a.gguf"
    assert found.program == ("numactl", "--cpunodebind=0", "/opt/llama.cpp/llama-server")
    assert shlex.join(found.settings) == (
        "--ctx-size 4096 --parallel 8 --threads 4 --flash-attn on --cache-type-k q8_0 --no-kv-unified --poll 0"
    )
    assert shlex.join(found.server) == "--host 0.0.0.0 --port 8080 --temp 0.7 --metrics -a chat"
    assert found.environment == (("CUDA_VISIBLE_DEVICES", "0"),) and found.secrets == ("HF_TOKEN", "--api-key")
    assert "sk-1" not in str(found) and "hf_1" not in str(found)


def test_secrets_of_a_program_in_front_are_left_out_too() -> None:
    found = read(
        "env HF_TOKEN=hf_1 uv run --index-url https://u:sk-1@h/ --index-password pass-1 llama-server -m a.gguf"
    )
    assert found.program == ("env", "uv", "run", "--index-url", "https://h/", "llama-server")
    assert found.secrets == ("HF_TOKEN", "--index-password", "the credentials of an address")
    assert not any(secret in found.model_dump_json() for secret in ("hf_1", "sk-1", "pass-1"))


def test_secrets_of_a_value_and_of_a_misspelled_flag_are_left_out_and_in_no_message() -> None:
    found = read('llama-server -m a.gguf --webui-config \'{"apiKey": "sk-1", "a": 1}\'')
    assert found.server == ("--webui-config", '{"a": 1}') and found.secrets == ("apiKey in --webui-config",)
    with pytest.raises(UsageError, match="'--api-key=…': llama-server takes a flag and its value as two words"):
        read("llama-server -m a.gguf --api-key=sk-1")


@pytest.mark.parametrize("given", ["-hft hf_1", "--hf-token hf_1", "--api-key $KEY"])
def test_a_secret_is_left_out_however_it_is_spelled(given: str) -> None:
    found = read(f"llama-server -m a.gguf {given} -np 2")
    assert found.secrets == (given.split()[0],) and found.settings == ("--parallel", "2")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("run.sh", "#!/bin/sh\nexport LLAMA_CACHE=/c\nexec llama-server -m a.gguf \\\n  -np 8 -fa\n"),
        ("l.service", "[Service]\nEnvironment=LLAMA_CACHE=/c\nExecStart=/usr/bin/llama-server -m a.gguf -np 8 -fa\n"),
    ],
)  # fmt: skip
def test_a_script_or_a_unit_may_hold_it(file: str, text: str) -> None:
    found = read(text, file)
    assert found.model == "a.gguf" and found.settings == ("--parallel", "8", "--flash-attn", "on")
    assert found.environment == (("LLAMA_CACHE", "/c"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vllm serve m/x", "'vllm' is no llama-server; give a `llama-server …` command"),
        ("", "no command"),
        ("llama-server -m", "-m lacks its value"),
        ("llama-server -hf ggml-org/x", "names a model that is fetched; give its file with --model FILE"),
        ("llama-server --parallel=8", "takes a flag and its value as two words"),
        ("llama-server -m $MODEL", "-m takes a variable that only a shell fills in"),
        ("llama-server -m a.gguf | sort", "'|' is for a shell"),
    ],
)
def test_what_is_no_such_command_is_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(text)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_compose_file_is_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match=r"--current c.yaml: give a `llama-server …` command"):
        read("services: {}", "c.yaml")


def test_it_becomes_the_setting_to_beat(engine: LlamaCppEngine) -> None:
    found = engine.understand(Asked(command=read(), source="--current"), TINY, CPU, WORKLOAD)
    space, stock, _ = resting_at_current(found.space, found)
    today = space.default
    assert (today["parallel"], today["ctx_size"], today["threads"]) == (8, 4096, 4)
    assert (today["flash_attn"], today["cache_type_k"], today["kv_unified"]) == ("on", "q8_0", False)
    assert found.held.root == {"poll": 0} and found.for_all.root == {"poll": 0}, "what is not tuned is held"
    assert stock["parallel"] == 4 and stock["cache_type_k"] == "f16"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--such-thing 3", "unknown argument of llama-server '--such-thing'"),
        ("--lora /tmp/x.gguf", "--current sets lora=/tmp/x.gguf, which can load code or reach files"),
        ("-t many", "threads=many is not a number"),
        ("-np 8 stray", "what is 'stray'?"),
    ],
)
def test_what_the_installed_server_does_not_take_is_one_line(engine: LlamaCppEngine, words: str, said: str) -> None:
    asked = Asked(command=read(f"llama-server -m a.gguf {words}"), source="--current")
    with pytest.raises(UsageError) as refused:
        engine.understand(asked, TINY, CPU, WORKLOAD)
    assert said in str(refused.value)


def with_variables(engine: LlamaCppEngine, variables: str, words: str = "", **where: str) -> str:
    found = engine.read_command(f"{variables}llama-server -m a.gguf {words}", **where)
    assert not found.environment and found.model == "a.gguf"
    return shlex.join((*found.settings, *found.server))


@pytest.mark.parametrize(
    ("variables", "words", "said"),
    [
        ("LLAMA_ARG_N_PARALLEL=4 ", "", "--parallel 4"),
        ("env LLAMA_ARG_N_PARALLEL=4 ", "", "--parallel 4"),
        ("LLAMA_ARG_N_PARALLEL=4 LLAMA_ARG_CTX_SIZE=8192 ", "--poll 0", "--parallel 4 --ctx-size 8192 --poll 0"),
        ("LLAMA_ARG_N_PARALLEL=4 ", "-np 8", "--parallel 8"),
        ("LLAMA_ARG_KV_UNIFIED=0 ", "", "--no-kv-unified"),
        ("LLAMA_ARG_KV_UNIFIED=0 ", "--kv-unified", "--kv-unified"),
        ("LLAMA_ARG_KV_UNIFIED=on ", "--no-kv-unified", "--no-kv-unified"),
        ("LLAMA_ARG_NO_KV_OFFLOAD=anything ", "", "--no-kv-offload"),
        ("LLAMA_ARG_NO_HOST=1 ", "", "--no-host"),
        ("LLAMA_ARG_SWA_FULL=false ", "", ""),
        ("LLAMA_ARG_FLASH_ATTN=1 ", "", "--flash-attn on"),
        ("LLAMA_ARG_FLASH_ATTN=false ", "", "--flash-attn off"),
        ("LLAMA_ARG_FLASH_ATTN=auto ", "", "--flash-attn auto"),
        ("LLAMA_ARG_MODEL=b.gguf LLAMA_ARG_PORT=1 ", "", "--port 1"),
    ],
)
def test_a_variable_is_the_argument_that_the_servers_help_names(
    engine: LlamaCppEngine, variables: str, words: str, said: str
) -> None:
    assert with_variables(engine, variables, words) == said


@pytest.mark.parametrize(
    ("file", "before"),
    [
        ("l.service", "[Service]\nEnvironment=LLAMA_ARG_N_PARALLEL=4\nExecStart="),
        ("run.sh", "#!/bin/sh\nexport LLAMA_ARG_N_PARALLEL=4\n"),
        ("run.sh", "#!/bin/sh\nLLAMA_ARG_N_PARALLEL=4\nexport LLAMA_ARG_N_PARALLEL\n"),
    ],
)
def test_variables_of_a_script_or_a_unit_are_arguments_too(engine: LlamaCppEngine, file: str, before: str) -> None:
    assert with_variables(engine, before, file=file) == "--parallel 4"


def test_variables_name_the_model_and_are_the_setting_to_beat(engine: LlamaCppEngine) -> None:
    command = engine.read_command("LLAMA_ARG_MODEL=b.gguf LLAMA_ARG_N_PARALLEL=8 llama-server")
    assert command.model == "b.gguf"
    found = engine.understand(Asked(command=command, source="--current"), TINY, CPU, WORKLOAD)
    assert found.current and found.current.root == {"parallel": 8}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "LLAMA_ARG_SUCH=1 llama-server",
            "the installed llama-server has no variable LLAMA_ARG_SUCH; give it as a flag",
        ),
        ("LLAMA_ARG_KV_UNIFIED=maybe llama-server", "LLAMA_ARG_KV_UNIFIED takes on or off; give it as a flag"),
        ("LLAMA_ARG_HF_REPO=o/m llama-server", "names a model that is fetched"),
        ("LLAMA_ARG_CTX_SIZE=$C llama-server", "LLAMA_ARG_CTX_SIZE takes a variable that only a shell fills in"),
    ],
)
def test_a_variable_that_is_no_such_argument_is_one_line(engine: LlamaCppEngine, text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        engine.read_command(text)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_variable_that_a_branch_exports_is_refused_where_it_is_an_argument(engine: LlamaCppEngine) -> None:
    text = "#!/bin/sh\nif true; then\nexport LLAMA_CACHE=/c LLAMA_ARG_N_PARALLEL=4\nfi\nllama-server -m a.gguf\n"
    with pytest.raises(UsageError, match=r"\$LLAMA_ARG_N_PARALLEL is set in a branch; write its value in the command"):
        engine.read_command(text, file="run.sh")


def test_without_a_server_a_variable_is_to_be_given_as_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infertune.engines.llamacpp.variables.find_binary", lambda options: None)
    with pytest.raises(
        UsageError, match="no llama-server here says which argument LLAMA_ARG_N_PARALLEL is; give it as"
    ):
        read("LLAMA_ARG_N_PARALLEL=4 llama-server -m a.gguf")


CURRENT = {"parallel": 8, "ctx_size": 4096, "kv_unified": False, "threads": 4, "flash_attn": "on", "mlock": False}
TUNED = {**CURRENT, "parallel": 16, "ctx_size": 8192, "threads": 2, "mlock": True}
HELD = {"poll": 0, "cache_type_k": "q8_0"}


def test_the_end_says_what_to_change_in_that_command() -> None:
    changes = command_changes("llamacpp", read(), Config(CURRENT), Config(TUNED), Config(HELD))
    assert changes == ("--parallel 8 → 16", "--ctx-size 4096 → 8192", "--threads 4 → 2", "add --mlock")
    back = command_changes("llamacpp", read(), Config(CURRENT), Config({**CURRENT, "kv_unified": True}), Config({}))
    assert back == ("--no-kv-unified → --kv-unified",)
    assert command_changes("llamacpp", read(), Config(CURRENT), Config(CURRENT), Config({})) == ()


def exported(text: str = TODAY, *, allowed: frozenset[str] = frozenset()) -> str:
    served = Served(
        model=TINY.model_copy(update={"spec": "/models/a.gguf", "path": "/models/a.gguf", "weights": "real"}),
        device=CPU, engine_version="b11434", config=Config(TUNED), changed=Config({"threads": 2}), held=Config(HELD),
        current=Config(CURRENT), running=read(text), allowed=allowed,
    )  # fmt: skip
    return export_served("llamacpp", served, "llama-args")


def test_the_export_is_that_command_again_with_the_tuned_settings() -> None:
    text = exported()
    assert "`llama-server` stands in the place of: numactl --cpunodebind=0 /opt/llama.cpp/llama-server" in text
    assert "add them again: HF_TOKEN, --api-key" in text
    assert text.splitlines()[-1] == (
        "CUDA_VISIBLE_DEVICES=0 llama-server --model /models/a.gguf --ctx-size 8192 --parallel 16 --threads 2 "
        "--flash-attn on --cache-type-k q8_0 --no-kv-unified --poll 0 --mlock --host 0.0.0.0 --port 8080 --temp 0.7 "
        "--metrics -a chat"
    )


@pytest.mark.parametrize("words", ["--lora /tmp/x.gguf", "--path /etc", "--chat-template-file /x", "--rpc 10.0.0.1:1"])
def test_a_strangers_command_is_not_written_out_where_it_reaches_further(words: str) -> None:
    text = f"llama-server -m a.gguf -np 8 {words}"
    name = words.split()[0].lstrip("-").replace("-", "_")
    with pytest.raises(UsageError, match=f"say so yourself with --set {name}="):
        exported(text)
    assert words in exported(text, allowed=frozenset({name}))


def test_a_profile_keeps_the_command_and_reads_it_again(tmp_path: Path) -> None:
    command = read()
    assert Command.model_validate_json(command.model_dump_json()) == command
