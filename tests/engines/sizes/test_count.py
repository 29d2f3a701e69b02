"""Models counted by transformers against the figures that were published of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from infertune.domain.sizes import KvCache, Sizes, Window
from infertune.engines.sizes.child import count
from tests.engines.sizes.families import FAMILIES, QUANTIZED

pytestmark = pytest.mark.hf


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_counted_as_published(name: str) -> None:
    family = FAMILIES[name]
    found = count(family.config)
    assert found.parameters == pytest.approx(family.parameters, rel=0.01), found.unknown
    assert found.kv_bytes_per_token == family.kv, found.unknown
    assert found.active_parameters == pytest.approx(family.active or found.parameters, rel=0.01)
    assert found.weight_source == "estimate" and found.weight_bytes == 2 * found.parameters
    assert found.kv_cache
    windows = [(window.tokens, window.bytes_per_token) for window in found.kv_cache.windows]
    assert windows == ([family.window] if family.window else [])
    if family.context:
        assert found.context_tokens == family.context
    assert found.vocab_size and not found.encoder_decoder


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantized_checkpoint_without_files_is_estimated_near_the_size_of_its_files(name: str) -> None:
    config, gigabytes = QUANTIZED[name]
    found = count(config)
    assert found.weight_bytes == pytest.approx(gigabytes * 1e9, rel=0.02), found.unknown
    assert (found.weight_source, found.quantization) == ("estimate", config["quantization_config"]["quant_method"])


TINY = FAMILIES["smollm2-135m"].config


@pytest.mark.parametrize(
    ("quantization", "bytes_per_weight"),
    [
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 1.0),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 1.0),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, 0.5625),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, 1.0),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, 0.5625),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, 0.5625),
        ({"quant_method": "quanto", "weights": "int8"}, 1.0156),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128}, 0.5195),
        ({"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["model.layers"]}, 2.0),
        ({"quant_method": "compressed-tensors", "ignore": ["re:.*"], "config_groups": {
            "a": {"targets": ["Linear"], "weights": {"num_bits": 8}}}}, 2.0),
    ],
    ids=lambda value: value.get("quant_method", "load_in_4bit") if isinstance(value, dict) else "",
)  # fmt: skip
def test_every_way_to_quantize_has_its_size(quantization: dict[str, Any], bytes_per_weight: float) -> None:
    plain, found = count(TINY), count({**TINY, "quantization_config": quantization})
    matrices = 30 * (576 * 576 * 2 + 576 * 192 * 2 + 3 * 576 * 1536)
    assert plain.weight_bytes and found.weight_bytes, found.unknown
    saved = plain.weight_bytes - found.weight_bytes
    assert saved == pytest.approx((2 - bytes_per_weight) * matrices, rel=0.01, abs=1)


@pytest.mark.parametrize(
    ("quantization", "reason"),
    [
        ({"quant_method": "aqlm"}, "'aqlm' is not one whose size can be estimated"),
        ({"quant_method": "awq"}, "has no bits"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "no group of weights"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": 1}}, "cannot be read"),
        ({"quant_method": 3}, "'unnamed' is not one"),
    ],
)
def test_weights_whose_size_cannot_be_estimated_are_none_with_the_reason(
    quantization: dict[str, Any], reason: str
) -> None:
    found = count({**TINY, "quantization_config": quantization})
    assert found.weight_bytes is None and reason in found.unknown["weight_bytes"]
    assert found.parameters == 134_515_008, "all else is known"


def test_an_encoder_decoder_is_named_as_one() -> None:
    t5 = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 512, "d_ff": 2048,
          "num_layers": 6, "num_heads": 8, "d_kv": 64, "vocab_size": 32128, "is_encoder_decoder": True}  # fmt: skip
    found = count(t5)
    assert found.encoder_decoder and found.parameters == pytest.approx(60_506_624, rel=0.01)
    assert found.kv_bytes_per_token is None and "encoder-decoder" in found.unknown["kv_bytes_per_token"]


def test_layers_that_share_a_cache_are_counted_once() -> None:
    """Gemma 3n E4B: 15 of its 35 layers use the keys and values of earlier ones; every fifth sees the whole context."""
    found = count({"model_type": "gemma3n_text", "num_hidden_layers": 35, "num_kv_shared_layers": 15})
    layer = 2 * 2 * 256 * 2
    assert found.kv_cache == KvCache(
        full_bytes_per_token=4 * layer, windows=(Window(tokens=512, bytes_per_token=16 * layer),)
    )


def test_a_multimodal_model_names_the_class_of_its_decoder() -> None:
    assert count(FAMILIES["gemma-3-4b"].config).text_architecture == "Gemma3ForCausalLM"
    assert count(TINY).text_architecture == ""


def test_states_are_a_constant_of_the_sequence() -> None:
    found = count(FAMILIES["mamba-130m"].config)
    state, convolution = 1536 * 16 * 4, 1536 * 4 * 2  # the state in float32
    assert found.kv_bytes_per_sequence == 24 * (state + convolution)
    assert found.context_tokens is None and found.unknown["context_tokens"]


def test_a_sequence_takes_its_windows_and_no_more() -> None:
    found = count(FAMILIES["gpt-oss-120b"].config)
    half = 18 * 2 * 8 * 64 * 2
    assert found.kv_bytes_per_sequence == half * 131072 + half * 128
    assert found.kv_bytes(100) == 2 * half * 100


@pytest.mark.parametrize(
    ("config", "figure", "reason"),
    [
        ({"model_type": "recurrent_gemma"}, "kv_bytes_per_token", "returns no cache"),
        ({"model_type": "deepseek_v4", "num_hidden_layers": 4}, "kv_bytes_per_token", "does not grow evenly"),
        ({**TINY, "vocab_size": -5}, "parameters", "negative dimension -5"),
        ({**TINY, "num_attention_heads": 0}, "parameters", "num_attention_heads is '0'"),
        ({**TINY, "hidden_act": "nothing"}, "kv_bytes_per_token", "nothing"),
        ({**TINY, "rope_scaling": "yes"}, "parameters", ""),
        ({**TINY, "architectures": "LlamaForCausalLM"}, "kv", ""),
        ({"model_type": "resnet"}, "parameters", "no model of ResNetConfig that generates text"),
    ],
)
def test_odd_configs_leave_reasons_and_no_traceback(config: dict[str, Any], figure: str, reason: str) -> None:
    found = count(config)
    assert isinstance(found, Sizes) and Sizes.model_validate_json(found.model_dump_json()) == found
    assert reason in found.unknown.get(figure, "")
    assert all(text and "\n" not in text for text in found.unknown.values())
    for name in ("parameters", "active_parameters", "weight_bytes", "kv_bytes_per_token", "context_tokens"):
        assert (getattr(found, name) is None) == (name in found.unknown)


def test_no_code_of_a_checkpoint_is_run() -> None:
    found = count({**TINY, "auto_map": {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "evil.Evil"}})
    assert found.parameters == 134_515_008


def test_counting_answers_on_standard_output(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from infertune.engines.sizes import child

    main: Callable[[], None] = child.main
    monkeypatch.setattr("sys.argv", ["child", "count"])
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(TINY)))
    main()
    assert Sizes.model_validate_json(capsys.readouterr().out.splitlines()[-1]).parameters == 134_515_008
