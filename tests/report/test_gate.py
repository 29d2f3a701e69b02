"""A gate's outputs for CI: what other programs parse stays parsable whatever stands in a name."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertune.domain.knobs import Config
from infertune.gating.comparison import RATE
from infertune.gating.metrics import gain, paired_metrics
from infertune.gating.result import ArmRecord, GateResult, exit_code
from infertune.gating.verdict import judge_pairs
from infertune.report.gate import annotation, command, junit, junit_of_error, step_summary, verdict_sentence
from tests.profiles.test_fingerprint import FOUND

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def result(ratio: float = 1.0, label: str = "default", profile: str = "p.yaml", noise: float = 0.01) -> GateResult:
    base = {RATE: [100.0, 100 * (1 + noise), 100.0, 100 * (1 - noise)], "power_w": [50.0] * 4}
    new = {RATE: [ratio * 100.0] * 4, "power_w": [55.0] * 4}
    judgement = judge_pairs({RATE: [gain(RATE, a, b) for a, b in zip(new[RATE], base[RATE], strict=True)]}, 0.05)
    side = ArmRecord(label=label, engine="one 1.0", versions={}, model=None, config=Config({}), changed=Config({}))
    return GateResult(
        infertune_version="0.1.0",
        answer=judgement.answer,
        exit_code=exit_code(judgement.answer, None),
        mode="paired",
        question="is it?",
        profile=profile,
        margin=0.05,
        pairs=4,
        base=side,
        new=side,
        metrics=paired_metrics(base, new, judgement, 0.05),
        fingerprint=FOUND,
        n_requests=10,
        run="r",
        created_at="2026-01-01T00:00:00+00:00",
    )


@pytest.mark.parametrize(
    ("ratio", "noise", "word", "level", "outcome"),
    [
        (1.0, 0.01, "PASS", "notice", None),
        (0.8, 0.01, "REGRESSION", "error", "failure"),
        (0.95, 0.05, "INCONCLUSIVE", "warning", "skipped"),
    ],
)
def test_every_verdict_has_its_word_its_level_and_its_junit_element(
    ratio: float, noise: float, word: str, level: str, outcome: str | None
) -> None:
    found = result(ratio, noise=noise)
    assert verdict_sentence(found).startswith(f"{word}: throughput ")
    assert annotation(found).startswith(f"::{level} title=infertune gate::{word}")
    [suite] = ElementTree.fromstring(junit(found).encode())
    [case] = suite
    assert (case.get("name"), suite.get("tests")) == (RATE, "1"), "what is only reported is no test"
    assert [child.tag for child in case if child.tag != "system-out"] == ([outcome] if outcome else [])


@given(ANY_TEXT, ANY_TEXT)
def test_no_name_breaks_out_of_a_document(label: str, profile: str) -> None:
    found = result(label=label, profile=profile)
    root = ElementTree.fromstring(junit(found).encode())
    assert [case.get("name") for case in root.iter("testcase")] == [RATE]
    errored = ElementTree.fromstring(junit_of_error(profile, label, "X").encode())
    assert len(list(errored.iter("error"))) == 1
    assert len(annotation(found).splitlines()) == 1 or "\n" not in annotation(found)
    summary = step_summary(found)
    assert "<" not in summary.replace("&lt;", "")
    rows = [line for line in summary.split("\n") if line.startswith("|")]
    assert len(rows) == 4 and len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_a_junit_file_steers_no_terminal() -> None:
    text = junit(result(label="\x1b[31mred\x9b\u202eevil", profile="p\x9d")) + junit_of_error("p", "\u2028\u200f", "X")
    assert "".join(text.split("\n")).isprintable() and "evil" in text


def test_a_workflow_command_cannot_be_followed_by_another() -> None:
    assert command("error", "50% off\n::error::x\r") == "::error title=infertune gate::50%25 off%0A: :error: :x%0D"
    assert command("error", "a ##[error]b") == "::error title=infertune gate::a ## [error]b"


@given(
    ANY_TEXT,
    st.sampled_from(["##[error]x", "::error::x", "\n::warning::", "\x1b]0;x\x07", "\u2028::x::", ":::::", "###[x]"]),
)
def test_an_annotation_is_one_line_with_one_command(before: str, attack: str) -> None:
    line = command("notice", before + attack)
    head, message = line[: len("::notice title=infertune gate::")], line[len("::notice title=infertune gate::") :]
    assert head == "::notice title=infertune gate::" and len(line.splitlines()) == 1 and line.isprintable()
    assert "::" not in message and "##[" not in message
