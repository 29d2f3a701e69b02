"""Files are written whole or not at all, and never through a name that leads elsewhere."""

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infertune import writing
from infertune.errors import UsageError
from infertune.writing import (
    append_named,
    check_inside,
    check_named,
    open_to_append,
    remove_inside,
    write_inside,
    write_named,
)


@pytest.fixture(autouse=True)
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the test's folder: a socket's path has to be short."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A folder of somebody else's, which every test leaves as it was."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "a.svg").write_text("kept")
    (folder / "file").write_text("kept")
    yield folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a.svg": "kept", "file": "kept"}


def a_socket(at: Path, precious: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(at))


IN_THE_WAY: dict[str, Callable[[Path, Path], None]] = {
    "a link": lambda at, precious: at.symlink_to(precious / "file"),
    "a link to nothing": lambda at, precious: at.symlink_to(precious / "new"),
    "a link to a folder": lambda at, precious: at.symlink_to(precious, target_is_directory=True),
    "a link to itself": lambda at, precious: at.symlink_to(at.name),
    "a folder": lambda at, precious: at.mkdir(),
    "a pipe": lambda at, precious: os.mkfifo(at),
    "a socket": a_socket,
}


def kinds(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IFMT(path.lstat().st_mode) for path in folder.rglob("*")}


@pytest.mark.parametrize("kind", IN_THE_WAY)
@pytest.mark.parametrize("name", ["report.md", "pictures/a.svg"])
def test_inside_a_run_only_a_regular_file_is_replaced(tmp_path: Path, precious: Path, kind: str, name: str) -> None:
    at = tmp_path / "run" / name
    at.parent.mkdir(parents=True)
    IN_THE_WAY[kind](at, precious)
    before = kinds(tmp_path / "run")
    for attempt in (
        lambda: write_inside(tmp_path / "run", name, "text", "report"),
        lambda: check_inside(tmp_path / "run", ("other", name), "report"),
        lambda: open_to_append(tmp_path / "run", name, "report", make=True),
    ):
        with pytest.raises(UsageError, match=rf"cannot write report .*{name}: it is {' '.join(kind.split()[:2])}; rem"):
            attempt()
    remove_inside(tmp_path / "run", name)
    assert kinds(tmp_path / "run") == before


@pytest.mark.parametrize("kind", [kind for kind in IN_THE_WAY if kind != "a folder"])
def test_no_way_inside_a_run_leads_through_a_link(tmp_path: Path, precious: Path, kind: str) -> None:
    (tmp_path / "run").mkdir()
    IN_THE_WAY[kind](tmp_path / "run" / "pictures", precious)
    for attempt in (
        lambda: write_inside(tmp_path / "run", "pictures/a.svg", "text", "report"),
        lambda: write_inside(tmp_path / "run", "pictures/deep/b.svg", "text", "report"),
        lambda: check_inside(tmp_path / "run", ("pictures/a.svg",), "report"),
        lambda: open_to_append(tmp_path / "run", "pictures/a.svg", "report", make=True),
    ):
        with pytest.raises(UsageError, match=r"pictures: it is "):
            attempt()
    remove_inside(tmp_path / "run", "pictures/a.svg")


def test_the_folder_itself_may_be_a_link_that_its_user_named(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk", target_is_directory=True)
    write_inside(tmp_path / "run", "pictures/a.svg", "text", "report")
    assert (tmp_path / "disk" / "pictures" / "a.svg").read_text() == "text"


def test_a_name_that_becomes_a_link_meanwhile_is_replaced_and_not_followed(
    tmp_path: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def planted_first(*arguments: str, **descriptors: int) -> None:
        (tmp_path / "run" / "report.md").symlink_to(precious / "file")
        replace(*arguments, **descriptors)

    monkeypatch.setattr(writing.os, "replace", planted_first)
    write_inside(tmp_path / "run", "report.md", "text", "report")
    assert not (tmp_path / "run" / "report.md").is_symlink() and (tmp_path / "run" / "report.md").read_text() == "text"


def test_a_file_with_a_second_name_is_replaced_but_not_appended_to(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "report.md").hardlink_to(precious / "file")
    with pytest.raises(UsageError, match=r"2 names \(hard links\)"):
        open_to_append(tmp_path, "report.md", "report", make=False)
    write_inside(tmp_path, "report.md", "text", "report")
    assert (tmp_path / "report.md").read_text() == "text"


@pytest.mark.parametrize("write", [lambda path: write_inside(path.parent, path.name, "new", "x"),
                                   lambda path: write_named(path, "new", "x")])  # fmt: skip
def test_a_replaced_file_keeps_its_mode_and_nothing_else_is_left(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    (tmp_path / "file").write_text("old, and longer")
    (tmp_path / "file").chmod(0o640)
    assert write(tmp_path / "file") == tmp_path / "file"
    assert (tmp_path / "file").read_text() == "new" and stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    (tmp_path / "file").write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(writing.os, "replace", fail)
    with pytest.raises((UsageError, KeyboardInterrupt)):
        write_named(tmp_path / "file", "new", "x")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


@pytest.mark.parametrize("kind", ["a folder", "a socket", "a link to a folder", "a link to itself"])
def test_a_named_place_that_takes_no_text_is_refused(tmp_path: Path, precious: Path, kind: str) -> None:
    IN_THE_WAY[kind](tmp_path / "out", precious)
    before = kinds(tmp_path)
    for attempt in (write_named, lambda path, text, what: check_named(path, what), append_named):
        with pytest.raises(UsageError, match="cannot write profile .*out: "):
            attempt(tmp_path / "out", "text", "profile")
    assert kinds(tmp_path) == before


def test_a_named_link_is_followed_to_its_file_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "real" / "old").write_text("old")
    for name in ("old", "new"):
        write_named(tmp_path / name, "text", "profile")
        assert (tmp_path / name).is_symlink() and (tmp_path / "real" / name).read_text() == "text"


def test_a_named_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="cannot write profile .*pipe: nobody reads this pipe"):
        write_named(tmp_path / "pipe", "text", "profile")  # nobody reads: an error, and no wait
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)  # without one, a reader that comes first sees the end at once
    found: list[bytes] = []
    text = "x" * 300_000  # more than a pipe holds

    def read() -> None:
        os.set_blocking(reader, True)
        while chunk := os.read(reader, 1 << 16):
            found.append(chunk)

    reading = threading.Thread(target=read)
    reading.start()
    write_named(tmp_path / "pipe", text, "profile")
    os.close(writer)
    reading.join(10)
    os.close(reader)
    assert b"".join(found).decode() == text and stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)


def test_a_terminal_is_written_to(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    write_named(Path(os.ttyname(theirs)), "to the terminal", "profile")
    assert os.read(ours, 100) == b"to the terminal"
    os.close(ours)
    os.close(theirs)


def test_only_a_regular_file_is_appended_to_by_name(tmp_path: Path) -> None:
    append_named(tmp_path / "summary", "one\n", "summary")
    append_named(tmp_path / "summary", "two\n", "summary")
    assert (tmp_path / "summary").read_text() == "one\ntwo\n"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="cannot write summary"):
        append_named(tmp_path / "pipe", "text", "summary")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "file/below"])
def test_a_name_that_cannot_be_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    for attempt in (write_named, append_named, lambda path, text, what: write_inside(tmp_path, name, text, what)):
        with pytest.raises(UsageError, match="cannot write profile"):
            attempt(tmp_path / name, "text", "profile")


def test_half_a_character_is_written_as_its_escape(tmp_path: Path) -> None:
    assert write_named(tmp_path / "file", "a\udc80b", "profile").read_text() == "a\\udc80b"
