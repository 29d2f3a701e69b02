"""Printing never fails: encodings, readers that leave, full disks, closed streams; exit codes stay what they are."""

import errno
import io
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infertune import cli
from infertune.cli.streams import PlainStream, TolerantStream, tolerant_streams
from tests.cli.test_cli import SMALL, Shell, shell  # noqa: F401 - a fixture is found by its name
from tests.e2e.gates import edited, profile

INFERTUNE = [sys.executable, "-m", "infertune"]


class Failing(io.StringIO):
    """A stream that can take nothing."""

    def __init__(self, error: Exception, at: str = "write") -> None:
        super().__init__()
        self._error, self._at = error, at

    def write(self, text: str) -> int:
        if self._at == "write":
            raise self._error
        return super().write(text)

    def flush(self) -> None:
        if self._at == "flush":
            raise self._error


FAILURES = {
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "reader gone": BrokenPipeError(errno.EPIPE, "Broken pipe"),
    "disk error": OSError(errno.EIO, "Input/output error"),
    "closed": ValueError("I/O operation on closed file."),
}


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8", "utf-16", "koi8-r"]))
def test_any_text_is_written_in_any_encoding(text: str, encoding: str) -> None:
    with tempfile.TemporaryFile("w+", encoding=encoding, newline="") as file:
        stream = TolerantStream(file)
        for part in (text, "– × ✓ end"):
            stream.write(part)
        assert stream.failure is None
        file.seek(0)
        assert file.read().endswith("end")


def test_what_the_encoding_lacks_becomes_what_looks_alike_or_a_question_mark() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    TolerantStream(stream).write("1 – 2 × ±3 … Größe \ud800")
    assert raw.getvalue() == b"1 - 2 x +-3 ... Gr??e ?"


@pytest.mark.parametrize("at", ["write", "flush"])
@pytest.mark.parametrize("name", FAILURES)
def test_a_stream_that_fails_takes_everything_and_is_left_alone(name: str, at: str) -> None:
    stream = PlainStream(Failing(FAILURES[name], at))
    for _ in range(3):
        assert print("text", file=stream) is None
    assert stream.loss == ("" if name == "reader gone" else str(FAILURES[name].args[-1]))


def test_a_closed_stream_takes_everything() -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (PlainStream(None), PlainStream(closed)):
        print("text", file=stream)
        assert not stream.isatty()


def test_a_library_that_prints_or_logs_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with tolerant_streams():
        print("a\x1b]0;owned\x07\u202eb\tc\nd")
        logging.StreamHandler().emit(logging.makeLogRecord({"msg": "\x9b31m"}))
    out, errors = capsys.readouterr()
    assert out == "a\ufffd]0;owned\ufffd\ufffdb\tc\nd\n" and "\x9b" not in errors and "31m" in errors


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_no_verdict_changes_because_it_cannot_be_printed(
    shell: Shell,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    which: str,
    name: str,
) -> None:
    fast = str(profile(shell.folder, "fast.yaml", set={"compiled": True}))
    slow = str(profile(shell.folder, "slow.yaml"))
    elsewhere = str(edited(profile(shell.folder, "other.yaml"), fingerprint__device__name="another"))
    for number, (arguments, code) in enumerate(
        [((fast,), 0), ((slow, "--against", fast), 1), ((elsewhere,), 4), (("absent.yaml",), 2)]
    ):
        with monkeypatch.context() as patch:
            patch.setattr(sys, which, Failing(FAILURES[name]))
            patch.setattr(sys, "argv", ["infertune", "gate", *arguments, "--seed", "1", "--out", f"run-{number}"])
            with pytest.raises(SystemExit) as end:
                cli.main()
        assert end.value.code == code
        if code in (0, 1):
            assert json.loads(Path(f"run-{number}/gate.json").read_text())["exit_code"] == code


