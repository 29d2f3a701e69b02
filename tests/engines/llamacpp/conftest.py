"""An engine on the stand-in program."""

import sys
from pathlib import Path

import pytest

from infertune.engines.base import EngineOptions
from infertune.engines.llamacpp.engine import LlamaCppEngine

PROGRAM = Path(__file__).with_name("program.py")


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """The stand-in as an executable file."""
    path = tmp_path / "bin" / "llama-server"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROGRAM}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def engine(binary: Path) -> LlamaCppEngine:
    return LlamaCppEngine(EngineOptions(binary=binary))
