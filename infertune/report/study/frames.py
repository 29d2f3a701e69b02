"""The tables of a study for pandas and spreadsheets: `cells.csv` and `points.csv`; `ports.csv` is the porting's own."""

from collections.abc import Sequence

import pandas as pd

from infertune.report.study.cell import AXES
from infertune.report.study.choices import Choice
from infertune.report.study.shape import Shape


def cells_frame(shapes: Sequence[Shape], choices: Sequence[Choice]) -> pd.DataFrame:
    """One row a cell: its best, its default, its shape, and how the fixed choices do in it."""
    rows = []
    for shape in shapes:
        cell, best, default = shape.cell, shape.cell.best, shape.cell.default_point
        row: dict[str, object] = {axis: cell.labels[axis] for axis in AXES}
        row |= {
            "unit": cell.unit,
            "recorded": cell.recorded,
            "configurations": len(cell.points),
            "ran": len(cell.running),
            "failed": sum(shape.failed.values()),
            "out_of_memory": shape.failed.get("oom", 0),
            "best": best.goodness if best else None,
            "best_config": cell.short(best.config) if best else None,
            "best_repeats": len(best.samples) if best else None,
            "equally_good": cell.ties if best else None,
            "default": default.goodness if default else None,
            "default_config": cell.short(cell.default),
            "gain_of_tuning_percent": (shape.gain - 1) * 100 if shape.gain else None,
            "at_edge": shape.at_edge if best else None,
            "edges": ", ".join(f"{edge.knob} {edge.place}" for edge in shape.edges),
            "within_2_percent": shape.plateau,
            "peaks": shape.peaks,
            "peaks_beyond_noise": shape.real_peaks,
            "batch_steps": shape.steps,
            "batch_drops": shape.drops,
            "j_per_output_token_at_best": best.j_per_output_token if best else None,
            "best_j_per_output_token": shape.thriftiest.j_per_output_token if shape.thriftiest else None,
            "thriftiest_config": cell.short(shape.thriftiest.config) if shape.thriftiest else None,
        }
        for scale in shape.scaling:
            row |= {
                f"best_with_{scale.gpus}_gpus": scale.point.goodness,
                f"per_gpu_with_{scale.gpus}_gpus": scale.per_gpu,
                f"efficiency_with_{scale.gpus}_gpus": scale.efficiency,
            }
        for choice in choices:
            for one in choice.fared:
                if one.cell is cell:
                    name = choice.name.partition(" (")[0]
                    row |= {f"{name}: share of best": one.of_best, f"{name}: share of gain": one.share_of_gain}
        rows.append(row)
    return pd.DataFrame(rows)


def points_frame(shapes: Sequence[Shape]) -> pd.DataFrame:
    """One row a configuration of a cell."""
    rows = []
    for shape in shapes:
        cell = shape.cell
        for point in cell.points.values():
            row: dict[str, object] = {axis: cell.labels[axis] for axis in AXES}
            row |= {
                "unit": cell.unit,
                "goodness": point.goodness if point.ran else None,
                "repeats": len(point.samples),
                "failures": ", ".join(point.failures),
                "share_of_best": point.goodness / cell.best.goodness if point.ran and cell.best else None,
                "j_per_output_token": point.j_per_output_token,
                **{f"knob.{name}": value for name, value in point.config.root.items()},
            }
            rows.append(row)
    return pd.DataFrame(rows)
