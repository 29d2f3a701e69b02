"""A study's report: `study.html`, `study.md` with pictures, and its tables as CSV."""

import statistics
from pathlib import Path

from infertune.report.study.choices import Choice, Robust
from infertune.report.study.findings import StudyFindings
from infertune.report.study.frames import cells_frame, points_frame
from infertune.report.study.landscapes import absolute, relative
from infertune.report.study.porting_section import headlines, porting_section, ports_frame
from infertune.report.study.scaling_picture import scaling_picture
from infertune.report.study.sections import Page, Picture, Section, Table
from infertune.report.study.shape import Jump, Shape, edge_counts, scaling_means
from infertune.report.study.write import write_page
from infertune.stats import geometric_mean
from infertune.units import format_percent, format_rate

NAME = "study"
_MAPS = 24  # cells in one picture (judgement: it stays a picture that can be looked at)
_ROBUST = 12  # groups that are shown unfolded (judgement)
_NONE = "–"


def write_study(found: StudyFindings, folder: Path) -> Path:
    """Write every file of a study's report; the page's path.

    Raises:
        UsageError: A file cannot be written, or its name is taken by a link or by something else than a file.
    """
    tables = {
        "cells.csv": cells_frame(found.shapes, found.choices),
        "points.csv": points_frame(found.shapes),
        "ports.csv": ports_frame(found.ports),
    }
    return write_page(folder, NAME, study_page(found), tables)


def study_page(found: StudyFindings) -> Page:
    """The whole report."""
    sections = [_answer(found), _landscapes(found), _choices(found), _robust(found), _scaling(found), _energy(found)]
    return Page(
        title=found.title,
        tags=(*found.shared.values(), f"{len(found.shapes)} cells", *found.machines),
        warnings=(
            *(f"{missing.name}: {missing.why}" for missing in found.missing),
            *dict.fromkeys(f"{cell.name}: {note}" for cell in found.cells for note in cell.notes[:1] if _few(found)),
        ),
        sections=(
            *(section for section in sections if section),
            porting_section(found.travels, found.ports, "Porting", told=False),
        ),
    )


def summary_lines(found: StudyFindings) -> list[str]:
    """The study in sentences."""
    gains = [shape.gain for shape in found.shapes if shape.gain]
    lines = []
    if gains:
        lines.append(
            f"The best is {_factor(geometric_mean(gains))} the default on average (geometric), "
            f"{_factor(statistics.median(gains))} in the median of {len(gains)} cells."
        )
    without = sum(shape.cell.default_point is None for shape in found.shapes)
    if without:
        lines.append(f"In {without} of {len(found.shapes)} cells the default did not run.")
    at_edge, best = sum(shape.at_edge for shape in found.shapes), sum(bool(shape.edges) for shape in found.shapes)
    if best:
        lines.append(f"In {at_edge} of {best} cells the best lies at an end of a ladder: {_edges_text(found)}.")
    for choice in found.choices:
        if choice.mean_of_best is not None and choice.name != "the default":
            share = "" if choice.share_of_gain is None else f", {choice.share_of_gain:.0%} of full tuning's gain"
            ran = len(choice.shares_of_best)
            where = f" on {choice.group}" if choice.group else ""
            lines.append(
                f"{choice.name}{where}: {choice.mean_of_best:.1%} of the best{share}; it ran in {ran} of "
                f"{len(choice.fared)} cells."
            )
    return [*lines, *headlines(travel for travel in found.travels if travel.axis != "model" or not travel.there)]


def _answer(found: StudyFindings) -> Section:
    headings = (
        "cell", "best at", f"best, {found.cells[0].unit}", "default", "best / default", "within 2%", "peaks",
        "batch steps that fall", "at an end of", "steepest rise", "steepest fall", "begins to fail", "failed",
    )  # fmt: skip
    rows = tuple(_shape_row(shape) for shape in found.shapes)
    text = (
        "A peak is a configuration that is better than all its neighbours; one that stands out beyond the noise of "
        "repeats is counted behind the dash. Steps compare neighbouring values with everything else the same; without "
        "repeats they are not tested. The best of many measured figures is overestimated.",
    )
    table = (Table(headings, rows, caption="Every cell"),)
    told = tuple(summary_lines(found))
    if _few(found):
        return Section("What was found", told, text, tables=table)
    return Section("What was found", told, text, details=table)


