"""What is learned of a server before it is started: its version, its arguments, and that it refuses a value."""

import os
from pathlib import Path

import pytest

from infertune.engines.base import EngineOptions
from infertune.engines.llamacpp import binary as binaries
from infertune.engines.llamacpp.asked import policy_of
from infertune.engines.llamacpp.binary import find_binary, gpus_of, version_of
from infertune.engines.llamacpp.engine import LlamaCppEngine
from infertune.engines.llamacpp.flags import flags_of, parse_help
from infertune.engines.llamacpp.space import _EXACT, _NUMERIC, CURATED
from infertune.engines.serving.arguments import flag_for, words_of
from infertune.errors import UsageError
from tests.engines.llamacpp.program import HELP

FLAGS = parse_help(HELP.read_text())


@pytest.mark.parametrize(
    ("name", "kind", "on", "off", "words"),
    [
        ("threads", "value", "--threads", "", ()),
        ("kv_unified", "pair", "--kv-unified", "--no-kv-unified", ()),
        ("kv_offload", "pair", "--kv-offload", "--no-kv-offload", ()),
        ("repack", "pair", "--repack", "--no-repack", ()),
        ("no_host", "switch", "--no-host", "", ()),
        ("swa_full", "switch", "--swa-full", "", ()),
        ("flash_attn", "value", "--flash-attn", "", ("on", "off", "auto")),
        ("split_mode", "value", "--split-mode", "", ("none", "layer", "row", "tensor")),
        ("cpu_strict", "value", "--cpu-strict", "", ("0", "1")),
        ("poll", "value", "--poll", "", ()),
        ("load_mode", "value", "--load-mode", "", ("auto", "none", "mmap", "mlock", "mmap+mlock", "dio")),
    ],
)
def test_each_kind_of_argument_is_read_from_the_help(
    name: str, kind: str, on: str, off: str, words: tuple[str, ...]
) -> None:
    flag = FLAGS[name]
    assert (flag.kind, flag.on, flag.off, flag.words) == (kind, on, off, words)


def test_every_argument_that_is_known_here_is_in_the_help_of_the_version_it_was_written_for() -> None:
    older = {"mlock", "mmap", "direct_io"}
    assert (_EXACT | _NUMERIC | set(CURATED)) - older <= FLAGS.keys()
    assert "q4_0" in FLAGS["cache_type_k"].words and FLAGS["cache_type_k"].default == "f16"
    assert FLAGS["batch_size"].default == "2048" and FLAGS["ubatch_size"].default == "512"


@pytest.mark.parametrize("spelled", ["-np", "np", "--parallel", "parallel"])
def test_an_argument_may_be_spelled_in_any_of_its_ways(spelled: str) -> None:
    assert flag_for(FLAGS, spelled, "llama-server").name == "parallel"


def test_an_unknown_argument_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown argument of llama-server 'paralel'; did you mean parallel"):
        flag_for(FLAGS, "paralel", "llama-server")


def test_arguments_become_words_of_a_command() -> None:
    assert words_of(FLAGS["kv_unified"], False) == ["--no-kv-unified"]
    assert words_of(FLAGS["swa_full"], False) == words_of(FLAGS["threads"], None) == []
    assert words_of(FLAGS["threads"], 4) == ["--threads", "4"]
    with pytest.raises(UsageError, match="it is a switch"):
        words_of(FLAGS["swa_full"], 3)


def test_the_server_itself_refuses_a_value_and_is_not_started_for_it(binary: Path) -> None:
    check = policy_of(binary).check
    check(FLAGS["poll"], 0)
    with pytest.raises(UsageError, match='poll=fast: error while handling argument "--poll": stoi'):
        check(FLAGS["poll"], "fast")
    with pytest.raises(UsageError, match="split_mode=sideways is not one of none, layer"):
        check(FLAGS["split_mode"], "sideways")


def test_the_version_is_llama_cpps_name_of_the_build(binary: Path, engine: LlamaCppEngine) -> None:
    assert engine.available().version == version_of(binary) == "b11434-1a2b3c4"
    assert len(flags_of(binary)) > 200


def test_a_build_without_a_number_is_told_by_its_content(binary: Path) -> None:
    binary.write_text("#!/bin/sh\necho 'version: 0.6.0-dev (build 0, commit unknown)'\n")
    first = version_of(binary)
    (binary.parent / "libllama.so.0.0.1").write_text("another library")
    assert first.startswith("build-") and version_of(binary) != first


@pytest.mark.parametrize(
    ("script", "said"), [("exit 3", "does not say its version"), ("echo hello", "does not say its version: hello")]
)
def test_a_program_that_is_no_llama_server_is_one_line(binary: Path, script: str, said: str) -> None:
    binary.write_text(f"#!/bin/sh\n{script}\n")
    found = LlamaCppEngine(EngineOptions(binary=binary)).available()
    assert found.version is None and said in found.reason and "\n" not in found.reason
    with pytest.raises(UsageError, match="--help lists no arguments"):
        flags_of(binary)


def test_a_program_that_cannot_be_started_is_one_line(binary: Path) -> None:
    binary.write_bytes(b"\x7fELF no program")
    assert "cannot start" in LlamaCppEngine(EngineOptions(binary=binary)).available().reason


def test_a_server_is_looked_for_on_path_and_then_in_the_package(
    binary: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(binary.parent), prepend=os.pathsep)
    assert find_binary(EngineOptions()) == binary
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_package_folder", lambda python: tmp_path)
    assert find_binary(EngineOptions()) == binary
    monkeypatch.setattr(binaries, "_package_folder", lambda python: None)
    reason = LlamaCppEngine(EngineOptions()).available().reason
    assert "--engine-binary PATH" in reason and "infertune[llamacpp]" in reason


def test_the_devices_of_a_build_are_read_from_its_list(binary: Path) -> None:
    assert gpus_of(binary) == []
    listed = "ggml_cuda_init: found 1\nAvailable devices:\n  CUDA0: NVIDIA H100 (81079 MiB, 80000 MiB free)"
    binary.write_text(f"#!/bin/sh\nprintf '%s\\n' '{listed}'\n")
    assert gpus_of(binary) == ["CUDA0: NVIDIA H100 (81079 MiB, 80000 MiB free)"]


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("version: 0.6.0-dev (build 11434, commit 1a2b3c4)", "b11434-1a2b3c4"),
        ("version: 0.6.0 (build 11434, commit unknown)", "b11434"),
        ("version: 6548 (a14bd350)", "b6548-a14bd350"),
    ],
)
def test_the_version_is_read_in_the_spelling_of_each_time(binary: Path, said: str, version: str) -> None:
    binary.write_text(f"#!/bin/sh\necho '{said}'\n")
    assert version_of(binary) == version
