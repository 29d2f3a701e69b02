"""Cells of recorded tables."""

import math
from collections.abc import Mapping, Sequence

from infertune.domain.knobs import Config
from infertune.engines.recorded import Row, Table
from infertune.landscape import Spot, noise_within, terrain_of
from infertune.report.study.cell import Cell, Point, in_grid_order, plain_config
from infertune.stats import geometric_mean


def cell_of_table(labels: Mapping[str, str], table: Table, gpus_name: str | None = None) -> Cell:
    """The cell of a recorded landscape: every row is a repeat of its own."""
    spots = tuple(
        Spot(
            config=config,
            scores=tuple(math.log(row.rate) for row in rows if row.status == "ok"),
            failed=sum(row.status != "ok" for row in rows),
        )
        for config, rows in table.rows.items()
    )
    tried = {knob.name: {repr(config[knob.name]) for config in table.rows} for knob in table.knobs}
    varied = tuple(knob for knob in table.knobs if len(tried[knob.name]) > 1)
    noise = noise_within([spot.scores for spot in spots], "repeated rows of the table")
    return Cell(
        labels=labels,
        knobs=table.knobs,
        points=in_grid_order((_point(config, rows) for config, rows in table.rows.items()), table.knobs),
        default=plain_config(Config({knob.name: knob.default for knob in table.knobs})),
        terrain=terrain_of(spots, varied, math.prod(len(knob.values) for knob in table.knobs), noise),
        gpus_name=gpus_name,
        recorded=True,
        notes=table.notes,
    )


def _point(config: Config, rows: Sequence[Row]) -> Point:
    ran = [row for row in rows if row.status == "ok"]
    joules = [row.j_per_output_token for row in ran if row.j_per_output_token]
    return Point(
        config=plain_config(config),
        samples=tuple(row.rate for row in ran),
        failures=tuple(row.status for row in rows if row.status != "ok"),
        j_per_output_token=geometric_mean(joules) if joules and len(joules) == len(ran) else None,
    )
