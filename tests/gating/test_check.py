"""The quality guard alone, on the simulated engine, whose true loss is known."""

import json
from pathlib import Path

import pytest

from infertune.domain.measurement import Frozen
from infertune.domain.request import make_request
from infertune.errors import BenchmarkError, InfertuneError, MismatchError, UsageError
from infertune.gating.check import CheckRequest, CheckResult, check_request


def checked(tmp_path: Path, engine: str, settings: dict[str, object], **more: object) -> CheckResult:
    """A check of some settings."""
    flags = {"engine": engine, "set": settings, "device": "cpu", "out": tmp_path / "run", "wait": True, **more}
    return check_request(make_request(CheckRequest, flags))


@pytest.mark.parametrize(
    ("engine", "settings", "answer", "exit_code"),
    [
        ("fake:plateau,loss=4%", {"bits": 8}, "fail", 1),
        ("fake:plateau,loss=2%", {"bits": 4}, "fail", 1),
        ("fake:plateau,loss=0.01%", {"bits": 8}, "pass", 0),
        ("fake:plateau,loss=1%", {"bits": 8}, "open", 3),
        ("fake", {"block_size": 32}, "pass", 0),
        ("fake", {"compiled": True}, "pass", 0),
    ],
)
def test_a_configuration_passes_by_its_loss(
    tmp_path: Path, engine: str, settings: dict[str, object], answer: str, exit_code: int
) -> None:
    result = checked(tmp_path, engine, settings)
    assert (result.answer, result.exit_code) == (answer, exit_code), result.check.why
    assert result.changed.root == settings
    figures, floor = result.check.figures, result.check.floor
    assert figures and floor and abs(floor.perplexity_increase.mean) < 0.001
    written = json.loads((tmp_path / "run" / "check.json").read_text())
    assert written["schema_version"] == 1 and written["answer"] == answer


@pytest.mark.parametrize(("name", "what"), [("trials.jsonl", "run"), ("check.json", "check")])
def test_a_folder_that_holds_something_is_refused(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("another's")
    with pytest.raises(UsageError, match=f"run holds a {what} already; choose another --out"):
        checked(tmp_path, "fake", {"block_size": 32})
    assert {path.name: path.read_text() for path in (tmp_path / "run").iterdir()} == {name: "another's"}


def test_limits_are_the_users(tmp_path: Path) -> None:
    assert checked(tmp_path / "a", "fake:plateau,loss=4%", {"bits": 8}, max_quality_loss="10%").answer == "pass"
    few = checked(tmp_path / "b", "fake:plateau,loss=4%", {"bits": 8}, max_quality_loss="10%", min_agreement="97%")
    assert few.answer == "fail" and "agreement" in few.check.why
    assert checked(tmp_path / "c", "fake:plateau,loss=0.5%", {"bits": 8}, max_quality_loss="0").answer != "pass"


def test_a_bare_1_may_mean_two_shares_and_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-quality-loss 1: write 1% or 100%"):
        checked(tmp_path, "fake:plateau,loss=4%", {"bits": 8}, max_quality_loss="1")


def test_more_prompts_are_scored_only_while_they_may_decide(tmp_path: Path) -> None:
    clear = checked(tmp_path / "a", "fake:plateau,loss=20%", {"bits": 8})
    close = checked(tmp_path / "b", "fake:plateau,loss=1%", {"bits": 8})
    assert (clear.check.n_prompts, close.check.n_prompts) == (16, 128)


@pytest.mark.parametrize(
    ("engine", "settings", "kind", "message"),
    [
        ("fake", {}, UsageError, "nothing to check"),
        (
            "fake:faults",
            {"fault": "other vocabulary"},
            MismatchError,
            "the two sides cannot be compared: the reference's",
        ),
        ("fake:faults", {"fault": "no logits"}, BenchmarkError, "gives no log probabilities"),
        ("fake:faults", {"fault": "oom at load"}, BenchmarkError, "out of memory"),
        ("replay", {"kernel": "b"}, UsageError, "answers cannot be checked: the engine replay gives no log"),
    ],
)
def test_what_cannot_be_judged_is_one_line(
    tmp_path: Path, engine: str, settings: dict[str, object], kind: type[InfertuneError], message: str
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("kernel,output_tokens_per_s\na,10\nb,20\n")
    with pytest.raises(kind, match=message) as caught:
        checked(tmp_path, engine, settings, **({"table": table} if engine == "replay" else {}))
    assert "\n" not in str(caught.value)


def test_logits_that_are_no_numbers_are_a_failure_of_their_own(tmp_path: Path) -> None:
    result = checked(tmp_path, "fake:faults", {"fault": "nan logits"})
    assert (result.answer, result.exit_code) == ("fail", 1)
    assert result.check.failure and result.check.failure.kind == "not numbers"
    assert "answers are not numbers" in result.check.why


@pytest.mark.hf
def test_dummy_weights_have_no_answers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dummy weights answer nothing; give a model with its trained weights"):
        checked(tmp_path, "hf", {"dtype": "float32"}, model="builtin:tiny")


def test_the_result_is_one_versioned_document() -> None:
    assert issubclass(CheckResult, Frozen) and "schema_version" in CheckResult.model_fields
