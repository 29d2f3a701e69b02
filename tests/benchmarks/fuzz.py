"""Mutated inputs for the whole command line: `python -m tests.benchmarks.fuzz --inputs 10000 --seed 1`.

Hypothesis draws the inputs: command lines, and ledgers, profiles, configuration files, tables, workloads and gate
history that were sound before a few of their fields or bytes were changed. Each runs through the program's own `main`
in this process. An input fails if it prints a traceback or calls itself a bug, ends with an exit code that is not
documented, takes longer than its time, or changes a file outside of its scratch folder.

Nothing here starts a real engine: what measures runs on the simulated one.
"""

import argparse
import collections
import contextlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from unittest import mock

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from infertune import cli
from infertune.errors import (
    EXIT_CANNOT_RUN,
    EXIT_INCONCLUSIVE,
    EXIT_MISMATCH,
    EXIT_OK,
    EXIT_REGRESSION,
    EXIT_USAGE,
)
from tests.benchmarks.fuzz_inputs import KINDS, Case, Samples, make_case, make_samples

REPOSITORY = Path(__file__).parent.parent.parent
DOCUMENTED = {
    EXIT_OK,
    EXIT_REGRESSION,
    EXIT_USAGE,
    EXIT_INCONCLUSIVE,
    EXIT_MISMATCH,
    EXIT_CANNOT_RUN,
}  # nobody interrupts an input
_LONGEST_S = 30.0  # of one input; the usual one takes 50 ms (judgement)
_WEIGHTED = (*KINDS, "ledger", "ledger", "command line", "command line", "profile")
_NOT_OURS = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}


class TookTooLongError(BaseException):
    """An input was not done in its time; not an Exception, so that no handler of the program takes it for its own."""


@dataclass(frozen=True)
class Failure:
    """An input that the program did not take well.

    Attributes:
        what: What went wrong, without what differs from input to input: the same for the same fault.
        case: The input.
        shown: What the program printed.
    """

    what: str
    case: Case
    shown: str

    def __str__(self) -> str:
        files = "".join(f"\n  {name}: {content[:2000]!r}" for name, content in self.case.files.items())
        return f"{self.what}\n  infertune {' '.join(map(repr, self.case.arguments))}{files}\n{self.shown[-4000:]}"


class Fuzz:
    """Runs inputs, each in a fresh folder, and watches what they change.

    Args:
        root: A folder of its own; inputs run in folders below it, and none may change what lies beside them.
    """

    def __init__(self, root: Path) -> None:
        self.scratch = root / "scratch"
        self.outside = root / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "precious").write_text("kept\n")
        (self.outside / "folder").mkdir()
        (self.outside / "folder" / "picture.svg").write_text("kept\n")
        self.samples: Samples = make_samples(self.scratch / "samples", self.outside)
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.failures: dict[str, Failure] = {}
        self._numbers = iter(range(10**9))

    def run(self, case: Case) -> None:
        """Run one input; what fails is kept, the first of its kind."""
        folder = self.scratch / f"case{next(self._numbers)}"
        folder.mkdir()
        try:
            case.write(folder, self.samples)
            before = listing(self.outside)
            code, shown, fault = _in_process(case.arguments, folder)
            if listing(self.outside) != before:
                fault = "a file outside of the scratch folder was changed"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        fault = fault or _complaint(code, shown)
        self.outcomes["FAILED" if fault else f"{case.kind}: exit {code}"] += 1
        if fault:
            self.failures.setdefault(fault, Failure(fault, case, shown))


def _complaint(code: object, shown: str) -> str:
    """What is wrong with how the program ended; empty if nothing is."""
    if "Traceback" in shown or "this is a bug" in shown:
        places = [
            line.strip() for line in shown.splitlines() if line.strip().startswith("File ") and "infertune" in line
        ]
        errors = [line for line in shown.splitlines() if line[:1].isalpha() and "Error" in line.partition(":")[0]]
        where = places[-1].rpartition("/infertune/")[2] if places else ""
        return f"{errors[-1].partition(':')[0] if errors else 'a traceback'} at {where}"
    if code not in DOCUMENTED:
        return f"exit code {code!r} is not documented"
    lines = shown.splitlines()
    if code in (EXIT_USAGE, EXIT_CANNOT_RUN) and not (lines and lines[-1].startswith("infertune: ")):
        return "a failure without a last line that says why"
    return ""


