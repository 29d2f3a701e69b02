"""The cells of a plan: requests to measure, and recorded landscapes to read; all checked before anything runs."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from infertune.documents import Document
from infertune.domain.device import Device, cores_of, on_cores, survey
from infertune.domain.knobs import Config
from infertune.domain.request import TuneRequest, make_request
from infertune.engines.asking import canonical
from infertune.engines.recorded import Columns, read_recorded
from infertune.errors import DoesNotFitError, UsageError
from infertune.report.study.cell import Cell
from infertune.report.study.recorded import cell_of_table
from infertune.report.study.runs import cell_of_run
from infertune.runs.job import Job, engine_of, prepare
from infertune.tuning.afterwards import findings_of
from infertune.tuning.study.plan import AXES, Column, DevicePlan, EnginePlan, Plan, TablePlan, fault_at
from infertune.tuning.sweep import LandscapeRequest, check_grid
from infertune.units import slugify

CELLS = "cells"
_MOST_CELLS = 2_000  # judgement: weeks of measuring
_NO_MODEL = ""


@dataclass(frozen=True)
class LiveCell:
    """A cell that is measured here.

    Attributes:
        labels: Its value on every axis.
        request: What to measure; its `out` is the cell's folder.
        cores: Only so many of this machine's cores; None leaves all.
        place: Where its engine stands in the plan.
    """

    labels: Mapping[str, str]
    request: LandscapeRequest | TuneRequest
    cores: int | None
    place: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its labels in one line."""
        return " · ".join(text for text in self.labels.values() if text)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        assert self.request.out is not None
        return self.request.out


def live_cells(path: Path, plan: Plan, document: Document, out: Path) -> list[LiveCell]:
    """What is measured here, in the order of the plan: a device at a time, and on it an engine at a time.

    Raises:
        UsageError: A request cannot be, or two cells would have one folder.
    """
    found: dict[Path, LiveCell] = {}
    for labels in _combinations(plan):
        engine, device = plan.engines[labels["engine"]], plan.devices.get(labels["device"], DevicePlan())
        place = ("engines", labels["engine"])
        folder = out / CELLS / "--".join(slugify(text) for text in labels.values() if text)
        if (other := found.get(folder)) is not None:
            raise UsageError(f"{path}: the cells {other.name!r} and {_name(labels)!r} have one folder; rename one")
        try:
            request = _request(plan, labels, engine, device, folder)
        except UsageError as error:
            raise fault_at(path, document, list(place), str(error)) from None
        found[folder] = LiveCell(labels, request, device.cores, place)
    if len(found) > _MOST_CELLS:
        raise UsageError(f"{path}: the plan has {len(found):,} cells, more than {_MOST_CELLS:,}; leave some out")
    if plan.engines and not found:
        raise UsageError(f"{path}: leave_out leaves nothing to measure")
    return list(found.values())


def check_live(path: Path, document: Document, cells: list[LiveCell]) -> tuple[dict[Path, LiveCell], dict[Path, str]]:
    """Find everything that the cells name, before anything is measured.

    Returns:
        Folder → the cell, with the knobs that its plan does not name held at their defaults; and folder → why the model
        does not fit the device, for models that fit another device of the plan.

    Raises:
        UsageError: A cell cannot be measured, or a model fits no device; the message names file, line and field.
        BenchmarkError: A device cannot be used.
    """
    found: dict[Path, LiveCell] = {}
    does_not_fit: dict[Path, str] = {}
    fits: set[tuple[str, ...]] = set()
    for cell in cells:
        engine_and_model = tuple(cell.labels[axis] for axis in ("engine", "model"))
        try:
            if isinstance(cell.request, TuneRequest) and cell.request.workers is not None:
                engine_of(cell.request, cell.request.engine or cell.labels["engine"])  # the rest is on other machines
                found[cell.folder] = cell
            else:
                with on_cores(cell.cores):
                    found[cell.folder] = _gridded(cell, prepare(cell.request))
            fits.add(engine_and_model)
        except UsageError as error:
            if not isinstance(error.__cause__ or error, DoesNotFitError):
                raise fault_at(path, document, list(cell.place), f"cell {cell.name}: {error}") from None
            does_not_fit[cell.folder] = str(error)
    for cell in cells:
        if cell.folder in does_not_fit and tuple(cell.labels[axis] for axis in ("engine", "model")) not in fits:
            place = ["models", cell.labels["model"]]
            raise fault_at(path, document, list(place), f"it fits no device of the plan: {does_not_fit[cell.folder]}")
    return found, does_not_fit