def test_output_that_is_lost_is_told_on_standard_error(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    told = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Failing(FAILURES["full"]))
    monkeypatch.setattr(sys, "stderr", told)
    monkeypatch.setattr(sys, "argv", ["infertune", "doctor"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert told.getvalue() == "infertune: standard output could not be written: No space left on device\n"


@pytest.mark.parametrize(
    "arguments", [["gate", "p.yaml", "--seed", "1"], ["profile", "export", "p.yaml"]], ids=" ".join
)
def test_a_reader_that_leaves_changes_no_exit_code_and_causes_no_message(shell: Shell, arguments: list[str]) -> None:  # noqa: F811
    """The pipe has no reader when the program starts: every write fails, the last at its exit."""
    profile(shell.folder, set={"compiled": True})
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([*INFERTUNE, *arguments], stdout=write, stderr=subprocess.PIPE, text=True, timeout=180)
    finally:
        os.close(write)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr and "Broken" not in done.stderr


def _keep_below(size_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def test_a_file_that_cannot_grow_as_standard_output_changes_no_exit_code(shell: Shell) -> None:  # noqa: F811
    """The kernel refuses every write behind a limit that only standard output's file has reached."""
    profile(shell.folder, set={"compiled": True})
    limit = 8 * 1024**2
    with open("full", "wb") as full:
        full.truncate(limit)
    with open("full", "ab") as full:
        done = subprocess.run(
            [*INFERTUNE, "gate", "p.yaml", "--seed", "1", "--out", "run"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=180,
            preexec_fn=lambda: _keep_below(limit),
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "infertune: standard output could not be written: File too large"
    assert json.loads(Path("run/gate.json").read_text())["answer"] == "pass"


def test_closed_streams_change_no_exit_code_and_their_numbers_go_to_no_file_of_the_run(shell: Shell) -> None:  # noqa: F811
    """With a closed standard output, the next file opened would get its number and everything that is printed."""
    profile(shell.folder, set={"compiled": True})
    closed = "<&- >&- 2>&-"
    script = f"exec {sys.executable} -m infertune gate p.yaml --seed 1 --out run {closed}"
    assert subprocess.run(["sh", "-c", script], timeout=180).returncode == 0
    assert json.loads(Path("run/gate.json").read_text())["answer"] == "pass"
    code = (
        "from infertune.cli.streams import tolerant_streams\n"
        "with tolerant_streams(), open('mine', 'w') as file:\n"
        "    print('text')\n"
        "    file.write(str(file.fileno() > 2))\n"
    )
    subprocess.run(["sh", "-c", f'exec {sys.executable} -c "{code}" {closed}'], check=True, timeout=180)
    assert Path("mine").read_text() == "True"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r", "utf-8"])
def test_every_encoding_of_standard_output_prints_tables_and_keeps_json_json(
    shell: Shell,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
) -> None:
    path = str(profile(shell.folder, set={"compiled": True}))
    for number, arguments in enumerate((["gate", path], ["gate", path, "--json"], ["doctor"], ["tune", *SMALL])):
        raw, raw_errors = io.BytesIO(), io.BytesIO()
        streams = [io.TextIOWrapper(each, encoding=encoding, errors="strict") for each in (raw, raw_errors)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        monkeypatch.setattr(sys, "argv", ["infertune", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0, raw_errors.getvalue()
        text = raw.getvalue().decode(encoding)
        assert "Traceback" not in raw_errors.getvalue().decode(encoding)
        if "--json" in arguments:
            assert json.loads(text)["answer"] == "pass" and text.isascii()
        elif number == 0:
            assert text.splitlines()[-1].startswith("PASS: throughput +")


def test_the_encoding_that_the_user_sets_is_used(shell: Shell) -> None:  # noqa: F811
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*INFERTUNE, "tune", "--help"], capture_output=True, env=environment, timeout=180)
    assert done.returncode == 0 and b"out=128 | trace:FILE.csv" in done.stdout


def test_rich_finds_the_stream_without_the_filter_and_its_encoding() -> None:
    from infertune.cli.printing import console, say

    raw = io.BytesIO()
    stream: TextIO = io.TextIOWrapper(raw, encoding="ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setenv("FORCE_COLOR", "1")
        with tolerant_streams():
            say(console(), ("bold", "bold"), " – plain \x1b[31m")
    assert raw.getvalue() == b"\x1b[1mbold\x1b[0m - plain ?[31m\n"
