"""The parent's side of counting a model: what it remembers, and what it does where nobody can count."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infertune.domain.architectures import BUILTINS
from infertune.domain.checkpoints import Checkpoint
from infertune.domain.sizes import FieldSizes
from infertune.engines.sizes import ask
from infertune.engines.sizes.ask import TransformersSizes

TINY = BUILTINS["tiny"].config


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Child:
    """Stands in for the child process: answers, and counts how often it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stdout: str = "", stderr: str = "") -> None:
        self.asked: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self._answer = stdout, stderr
        monkeypatch.setattr(ask, "installed_versions", lambda names, python: dict.fromkeys(names, "5.19.0"))
        monkeypatch.setattr(ask.subprocess, "run", self._run)

    def _run(self, command: list[str], **more: object) -> "subprocess.CompletedProcess[str]":
        self.asked.append(command)
        self.environments.append(more["env"])  # type: ignore[arg-type]
        return subprocess.CompletedProcess(command, 1 if self._answer[1] else 0, *self._answer)


COUNTED = FieldSizes().sizes(TINY).model_copy(update={"parameters": 7})


def test_a_model_is_counted_once_and_remembered_by_its_config(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(monkeypatch, f"noise\n{COUNTED.model_dump_json()}\n")
    assert TransformersSizes().sizes(TINY) == TransformersSizes().sizes({**TINY}) == COUNTED
    assert len(child.asked) == 1 and child.environments[0]["HF_HUB_OFFLINE"] == "1"
    TransformersSizes().sizes({**TINY, "rope_theta": 1.0})
    assert len(child.asked) == 2


def test_the_interpreter_that_has_the_engine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(monkeypatch, COUNTED.model_dump_json())
    TransformersSizes(Path("/other/python")).sizes(TINY)
    assert child.asked[0][:3] == ["/other/python", "-m", "infertune.engines.sizes.child"]
    assert "infertune-" in child.environments[0]["PYTHONPATH"], "this package, and none of our libraries"
    TransformersSizes().sizes({**TINY, "vocab_size": 9})
    assert child.asked[1][0] == sys.executable


def test_without_transformers_plain_decoders_are_counted_from_their_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "installed_versions", lambda names, python: {"torch": "2"})
    assert TransformersSizes().sizes(TINY) == FieldSizes().sizes(TINY)
    other = TransformersSizes().sizes({"model_type": "gpt2", "n_positions": 1024, "vocab_size": 50257})
    assert (other.context_tokens, other.vocab_size, other.parameters) == (1024, 50257, None)
    assert other.unknown["parameters"] == "it is counted by transformers, which is not installed"
    python = Path("/no/such/python")
    monkeypatch.undo()
    assert str(python) in TransformersSizes(python).sizes({"model_type": "gpt2"}).unknown["parameters"]


def test_a_child_that_fails_leaves_the_fields_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(monkeypatch, stderr="Traceback …\nRuntimeError: no luck\n\n")
    found = TransformersSizes().sizes({"model_type": "gpt2"})
    assert found.unknown["parameters"] == "transformers 5.19.0 could not count it: RuntimeError: no luck"
    TransformersSizes().sizes({"model_type": "gpt2"})
    assert len(child.asked) == 2, "a failure is not remembered"


def test_a_cache_that_is_broken_or_cannot_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Child(monkeypatch, COUNTED.model_dump_json())
    TransformersSizes().sizes(TINY)
    [kept] = (tmp_path / "cache" / "infertune" / "sizes").iterdir()
    kept.write_text("{")
    assert TransformersSizes().sizes(TINY) == COUNTED and len(child.asked) == 2
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert TransformersSizes().sizes(TINY) == COUNTED


def test_the_hub_is_asked_only_where_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Checkpoint(weight_bytes=5, dtype="float16")
    child = Child(monkeypatch, answer.model_dump_json())
    assert TransformersSizes().hub_weights("org/name", "0123") is None and child.asked == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert TransformersSizes().hub_weights("org/name", "0123") == answer
    assert TransformersSizes().hub_weights("org/name", "0123") == answer
    assert len(child.asked) == 1 and "HF_HUB_OFFLINE" not in child.environments[0]
    TransformersSizes().hub_weights("org/name", None)
    TransformersSizes().hub_weights("org/name", None)
    assert len(child.asked) == 3, "without a commit the files may be others tomorrow"


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("python", 30), OSError("gone")])
def test_a_hub_that_does_not_answer_leaves_the_estimate(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    Child(monkeypatch)
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ask.subprocess, "run", fail)
    assert TransformersSizes().hub_weights("org/name", "0123") is None


@pytest.mark.hf
def test_a_real_child_counts_and_says_why_it_cannot() -> None:
    sizer = TransformersSizes()
    counted = sizer.sizes(TINY)
    assert counted == FieldSizes().sizes(TINY)
    unknown = sizer.sizes({"model_type": "nobody-knows", "vocab_size": 5, "auto_map": {"AutoConfig": "c.C"}})
    assert unknown.vocab_size == 5 and "does not know the model type 'nobody-knows'" in unknown.unknown["parameters"]
    assert "code that comes with a checkpoint is not run" in unknown.unknown["parameters"]
    odd = sizer.sizes({**TINY, "hidden_size": "wide"})
    assert odd.parameters is None and "hidden_size" in odd.unknown["parameters"]
    assert json.dumps(odd.unknown).count("Traceback") == 0
