"""Every fault on a real child process: a typed outcome, one clear line, and no process left behind."""

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infertune.bench import locks
from infertune.bench.bench import Bench
from infertune.bench.channel import Plan
from infertune.bench.isolation import Deadlines
from infertune.bench.locks import device_lock
from infertune.domain.device import cpu, detect, lock_names
from infertune.domain.knobs import Scalar
from infertune.domain.measurement import Crashed, Infeasible, Measurement, TimedOut, describe
from infertune.domain.trial import Attempt, Trial
from infertune.domain.workload import parse_workload
from infertune.engines import get_engine
from infertune.engines.base import EngineOptions
from infertune.runs.ledger import Ledger
from tests import apart

MARK = "INFERTUNE_TEST_FOLDER"
OPTIONS = EngineOptions(variant="faults")
ENGINE = get_engine("fake:faults", OPTIONS)
WORKLOAD = parse_workload("synthetic:in=8,out=8")
SPACE = ENGINE.space(None, cpu(), WORKLOAD)
SMALL = ["--requests", "8", "--finalists", "1", "--confirm-launches", "1", "--final-launches", "2", "2"]
ONE_POINT = ["--set", "fault=no fault", "--set", "size=1", "--set", "speed=1"]


def ours(folder: Path) -> list[psutil.Process]:
    """Every process that was started under a test's mark, directly or not: an environment is inherited."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def workers(folder: Path) -> list[psutil.Process]:
    """The workers among them, without their guardians, which are forks of theirs."""
    found = []
    for process in ours(folder):
        try:
            if "infertune.bench.worker" in process.cmdline() and os.getpgid(process.pid) == process.pid:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Poll until something holds; there is no other way to watch a process of somebody else's."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mark what a test starts, keep its locks to itself, and look for survivors when it is over."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv(MARK, str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    yield
    try:
        until(lambda: not ours(tmp_path), 60, f"the end of {ours(tmp_path)}")
    finally:
        for process in ours(tmp_path):
            process.kill()


class Faulty:
    """A bench with the engine that fails, and what it noted."""

    def __init__(self, folder: Path, **deadlines: float) -> None:
        self.folder = folder
        self.notes: list[str] = []
        limits = Deadlines(**{"load_s": 30.0, "warmup_s": 30.0, "run_s": 30.0, **deadlines})
        self.bench = Bench(ENGINE, OPTIONS, None, cpu(), SPACE, folder / "logs", limits, on_note=self.notes.append)

    def measure(self, windows: int = 1, **settings: Scalar) -> Attempt:
        """One configuration, and the bench closed after it."""
        plan = Plan(warmup=WORKLOAD.draw("warmup", 8), requests=WORKLOAD.draw("search", 8), windows=windows)
        with self.bench:
            return self.bench.measure(SPACE.default.updated(settings), plan)

    def kill_workers(self, how_many: int, *, when: Callable[[psutil.Process], bool]) -> None:
        """Send SIGKILL to so many workers in turn, each as soon as something holds of it."""

        def hunt() -> None:
            killed: set[int] = set()
            deadline = time.monotonic() + 30
            while len(killed) < how_many and time.monotonic() < deadline:
                for worker in workers(self.folder):
                    try:
                        if worker.pid not in killed and when(worker):
                            worker.kill()
                            killed.add(worker.pid)
                    except psutil.NoSuchProcess:
                        continue
                time.sleep(0.02)

        threading.Thread(target=hunt, daemon=True).start()


def just_started(_: psutil.Process) -> bool:
    return True


def loaded(worker: psutil.Process) -> bool:
    """Its engine's helper has run for a while, so that the engine is warming up or running."""
    helpers = [child for child in worker.children() if "time.sleep(600)" in " ".join(child.cmdline())]
    return bool(helpers) and time.time() - helpers[0].create_time() > 0.8


def one_line(attempt: Attempt) -> str:
    line = describe(attempt.outcome)
    assert "\n" not in line and line
    return line