def _in_process(arguments: tuple[str, ...], folder: Path) -> tuple[object, str, str]:
    """Run the program as a console script would; its exit code, what it printed, and what stopped it from outside."""
    shown = io.StringIO()
    code: object = None
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    here = Path.cwd()
    os.chdir(folder)
    environment = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder)}
    try:
        with (
            mock.patch.dict(os.environ, environment),
            mock.patch.object(sys, "argv", ["infertune", *arguments]),
            mock.patch.object(tempfile, "tempdir", str(folder)),
            mock.patch("infertune.tuning.sweep._MOST_POINTS", 64),  # a larger grid is work, and no hang
            mock.patch("infertune.runs.job.default_engine_name", lambda: "fake"),
            mock.patch("infertune.tuning.current.default_engine_name", lambda: "fake"),
            contextlib.redirect_stdout(shown),
            contextlib.redirect_stderr(shown),
            _limit(_LONGEST_S) as late,
        ):
            try:
                cli.main()
            except SystemExit as end:
                code = end.code
        if late:  # and the program took it for something else
            return None, shown.getvalue(), late[0]
    except TookTooLongError as too_long:
        return None, shown.getvalue(), str(too_long)
    except BaseException as error:
        return None, shown.getvalue(), f"{type(error).__name__} left main: {error}"
    finally:
        os.chdir(here)
        for number, handler in before.items():
            signal.signal(number, handler)
    return code, shown.getvalue(), ""


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[list[str]]:
    """Stop what takes longer, wherever in our code it is; a list that then says where."""
    late: list[str] = []

    def ring(_: int, frame: FrameType | None) -> None:
        places = []
        while frame is not None:
            name = frame.f_code.co_filename
            if "/infertune/" in name:
                places.append(f"{name.rpartition('/infertune/')[2]}:{frame.f_code.co_name}")
            frame = frame.f_back
        late.append(f"not done in {seconds:g} s: {' < '.join(places[:3])}")
        raise TookTooLongError(late[0])

    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield late
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and folder below a folder, with what tells whether it was changed."""
    found = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_OURS]
        for name in (*folders, *names):
            path = os.path.join(root, name)
            about = os.lstat(path)
            found[path] = (about.st_mode, 0 if name in folders else about.st_size, about.st_mtime_ns)
    return found


def fuzz(inputs: int, seed_number: int, root: Path) -> Fuzz:
    """Run a number of inputs.

    Args:
        inputs: How many.
        seed_number: The same seed draws the same inputs.
        root: A scratch folder.
    """
    watched = Fuzz(root)
    random.seed(seed_number)

    @seed(seed_number)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(_WEIGHTED), st.integers(0, 2**64 - 1))
    def one(kind: str, number: int) -> None:
        watched.run(make_case(kind, number, watched.samples))

    one()
    return watched


def main() -> None:
    """Run the benchmark and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    before = listing(REPOSITORY)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="infertune-fuzz-") as folder:
        watched = fuzz(options.inputs, options.seed, Path(folder))
    changed = [path for path, about in listing(REPOSITORY).items() if before.get(path) != about]
    for failure in watched.failures.values():
        print(f"\nFAILED: {failure}")
    print()
    for outcome, n in sorted(watched.outcomes.items()):
        print(f"{n:6}  {outcome}")
    print(
        f"\n{sum(watched.outcomes.values())} inputs with seed {options.seed} in {time.perf_counter() - started:.0f} s: "
        f"{len(watched.failures)} kinds of failure, {len(changed)} files of the repository changed"
    )
    sys.exit(bool(watched.failures or changed))


if __name__ == "__main__":
    main()
