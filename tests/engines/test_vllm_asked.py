"""Arguments of vLLM that somebody asks for: knobs made of them, and which of them only the user himself may set."""

import re

import pytest

from infertune.domain.command import Command
from infertune.domain.knobs import Config, Scalar
from infertune.engines.asking import Asked, Understood
from infertune.engines.vllm.asked import effect_of, needs_parser, understand
from infertune.engines.vllm.opening import opens
from infertune.engines.vllm.parser import Argument
from infertune.engines.vllm.space import space_from_probe
from infertune.errors import UsageError
from tests.engines.test_vllm import CPU, TINY, probe

SPACE = space_from_probe(probe(), TINY, CPU)


def asked_for(asked: Asked, *arguments: Argument, command: dict[str, Scalar] | None = None) -> Understood:
    return understand(asked, SPACE, arguments, command, Config({"max_num_seqs": 16, "max_num_batched_tokens": 2048}))


def argument(name: str, *values: Scalar, default: Scalar = None) -> Argument:
    return Argument(asked=name, name=name, values=values, default=default)


def test_a_value_beyond_the_ladder_joins_it() -> None:
    found = asked_for(Asked(held={"max_num_seqs": 2048}), argument("max_num_seqs", 2048))
    assert found.space["max_num_seqs"].values[-1] == 2048 and found.held["max_num_seqs"] == 2048


def test_an_argument_without_a_knob_becomes_one_that_is_launched_with_and_counts_as_lossy() -> None:
    found = asked_for(Asked(held={"some_switch": True}), argument("some_switch", True, default=False))
    knob = found.space["some_switch"]
    assert (knob.default, knob.values, knob.scope, knob.effect) == (False, (False, True), "launch", "lossy")


def test_an_argument_whose_effect_is_known_says_so() -> None:
    assert effect_of("max_model_len") == effect_of("seed") == "exact"
    assert effect_of("compilation_config.mode") == effect_of("pipeline_parallel_size") == "numeric"
    assert effect_of("kv_cache_dtype") == effect_of("hf_overrides") == "lossy"


def test_numbers_that_are_searched_are_a_ladder_even_where_the_default_is_vllms_choice() -> None:
    asked = Asked(searched={"num_gpu_blocks_override": (200, 100)})
    found = asked_for(asked, argument("num_gpu_blocks_override", 200, 100))
    knob = found.space["num_gpu_blocks_override"].restricted(found.searched["num_gpu_blocks_override"])
    assert (knob.kind, knob.values, knob.default) == ("int", (100, 200), 100)


@pytest.mark.parametrize("value", [0, -1, True, 1.5])
def test_a_value_that_no_knob_of_the_kind_takes_is_refused(value: Scalar) -> None:
    with pytest.raises(UsageError, match=r"max_num_seqs=.* (is out of range|is no whole number)"):
        asked_for(Asked(held={"max_num_seqs": value}), argument("max_num_seqs", value))


def test_one_argument_in_two_spellings_is_refused() -> None:
    pair = (argument("max_num_seqs", 4), Argument(asked="max-num-seqs", name="max_num_seqs", values=(8,)))
    with pytest.raises(UsageError, match="given twice"):
        asked_for(Asked(held={"max_num_seqs": 4, "max-num-seqs": 8}), *pair)


def test_the_parser_is_not_asked_for_what_stands_on_a_ladder() -> None:
    assert not needs_parser(Asked(held={"max-num-seqs": 64}, searched={"enforce_eager": (True, False)}), "cpu")
    assert needs_parser(Asked(held={"max_num_seqs": 2048}), "cpu")
    assert needs_parser(Asked(held={"enforce_eager": 1}), "cpu")
    assert needs_parser(Asked(command=Command()), "cpu")