def _shape_row(shape: Shape) -> tuple[str, ...]:
    cell, best, default = shape.cell, shape.cell.best, shape.cell.default_point
    peaks = _NONE if shape.peaks is None else str(shape.peaks)
    if shape.real_peaks is not None:
        peaks += f" / {shape.real_peaks}"
    begins = max(shape.starts_failing, key=lambda step: step[2], default=None)
    return (
        cell.name,
        cell.short(best.config) if best else "nothing ran",
        format_rate(best.goodness) if best else _NONE,
        format_rate(default.goodness) if default else "did not run",
        _factor(shape.gain) if shape.gain else _NONE,
        str(shape.plateau),
        peaks,
        f"{shape.drops} of {shape.steps}" if shape.steps else _NONE,
        ", ".join(f"{edge.knob} ({edge.place})" for edge in shape.edges if edge.place != "inside") or "none",
        _jump(shape.rise),
        _jump(shape.fall),
        f"{begins[0]} {begins[1]}" if begins else _NONE,
        ", ".join(f"{count} {kind}" for kind, count in shape.failed.items()) or "0",
    )


def _landscapes(found: StudyFindings) -> Section:
    pictures = []
    for part, start in enumerate(range(0, len(found.cells), _MAPS), start=1):
        own = found.cells[start : start + _MAPS]
        more = f", part {part}" if len(found.cells) > _MAPS else ""
        caption = f"share of each cell's best, one scale{more}"
        pictures.append(Picture(f"shapes-{part}", caption, relative(own)))
    for part, start in enumerate(range(0, len(found.cells), _MAPS), start=1):
        own = found.cells[start : start + _MAPS]
        more = f", part {part}" if len(found.cells) > _MAPS else ""
        pictures.append(Picture(f"speeds-{part}", f"{own[0].unit}, one scale{more}", absolute(found.cells, own)))
    text = "Each square is the best that was measured for its two values. Colours mean the same in every map of a kind."
    return Section("Landscapes side by side", text=(text,), pictures=tuple(pictures))


def _choices(found: StudyFindings) -> Section:
    headings = (
        "choice", "engine", "of the best, geometric mean", "share of the gain, all cells", "median share of the gain",
        "worst", "in", "ran", "failed", "not measured",
    )  # fmt: skip
    text = (
        "How far a fixed choice gets: its speed over the cell's best, and the share of full tuning's gain over the "
        "default. The share over all cells adds up logarithms, so that cells in which tuning gains next to nothing do "
        "not decide it. Cells in which the choice fails have no share; they are counted.",
    )
    rows = tuple(map(_choice_row, found.choices))
    return Section("Strong defaults for those who cannot tune", text=text, tables=(Table(headings, rows),))


def _choice_row(choice: Choice) -> tuple[str, ...]:
    worst = choice.worst
    return (
        choice.name,
        choice.group or _NONE,
        _share(choice.mean_of_best),
        _share(choice.share_of_gain),
        _share(choice.median_share_of_gain),
        _share(worst.of_best if worst else None),
        worst.cell.name if worst else _NONE,
        f"{len(choice.shares_of_best)} of {len(choice.fared)}",
        str(choice.failed),
        str(choice.unknown),
    )


def _robust(found: StudyFindings) -> Section | None:
    if not found.robust:
        return None
    headings = ("over", "with", "configuration", "worst loss", "in", "mean of the best", "ran in", "candidates")
    order = {axis: number for number, axis in enumerate(("model", "workload", "device", "engine"))}
    ranked = sorted(found.robust, key=lambda robust: order.get(robust.over, len(order)))
    rows = tuple(map(_robust_row, ranked))
    text = (
        "Of the configurations that ran in the most cells of a group, the one whose worst loss against each cell's own "
        "best is smallest. Candidates are those that ran in every cell.",
    )
    beside = []
    for robust in ranked:
        for one in robust.choice.fared:
            best = one.cell.best
            loss = _share(1 - one.of_best) if one.of_best is not None else "failed" if one.point else "not measured"
            own = one.cell.short(best.config) if best else "nothing ran"
            beside.append((f"{robust.over}: {robust.group or 'all'}", str(robust.config), one.cell.name, own, loss))
    detail = Table(
        ("group", "robust choice", "cell", "the cell's own best", "loss"),
        tuple(beside[:200]),
        caption="Every robust choice beside each cell's own best",
    )
    more = Table(headings, rows[_ROBUST:], caption=f"The other {len(rows) - _ROBUST} groups")
    details = (detail,) if len(rows) <= _ROBUST else (more, detail)
    return Section("Robust choices", text=text, tables=(Table(headings, rows[:_ROBUST]),), details=details)


