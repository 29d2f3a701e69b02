"""The last lines of a tune of what runs today: what to change in that very command, and how to have the whole of it."""

import io
from pathlib import Path

from rich.console import Console

from infertune.cli.terminal import print_study
from infertune.domain.knobs import Choice, Int, SearchSpace
from infertune.domain.objective import get_objective
from infertune.engines import read_command
from infertune.profiles.profile import profile_of
from infertune.report.findings import find
from infertune.report.page.advice import uses
from infertune.runs.ledger import Ledger
from infertune.runs.summary import summarise
from infertune.tuning.tune import Study
from tests.builders import config, header, ledger_of

COMMAND = "vllm serve m/x --max-num-seqs 2 --enforce-eager --port 8000 --api-key sk-secret"
SPACE = SearchSpace((Int("max_num_seqs", (2, 16), 2), Choice("enforce_eager", (False, True), True)))
CURRENT, TUNED = config(max_num_seqs=2, enforce_eager=True), config(max_num_seqs=16, enforce_eager=False)


def ledger(tuned_rate: float, engine: str = "vllm", command: str = COMMAND) -> Ledger:
    """A run in which the current command reaches 100 tok/s."""
    rows = [("final", r, c, rate + r) for r in range(3) for c, rate in ((CURRENT, 100.0), (TUNED, tuned_rate))]
    found = ledger_of(*rows, of=SPACE)  # type: ignore[arg-type]
    known = {"engine": engine, "engine_version": "0.32.0", "stock": TUNED, "engine_defaults": TUNED}
    found.header = header(SPACE, **known, running=read_command(engine, command))
    return found


def last_lines(ledger: Ledger) -> str:
    """What is printed of a run."""
    summary = summarise(ledger, get_objective("throughput"))
    profile = profile_of(ledger, summary, "throughput")
    shown = io.StringIO()
    study = Study(ledger, summary, profile, Path("profiles/p.yaml"), Path("run/report.html"))
    print_study(Console(file=shown, width=200), study)
    return shown.getvalue()


def test_a_better_setting_is_told_as_changes_of_the_command_that_runs_today() -> None:
    text = last_lines(ledger(200.0))
    assert "in your command: --max-num-seqs 2 → 16, --enforce-eager → --no-enforce-eager" in text
    assert "the whole of it: infertune profile export profiles/p.yaml --as vllm-args" in text
    assert "sk-secret" not in text


def test_a_command_that_is_the_best_needs_no_change() -> None:
    assert "in your command: change nothing" in last_lines(ledger(50.0))


def test_the_whole_of_it_is_in_the_engines_own_form() -> None:
    assert "p.yaml --as llama-args" in last_lines(ledger(200.0, "llamacpp", "llama-server -m a.gguf"))


def test_the_report_has_the_changes_to_copy() -> None:
    found = dict(uses(find(ledger(200.0), get_objective("throughput"))))
    assert found["In your command"] == "--max-num-seqs 2 → 16\n--enforce-eager → --no-enforce-eager"
