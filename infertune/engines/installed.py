"""What an interpreter has installed, read from its metadata: nothing is imported to find out."""

import importlib.metadata
import subprocess
from collections.abc import Sequence
from pathlib import Path

_ASK = """
import importlib.metadata, sys
for name in sys.argv[1:]:
    try: print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError: pass
"""
_TIMEOUT_S = 60


def installed_versions(distributions: Sequence[str], python: Path | None = None) -> dict[str, str]:
    """Distribution → version, of those that are installed.

    Args:
        distributions: Their names.
        python: The interpreter to ask; None for this one.

    Raises:
        OSError: There is no such interpreter.
        subprocess.SubprocessError: It does not answer.
    """
    if python is None:
        return {name: version for name in distributions if (version := _own_version(name))}
    command = [str(python), "-c", _ASK, *distributions]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    return dict(line.split(" ", 1) for line in answer.stdout.splitlines())


def _own_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
