"""A gate's document: exit codes."""

import pytest

from infertune.gating.result import exit_code


@pytest.mark.parametrize(
    ("answer", "wish", "code"),
    [
        ("pass", None, 0),
        ("regression", None, 1),
        ("inconclusive", None, 3),
        (None, None, 0),
        ("inconclusive", "pass", 0),
        ("inconclusive", "fail", 1),
        ("regression", "pass", 1),
        ("pass", "fail", 0),
    ],
)
def test_exit_codes(answer: str, wish: str, code: int) -> None:
    assert exit_code(answer, wish) == code  # type: ignore[arg-type]
