"""GGUF models as MODEL names them: a file, a folder that holds one, or a built-in with weights made on the spot."""

import hashlib
import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from infertune.domain.models import Model, Weights, cache_folder, resolve_model
from infertune.engines.base import first_line
from infertune.engines.interpreter import run_module
from infertune.engines.llamacpp.reading import GgufFacts
from infertune.engines.sizes.ask import TransformersSizes
from infertune.errors import UsageError
from infertune.units import slugify
from infertune.writing import write_inside

_SCHEMA = 1  # of what is kept of a file; another number makes every file read again
_READ_S = 180.0
_MAGIC = b"GGUF"
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_SIDE_FILES = ("mmproj", "ggml-vocab")  # beside a model: an image part, a vocabulary alone
RANDOM = "random.gguf"  # beside a built-in's config.json


def resolve(spec: str, weights: Weights | None, python: Path | None) -> Model:
    """The model that a MODEL argument means to llama.cpp.

    Raises:
        UsageError: There is no such model, or it is in another format.
    """
    path = Path(os.path.expanduser(spec))
    files = gguf_files(path)
    if files:
        if weights == "dummy":
            raise UsageError(f"{spec} has weights of its own; leave out --weights dummy")
        facts = facts_of(files, python)
        name = slugify(_PART.sub(r"\1", files[0].name).removesuffix(".gguf"))
        return Model(
            spec=spec, name=name, path=str(files[0]), weights="real", config_hash=facts.metadata_hash,
            **dict(facts.sizes),
        )  # fmt: skip
    if spec.startswith("builtin:") or weights == "dummy":
        return resolve_model(spec, "dummy", sizer=TransformersSizes(python))
    if path.is_dir():
        raise UsageError(
            f"{spec} holds no GGUF file: llama.cpp's convert_hf_to_gguf.py makes one of a Hugging Face folder"
        )
    if os.path.lexists(path):
        raise UsageError(f"{spec} is no GGUF file")
    raise UsageError(f"no model {spec!r}: llama.cpp takes a GGUF file, a folder that holds one, or builtin:NAME")


def known_here(model: Model, python: Path | None) -> str | None:
    """The hash of a model as it lies here now; None where it does not, or cannot be read."""
    try:
        return resolve(model.spec, model.weights if model.weights == "dummy" else None, python).config_hash
    except UsageError:
        return None


def gguf_files(path: Path) -> list[Path]:
    """The files of the model at a path, its parts in their order; none where there is no GGUF.

    Raises:
        UsageError: A folder holds several models, or parts of a model are missing.
    """
    if path.is_dir():
        found = [file for file in sorted(path.glob("*.gguf")) if _is_model(file) and file.name != RANDOM]
        firsts = [file for file in found if (part := _PART.fullmatch(file.name)) is None or int(part[2]) == 1]
        if len(firsts) > 1:
            names = ", ".join(file.name for file in firsts[:5])
            raise UsageError(f"{path} holds {len(firsts)} models ({names}): name one of the files")
        return _parts(firsts[0]) if firsts else []
    return _parts(path) if _is_model(path) else []


def facts_of(files: list[Path], python: Path | None = None) -> GgufFacts:
    """What a model's files say, from the cache or read in a process of its own.

    Raises:
        UsageError: They cannot be read.
    """
    stamps = [(str(file), (found := file.stat()).st_size, found.st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps([_SCHEMA, stamps]).encode()).hexdigest()[:24]
    kept = Path("gguf") / f"{key}.json"
    with suppress(OSError, ValidationError):
        return GgufFacts.model_validate_json((cache_folder() / kept).read_text(encoding="utf-8"))
    text, fault = _read(files, python)
    try:
        facts = GgufFacts.model_validate_json(text)
    except ValidationError:
        raise UsageError(f"cannot read {files[0]} as GGUF, is it whole? {fault}") from None
    with suppress(UsageError):  # without the cache the next run reads it again, no more
        write_inside(cache_folder(), str(kept), text, "cache")
    return facts


def random_file(model: Model) -> Path:
    """Where the file with a built-in's random weights lies, or will."""
    return Path(model.path) / RANDOM


def _read(files: list[Path], python: Path | None) -> tuple[str, str]:
    """The last line of the child's answer, and the last of its complaints."""
    try:
        done = run_module(python, "infertune.engines.llamacpp.reading", *map(str, files), within_s=_READ_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", first_line(str(error))
    complaints = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    if "No module named 'gguf'" in complaints[-1]:
        complaints = ["the gguf package reads it: pip install infertune[llamacpp], or pip install gguf"]
    return (done.stdout.splitlines() or [""])[-1], first_line(complaints[-1])


def _is_model(path: Path) -> bool:
    """Whether it is a regular file that begins as GGUF does, and no side file of a model."""
    if path.name.startswith(_SIDE_FILES) or not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _parts(first: Path) -> list[Path]:
    """All parts of a split model, or the one file.

    Raises:
        UsageError: Some are missing.
    """
    match = _PART.fullmatch(first.name)
    if match is None:
        return [first.absolute()]
    stem, total = match[1], int(match[3])
    parts = [first.parent / f"{stem}-{number:05}-of-{total:05}.gguf" for number in range(1, total + 1)]
    if missing := [part.name for part in parts if not _is_model(part)]:
        raise UsageError(f"{first}: {len(missing)} of its {total} parts are missing, the first {missing[0]}")
    return [part.absolute() for part in parts]
