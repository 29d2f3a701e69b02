"""Signals at many moments: a run ends cleanly, says so, and leaves no process, no lock and no half-written file."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infertune.bench import interrupts, locks
from infertune.bench.locks import device_lock
from infertune.cli.signals import Interrupts, next_ctrl_c_interrupts
from infertune.domain.device import detect, lock_names
from infertune.runs.ledger import Ledger
from tests import apart
from tests.bench.test_faults import MARK, last_line, ours, until

TUNE = ["--set", "size=1", "--requests", "8", "--trials", "8", "--finalists", "1", "--confirm-launches", "1"]
TUNE += ["--final-launches", "2", "2", "--out", "run", "--profiles", "profiles"]


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """Also where the tests were started in a shell's background, whose processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Tune:
    """A tune with real worker processes, and what it has said so far."""

    def __init__(self, folder: Path, *more: str, ignored: tuple[signal.Signals, ...] = ()) -> None:
        self.folder = folder
        self.said: list[str] = []

        def dispositions() -> None:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

        self.process = subprocess.Popen(
            [*apart.command(folder), "tune", "--engine", "fake:faults", *TUNE, *more],
            cwd=folder,
            env={**os.environ, MARK: str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=dispositions,  # noqa: PLW1509
        )

    def until_it_says(self, words: str) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said.append(line)
            if words in line:
                return
        raise AssertionError(f"it never said {words!r}: {''.join(self.said)}")

    def send(self, *numbers: signal.Signals) -> None:
        for number in numbers:
            self.process.send_signal(number)

    def end(self) -> str:
        """What it said in all, and no trace of it."""
        assert self.process.stderr
        self.said += self.process.stderr
        self.process.wait(60)
        said = "".join(self.said)
        assert self.process.returncode == 130, (self.process.returncode, said)
        assert "Traceback" not in said and "Exception" not in said, said
        until(lambda: not ours(self.folder), 60, "the end of every process")
        assert not [path for path in self.folder.rglob("*") if "draft" in path.name]
        return said


@pytest.fixture(autouse=True)
def the_same_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After every test the device is free."""
    monkeypatch.setattr(locks, "NAMESPACE", str(tmp_path))
    yield
    with device_lock(lock_names(detect()), wait=False):
        pass


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGHUP, "   0 launch"),
        (signal.SIGTERM, "   0 launch"),
        (signal.SIGINT, "   0 launch"),
        (signal.SIGTERM, "search"),
        (signal.SIGINT, "search"),
    ],
)
@pytest.mark.slow
def test_the_first_signal_offers_the_run_so_far(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    run = Tune(tmp_path)
    run.until_it_says(moment)
    run.send(number)
    said = run.end()
    assert "interrupted after" in last_line(said) and "infertune tune --resume run" in last_line(said)
    ledger = Ledger.open(tmp_path / "run")
    assert not ledger.warnings and f"after {len(ledger.trials)} trials" in last_line(said)
    if ledger.trials:
        assert (tmp_path / "run" / "profile.yaml").is_file() and (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("more", [1, pytest.param(2, marks=SLOW), pytest.param(5, marks=SLOW)])
def test_further_terminations_do_not_break_the_clean_ending(tmp_path: Path, more: int) -> None:
    run = Tune(tmp_path)
    run.until_it_says("   1 ")
    run.send(signal.SIGTERM)
    for _ in range(more):
        run.send(signal.SIGTERM, signal.SIGHUP)
    run.until_it_says("interrupted: the engine is closed")
    run.send(signal.SIGTERM, signal.SIGHUP)
    said = run.end()
    assert "interrupted after" in last_line(said) and (tmp_path / "run" / "profile.yaml").is_file()


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_the_report_out_and_says_so(tmp_path: Path) -> None:
    run = Tune(tmp_path)
    run.until_it_says("   1 ")
    run.send(signal.SIGINT)
    run.until_it_says("Ctrl-C again leaves it out")
    run.send(signal.SIGINT)
    said = run.end()
    assert "interrupted twice after" in last_line(said) and "profile and report are not written" in last_line(said)
    assert "infertune tune --resume run" in last_line(said) and len(Ledger.open(tmp_path / "run").trials) >= 2


@SLOW
def test_under_nohup_the_end_of_the_terminal_is_no_signal(tmp_path: Path) -> None:
    run = Tune(tmp_path, ignored=(signal.SIGHUP,))
    run.until_it_says("   0 ")
    run.send(signal.SIGHUP)
    run.until_it_says("   1 ")
    run.send(signal.SIGTERM)
    assert "interrupted after" in run.end()


def test_a_signal_that_comes_when_all_is_done_changes_no_exit_code() -> None:
    code = "nothing yet"
    with Interrupts():
        code = "done"
        signal.raise_signal(signal.SIGTERM)
    assert code == "done", "the first one ends the block, and goes no further"
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.raise_signal(number)


def test_a_second_ctrl_c_says_what_is_going_on_and_a_third_ends_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with Interrupts():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert capfd.readouterr().err == ""
        signal.raise_signal(signal.SIGINT)
        assert "ending already" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_once_the_engine_is_gone_a_second_ctrl_c_is_heard() -> None:
    with Interrupts():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        next_ctrl_c_interrupts()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)  # the command is over


def test_an_interrupt_that_python_drops_is_repeated() -> None:
    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with Interrupts(), pytest.raises(KeyboardInterrupt):
        Dropping()
        assert not threading.Event().wait(10), "the repeated one comes before"


def test_signals_wait_while_a_process_is_started_or_ended() -> None:
    steps = []
    with Interrupts():
        with pytest.raises(KeyboardInterrupt), interrupts.held_back():
            signal.raise_signal(signal.SIGHUP)
            with interrupts.held_back():
                signal.raise_signal(signal.SIGTERM)
            steps.append("the block has ended")
        steps.append("and then the signal came")
    assert len(steps) == 2