def _robust_row(robust: Robust) -> tuple[str, ...]:
    worst = robust.choice.worst
    return (
        robust.over,
        robust.group or "everything",
        str(robust.config),
        _share(1 - (worst.of_best or 0)) if worst else _NONE,
        worst.cell.name if worst else _NONE,
        _share(robust.choice.mean_of_best),
        f"{len(robust.choice.shares_of_best)} of {len(robust.choice.fared)}",
        str(robust.candidates) if robust.candidates else "0: none ran in every cell",
    )


def _scaling(found: StudyFindings) -> Section | None:
    scaled = [shape for shape in found.shapes if len(shape.scaling) > 1]
    if not scaled:
        return None
    counts = sorted({scale.gpus for shape in scaled for scale in shape.scaling})
    headings = ("cell", *(f"a GPU of {gpus}" for gpus in counts), *(f"efficiency at {gpus}" for gpus in counts))
    rows = []
    for shape in scaled:
        by_gpus = {scale.gpus: scale for scale in shape.scaling}
        rows.append(
            (
                shape.cell.name,
                *(format_rate(by_gpus[gpus].per_gpu) if gpus in by_gpus else _NONE for gpus in counts),
                *(f"{by_gpus[gpus].efficiency:.0%}" if gpus in by_gpus else _NONE for gpus in counts),
            )
        )
    means = scaling_means(scaled)
    lines = tuple(
        f"{engine or 'All'}: with {gpus} GPUs the mean efficiency is {statistics.fmean(values):.0%} over {len(values)} "
        "cells that run on one GPU."
        for (engine, gpus), values in means.items()
        if gpus > 1
    )
    text = (
        f"The best of each number of GPUs, in {scaled[0].cell.unit} a GPU. Efficiency is that over the same with the "
        "fewest GPUs on which the cell runs: 100% is perfect scaling.",
    )
    picture = Picture("scaling", "efficiency over the number of GPUs, one line a cell", scaling_picture(scaled))
    table = Table(headings, tuple(rows), caption="Every cell")
    return Section("Scaling over GPUs", lines, text, (picture,), details=(table,))


def _energy(found: StudyFindings) -> Section | None:
    rows = []
    for shape in found.shapes:
        best, thrifty = shape.cell.best, shape.thriftiest
        if best is None or thrifty is None or not thrifty.j_per_output_token:
            continue
        at_best = best.j_per_output_token
        rows.append(
            (
                shape.cell.name,
                f"{1 / at_best:.3g}" if at_best else _NONE,
                f"{1 / thrifty.j_per_output_token:.3g}",
                shape.cell.short(thrifty.config),
                f"{thrifty.goodness / best.goodness:.1%}",
            )
        )
    if not rows:
        return None
    headings = ("cell", "tokens a joule at the fastest", "most tokens a joule", "at", "at what share of the best speed")
    return Section("Energy", tables=(Table(headings, tuple(rows)),))


def _edges_text(found: StudyFindings) -> str:
    return "; ".join(
        f"{knob} at its highest in {counts['high']}, at its lowest in {counts['low']}, inside in {counts['inside']}"
        for knob, counts in edge_counts(found.shapes).items()
    )


def _jump(jump: Jump | None) -> str:
    return _NONE if jump is None else f"{jump.knob} {jump.low} → {jump.high} ({format_percent(jump.ratio)})"


def _factor(ratio: float) -> str:
    return f"×{ratio:.3g}"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"


def _few(found: StudyFindings) -> bool:
    """Whether the cells are few enough for their notes to be read."""
    return len(found.shapes) <= 24
