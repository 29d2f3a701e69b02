"""The weights of a local checkpoint: how many bytes, and in which number format, as its files' headers say."""

import json
import os
import re
import stat
from pathlib import Path
from typing import Annotated

from pydantic import Field

from infertune.domain.measurement import Frozen

_INDEX = "model.safetensors.index.json"
_MAX_INDEX_BYTES = 64 * 1024**2  # DeepSeek-V3's has 9 MB
_MAX_HEADER_BYTES = 100 * 1024**2  # the format's own limit
_MAX_SHARDS = 2048
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_NOT_WEIGHTS = re.compile(r"(adapter_|consolidated|training_|optimizer|\.)")


class Checkpoint(Frozen):
    """What the files of a checkpoint say of its weights.

    Attributes:
        weight_bytes: Of all tensors; None if the files do not say.
        dtype: The number format of most of the bytes that are not quantized; None if it is not known.
        reason: Why the bytes are None.
    """

    weight_bytes: Annotated[int, Field(ge=0)] | None = None
    dtype: str | None = None
    reason: str = ""


def weights_in(folder: Path) -> Checkpoint | None:
    """The weights in a folder; None if it has no weight files.

    Safetensors are read by their headers, by the index if shards are missing; of other formats the files' sizes count.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return None
    if _INDEX in names:
        return _indexed(folder, names)
    plain = [name for name in names if name.endswith(".safetensors")]
    chosen = ["model.safetensors"] if "model.safetensors" in plain else [n for n in plain if not _NOT_WEIGHTS.match(n)]
    if chosen := chosen or [name for name in plain if name.startswith("consolidated")]:
        return _of_shards(folder, chosen)
    pickled = [name for name in names if re.fullmatch(r"pytorch_model.*\.bin", name)]
    if pickled:
        return Checkpoint(weight_bytes=sum((folder / name).stat().st_size for name in pickled))
    return None


def _indexed(folder: Path, names: list[str]) -> Checkpoint:
    try:
        index = json.loads(_read(folder / _INDEX, _MAX_INDEX_BYTES))
        shards = sorted(set(index["weight_map"].values()))
        total = index.get("metadata", {}).get("total_size")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Checkpoint(reason=f"{_INDEX} cannot be read")
    if shards and all(shard in names for shard in shards):
        found = _of_shards(folder, shards)
        if found.weight_bytes is not None:
            return found
    if isinstance(total, int | float) and not isinstance(total, bool) and 0 < total <= 2**60:
        return Checkpoint(weight_bytes=int(total))
    return Checkpoint(reason=f"shards that {_INDEX} names are missing or cannot be read")


def _of_shards(folder: Path, names: list[str]) -> Checkpoint:
    total, of_dtype = 0, dict.fromkeys(_DTYPES, 0)
    for name in names[:_MAX_SHARDS]:
        try:
            tensors = _header(folder / name)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return Checkpoint(reason=f"{name} is no whole safetensors file")
        for dtype, n_bytes in tensors:
            total += n_bytes
            if dtype in of_dtype:
                of_dtype[dtype] += n_bytes
    most = max(of_dtype, key=lambda dtype: of_dtype[dtype])
    return Checkpoint(weight_bytes=total, dtype=_DTYPES[most] if of_dtype[most] else None)


def _header(path: Path) -> list[tuple[str, int]]:
    """Dtype and bytes of every tensor of a safetensors file.

    Raises:
        ValueError: It is none, or is cut off.
    """
    size = path.stat().st_size
    length = int.from_bytes(_read(path, 8, whole=False), "little")
    if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
        raise ValueError("no header")
    header = json.loads(_read(path, 8 + length, whole=False)[8:])
    tensors = []
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        if not isinstance(begin, int) or not isinstance(end, int) or not 0 <= begin <= end <= size - 8 - length:
            raise ValueError("a tensor lies beyond the end")
        tensors.append((str(tensor["dtype"]), end - begin))
    return tensors


def _read(path: Path, n_bytes: int, *, whole: bool = True) -> bytes:
    """The beginning of a regular file, or the whole of one that is not longer.

    Raises:
        OSError: It cannot be read, or is no regular file.
        ValueError: It is longer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        content = file.read(n_bytes + 1 if whole else n_bytes)
    if whole and len(content) > n_bytes:
        raise ValueError(f"{path} is too large")
    return content