def _gridded(cell: LiveCell, job: Job) -> LiveCell:
    """The cell with a grid over the knobs that its plan names; the others rest at their defaults.

    Raises:
        UsageError: The grid cannot be measured.
    """
    request = cell.request
    if not isinstance(request, LandscapeRequest):
        return cell
    if not request.knob:
        check_grid(job, job.space.size)
        return cell
    check_grid(job, math.prod(map(len, request.knob.values())))
    named = set(map(canonical, request.knob))
    resting = {knob.name: (knob.default,) for knob in job.space.knobs if canonical(knob.name) not in named}
    return replace(cell, request=request.model_copy(update={"knob": {**request.knob, **resting}}))


def recorded_cells(path: Path, plan: Plan, document: Document, live: list[LiveCell]) -> list[Cell]:
    """The recorded landscapes, in the order of the plan.

    Raises:
        UsageError: A file is no such table, or two cells have the same labels; the message names file, line and field.
    """
    taken = {tuple(cell.labels.values()): "the plan's own engines" for cell in live}
    found = []
    for number, source in enumerate(plan.tables):
        place: list[int | str] = ["tables", number]
        try:
            for cell in _cells_of(path.parent, source):
                labels = tuple(cell.labels.values())
                if labels in taken:
                    raise UsageError(f"the cell {cell.name!r} is in {taken[labels]} too; narrow one with `where`")
                taken[labels] = f"tables.{number}"
                found.append(cell)
        except UsageError as error:
            raise fault_at(path, document, place, str(error)) from None
    return found


def _combinations(plan: Plan) -> Iterator[dict[str, str]]:
    if not plan.engines:
        return
    for device in plan.devices or ("this machine",):
        for engine in plan.engines:
            for model in plan.models or (_NO_MODEL,):
                for workload in plan.workloads or ("",):
                    labels = dict(zip(AXES, (device, engine, model, workload), strict=True))
                    if not any(combination.items() <= labels.items() for combination in plan.leave_out):
                        yield labels


def _request(
    plan: Plan, labels: Mapping[str, str], engine: EnginePlan, device: DevicePlan, folder: Path
) -> LandscapeRequest | TuneRequest:
    held = {**engine.set, **device.set, **device.set_for.get(labels["engine"], {})}
    flags = {
        "model": plan.models.get(labels["model"]),
        "engine": engine.engine or labels["engine"],
        "engine_python": engine.engine_python,
        "device": device.device,
        "workload": plan.workloads.get(labels["workload"]),
        "requests": plan.requests,
        "weights": plan.weights,
        "seed": plan.seed,
        "set": held or None,
        "knob": {name: list(values) for name, values in engine.knobs.items()} or None,
        "window": plan.window,
        "load_timeout": plan.load_timeout,
        "run_timeout": plan.run_timeout,
        "country": plan.country,
        "wait": True,
        "out": folder,
    }
    if engine.trials is not None:
        profiles = folder.parent.parent / "profiles"
        search = {"trials": engine.trials, "profiles": profiles, "workers": device.workers}
        return make_request(TuneRequest, {**flags, **search})
    return make_request(LandscapeRequest, {**flags, "repeats": plan.repeats, "relaunch": plan.repeats > 1})


