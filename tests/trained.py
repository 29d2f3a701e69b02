"""A small trained model and prompts for the tests of answers; these tests are skipped where the two are missing.

`make trained` makes the model, SmolLM2-135M-Instruct, by a script of the folder `shared` beside the checkout.
"""

import os
import sys
from pathlib import Path

import pytest

_ABOVE = Path(__file__).parents[1:4]  # a worktree may lie one folder deeper than the checkout


def model() -> Path:
    """The model's folder."""
    places = (os.environ.get("INFERTUNE_TRAINED_MODEL", ""), Path(sys.prefix) / "SmolLM2-135M-Instruct")
    for place in places:
        if place and (Path(place) / "model.safetensors").is_file():
            return Path(place)
    pytest.skip("no trained model here: `make trained` makes one where ../shared/models is")


def prompts() -> Path:
    """HumanEval's file."""
    for folder in _ABOVE:
        if (path := folder / "shared" / "data" / "HumanEval.jsonl.gz").is_file():
            return path
    pytest.skip("no prompts here: HumanEval.jsonl.gz is looked for in ../shared/data")
