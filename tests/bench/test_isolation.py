"""Processes of their own: the worker's life, its interpreter and its channel."""

import contextlib
import os
import socket
import subprocess
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import psutil
import pydantic
import pytest

from infertune.bench.channel import (
    Channel,
    CloseCommand,
    LoadCommand,
    LoadedReply,
    MeasureCommand,
    MeasuredReply,
    Plan,
    StageEvent,
)
from infertune.bench.isolation import Deadlines, EngineProcess
from infertune.domain.device import cpu
from infertune.domain.knobs import Config
from infertune.domain.measurement import Crashed, TimedOut
from infertune.domain.workload import parse_workload
from infertune.engines.base import EngineOptions, Setup
from infertune.engines.fake.engine import FakeEngine
from infertune.errors import BenchmarkError, UsageError

OPTIONS = EngineOptions(variant="faults")
WORKLOAD = parse_workload("synthetic:in=8,out=8")
SPACE = FakeEngine(OPTIONS).space(None, cpu(), WORKLOAD)
PLAN = Plan(warmup=WORKLOAD.draw("warmup", 4), requests=WORKLOAD.draw("search", 4))
DEADLINES = Deadlines(load_s=30, warmup_s=30, run_s=30)


def load_command(fault: str = "no fault") -> LoadCommand:
    config = SPACE.default.updated({"fault": fault})
    setup = Setup(model=None, device=cpu(), config=config, defaults=SPACE.default, faithful=False)
    return LoadCommand(engine="fake", options=OPTIONS, setup=setup)


def group(pid: int) -> list[psutil.Process]:
    """The living members of a process group."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def assert_group_ends(pid: int) -> None:
    deadline = time.monotonic() + 60
    while group(pid):
        assert time.monotonic() < deadline, group(pid)
        time.sleep(0.02)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path / "logs" / "launch.log") as process:
        yield process
    assert_group_ends(process.pid)


def test_one_load_answers_several_measurements_and_close_leaves_nothing(process: EngineProcess) -> None:
    reply = process.load(load_command(), DEADLINES)
    assert isinstance(reply, LoadedReply) and 0 < reply.elapsed_s <= process.elapsed_s
    assert len(group(process.pid)) == 3, "worker, guardian and the engine's helper"
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    for speed in (1, 8):
        answer = process.measure(MeasureCommand(live=Config({"speed": speed}), plan=PLAN), DEADLINES)
        assert isinstance(answer, MeasuredReply)
        assert answer.measurement.windows[0].output_tokens == 32
        assert answer.measurement.windows[0].duration_s == pytest.approx(0.1 / speed, rel=0.5)
    process.close()
    assert not process.alive
    assert_group_ends(process.pid)
    process.close()  # twice does no harm
    process.kill()


def test_output_of_the_engine_goes_to_the_log_and_never_into_the_channel(process: EngineProcess) -> None:
    process.load(load_command("exit"), DEADLINES)
    answer = process.measure(MeasureCommand(live=Config({"speed": 8}), plan=PLAN), DEADLINES)
    assert isinstance(answer, Crashed)
    assert process.log_path.read_text().endswith("the engine says goodbye\n")
    assert process.log_tail(1) == "the engine says goodbye"


def test_a_deadline_ends_the_whole_group_at_once(process: EngineProcess) -> None:
    started = time.monotonic()
    answer = process.load(load_command("hang at load"), Deadlines(load_s=1.0))
    assert answer == TimedOut(stage="load", after_s=1.0)
    assert not process.alive and not group(process.pid)
    assert time.monotonic() - started < 5, "killing does not wait for processes that pid 1 has yet to reap"


def test_an_exception_in_the_parent_kills_without_waiting_for_the_engine(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), EngineProcess(tmp_path / "log") as process:
        process.load(load_command(), DEADLINES)
        raise ZeroDivisionError
    assert not group(process.pid)


def test_a_death_is_seen_though_a_child_of_the_worker_holds_the_channel_open(
    process: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.load(load_command("hang in run"), DEADLINES)
    held, silent = socket.socketpair()  # as when an engine forked: no end of file ever comes
    monkeypatch.setattr(process, "_channel", Channel(held))
    os.kill(process.pid, 9)
    started = time.monotonic()
    answer = process.measure(MeasureCommand(live=Config({"speed": 1}), plan=PLAN), DEADLINES)
    silent.close()
    assert isinstance(answer, Crashed) and answer.signal == "SIGKILL"
    assert time.monotonic() - started < 20


def test_the_environment_given_reaches_the_worker(tmp_path: Path) -> None:
    with EngineProcess(tmp_path / "log", environment={"INFERTUNE_PROBE": "here"}) as process:
        process.load(load_command(), DEADLINES)
        assert psutil.Process(process.pid).environ()["INFERTUNE_PROBE"] == "here"


def test_an_interpreter_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("not a program")
    with pytest.raises(BenchmarkError, match="cannot start .*python: Permission denied"):
        EngineProcess(tmp_path / "log", python=tmp_path / "python")


def test_a_log_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write log .*logs: it is a file"):
        EngineProcess(tmp_path / "logs" / "launch.log")


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """Another environment's interpreter, with neither infertune nor what it depends on."""
    venv.create(tmp_path / "other", with_pip=False, symlinks=True)
    return tmp_path / "other" / "bin" / "python"


def test_a_foreign_interpreter_gets_this_package_and_nothing_else_of_ours(tmp_path: Path, bare_python: Path) -> None:
    site = Path(
        subprocess.run(
            [bare_python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    # The folder that the libraries are imported from: it need not be this environment's own.
    (site / "ours.pth").write_text(f"{Path(pydantic.__file__).parents[1]}\n")
    links = tmp_path / "links"
    links.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(links))
        patch.setenv("PYTHONPATH", "/nowhere/of/the/parents")
        process = EngineProcess(tmp_path / "log", python=bare_python)
    with process:
        assert isinstance(process.load(load_command(), DEADLINES), LoadedReply), process.log_tail()
        worker = psutil.Process(process.pid)
        assert worker.cmdline()[0] == str(bare_python)
        (link,) = links.iterdir()
        assert worker.environ()["PYTHONPATH"] == str(link)
        assert [path.name for path in link.iterdir()] == ["infertune"]
        answer = process.measure(MeasureCommand(live=Config({"speed": 8}), plan=PLAN), DEADLINES)
        assert isinstance(answer, MeasuredReply)
    assert not list(links.iterdir())


def test_a_foreign_interpreter_without_our_libraries_says_what_is_missing(tmp_path: Path, bare_python: Path) -> None:
    with EngineProcess(tmp_path / "log", python=bare_python) as process:
        answer = process.load(load_command(), DEADLINES)
    assert isinstance(answer, Crashed) and answer.exit_code == 1
    assert answer.detail.startswith("exited with code 1: ModuleNotFoundError: No module named ")
    assert_group_ends(process.pid)


def test_the_channel_carries_messages_in_order_and_says_when_the_other_end_is_gone() -> None:
    left, right = map(Channel, socket.socketpair())
    left.send(StageEvent(stage="load"))
    left.send(CloseCommand())
    assert right.receive(1) == StageEvent(stage="load")
    assert right.receive(1) == CloseCommand()
    with pytest.raises(TimeoutError):
        right.receive(0)
    left.close()
    with pytest.raises(EOFError):
        right.receive(1)
    right.close()