def _cells_of(base: Path, source: TablePlan) -> Iterator[Cell]:
    given = {axis: getattr(source, axis) for axis in AXES}
    file = base / source.file
    if os.path.isdir(file):
        yield _cell_of_folder(file, source, given)
        return
    split = {axis: label.column for axis, label in given.items() if isinstance(label, Column)}
    called = {
        "output_tokens_per_s": source.throughput,
        **({"status": source.status} if source.status else {}),
        **({"j_per_output_token": source.joules} if source.joules else {}),
    }
    meaning = Columns(
        called=called,
        labels=tuple(split.values()),
        knobs=source.knobs,
        ignore=source.ignore,
        where=source.where,
        failed=source.failed,
        default=Config(source.default) if source.default is not None else None,
    )
    tables = read_recorded(file, meaning)
    ran = False
    for values, table in tables.items():
        if source.gpus is not None and source.gpus not in {knob.name for knob in table.knobs}:
            raise UsageError(f"gpus: the table has no knob {source.gpus!r}")
        own = dict(zip(split, values, strict=True))
        cell = cell_of_table({axis: own.get(axis, given[axis]) for axis in AXES}, table, source.gpus)
        ran = ran or cell.best is not None
        yield cell
    if not ran:
        raise UsageError(f"table {source.file} has no configuration that ran: every one failed")


def _cell_of_folder(folder: Path, source: TablePlan, given: Mapping[str, object]) -> Cell:
    """The cell of a run that was measured elsewhere.

    Raises:
        UsageError: The folder is no run, nothing ran in it, or columns are named, which a run does not have.
    """
    own = ("file", *AXES, "gpus")
    if further := sorted(source.model_fields_set - set(own)):
        raise UsageError(f"{further[0]}: {source.file} is a run, which has no columns; name {', '.join(own)} only")
    labels = {axis: label for axis, label in given.items() if isinstance(label, str)}
    if split := [axis for axis in given if axis not in labels]:
        raise UsageError(f"{split[0]}: {source.file} is a run, which has no columns; give a name")
    found = findings_of(folder)
    if not any(trial.measurement for trial in found.ledger.trials):
        raise UsageError(f"{source.file} has no configuration that ran")
    return replace(cell_of_run(found, labels), gpus_name=source.gpus, recorded=True)


def _name(labels: Mapping[str, str]) -> str:
    return " · ".join(text for text in labels.values() if text)


def same_request(cell: LiveCell, recorded: Mapping[str, object]) -> bool:
    """Whether a ledger's request is the cell's, but for what does not change its figures."""
    asked = _figures_depend_on(cell.request.model_dump(mode="json", exclude_defaults=True, by_alias=True))
    then = _figures_depend_on(recorded)
    grid, measured = asked.pop("knob", None), then.pop("knob", None)
    if isinstance(grid, dict) and isinstance(measured, dict) and isinstance(cell.request, LandscapeRequest):
        resting = {name: values for name, values in measured.items() if name not in grid and len(values) == 1}
        grid = {**grid, **resting}
    return (asked, grid) == (then, measured)


def check_cores(cell: LiveCell, then: Device) -> None:
    """Refuse a run that had other cores than the plan gives its cell now.

    A run of another machine is refused only where the plan names its cores, and one of a cluster's workers never.

    Args:
        cell: As the plan has it now.
        then: What the run measured on.

    Raises:
        UsageError: It had others.
    """
    if cell.cores is None and then.kind == "gpu":  # the cores beside a GPU are not looked at, here as elsewhere
        return
    wanted = cores_of(cell.cores)
    if then.cores == wanted or (isinstance(cell.request, TuneRequest) and cell.request.workers is not None):
        return
    if cell.cores is None and survey(cell.request.device).device.name != then.name:
        return
    raise UsageError(
        f"{cell.folder} was measured with a number of cores of {then.cores}, and the plan gives it {wanted} now; "
        "choose another --out, or remove it"
    )


def _figures_depend_on(request: Mapping[str, object]) -> dict[str, object]:
    free = {"out", "wait", "repeats", "relaunch", "load_timeout", "run_timeout", "profiles"}
    return {name: value for name, value in request.items() if name not in free}
