"""What a run prints: progress on standard error while it lasts, then its results on standard output."""

import time
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from infertune.cli.printing import Heading, say, table_of
from infertune.cli.signals import next_ctrl_c_interrupts
from infertune.domain.knobs import Config, SearchSpace, format_scalar
from infertune.domain.measurement import describe
from infertune.domain.trial import Trial
from infertune.engines import command_changes, forms_of
from infertune.profiles.profile import changed_settings
from infertune.profiles.store import Kept
from infertune.report.answer import Contender, contenders, contenders_of
from infertune.report.findings import Findings
from infertune.report.markdown import economy_rows
from infertune.report.quality import answers_sentences
from infertune.report.serving import serving_sentences
from infertune.report.words import (
    answer_sentence,
    cliff_sentence,
    gain_text,
    headline,
    importance_sentences,
    interval_text,
    peak_sentence,
    plateau_sentences,
    spent_sentences,
    transfer_sentence,
)
from infertune.runs.observer import Observer
from infertune.runs.summary import Summary
from infertune.stats import Estimate
from infertune.tuning.tune import Study
from infertune.units import format_duration, format_percent, format_rate, printable

_MOST_FAILURES = 8  # shown of a run; judgement: the answer stays on the screen


class TerminalObserver(Observer):
    """Prints one line a trial; on a terminal, a progress bar below shows the current trial and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._default: Config | None = None
        self._base_name = "default"
        self._phase = ""
        self._steps: int | None = None
        self._budget_s: float | None = None
        self._done = 0
        self._started = time.perf_counter()

    def run_starts(self, folder: Path, default: Config, base_name: str = "default") -> None:
        """Print the run's folder."""
        self._default, self._base_name = default, base_name
        say(self._console, f"run: {folder}")

    def part_starts(self, number: int, of: int, name: str, left_s: float | None) -> None:
        """Print which of several runs starts, and about how long all of them will take."""
        self.close()
        left = "" if left_s is None else f", about {format_duration(left_s)} left"
        say(self._console, (f"{number} of {of}", "bold"), f": {name}{left}")

    def phase(self, name: str, steps: int | None, budget_s: float | None = None) -> None:
        """Print the phase and its limits, and start its progress bar."""
        self.close()
        self._phase, self._steps, self._budget_s, self._done = name, steps, budget_s, 0
        self._started = time.perf_counter()
        limits = [f"up to {steps} trials"] if steps is not None else []
        limits += [f"{format_duration(budget_s)} left"] if budget_s is not None else []
        say(self._console, (name, "bold"), f": {', '.join(limits)}")
        if self._console.is_terminal:
            ascii_only = self._console.options.ascii_only
            self._bar = Progress(
                SpinnerColumn("line" if ascii_only else "dots"),
                TextColumn("{task.fields[best]}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.description}", markup=False),
                console=self._console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.start()
            self._bar.add_task("", total=steps, best="")

    def trial_starts(self, config: Config, *, live: bool) -> None:
        """Show the current trial in the progress bar."""
        if self._bar:
            how = "live" if live else "launching"
            count = f"{self._done + 1}/{self._steps}" if self._steps else str(self._done + 1)
            text = f"{count} {self._left()} {how}: {self._shown(config)}"
            self._bar.update(self._bar.task_ids[0], description=printable(text))

    def trial_ends(self, trial: Trial, *, figure: float | None, best: float | None, default: float | None) -> None:
        """Print the trial's line and advance the progress bar."""
        self._done += 1
        against = f"{format_percent(figure / default)} to {self._base}" if figure and default else ""
        mark = trial.phase if trial.phase in ("base", "new") else "live" if trial.live else "launch"
        say(
            self._console,
            f"{trial.number:4d} {mark:6} {describe(trial.outcome):>16} {against:>22}  "
            f"{self._shown(trial.config)}  {format_duration(trial.cost_s)}",
            style="" if trial.measurement else "yellow",
        )
        if self._bar:
            shown = f"best {format_rate(best)}" if best else ""
            if best and default:
                shown += f" ({format_percent(best / default)} to {self._base})"
            self._bar.update(self._bar.task_ids[0], advance=1, best=shown)

    def interrupted(self) -> None:
        """Say what comes next, and how to do without."""
        self.close()
        next_ctrl_c_interrupts()
        say(self._console, "interrupted: the engine is closed, the report is being written; Ctrl-C again leaves it out")

    def note(self, text: str) -> None:
        """Print a note on a line of its own."""
        say(self._console, f"note: {text}", style="dim")

    def close(self) -> None:
        """Remove the progress bar."""
        if self._bar:
            self._bar.stop()
        self._bar = None

    def _shown(self, config: Config) -> str:
        """The settings that differ from the default's."""
        if self._default is None:
            return str(config)
        return str(changed_settings(config, self._default)) or self._base_name

    @property
    def _base(self) -> str:
        """What is to be beaten, behind `to`."""
        return "the default" if self._base_name == "default" else self._base_name

    def _left(self) -> str:
        elapsed_s = time.perf_counter() - self._started
        if self._budget_s is not None:
            return f"{format_duration(max(0.0, self._budget_s - elapsed_s))} left,"
        if self._steps and self._done:
            return f"about {format_duration(elapsed_s / self._done * (self._steps - self._done))} left,"
        return ""


def print_study(console: Console, study: Study) -> None:
    """Print a tune's answer, settings, costs, failures and files."""
    _print_answer(
        console, study.summary, contenders(study.summary), answer_sentence(study.summary), study.profile.changed
    )
    header = study.ledger.header
    if header.running is not None:
        best, current = study.summary.best_config, study.summary.default_config
        changes = command_changes(header.engine, header.running, current, best, header.held)
        say(console, f"in your command: {', '.join(changes) if changes else 'change nothing'}")
        form = forms_of(header.engine)[0]
        say(console, f"the whole of it: infertune profile export {study.profile_file} --as {form}")
    for line in (*study.edges, *study.devices):
        say(console, line)
    say(console, f"the search ended because {study.ledger.ending or 'the run was interrupted'}")
    if study.summary.proof:
        say(console, f"proving ended because {study.summary.proof}")
    say(console, f"profile: {study.profile_file}")
    if study.kept:
        say(console, kept_sentence(study.kept, study.profile_file))
    say(console, f"report:  {study.report_file}")


def kept_sentence(kept: Kept, instead: Path) -> str:
    """That a proven profile was not replaced, and how to do so nevertheless."""
    return (
        f"the proven profile is kept: {kept.path} ({kept.profile.verdict()}); to replace it by this one, which is "
        f"not proven: infertune profile export {quote(str(instead))} --out {quote(str(kept.path))}"
    )


def print_findings(console: Console, found: Findings) -> None:
    """Print a report's answer, and its landscape in sentences."""
    _print_answer(console, found.summary, contenders_of(found), headline(found), found.to_set(found.advised))
    for line in serving_sentences(found):
        say(console, line.replace("`", ""))
    lines = [*importance_sentences(found), cliff_sentence(found), *plateau_sentences(found), peak_sentence(found)]
    for line in lines if found.terrain.knobs else ():
        say(console, f"- {line}")


def _print_answer(
    console: Console, summary: Summary, compared: Sequence[Contender], sentence: str, changed: Config
) -> None:
    console.print()
    console.print(answer_table(summary.unit, compared))
    say(console, sentence, style="bold")
    if text := transfer_sentence(summary):
        say(console, text)
    if changed.root:
        say(console, f"settings: {changed}")
    known = [row for row in economy_rows(summary.default_economy, summary.candidate_economy) if row[2] != "–"]
    for name, default, candidate in known:
        say(console, f"{name}: {candidate} ({summary.base_name} {default})")
    if known:
        say(console, f"energy is of {summary.candidate_economy.basis}")
    if summary.failures:
        say(console, f"{len(summary.failures)} of {summary.trials} trials failed:")
        for failure in summary.failures[:_MOST_FAILURES]:
            say(console, f"  {failure.number:4d} {failure.kind:9} {failure.what}")
        if len(summary.failures) > _MOST_FAILURES:
            say(console, f"  … and {len(summary.failures) - _MOST_FAILURES} more in the report")
    for line in answers_sentences(summary):
        say(console, line.replace("`", ""))
    for line in spent_sentences(summary):
        say(console, line)


def answer_table(unit: str, compared: Sequence[Contender]) -> Table:
    """One row for each configuration that was compared, with its interval and gain."""
    headings = [Heading(""), *(Heading(name, "right") for name in (unit, "95% interval", "launches", "gain"))]
    rows = [(*_cells(each.name, each.estimate), gain_text(each.gain)) for each in compared]
    return table_of(headings, rows)


def space_table(space: SearchSpace) -> Table:
    """Every knob with its values, default, scope, what it does to the answers, and why it matters."""
    rows = []
    for knob in space.knobs:
        values = ", ".join(map(format_scalar, knob.values))
        scope = "live, at most as launched" if knob.live_at_most_launched else knob.scope
        unit = f" {knob.unit}" if knob.unit else ""
        rows.append((knob.name, values + unit, format_scalar(knob.default), scope, knob.effect, knob.why))
    return table_of([Heading(name) for name in ("knob", "values", "default", "scope", "answers", "why")], rows)


def _cells(name: str, estimate: Estimate | None) -> tuple[str, str, str, str]:
    if estimate is None:
        return name, "–", "–", "0"
    return name, format_rate(estimate.mean), interval_text(estimate), str(estimate.n)