OPENING: list[tuple[str, Scalar]] = [
    ("trust_remote_code", True),
    ("worker_cls", "evil.Worker"),
    ("scheduler_cls", "evil.Scheduler"),
    ("worker_extension_cls", "evil.Worker"),
    ("download_dir", "/tmp/x"),
    ("tokenizer", "evil/tokenizer"),
    ("hf_overrides", '{"auto_map":1}'),
    ("hf_overrides.architectures", '["Evil"]'),
    ("logits_processors", '["evil:Processor"]'),
    ("io_processor_plugin", "evil"),
    ("reasoning_parser_plugin", "evil.py"),
    ("load_format", "tensorizer"),
    ("distributed_executor_backend", "ray"),
    ("speculative_config", '{"method":"draft_model","model":"evil/model"}'),
    ("speculative_config", "evil"),
    ("compilation_config.backend", "evil.backend"),
    ("compilation_config.cudagraph_mode", "evil()"),
    ("attention_backend", "../evil"),
    ("data_parallel_address", "10.0.0.1"),
    ("master_port", 80),
    ("quantization", "evil/plug in"),
    ("an_argument_of_next_year", "text"),
    ("hf_overrides.auto_map.AutoConfig", "evil.Config"),
    ("hf_overrides.architectures", '["Evil"]'),
    ("mm_processor_kwargs.trust_remote_code", True),
    ("override_generation_config.temperature", "../evil"),
    ("compilation_config.custom_ops", '["+evil/../x"]'),
    ("load_format", "tensorizer"),
]
HARMLESS: list[tuple[str, Scalar]] = [
    ("trust_remote_code", False),
    ("max_model_len", 8192),
    ("gpu_memory_utilization", 0.9),
    ("kv_cache_dtype", "fp8_e5m2"),
    ("attention_backend", "FLASH_ATTN"),
    ("quantization", None),
    ("load_format", "safetensors"),
    ("compilation_config.cudagraph_mode", "FULL"),
    ("cudagraph_capture_sizes", "[1,2,4]"),
    ("speculative_config", '{"method":"ngram","num_speculative_tokens":4}'),
    ("an_argument_of_next_year", 4),
    ("load_format", "mistral"),
    ("hf_overrides.rope_parameters.factor", 4.0),
    ("hf_overrides.rope_parameters", '{"rope_type":"yarn","factor":4.0}'),
    ("override_generation_config.temperature", 0.5),
    ("structured_outputs_config.backend", "xgrammar"),
    ("mm_processor_kwargs.max_pixels", 1003520),
    ("limit_mm_per_prompt.image.count", 2),
    ("compilation_config.custom_ops", '["none","+rms_norm"]'),
]


@pytest.mark.parametrize(("name", "value"), OPENING)
def test_what_can_load_code_or_reach_out_needs_the_users_own_word(name: str, value: Scalar) -> None:
    assert opens(name, value)
    flag = re.escape(f"--set {name}=")
    for asked in (Asked(known={name: (value,)}, source="p.yaml"), Asked(held={name: value}, source="p.yaml")):
        with pytest.raises(UsageError, match=f"p.yaml sets {name}=.*say so yourself with {flag}"):
            asked_for(asked, argument(name, value))
    with pytest.raises(UsageError, match=f"--current sets {name}="):
        asked_for(Asked(command=Command()), command={name: value})
    typed = Asked(held={name: value}, typed=frozenset({f"--{name}"}))
    assert asked_for(typed, argument(name, value)).held[name] == value


@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_numbers_switches_and_plain_words_are_nobodys_danger(name: str, value: Scalar) -> None:
    assert not opens(name, value)


def test_a_commands_knobs_are_current_and_its_other_arguments_are_held() -> None:
    found = asked_for(Asked(command=Command()), command={"max_num_seqs": 16, "max_model_len": 1024})
    assert found.current and found.current["max_num_seqs"] == 16 and found.current["max_num_batched_tokens"] == 2048
    assert found.held.root == {"max_model_len": 1024}


def test_what_is_held_or_searched_wins_over_the_command() -> None:
    asked = Asked(held={"max_model_len": 512}, command=Command())
    found = asked_for(asked, argument("max_model_len", 512), command={"max_model_len": 1024})
    assert found.held.root == {"max_model_len": 512}
    asked = Asked(searched={"max_model_len": (512, 1024)}, command=Command())
    found = asked_for(asked, argument("max_model_len", 512, 1024), command={"max_model_len": 1024})
    assert found.current and found.current["max_model_len"] == 1024 and not found.held.root
