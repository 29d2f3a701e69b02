"""Models: what config.json says, the built-ins against published figures, and what is refused."""

import json
import os
import sys
import types
from pathlib import Path

import pytest

from infertune.domain.architectures import BUILTINS
from infertune.domain.models import Model, known_here, resolve_model
from infertune.domain.sizes import FieldSizes, ModelConfig, Sizes
from infertune.errors import UsageError

PUBLISHED = {  # parameters, as the models' cards and safetensors indices give them
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.1-8b": 8_030_261_248,
    "qwen3-0.6b": 596_049_920,
    "mistral-7b": 7_248_023_552,
    "qwen3-30b-a3b": 30_532_122_624,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def folder_with(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text(text)
    return folder


def test_the_home_of_nobody_is_no_model() -> None:
    with pytest.raises(UsageError, match="no model '~nobody-here/m': give a folder"):
        resolve_model("~nobody-here/m")
    with pytest.raises(UsageError, match="no model"):
        resolve_model("x" * 5000)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_built_in_has_the_published_number_of_parameters(name: str) -> None:
    assert resolve_model(f"builtin:{name}").parameters == PUBLISHED[name]


def test_every_built_in_of_a_published_model_is_checked_here() -> None:
    assert set(PUBLISHED) == {name for name, shape in BUILTINS.items() if shape.hub_ids}


@pytest.mark.hf
@pytest.mark.parametrize("name", BUILTINS)
def test_torch_counts_as_many_parameters(name: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = resolve_model(f"builtin:{name}")
    shape = transformers.AutoConfig.from_pretrained(model.path)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(shape)
    assert sum(p.numel() for p in empty.parameters()) == model.parameters


@pytest.mark.hf
@pytest.mark.parametrize(
    "text", ["Hello, world!", "def f(x):\n\treturn  x", "naïve – 日本語 🙂", "\x00\x7f ÿ", "</s> <s>"]
)
def test_the_tokenizer_written_on_the_spot_round_trips_utf_8_a_token_a_byte(text: str) -> None:
    transformers = pytest.importorskip("transformers")
    model = resolve_model("builtin:tiny")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.path)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == model.vocab_size
    if "s>" not in text:
        assert len(ids) == len(text.encode())


def test_a_mixture_of_experts_passes_a_token_through_a_part_of_its_parameters() -> None:
    sparse, dense = resolve_model("builtin:qwen3-30b-a3b"), resolve_model("builtin:qwen3-0.6b")
    assert sparse.active_parameters == 3_353_032_704 < sparse.parameters  # the 3.3 B of its card
    assert dense.active_parameters == dense.parameters


def test_sizes_in_bytes_follow_the_configured_dtype() -> None:
    model = resolve_model("builtin:llama-3.1-8b")
    assert model.weight_bytes == 2 * model.parameters
    assert model.kv_bytes_per_token == 2 * 32 * 8 * 128 * 2  # keys and values, layers, heads, width, bytes: 128 KiB
    assert (model.context_tokens, model.vocab_size, model.dtype) == (131072, 128256, "bfloat16")


def test_a_local_folder_is_described_by_its_config(tmp_path: Path) -> None:
    shape = {**BUILTINS["tiny"].config, "dtype": "float32"}
    folder = folder_with(tmp_path, json.dumps(shape))
    model = resolve_model(str(folder))
    assert (model.name, model.path, model.weights) == ("my-model", str(folder), "real")
    assert model.weight_bytes == 4 * model.parameters


def test_the_hash_follows_the_content_of_the_config_not_its_layout(tmp_path: Path) -> None:
    shape = BUILTINS["tiny"].config
    folder = folder_with(tmp_path, json.dumps(shape, indent=4, sort_keys=True))
    assert resolve_model(str(folder)).config_hash == resolve_model("builtin:tiny").config_hash
    (folder / "config.json").write_text(json.dumps({**shape, "rope_theta": 1.0}))
    assert resolve_model(str(folder)).config_hash != resolve_model("builtin:tiny").config_hash


def test_dummy_weights_of_a_known_hub_id_need_no_network() -> None:
    model = resolve_model("Qwen/Qwen2.5-0.5B-Instruct", weights="dummy")
    assert (model.weights, model.parameters) == ("dummy", PUBLISHED["qwen2.5-0.5b"])
    assert json.loads((Path(model.path) / "config.json").read_text()) == BUILTINS["qwen2.5-0.5b"].config


def test_dummy_weights_of_a_folder_are_written_elsewhere(tmp_path: Path, own_cache: Path) -> None:
    folder = folder_with(tmp_path, json.dumps(BUILTINS["tiny"].config))
    model = resolve_model(str(folder), weights="dummy")
    assert Path(model.path).is_relative_to(own_cache)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert sorted(path.name for path in Path(model.path).iterdir()) == [
        "config.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "cure"),
    [
        ("builtin:gpt-9", "there are tiny, small"),
        ("a/b/c", "give a folder with a config.json"),
        ("no/../such", "give a folder with a config.json"),
    ],
)
def test_what_is_no_model_is_refused_with_the_cure(spec: str, cure: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve_model(spec)
    assert cure in str(refused.value)


def test_a_built_in_has_no_real_weights() -> None:
    with pytest.raises(UsageError, match="leave out --weights real"):
        resolve_model("builtin:tiny", weights="real")


@pytest.mark.parametrize("spec", ["./nofolder", "../x", ".hidden/x", "a/b/c", "/no/such", "-x", "a b", "x" * 97])
def test_a_path_without_a_folder_is_no_hub_id(spec: str) -> None:
    with pytest.raises(UsageError, match="no model .* give a folder with a config.json"):
        resolve_model(spec)


def test_the_oldest_models_of_the_hub_have_no_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_cache(tmp_path, monkeypatch)
    assert resolve_model("gpt2").name == "gpt2"


@pytest.mark.hf
def test_a_hub_id_without_network_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="cannot get config.json of no-such/model") as refused:
        resolve_model("no-such/model")
    assert "give a local folder" in str(refused.value)
    assert "\n" not in str(refused.value)


def hub_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache with one model, found without the hub."""
    snapshot = folder / "models--org--name" / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(BUILTINS["tiny"].config))
    hub = types.SimpleNamespace(hf_hub_download=lambda *_, **__: str(snapshot / "config.json"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return snapshot


def test_a_hub_model_is_pinned_to_the_commit_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_cache(tmp_path, monkeypatch)
    model = resolve_model("org/name")
    assert model.revision == "0123abcd" and known_here(model) == (model.config_hash, "0123abcd")
    assert resolve_model("org/name", weights="dummy").revision is None, "its shape is all there is of it"
    assert resolve_model(str(folder_with(tmp_path, json.dumps(BUILTINS["tiny"].config)))).revision is None


def test_a_hub_id_without_an_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install infertune\[vllm\]"):
        resolve_model("Qwen/Qwen2.5-0.5B")


def test_a_config_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(UsageError, match="it is a pipe"):
        resolve_model(str(tmp_path))


def test_the_hash_of_a_config_is_known_again_without_the_network(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(BUILTINS["tiny"].config))
    for spec, weights in (("builtin:tiny", None), (str(tmp_path), "real"), ("Qwen/Qwen3-0.6B", "dummy")):
        model = resolve_model(spec, weights)  # type: ignore[arg-type]
        assert known_here(model) == (model.config_hash, None)
    (tmp_path / "config.json").write_text(json.dumps({**BUILTINS["tiny"].config, "vocab_size": 5}))
    changed = resolve_model("builtin:tiny").model_copy(update={"spec": str(tmp_path)})
    assert known_here(changed)[0] not in (None, changed.config_hash)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*config.json: .*a model folder has a config.json"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("\x00", "holds NUL bytes"),
        ("{}", "describes no model: it has neither model_type nor architectures"),
        ('{"text_config": [1]}', "describes no model"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_describes_no_model_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve_model(str(folder_with(tmp_path, text)))
    assert fault in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "figure", "reason"),
    [
        ({"hidden_size": None}, "parameters", "config.json has no hidden_size"),
        ({"vocab_size": "many"}, "vocab_size", "'many', not a whole number above 0"),
        ({"num_attention_heads": 0, "head_dim": None}, "kv_bytes_per_token", "num_attention_heads is '0', not"),
        ({"vocab_size": 2**61}, "parameters", "cannot be"),
        ({"max_position_embeddings": "2k"}, "context_tokens", "'2k', not a whole number"),
        ({"hidden_size": 64.5}, "parameters", "hidden_size is '64.5', not a whole number"),
        ({"num_hidden_layers": True}, "kv_bytes_per_token", "num_hidden_layers is 'True', not"),
        ({"intermediate_size": -1}, "parameters", "intermediate_size is '-1', not"),
        ({"attention_bias": True}, "parameters", "counted by transformers"),
        ({"model_type": "new"}, "active_parameters", "counted by transformers"),
    ],
)
def test_a_figure_that_config_json_does_not_give_is_none_with_the_reason_and_the_engine_decides(
    tmp_path: Path, changes: dict[str, object], figure: str, reason: str
) -> None:
    model = resolve_model(str(folder_with(tmp_path, json.dumps({**BUILTINS["tiny"].config, **changes}))))
    assert getattr(model, figure) is None and reason in model.unknown[figure]
    assert model.dtype == "bfloat16" and model.config_hash


def test_dummy_weights_of_a_multimodal_model_are_those_of_its_decoder(tmp_path: Path) -> None:
    whole = {"model_type": "seeing", "text_config": BUILTINS["tiny"].config, "vision_config": {}, "eos_token_id": 7}
    folder = folder_with(tmp_path, json.dumps(whole))

    class Counted(FieldSizes):
        def sizes(self, config: ModelConfig) -> Sizes:
            return super().sizes(config).model_copy(update={"text_architecture": "LlamaForCausalLM"})

    model = resolve_model(str(folder), weights="dummy", sizer=Counted())
    written = json.loads((Path(model.path) / "config.json").read_text())
    assert written == {**BUILTINS["tiny"].config, "architectures": ["LlamaForCausalLM"]}
    assert model.config_hash == resolve_model(str(folder)).config_hash, "it is still that model"


def test_figures_that_are_known_have_no_reason() -> None:
    assert resolve_model("builtin:tiny").unknown == {}


@pytest.mark.parametrize("vocab", [None, 2**30])
def test_dummy_weights_need_a_vocabulary_that_a_tokenizer_can_have(tmp_path: Path, vocab: int | None) -> None:
    folder = folder_with(tmp_path, json.dumps({**BUILTINS["tiny"].config, "vocab_size": vocab}))
    with pytest.raises(UsageError, match="cannot have dummy weights: .*take its real weights"):
        resolve_model(str(folder), weights="dummy")


def test_a_model_in_an_older_document_is_read(tmp_path: Path) -> None:
    model = Model.model_validate(
        {
            "spec": "builtin:tiny", "name": "tiny", "path": "p", "weights": "dummy", "revision": None,
            "config_hash": "ab", "parameters": 10, "active_parameters": 10, "parameter_bytes": 20,
            "kv_bytes_per_token": 4, "context_tokens": 100, "vocab_size": 5, "dtype": "bfloat16",
        }
    )  # fmt: skip
    assert (model.weight_bytes, model.kv_bytes(7), model.sequence_bytes) == (20, 28, 400)
    assert Model.model_validate_json(model.model_dump_json()) == model


def test_an_enormous_config_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too large"):
        resolve_model(str(folder_with(tmp_path, " " * (4 * 1024**2 + 1))))


def test_a_cache_that_cannot_be_written_is_refused_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set XDG_CACHE_HOME to another folder"):
        resolve_model("builtin:tiny")
