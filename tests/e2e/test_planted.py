"""A stranger's run or profile makes no command write, replace or delete anything outside of what it names."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_cli import FAKE, SMALL, Shell, assert_refused, contents
from tests.cli.test_profiles import a_profile
from tests.report.runs import saved, tuned

IN_THE_WAY: dict[str, Callable[[Path, Path], None]] = {
    "a link": lambda at, precious: at.symlink_to(precious / "a.svg"),
    "a link to nothing": lambda at, precious: at.symlink_to(precious / "new"),
    "a link to a folder": lambda at, precious: at.symlink_to(precious, target_is_directory=True),
    "a pipe": lambda at, precious: os.mkfifo(at),
}
REPORTS = ["landscape.csv", "pictures", "pictures/answer.svg", "pictures/energy.svg", "report.md", "report.html"]


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of the user's that no command is told of."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "a.svg").write_text("kept")
    (folder / "answer.svg").write_text("kept")
    return folder


def plant(at: Path, kind: str, precious: Path) -> None:
    if at.exists():
        at.rename(at.with_name("moved-away"))
    at.parent.mkdir(parents=True, exist_ok=True)
    IN_THE_WAY[kind](at, precious)


def kinds(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_mode, p.lstat().st_size) for p in folder.rglob("*") if not p.is_dir()}


@pytest.mark.parametrize("kind", IN_THE_WAY)
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_refused_where_one_of_its_names_leads_elsewhere(
    shell: Shell,
    precious: Path,
    name: str,
    kind: str,
) -> None:
    saved(Path("run"), tuned(trials=12))
    plant(Path("run") / name, kind, precious)
    before = kinds(Path("run")), contents(precious)
    assert_refused(shell("report", "run"), f"cannot write report run/{name}: it is a ", "remove it")
    assert (kinds(Path("run")), contents(precious)) == before, "nothing was written at all"


def test_a_report_deletes_none_of_the_pictures_that_it_has_not_drawn(shell: Shell) -> None:
    saved(Path("run"), tuned(trials=12))
    Path("run/pictures").mkdir()
    for name in ("mine.svg", "answer.svg.txt"):
        Path("run/pictures", name).write_text("mine")
    assert shell("report", "run").code == 0
    assert Path("run/pictures/mine.svg").read_text() == "mine" and Path("run/pictures/answer.svg").is_file()


@pytest.mark.parametrize("name", ["comparison.html", "comparison.md", "comparison.svg"])
def test_a_comparison_is_refused_where_one_of_its_names_leads_elsewhere(
    shell: Shell,
    precious: Path,
    name: str,
) -> None:
    for run in ("a", "b"):
        saved(Path(run), tuned(trials=12))
    plant(Path("both") / name, "a link", precious)
    before = contents(precious)
    assert_refused(shell("report", "a", "b", "--out", "both"), f"cannot write report both/{name}: it is a link")
    assert contents(precious) == before and [path.name for path in Path("both").iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, f"cannot write report run/{name}: it is a link") for name in REPORTS),
        ("profile.yaml", "cannot write profile run/profile.yaml: it is a link"),
        ("logs", "cannot write logs run/logs: it is a link"),
        ("trials.jsonl", "run holds a run already"),
    ],
)
def test_a_tune_into_a_folder_with_links_is_refused_before_it_measures(
    shell: Shell,
    precious: Path,
    name: str,
    words: str,
) -> None:
    plant(Path("run") / name, "a link to a folder", precious)
    before = kinds(Path("run")), contents(precious)
    assert_refused(shell(*FAKE, *SMALL[2:], "--out", "run"), words)
    assert (kinds(Path("run")), contents(precious)) == before


@pytest.mark.parametrize("name", ["trials.jsonl", "profile.yaml", "report.html", "logs"])
def test_a_strangers_run_is_not_resumed_through_links(shell: Shell, precious: Path, name: str) -> None:
    assert shell(*FAKE, *SMALL[2:], "--out", "run", "--profiles", "kept").code == 0
    ledger = Path("run/trials.jsonl")
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:3]))  # as if it had been interrupted
    if name == "trials.jsonl":
        (precious / name).write_bytes(ledger.read_bytes())
        ledger.unlink()
        ledger.symlink_to(precious / name)
    else:
        plant(Path("run") / name, "a link", precious)
    before = contents(precious)
    assert_refused(shell("tune", "--resume", "run"), f"run/{name}: it is a link")
    assert contents(precious) == before and len(ledger.read_bytes().splitlines()) == 3


@pytest.mark.parametrize("part", ["gpu", "engine", "file"])
def test_a_profile_is_not_saved_through_links_among_the_profiles(
    shell: Shell,
    precious: Path,
    part: str,
) -> None:
    assert shell(*FAKE, *SMALL[2:], "--out", "first", "--profiles", "kept").code == 0
    (saved_at,) = Path("kept").rglob("*.yaml")
    at = {"gpu": saved_at.parent.parent, "engine": saved_at.parent, "file": saved_at}[part]
    at.rename("elsewhere")
    at.symlink_to(precious / "a.svg" if part == "file" else precious, target_is_directory=part != "file")
    before = contents(precious)
    answer = shell(*FAKE, *SMALL[2:], "--out", "run", "--profiles", "kept")
    assert answer.code == 2 and f"cannot write profile {at}: it is a link" in answer.errors, answer
    assert not Path("run").exists() and contents(precious) == before


def test_a_gate_writes_no_result_and_no_history_through_a_link(shell: Shell, precious: Path) -> None:
    assert shell(*FAKE, *SMALL[2:], "--out", "first", "--profiles", "kept").code == 0
    Path("p.yaml").write_bytes(Path("first/profile.yaml").read_bytes())
    plant(Path("run/gate.json"), "a link", precious)
    before = contents(precious)
    assert_refused(shell("gate", "p.yaml", "--out", "run"), "cannot write result run/gate.json: it is a link")
    plant(Path("p.gate"), "a link to a folder", precious)
    assert_refused(shell("gate", "p.yaml", "--mode", "stored", "--out", "other"), "p.gate is a link", "--history")
    assert contents(precious) == before and not Path("other").exists()


@pytest.mark.parametrize("form", [(), ("--as", "vllm-yaml")])
def test_an_export_writes_to_a_pipe_and_leaves_it_a_pipe(shell: Shell, form: tuple[str, ...]) -> None:
    a_profile().save(Path("p.yaml"))
    wanted = shell("profile", "export", "p.yaml", *form).out
    os.mkfifo("pipe")
    assert_refused(shell("profile", "export", "p.yaml", *form, "--out", "pipe"), "pipe: ")  # nobody reads: no wait
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert shell("profile", "export", "p.yaml", *form, "--out", "pipe").code == 0
    assert os.read(reader, 1 << 16).decode() == wanted and stat.S_ISFIFO(Path("pipe").lstat().st_mode)
    os.close(reader)


@pytest.mark.parametrize("place", [".", "folder", "folder/", "p.yaml/below"])
def test_an_export_to_what_is_no_file_is_one_line(shell: Shell, place: str) -> None:
    a_profile().save(Path("p.yaml"))
    Path("folder").mkdir()
    before = contents(Path("."))
    assert_refused(shell("profile", "export", "p.yaml", "--out", place), "cannot write profile")
    assert contents(Path(".")) == before


def test_an_export_follows_a_link_that_its_user_named_but_none_inside_the_run(
    shell: Shell,
    precious: Path,
) -> None:
    saved(Path("run"), tuned(trials=12))
    Path("mine").symlink_to("real.yaml")
    assert shell("profile", "export", "run", "--out", "mine").code == 0
    assert Path("mine").is_symlink() and Path("real.yaml").is_file()
    plant(Path("run/profile.yaml"), "a link", precious)
    before = contents(precious)
    assert_refused(shell("profile", "export", "run", "--out", "run/profile.yaml"), "profile.yaml: it is a link")
    assert contents(precious) == before


def test_a_summary_that_is_no_file_changes_no_verdict_and_holds_nothing_up(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shell(*FAKE, *SMALL[2:], "--out", "first", "--profiles", "kept").code == 0
    os.mkfifo("pipe")
    wanted = shell("gate", "first/profile.yaml", "--seed", "1").code
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "pipe")
    assert shell("gate", "first/profile.yaml", "--seed", "1").code == wanted


def test_two_resumes_of_one_run_are_not_two_writers(shell: Shell) -> None:
    assert shell(*FAKE, *SMALL[2:], "--out", "run", "--profiles", "kept").code == 0
    from infertune.runs.ledger import Ledger

    with Ledger.open(Path("run"), mend=True):
        before = Path("run/trials.jsonl").read_bytes()
        answer = shell("tune", "--resume", "run", "--trials", "9")
        assert answer.code == 5 and len(answer.errors.splitlines()) == 1
        assert f"run is in use by another infertune run, process {os.getpid()}" in answer.errors
        assert Path("run/trials.jsonl").read_bytes() == before
    assert shell("tune", "--resume", "run").code == 0
