"""`tune --from`: what was best elsewhere is tried first, launched in turn at the end, and reported with intervals."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from infertune.domain.trial import Trial
from infertune.profiles.profile import load_profile
from infertune.runs.ledger import Ledger
from tests.cli.test_cli import Answer, Shell, assert_refused, contents, shell  # noqa: F401 - a fixture is found by its name

FEW = ["--requests", "8", "--finalists", "1", "--final-launches", "3", "3"]
HERE = ["tune", "--engine", "fake", *FEW, "--trials", "12", "--seed", "1"]


@pytest.fixture
def origin(shell: Shell) -> Path:  # noqa: F811
    """A run elsewhere, of an engine with fewer values to choose from: better than the default, and not the best."""
    few_values = ["--knob", "max_num_seqs=32,64,128", "--knob", "compiled=true,false", "--set", "block_size=16"]
    answer = shell("tune", "--engine", "fake", *FEW, "--trials", "8", *few_values, "--out", "elsewhere")
    assert answer.code == 0, answer.errors
    return Path("elsewhere")


def searched(folder: str | Path) -> list[Trial]:
    return [trial for trial in Ledger.open(Path(folder)).trials if trial.phase == "search"]


def as_json(answer: Answer) -> dict[str, object]:
    assert answer.code == 0, answer.errors
    found = json.loads(answer.out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("kind", ["run", "profile"])
def test_what_was_best_elsewhere_is_tried_after_the_default_and_reported(
    shell: Shell,  # noqa: F811
    origin: Path,
    kind: str,
) -> None:
    given = origin if kind == "run" else origin / "profile.yaml"
    best = load_profile(origin / "profile.yaml").changed
    assert best.root
    answer = shell(*HERE, "--from", str(given), "--out", "here")
    assert answer.code == 0, answer.errors

    first, second = searched("here")[:2]
    header = Ledger.open(Path("here")).header
    assert first.config == header.engine_defaults
    assert second.config == header.engine_defaults.updated(best.root) == header.ported

    [note] = [line for line in answer.errors.splitlines() if "starts from" in line]
    assert str(given) in note and str(best) in note and "measured on" in note
    assert (" configurations" in note) == (kind == "run")

    [row] = [line for line in answer.out.splitlines() if line.startswith("ported")]
    assert "%" in row and " to " in row
    report = Path("here/report.md").read_text()
    [line] = [line for line in report.splitlines() if line.startswith("| ported |")]
    assert " to " in line or "±" in line or "–" in line
    assert "Ported against default: +" in report and "Retuned against ported: +" in report


def test_the_json_holds_the_ported_configuration_with_its_intervals(shell: Shell, origin: Path) -> None:  # noqa: F811
    found = as_json(shell(*HERE, "--from", str(origin), "--out", "here", "--json"))
    final = [trial for trial in Ledger.open(Path("here")).trials if trial.phase == "final"]
    ported = Ledger.open(Path("here")).header.ported
    assert ported is not None and found["ported_config"] == ported.root
    assert found["candidate_config"] not in (ported.root, found["default_config"])
    rates = [t.measurement.output_tokens_per_s for t in final if t.config == ported and t.measurement]
    assert len(rates) == 3, "it is launched as often as the others"
    for name in ("ported", "ported_gain", "retuned_gain"):
        estimate = found[name]
        assert isinstance(estimate, dict) and estimate["low"] <= estimate["mean"] <= estimate["high"], name
    assert min(rates) <= found["ported"]["mean"] <= max(rates)  # type: ignore[index]
    whole = found["ported_gain"]["mean"] * found["retuned_gain"]["mean"]  # type: ignore[index]
    assert whole == pytest.approx(found["gain"]["mean"])  # type: ignore[index]


def test_without_an_origin_nothing_is_said_of_one(shell: Shell) -> None:  # noqa: F811
    answer = shell(*HERE, "--out", "here")
    assert answer.code == 0
    assert "ported" not in (answer.out + Path("here/report.md").read_text()).lower()
    assert Ledger.open(Path("here")).header.ported is None


def test_where_nothing_better_is_found_what_was_brought_is_the_answer(shell: Shell, origin: Path) -> None:  # noqa: F811
    """With two trials there are only the default and what was brought."""
    arguments = [*HERE, "--trials", "2", "--from", str(origin), "--out", "here", "--json"]
    found = as_json(shell(*arguments))
    assert found["answer"] == "better"
    assert found["best_config"] == found["candidate_config"] == found["ported_config"]
    assert found["retuned_gain"] is None
    assert "Retuning found nothing better than what was ported" in Path("here/report.md").read_text()


def test_several_origins_are_tried_in_their_order_and_the_first_is_the_ported_one(
    shell: Shell,  # noqa: F811
    origin: Path,
) -> None:
    other = ["--set", "compiled=true", "--knob", "max_num_seqs=64,256", "--set", "block_size=64"]
    assert shell("tune", "--engine", "fake", *FEW, "--trials", "4", *other, "--out", "third").code == 0
    bests = [load_profile(Path(name) / "profile.yaml").changed for name in ("third", str(origin))]
    answer = shell(*HERE, "--trials", "3", "--from", "third/profile.yaml", "--from", str(origin), "--out", "here")
    assert answer.code == 0, answer.errors
    header = Ledger.open(Path("here")).header
    wanted = [header.engine_defaults.updated(best.root) for best in bests]
    assert [trial.config for trial in searched("here")[1:]] == wanted
    assert header.ported == wanted[0]
    assert answer.errors.count("starts from") == 2


@pytest.mark.slow
def test_a_run_with_an_origin_is_resumed_to_the_same_end(shell: Shell, origin: Path) -> None:  # noqa: F811
    assert shell(*HERE, "--from", str(origin), "--out", "whole").code == 0
    lines = Path("whole/trials.jsonl").read_bytes().splitlines(keepends=True)
    for n in (0, 1, 2, 6):
        folder = Path(f"cut-{n}")
        folder.mkdir()
        (folder / "trials.jsonl").write_bytes(b"".join(lines[: 1 + n]))
        answer = shell("tune", "--resume", str(folder))
        assert answer.code == 0, answer.errors
        again = searched(folder)
        assert len(again) == len({trial.config for trial in again}) == 12
        assert [trial.config for trial in again[:2]] == [trial.config for trial in searched("whole")[:2]]
        assert Ledger.open(folder).header.ported == Ledger.open(Path("whole")).header.ported
        assert any(line.startswith("ported") for line in answer.out.splitlines())


def test_an_origin_in_a_config_file_is_the_flag(shell: Shell, origin: Path) -> None:  # noqa: F811
    keys = {"engine": "fake", "requests": 8, "finalists": 1, "final-launches": [3, 3], "trials": 12, "seed": 1}
    Path("run.yaml").write_text(yaml.safe_dump({**keys, "from": [str(origin)]}))
    assert shell(*HERE, "--from", str(origin), "--out", "flags").code == 0
    assert shell("tune", "--config", "run.yaml", "--out", "file").code == 0
    flags, file = (Ledger.open(Path(name)).header.request for name in ("flags", "file"))
    assert {**flags, "out": None} == {**file, "out": None}
    assert flags["from"] == [str(origin)]
    assert [trial.config for trial in searched("flags")] == [trial.config for trial in searched("file")]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("absent", ["absent", "cannot read"]),
        ("absent.yaml", ["absent.yaml", "cannot read"]),
        ("empty", ["empty is not a run"]),
        ("words.yaml", ["words.yaml is no profile"]),
        ("broken.yaml", ["broken.yaml is not YAML"]),
        ("elsewhere/report.md", ["elsewhere/report.md"]),
    ],
)
def test_what_is_no_origin_is_refused_before_anything_is_written(
    shell: Shell,  # noqa: F811
    origin: Path,
    given: str,
    words: list[str],
) -> None:
    assert origin.is_dir()
    Path("empty").mkdir()
    Path("words.yaml").write_text("hello\n")
    Path("broken.yaml").write_text("trials: [3\n")
    before = contents(shell.folder)
    assert_refused(shell(*HERE, "--from", given, "--out", "here"), *words)
    assert contents(shell.folder) == before


def test_a_run_of_an_engine_with_no_knob_in_common_is_refused(shell: Shell, origin: Path) -> None:  # noqa: F811
    for given in (str(origin), str(origin / "profile.yaml")):
        answer = shell("tune", "--engine", "fake:faults", *FEW, "--from", given, "--out", "here")
        assert_refused(answer, given, "shares no knob")
    assert not Path("here").exists()


def test_an_origin_that_is_gone_is_named_when_a_run_is_resumed(shell: Shell, origin: Path) -> None:  # noqa: F811
    assert shell(*HERE, "--trials", "2", "--from", str(origin), "--out", "here").code == 0
    shutil.move(origin, "moved")
    assert_refused(shell("tune", "--resume", "here"), "elsewhere")
