"""`infertune study`: every cell of a plan measured once, in one folder that the same command goes on with."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infertune.domain.device import on_cores
from infertune.domain.record import FILE_NAME as LEDGER_NAME
from infertune.domain.request import TuneRequest
from infertune.errors import InfertuneError, InterruptedRunError, UsageError
from infertune.report.study.cell import Cell
from infertune.report.study.findings import Missing, StudyFindings, find_study
from infertune.report.study.page import write_study
from infertune.report.study.runs import cell_of_run
from infertune.runs.folders import check_unused
from infertune.runs.ledger import Ledger
from infertune.runs.observer import Observer
from infertune.tuning.afterwards import findings_of
from infertune.tuning.study.cells import LiveCell, check_cores, check_live, live_cells, recorded_cells, same_request
from infertune.tuning.study.plan import Plan, read_plan
from infertune.tuning.study.record import CellRecord, State, StudyRecord
from infertune.tuning.sweep import landscape_request
from infertune.tuning.tune import tune_request
from infertune.units import slugify


@dataclass(frozen=True)
class StudyResult:
    """A study that was made or gone on with.

    Attributes:
        folder: The study's.
        page: Its report; None if there is nothing to report.
        findings: What the report says; None likewise.
        record: The state of every cell.
    """

    folder: Path
    page: Path | None
    findings: StudyFindings | None
    record: StudyRecord

    def count(self, state: State) -> int:
        """How many cells are in a state."""
        return sum(cell.state == state for cell in self.record.cells)


@dataclass
class _Progress:
    """What is done, and why what is not has failed, by folder."""

    done: set[Path] = field(default_factory=set)
    failed: dict[Path, str] = field(default_factory=dict)


def study(path: Path, out: Path | None = None, observer: Observer | None = None) -> StudyResult:
    """Measure what a plan names and is not measured yet, and write one report on all of it.

    Args:
        path: The plan.
        out: The study's folder; None means `reports/study-PLAN`.
        observer: Is told of every step.

    Raises:
        UsageError: The plan cannot be, or the folder holds something else; nothing was touched.
        BenchmarkError: A device of the plan cannot be used.
        InterruptedRunError: Ctrl-C. What there is so far is in the folder with its report.
    """
    observer = observer or Observer()
    plan, document = read_plan(path)
    folder = out or Path("reports") / f"study-{slugify(path.stem)}"
    check_unused(folder, "study")
    cells = live_cells(path, plan, document, folder)
    recorded = recorded_cells(path, plan, document, cells)
    progress = _Progress(done={cell.folder for cell in cells if _is_done(cell, plan)})
    waiting = [cell for cell in cells if cell.folder not in progress.done]
    if waiting:
        observer.note(
            f"checking {len(waiting)} cells; an engine that is asked about a model for the first time takes time"
        )
    checked, progress.failed = check_live(path, document, waiting)
    cells = [checked.get(cell.folder, cell) for cell in cells]
    try:
        _measure(plan, cells, folder, recorded, progress, observer)
    except InterruptedRunError as interrupt:
        result = _finish(plan, cells, folder, recorded, progress)
        raise InterruptedRunError(
            f"interrupted; {result.count('done')} of {len(cells)} cells are done; the same command goes on"
        ) from interrupt
    return _finish(plan, cells, folder, recorded, progress)


def _measure(
    plan: Plan,
    cells: Sequence[LiveCell],
    folder: Path,
    recorded: Sequence[Cell],
    progress: _Progress,
    observer: Observer,
) -> None:
    """Measure the cells that are not done; one that fails is recorded, and the others go on."""
    waiting = [cell for cell in cells if cell.folder not in progress.done and cell.folder not in progress.failed]
    if progress.done:
        observer.note(f"{len(progress.done)} of {len(cells)} cells are measured already")
    started = time.perf_counter()
    for number, cell in enumerate(waiting):
        left_s = (time.perf_counter() - started) / number * (len(waiting) - number) if number else None
        observer.part_starts(cells.index(cell) + 1, len(cells), cell.name, left_s)
        try:
            _measure_cell(cell, observer)
            progress.done.add(cell.folder)
        except InterruptedRunError:
            raise
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted between two measurements") from None
        except InfertuneError as error:
            progress.failed[cell.folder] = str(error)
            observer.note(f"{cell.name}: {error}; the study goes on")
        _record(plan, cells, recorded, progress, folder).save(folder)


def _measure_cell(cell: LiveCell, observer: Observer) -> None:
    resume = cell.folder if os.path.lexists(cell.folder / LEDGER_NAME) else None
    with on_cores(cell.cores):
        if isinstance(cell.request, TuneRequest):
            tune_request(cell.request, observer, resume)
        else:
            landscape_request(cell.request, observer, resume)


def _is_done(cell: LiveCell, plan: Plan) -> bool:
    """Whether a cell's run has come to its end.

    Raises:
        UsageError: Its folder holds a run of something else, or of other settings.
    """
    if not os.path.lexists(cell.folder / LEDGER_NAME):
        return False
    ledger = Ledger.open(cell.folder)
    if not same_request(cell, ledger.header.request):
        raise UsageError(
            f"{cell.folder} was measured with other settings than the plan has now; choose another --out, or remove it"
        )
    check_cores(cell, ledger.header.device)
    rounds = 1 + max((trial.round_number for trial in ledger.trials), default=-1)
    whole = ledger.ending is not None and (isinstance(cell.request, TuneRequest) or rounds >= plan.repeats)
    return whole and any(trial.measurement for trial in ledger.trials)  # a cell in which nothing ran has failed


def _record(
    plan: Plan, cells: Sequence[LiveCell], recorded: Sequence[Cell], progress: _Progress, folder: Path
) -> StudyRecord:
    def state(cell: LiveCell) -> State:
        return "done" if cell.folder in progress.done else "failed" if cell.folder in progress.failed else "waiting"

    live = [
        CellRecord(
            **cell.labels,
            state=state(cell),
            why=progress.failed.get(cell.folder, ""),
            run=str(cell.folder.relative_to(folder)),
        )
        for cell in cells
    ]
    return StudyRecord(
        title=plan.title,
        cells=(*live, *(CellRecord(**cell.labels, state="recorded") for cell in recorded)),
    )


def _finish(
    plan: Plan, cells: Sequence[LiveCell], folder: Path, recorded: Sequence[Cell], progress: _Progress
) -> StudyResult:
    """Write the report of what there is."""
    record = _record(plan, cells, recorded, progress, folder)
    record.save(folder)
    found: list[Cell] = []
    missing = []
    machines: dict[str, None] = {}
    for cell in cells:
        why = progress.failed.get(cell.folder, "" if cell.folder in progress.done else "not measured yet")
        if os.path.lexists(cell.folder / LEDGER_NAME):
            run = findings_of(cell.folder)
            machines[f"{run.ledger.header.device}, {run.ledger.header.created_at[:10]}"] = None
            if any(trial.measurement for trial in run.ledger.trials):
                found.append(cell_of_run(run, cell.labels))
                why = why and f"not whole: {why}"
        if why:
            missing.append(Missing(cell.name, why))
    found += recorded
    if not found:
        return StudyResult(folder, None, None, record)
    findings = find_study(plan.title, found, plan.rules, missing, list(machines))
    return StudyResult(folder, write_study(findings, folder), findings, record)
