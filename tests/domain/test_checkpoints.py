"""Weight bytes as the files of a checkpoint say."""

import json
import os
import struct
from pathlib import Path

import pytest

from infertune.domain.architectures import BUILTINS
from infertune.domain.checkpoints import weights_in
from infertune.domain.models import resolve_model


def shard(path: Path, **tensors: tuple[str, int]) -> Path:
    """A safetensors file of tensors, each of a dtype and so many bytes, all zeros."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, n_bytes) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [n_bytes], "data_offsets": [end, end + n_bytes]}  # type: ignore[dict-item]
        end += n_bytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


def index(folder: Path, weight_map: dict[str, str], total: object = None) -> None:
    metadata = {} if total is None else {"total_size": total}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": metadata, "weight_map": weight_map}))


def test_the_headers_of_one_file_say_bytes_and_dtype(tmp_path: Path) -> None:
    shard(tmp_path / "model.safetensors", a=("I32", 4000), b=("F16", 200), c=("F32", 100))
    found = weights_in(tmp_path)
    assert found and (found.weight_bytes, found.dtype) == (4300, "float16")


def test_shards_are_added_and_files_beside_the_index_do_not_count(tmp_path: Path) -> None:
    shard(tmp_path / "model-00001-of-00002.safetensors", a=("BF16", 100))
    shard(tmp_path / "model-00002-of-00002.safetensors", b=("BF16", 50))
    shard(tmp_path / "consolidated.safetensors", c=("BF16", 150))
    index(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}, total=999)
    found = weights_in(tmp_path)
    assert found and found.weight_bytes == 150


def test_where_shards_are_missing_the_index_says_the_bytes(tmp_path: Path) -> None:
    shard(tmp_path / "model-00001-of-00002.safetensors", a=("BF16", 100))
    index(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}, total=150)
    found = weights_in(tmp_path)
    assert found and found.weight_bytes == 150


@pytest.mark.parametrize("total", [None, -1, "many", True, 2**70])
def test_an_index_without_shards_and_size_says_nothing(tmp_path: Path, total: object) -> None:
    index(tmp_path, {"a": "model-00001-of-00002.safetensors"}, total)
    found = weights_in(tmp_path)
    assert found and found.weight_bytes is None and "missing" in found.reason


def test_adapters_and_copies_of_the_weights_do_not_count(tmp_path: Path) -> None:
    shard(tmp_path / "adapter_model.safetensors", a=("F32", 100))
    assert weights_in(tmp_path) is None
    shard(tmp_path / "consolidated.safetensors", a=("BF16", 60))
    found = weights_in(tmp_path)
    assert found and found.weight_bytes == 60, "Mistral's own format, where there is no other"
    shard(tmp_path / "model.safetensors", a=("BF16", 64))
    found = weights_in(tmp_path)
    assert found and found.weight_bytes == 64


def test_pickled_weights_count_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model-00001-of-00001.bin").write_bytes(bytes(70))
    (tmp_path / "training_args.bin").write_bytes(bytes(7))
    found = weights_in(tmp_path)
    assert found and (found.weight_bytes, found.dtype) == (70, None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,100000]}} ',
        struct.pack("<Q", 58) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0.0,"4"]}}',
        struct.pack("<Q", 40_000) + b"[" * 40_000,
    ],
    ids=["empty", "lfs pointer", "list", "huge header", "cut off", "no numbers", "deep"],
)
def test_a_broken_file_leaves_the_estimate(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_text(json.dumps(BUILTINS["tiny"].config))
    (tmp_path / "model.safetensors").write_bytes(content)
    found = weights_in(tmp_path)
    assert found and found.weight_bytes is None and "no whole safetensors file" in found.reason
    model = resolve_model(str(tmp_path))
    assert (model.weight_bytes, model.weight_source) == (resolve_model("builtin:tiny").weight_bytes, "estimate")


def test_a_pipe_in_the_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    assert weights_in(tmp_path) is None


def test_a_models_weight_bytes_are_those_of_its_files_and_dummy_weights_are_estimated(tmp_path: Path) -> None:
    shape = {name: value for name, value in BUILTINS["tiny"].config.items() if name != "dtype"}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    shard(tmp_path / "model.safetensors", a=("F32", 12345))
    model = resolve_model(str(tmp_path))
    assert (model.weight_bytes, model.weight_source, model.dtype) == (12345, "files", "float32")
    dummy = resolve_model(str(tmp_path), weights="dummy")
    assert (dummy.weight_bytes, dummy.weight_source) == (2 * (dummy.parameters or 0), "estimate")
