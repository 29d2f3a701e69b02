"""A few hundred mutated inputs: no traceback, no hang, no undocumented exit code, nothing changed outside."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from tests.benchmarks.fuzz import Fuzz, fuzz
from tests.benchmarks.fuzz_inputs import Case, sound_cases


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Fuzz:
    return Fuzz(tmp_path_factory.mktemp("fuzz") / "root")


def test_no_mutated_input_is_taken_badly(tmp_path: Path) -> None:
    found = fuzz(120, 7, tmp_path / "root")
    assert not found.failures, "\n\n".join(map(str, found.failures.values()))
    refused = sum(n for outcome, n in found.outcomes.items() if outcome.endswith("exit 2"))
    assert sum(found.outcomes.values()) >= 120 and refused > 60, found.outcomes


def test_the_samples_are_sound_before_they_are_changed(watched: Fuzz) -> None:
    for case in sound_cases(watched.samples):
        before = watched.outcomes[f"{case.kind}: exit 0"]
        watched.run(case)
        assert watched.outcomes[f"{case.kind}: exit 0"] == before + 1, (case.arguments, watched.failures)


def test_a_traceback_a_hang_a_strange_exit_code_and_a_change_outside_are_each_seen(
    watched: Fuzz, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs(body: object) -> str:
        monkeypatch.setattr("infertune.cli.main", body)
        monkeypatch.setattr("tests.benchmarks.fuzz._LONGEST_S", 0.05)
        before = set(watched.failures)
        watched.run(Case("test", ()))
        return (set(watched.failures) - before).pop()

    def bug() -> None:
        print("Traceback (most recent call last):\n  File \"/infertune/x.py\", line 3, in y\nKeyError: 'a'")
        raise SystemExit(5)

    def hang() -> None:
        while True:
            pass

    def swallowed() -> None:
        with contextlib.suppress(BaseException):
            hang()
        raise SystemExit(0)

    def strange() -> None:
        raise SystemExit(77)

    def raising() -> None:
        raise KeyError("a")

    def outside() -> None:
        (watched.outside / "precious").write_text("changed")
        raise SystemExit(0)

    assert runs(bug).startswith("KeyError at x.py")
    assert runs(hang).startswith("not done in 0.05 s")
    watched.failures.clear()
    assert runs(swallowed).startswith("not done in 0.05 s")
    assert runs(strange) == "exit code 77 is not documented"
    assert runs(raising).startswith("KeyError left main")
    assert runs(outside) == "a file outside of the scratch folder was changed"
    assert not [name for name in os.listdir(watched.scratch) if name.startswith("case")]
    shutil.rmtree(watched.scratch)
