"""Running modules of this package under another Python interpreter."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType


def package_link() -> tempfile.TemporaryDirectory[str]:
    """A folder that holds nothing but this package, for another interpreter's path: none of our libraries leak in."""
    folder = tempfile.TemporaryDirectory(prefix="infertune-")
    (Path(folder.name) / "infertune").symlink_to(Path(__file__).parent.parent, target_is_directory=True)
    return folder


def run_module(
    python: Path | None,
    module: str,
    *arguments: str,
    within_s: float,
    question: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run a module of this package in a short process of its own.

    Args:
        python: The interpreter that has what the module imports; None for this one.
        module: Its dotted name.
        arguments: Of its command line.
        within_s: Seconds until it has to end.
        question: What it reads from standard input.
        variables: Set besides those of this process.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: It does not end.
    """
    environment = {**os.environ, **variables}
    with ExitStack() as stack:
        if python:
            environment["PYTHONPATH"] = stack.enter_context(package_link())
        return subprocess.run(
            [str(python or sys.executable), "-m", module, *arguments], input=question, capture_output=True, text=True,
            errors="replace", timeout=within_s, check=False, env=environment,
        )  # fmt: skip