@pytest.mark.parametrize(("when", "windows"), [(just_started, 1), (loaded, 25)], ids=["loading", "measuring"])
def test_a_worker_killed_once_is_tried_once_more_and_measured(
    tmp_path: Path, when: Callable[[psutil.Process], bool], windows: int
) -> None:
    faulty = Faulty(tmp_path)
    faulty.kill_workers(1, when=when)
    attempt = faulty.measure(windows)
    assert isinstance(attempt.outcome, Measurement)
    assert attempt.launch_number == 1
    assert len(faulty.notes) == 1 and "SIGKILL" in faulty.notes[0] and "once more" in faulty.notes[0]


@pytest.mark.parametrize(
    ("when", "fault", "stages"),
    [(just_started, "hang at load", {"load"}), (loaded, "hang in run", {"warmup", "run"})],
    ids=["loading", "measuring"],
)
def test_a_worker_killed_twice_is_a_crash_by_sigkill(
    tmp_path: Path, when: Callable[[psutil.Process], bool], fault: str, stages: set[str]
) -> None:
    faulty = Faulty(tmp_path)
    faulty.kill_workers(2, when=when)
    attempt = faulty.measure(fault=fault)
    assert isinstance(attempt.outcome, Crashed) and attempt.outcome.signal == "SIGKILL"
    assert attempt.outcome.stage in stages and attempt.launch_number == 1
    assert "killed by SIGKILL (perhaps by the kernel, out of host memory)" in one_line(attempt)


@pytest.mark.parametrize(
    ("fault", "stage", "deadlines", "launches"),
    [
        ("hang at load", "load", {"load_s": 1.5}, 2),  # a load that hangs is tried once more
        ("hang at warmup", "warmup", {"warmup_s": 1.0}, 1),
        ("hang in run", "run", {"run_s": 1.0}, 1),
    ],
)
def test_a_hang_is_ended_at_its_stages_deadline(
    tmp_path: Path, fault: str, stage: str, deadlines: dict[str, float], launches: int
) -> None:
    attempt = Faulty(tmp_path, **deadlines).measure(fault=fault)
    assert attempt.outcome == TimedOut(stage=stage, after_s=deadlines[f"{stage}_s"])
    assert attempt.launch_number == launches - 1
    assert one_line(attempt).startswith(f"no end of {stage} after ")
    assert attempt.launch_s + attempt.run_s < 30


@pytest.mark.parametrize(
    ("fault", "stage", "reason", "line"),
    [
        ("oom at load", "load", "oom", "out of memory in load: out of memory: 120%"),
        ("oom in run", "run", "oom", "out of memory in run: out of memory: 120%"),
        ("rejected", "load", "rejected", "rejected in load: this engine does not take that setting"),
    ],
)
def test_what_the_engine_refuses_is_infeasible_and_never_retried(
    tmp_path: Path, fault: str, stage: str, reason: str, line: str
) -> None:
    faulty = Faulty(tmp_path)
    attempt = faulty.measure(fault=fault)
    assert isinstance(attempt.outcome, Infeasible)
    assert (attempt.outcome.reason, attempt.outcome.stage) == (reason, stage)
    assert attempt.launch_number == 0 and not any("once more" in note for note in faulty.notes)
    assert one_line(attempt).startswith(line)


@pytest.mark.parametrize(
    ("fault", "detail", "extra"),
    [
        ("segfault", "killed by SIGSEGV", {"signal": "SIGSEGV", "exit_code": None}),
        ("exit", "exited with code 3: the engine says goodbye", {"signal": None, "exit_code": 3}),
        ("exception", "RuntimeError: an internal error", {}),
        ("short answer", "BadAnswerError: 8 of 8 requests came back with another number of tokens", {}),
        ("nan", "BadAnswerError: a latency of nan s came back", {}),
    ],
)
def test_a_fault_of_the_engine_is_a_crash_and_never_a_measurement(
    tmp_path: Path, fault: str, detail: str, extra: dict[str, object]
) -> None:
    attempt = Faulty(tmp_path).measure(fault=fault)
    assert isinstance(attempt.outcome, Crashed) and attempt.launch_number == 0
    assert attempt.outcome.detail.startswith(detail) and detail in one_line(attempt)
    for name, value in extra.items():
        assert getattr(attempt.outcome, name) == value
    if fault == "exit":
        assert attempt.outcome.stderr_tail.endswith("the engine says goodbye")
    if fault == "exception":
        assert "in _fail_if" in attempt.outcome.stderr_tail


