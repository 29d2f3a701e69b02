"""`gate --metric quality`: answers beside speed, or instead of it, on the simulated engine."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from infertune import tune
from infertune.cli.terminal_gate import print_gate
from infertune.domain.request import GateRequest, make_request
from infertune.errors import BenchmarkError, InfertuneError, MismatchError, UsageError
from infertune.gating.gate import gate_request
from infertune.gating.result import GateResult
from infertune.report.gate import annotation, junit, remarks, step_summary, verdict_sentence
from tests.e2e.gates import profile as saved


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile whose configuration has 8 bits, tuned where that costs nothing."""
    folder = tmp_path_factory.mktemp("profile")
    held = {"compiled": False, "max_num_seqs": 64, "max_num_batched_tokens": 2048, "memory_share": 0.8}
    study = tune(
        engine="fake:plateau,loss=0.01%",
        device="cpu",
        out=folder / "run",
        profiles=folder / "profiles",
        knob={"bits": [16, 8], "block_size": [16, 32]},
        set=held,
    )
    assert study.summary.best_config["bits"] == 8
    return study.profile_file


def gated(profile: Path, tmp_path: Path, loss: str, **more: object) -> GateResult:
    """A gate on an engine whose 8 bits cost a given loss."""
    flags = {"profile": profile, "engine": f"fake:plateau,loss={loss}", "device": "cpu", "out": tmp_path / "gate"}
    return gate_request(make_request(GateRequest, {**flags, "seed": 1, **more}))


@pytest.mark.parametrize(("loss", "answer", "code"), [("0.01%", "pass", 0), ("4%", "regression", 1)])
def test_answers_alone_are_gated_without_measuring_speed(
    profile: Path, tmp_path: Path, loss: str, answer: str, code: int
) -> None:
    result = gated(profile, tmp_path, loss, metric=["quality"])
    assert (result.answer, result.exit_code, result.pairs, result.metrics) == (answer, code, 0, ())
    assert result.quality and result.quality.figures
    texts = (verdict_sentence(result), *remarks(result), step_summary(result), annotation(result), junit(result))
    assert all(texts) and "perplexity" in verdict_sentence(result)
    assert "| base |" not in step_summary(result), "no empty table of speeds"
    printed = io.StringIO()
    print_gate(Console(file=printed), result)
    assert "perplexity" in printed.getvalue() and "verdict\n" not in printed.getvalue()


def test_the_worse_of_speed_and_answers_is_the_verdict(profile: Path, tmp_path: Path) -> None:
    result = gated(profile, tmp_path, "4%", metric=["quality", "output_tokens_per_s"])
    speed = next(metric for metric in result.metrics if metric.name == "output_tokens_per_s")
    assert speed.answer == "pass" and result.answer == "regression" and result.exit_code == 1
    assert "answers" in verdict_sentence(result)


def test_speed_alone_is_gated_as_before(profile: Path, tmp_path: Path) -> None:
    assert gated(profile, tmp_path, "4%").quality is None


@pytest.mark.parametrize("more", [{"calibrate": True}, {"mode": "stored"}])
def test_answers_need_a_base(profile: Path, tmp_path: Path, more: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--metric quality compares answers with a base"):
        gated(profile, tmp_path, "4%", metric=["quality"], **more)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A profile of an engine in processes of its own, which an interpreter can be chosen for."""
    return saved(tmp_path, engine="fake:faults", requests=8, device="cpu", set={"fault": "no fault", "speed": 4})


def upgraded(profile: Path, tmp_path: Path, **more: object) -> GateResult:
    """A gate of answers between two interpreters."""
    python = tmp_path / "old-python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    flags = {"profile": profile, "engine": "fake:faults", "device": "cpu", "baseline_python": python}
    return gate_request(make_request(GateRequest, {**flags, "out": tmp_path / "gate", "metric": ["quality"], **more}))


def test_an_upgrade_that_changes_no_answer_passes_by_the_floor_of_the_old_version(real: Path, tmp_path: Path) -> None:
    result = upgraded(real, tmp_path)
    assert (result.answer, result.exit_code) == ("pass", 0) and result.base.engine == result.new.engine
    assert result.quality and result.quality.floor and result.quality.figures
    assert abs(result.quality.figures.perplexity_increase.mean) < 0.001
    logs = sorted(path.name for path in (tmp_path / "gate" / "logs").iterdir())
    assert len(logs) == 2, "each interpreter is launched once, and logs apart"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("other vocabulary", "the two sides cannot be compared: the reference's vocabulary"),
        ("nan logits", "answers could not be checked: the reference: answers are not numbers: nan"),
        ("no logits", "answers could not be checked: the reference: this engine gives no log probabilities"),
    ],
)
def test_a_base_that_cannot_be_compared_with_is_one_line(real: Path, tmp_path: Path, fault: str, message: str) -> None:
    with pytest.raises(InfertuneError) as caught:
        upgraded(real, tmp_path, baseline_set={"fault": fault})
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(caught.value, MismatchError if fault == "other vocabulary" else BenchmarkError)
