"""The user's own command with tuned settings, and what of a stranger's command is written out."""

import shlex

import pytest

from infertune.domain.command import Command
from infertune.domain.knobs import Config, Scalar
from infertune.engines.vllm.command import read_command
from infertune.engines.vllm.rewriting import checked, rewritten
from infertune.errors import UsageError

COMMAND = read_command("vllm serve m/x --max-num-seqs 256 --port 80 --chat-template 'a b.jinja' --enforce-eager")
CURRENT: dict[str, Scalar] = {
    "max_num_seqs": 256, "max_num_batched_tokens": 2048, "enforce_eager": True, "dtype": "bfloat16",
}  # fmt: skip


def tuned(**changes: Scalar) -> tuple[str, tuple[str, ...]]:
    found = rewritten(COMMAND, Config(CURRENT), Config({**CURRENT, **changes}), {})
    return found.text, found.changes


def test_a_command_that_is_best_as_it_is_stays_as_it_is() -> None:
    assert tuned() == (COMMAND.text, ())


def test_a_flag_is_changed_where_it_stands_and_a_missing_one_is_added() -> None:
    text, changes = tuned(max_num_seqs=64, dtype="float32")
    assert changes == ("--max-num-seqs 256 → 64", "add --dtype float32", "add --max-num-batched-tokens 2048")
    assert text.startswith("vllm serve m/x --max-num-seqs=64 --enforce-eager --dtype=float32")
    assert text.endswith("--port=80 '--chat-template=a b.jinja'")


def test_a_switch_is_turned_off_by_its_own_flag() -> None:
    text, changes = tuned(enforce_eager=False)
    assert changes[0] == "--enforce-eager → --no-enforce-eager" and "--no-enforce-eager" in shlex.split(text)


def test_a_setting_that_is_left_to_the_engine_is_taken_out() -> None:
    text, changes = tuned(max_num_seqs=None)
    assert changes[0] == "leave out --max-num-seqs 256" and "max-num-seqs" not in text


def test_values_with_letters_of_a_shell_are_quoted() -> None:
    found = rewritten(COMMAND, Config(CURRENT), Config(CURRENT), {"speculative_config": '{"a":"; rm -rf $HOME"}'})
    assert '--speculative-config={"a":"; rm -rf $HOME"}' in shlex.split(found.text)
    assert any(word.startswith("--speculative-config=") for word in read_command(found.text).settings)


def test_a_rewritten_command_is_read_again_as_the_tuned_one() -> None:
    text, _ = tuned(max_num_seqs=64)
    again = read_command(text)
    assert (again.model, again.server) == (COMMAND.model, COMMAND.server)
    assert "--max-num-seqs=64" in again.settings


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve m/x --trust-remote-code",
        "vllm serve m/x --middleware evil.Middleware",
        "vllm serve m/x --tool-parser-plugin evil.py",
        "vllm serve m/x --worker-cls evil.Worker",
        'vllm serve m/x --hf-overrides \'{"auto_map": {"a": "b"}}\'',
        'vllm serve m/x --compilation-config \'{"backend": "evil"}\'',
        "vllm serve m/x --logits-processors evil:A evil:B",
        "vllm serve m/x --otlp-traces-endpoint http://10.0.0.1",
        "vllm serve m/x --a-flag-of-next-year text",
    ],
)
def test_a_strangers_command_that_can_load_code_is_written_out_only_with_the_users_word(text: str) -> None:
    command = read_command(text)
    with pytest.raises(UsageError, match="say so yourself with --set"):
        checked(command, ())
    names = [word.partition("=")[0].lstrip("-").replace("-", "_") for word in (*command.settings, *command.server)]
    assert checked(command, names) == command


def test_a_plain_command_and_a_container_of_vllms_own_are_written_out_whole() -> None:
    for text in (
        COMMAND.text,
        "python -m vllm.entrypoints.openai.api_server --model m/x --max-num-seqs 4",
        "sudo docker run --rm vllm/vllm-openai:v0.10.0 --model m/x",
        "numactl --cpunodebind=0 -m 0 vllm serve m/x",
        "uv run vllm serve m/x",
        "docker run --gpus all -v /cache:/root/.cache -p 80:80 --ipc=host vllm/vllm-openai:v0.10.0 --model m/x",
        "vllm serve m/x --cudagraph-capture-sizes 1 2 4",
    ):
        assert checked(read_command(text), ()).text == read_command(text).text


@pytest.mark.parametrize(
    "program",
    [
        ("rm", "-rf", "/"),
        ("vllm", "serve", "&&"),
        ("docker", "run", "--privileged", "vllm/vllm-openai"),
        ("docker", "run", "evil/vllm"),
        ("numactl", "-N", "0", "sh", "-c", "id"),
        ("numactl", "--cpunodebind=0;id", "vllm", "serve"),
        ("uv", "run", "--with", "evil", "vllm", "serve"),
        ("uvx", "evil@1", "vllm", "serve"),
        ("docker", "run", "vllm/vllm-openai", "sh", "-c", "id"),
        ("python", "-c", "evil"),
        (),
    ],
)
def test_any_other_program_of_a_strangers_profile_becomes_vllm_serve(program: tuple[str, ...]) -> None:
    command = Command(program=program, model="m/x", settings=("--max-num-seqs=4",), environment=(("LD_PRELOAD", "x"),))
    assert checked(command, ()).text == "vllm serve m/x --max-num-seqs=4"


def test_words_with_control_characters_are_no_command() -> None:
    with pytest.raises(ValueError, match="control characters"):
        Command(program=("vllm", "serve"), model="m/x\x1b[2J")