def test_a_segfault_keeps_what_the_worker_wrote_before_it(tmp_path: Path) -> None:
    faulty = Faulty(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "launch-0000.log").write_text("loading kernels\n")  # a launch appends to its log
    attempt = faulty.measure(fault="segfault")
    assert isinstance(attempt.outcome, Crashed) and "loading kernels" in attempt.outcome.stderr_tail


def test_the_engine_still_measures_after_a_crash(tmp_path: Path) -> None:
    faulty = Faulty(tmp_path)
    plan = Plan(warmup=WORKLOAD.draw("warmup", 8), requests=WORKLOAD.draw("search", 8))
    with faulty.bench:
        assert isinstance(faulty.bench.measure(SPACE.default.updated({"fault": "segfault"}), plan).outcome, Crashed)
        assert isinstance(faulty.bench.measure(SPACE.default, plan).outcome, Measurement)


class Run:
    """`infertune tune --engine fake:faults` in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, out: Path | None = None, file_limit: int | None = None) -> None:
        self.folder = out or folder / "run"

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job has it ignored
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        command = [*apart.command(folder), "tune", *arguments]
        if "--resume" not in arguments:
            command += ["--engine", "fake:faults", *SMALL, "--out", str(self.folder)]
            command += ["--profiles", str(folder / "profiles")]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            preexec_fn=prepare,  # noqa: PLW1509
        )

    def trials_on_disk(self) -> int:
        try:
            return max(0, (self.folder / "trials.jsonl").read_bytes().count(b"\n") - 1)
        except OSError:
            return 0

    def wait_for_trials(self, n: int) -> None:
        until(lambda: self.trials_on_disk() >= n or self.process.poll() is not None, 120, f"{n} trials")
        assert self.process.poll() is None, self.process.communicate()[1]

    def end(self, seconds: float = 60) -> tuple[int, str]:
        """Exit code and standard error."""
        _, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, errors

    @property
    def trials(self) -> list[Trial]:
        return Ledger.open(self.folder).trials


def last_line(errors: str) -> str:
    return errors.strip().splitlines()[-1]


def resumed(folder: Path, run: Run, before: list[Trial]) -> str:
    """Resume a run to its end; it keeps every trial that it had. Returns what it wrote to standard error."""
    code, errors = (again := Run(folder, "--resume", str(run.folder), out=run.folder)).end()
    assert code == 0, errors
    ledger = Ledger.open(run.folder)
    assert ledger.trials[: len(before)] == before and ledger.ending is not None and not ledger.warnings
    assert len(ledger.trials) > len(before) or not before
    assert again.trials == ledger.trials
    return errors


SEARCH = ["--trials", "4", "--set", "fault=no fault"]


@pytest.mark.slow
def test_a_parent_killed_takes_worker_guardian_and_helper_with_it_and_the_run_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path, *SEARCH)
    run.wait_for_trials(2)
    until(lambda: len(ours(tmp_path)) >= 4, 60, "a parent with worker, guardian and helper")
    run.process.kill()
    run.process.communicate()
    until(lambda: not ours(tmp_path), 60, "the end of the worker, its guardian and the helper")
    before = run.trials
    assert len(before) >= 2
    resumed(tmp_path, run, before)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_whole_run_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    run = Run(tmp_path, *SEARCH)
    run.wait_for_trials(2)
    run.process.send_signal(number)
    code, errors = run.end(15)
    assert code == 130
    assert not ours(tmp_path)
    ledger = Ledger.open(run.folder)
    assert not ledger.warnings and ledger.ending is None and len(ledger.trials) >= 2
    assert f"infertune tune --resume {run.folder}" in last_line(errors) and "Traceback" not in errors
    assert (run.folder / "profile.yaml").is_file() and (run.folder / "report.md").is_file()
    assert not (tmp_path / "profiles").exists()  # what is unconfirmed is not filed
    if number == signal.SIGTERM:
        resumed(tmp_path, run, ledger.trials)


def check_disk_full(run: Run) -> list[Trial]:
    code, errors = run.end()
    assert code == 5 and "Traceback" not in errors, errors
    line = last_line(errors)
    assert f"--resume {run.folder}" in line and "trials are safe" in line
    ledger = Ledger.open(run.folder)
    assert not ledger.warnings, "the line that did not fit is gone, not torn"
    assert f"its {len(ledger.trials)} trials" in line and ledger.trials
    return ledger.trials


@pytest.mark.slow
def test_a_ledger_at_its_size_limit_is_kept_whole_and_goes_on_later(tmp_path: Path) -> None:
    run = Run(tmp_path, *SEARCH, file_limit=7000)
    before = check_disk_full(run)
    assert (run.folder / "trials.jsonl").stat().st_size <= 7000
    resumed(tmp_path, run, before)


@pytest.mark.slow
def test_a_full_disk_is_survived_and_the_run_goes_on_when_space_is_freed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    try:
        run = Run(tmp_path, *SEARCH, out=disk / "run")
        before = check_disk_full(run)
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        resumed(tmp_path, run, before)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_torn_last_line_is_dropped_with_a_warning_and_the_run_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path, "--trials", "1", *ONE_POINT)
    assert run.end()[0] == 0
    path = run.folder / "trials.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][: len(lines[1]) // 2])
    errors = resumed(tmp_path, run, [])
    assert "the last line was torn" in errors
    assert len(run.trials) == 1


def test_a_ledger_of_a_newer_version_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "trials.jsonl").write_text('{"schema_version":99,"infertune_version":"9.0"}\n')
    code, errors = Run(tmp_path, "--resume", str(folder), out=folder).end()
    assert code == 2
    assert len(errors.splitlines()) == 1 and "schema version" in errors and "upgrade infertune" in errors
    assert [path.name for path in folder.iterdir()] == ["trials.jsonl"]


@pytest.mark.slow
def test_two_tunes_on_one_device_do_not_measure_each_other(tmp_path: Path) -> None:
    first = Run(tmp_path, "--set", "fault=hang in run", "--run-timeout", "60s", out=tmp_path / "first")
    until(lambda: workers(tmp_path), 60, "the first run's worker")
    second = Run(tmp_path, *ONE_POINT, out=tmp_path / "second")
    code, errors = second.end()
    assert code == 5
    assert f"process {first.process.pid};" in errors and "--wait" in errors and len(errors.splitlines()) == 1
    assert not second.folder.exists()
    third = Run(tmp_path, *ONE_POINT, "--wait", out=tmp_path / "third")
    assert third.process.stderr is not None
    said = third.process.stderr.readline()
    assert f"process {first.process.pid}; waiting" in said
    assert not third.trials_on_disk()
    first.process.terminate()
    assert first.end(15)[0] == 130
    code, errors = third.end()
    assert code == 0, errors
    assert len(third.trials) == 1


@pytest.mark.parametrize("temporary", ["tmp", "elsewhere"])
def test_a_device_in_use_is_refused_in_one_line_whatever_tmpdir_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(locks, "NAMESPACE", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / temporary))
    with device_lock(lock_names(detect()), wait=False):
        run = Run(tmp_path, *ONE_POINT)
        code, errors = run.end()
    assert code == 5 and f"process {os.getpid()}; wait for it with --wait" in errors and len(errors.splitlines()) == 1
    assert not run.folder.exists()
