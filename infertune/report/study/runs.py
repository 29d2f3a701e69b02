"""Cells of existing runs, labelled by what their ledgers say."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from infertune.domain.knobs import Config
from infertune.domain.record import Header
from infertune.report.findings import Findings
from infertune.report.study.cell import RUN, SETTINGS, Brought, Cell, cell_of_trials, plain_config
from infertune.stats import Estimate


def cells_of_runs(runs: Sequence[Findings], names: Sequence[str]) -> list[Cell]:
    """One cell a run.

    Args:
        runs: The runs.
        names: A name of each that no other has; it becomes a label where two runs are of the same thing.
    """
    cells = [cell_of_run(found, labels_of(found.ledger.header)) for found in runs]
    times = Counter(tuple(cell.labels.values()) for cell in cells)
    return [
        replace(cell, labels={**cell.labels, RUN: name if times[tuple(cell.labels.values())] > 1 else ""})
        for cell, name in zip(cells, names, strict=True)
    ]


def cell_of_run(found: Findings, labels: Mapping[str, str]) -> Cell:
    """The cell of one run under some labels."""
    summary, ledger = found.summary, found.ledger
    proved = found.searched and summary.gain is not None
    notes = () if ledger.ending is not None else ("the run has not come to its end",)
    brought = None
    if summary.ported_config is not None and summary.retuned_gain is not None:
        gain, to_default = summary.retuned_gain, summary.ported_gain
        if found.objective.lower_is_better:
            gain, to_default = _inverse(gain), to_default and _inverse(to_default)
        brought = Brought(plain_config(summary.ported_config), gain, to_default)
    return cell_of_trials(
        labels,
        ledger.trials,
        ledger.header.space.knobs,
        found.objective,
        found.terrain,
        summary.default_config,
        recommended=summary.best_config if proved else None,
        brought=brought,
        notes=notes,
    )


def labels_of(header: Header) -> dict[str, str]:
    """What a run was of, on every axis."""
    device, model = header.device, header.model
    size = f"{device.cores} cores" if device.kind == "cpu" else f"{device.count} ×" if device.count > 1 else ""
    return {
        "device": f"{device.name}, {size}" if device.kind == "cpu" else f"{size} {device.name}".strip(),
        "engine": f"{header.engine} {header.engine_version or ''}".strip(),
        "model": f"{model.spec}{' (dummy weights)' if model.weights == 'dummy' else ''}" if model else "",
        "workload": f"{header.workload.spec} ({header.workload.content_hash})",
        SETTINGS: str(_held(header)),
    }


def _held(header: Header) -> Config:
    """What the request holds: settings that were not tuned."""
    settings = header.request.get("set")
    given = settings if isinstance(settings, dict) else {}
    plain = {name: value for name, value in given.items() if isinstance(value, str | int | float | bool | None)}
    return header.held if header.held.root else Config(plain)


def _inverse(ratio: Estimate) -> Estimate:
    low = None if ratio.high is None or math.isinf(ratio.high) else 1 / ratio.high
    high = None if ratio.low is None or ratio.low <= 0 else 1 / ratio.low
    return Estimate(mean=1 / ratio.mean, low=low, high=high, n=ratio.n, level=ratio.level)
