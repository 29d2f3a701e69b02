"""Recorded tables: a ledger of ours, or a CSV with one row a configuration; repeated rows are repeats.

Reserved columns: `output_tokens_per_s`, `status` (ok, oom, crash, timeout), `j_per_output_token`, `launch_s`, `run_s`.
Every other column is a knob, ordinal if all its values are numbers.
"""

import io
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from infertune.documents import read_text
from infertune.domain.figures import j_per_output_token
from infertune.domain.knobs import Config, Knob, Scalar, format_scalar, parse_scalar
from infertune.domain.measurement import Infeasible, Measurement
from infertune.domain.record import FILE_NAME as LEDGER_NAME
from infertune.domain.record import read_record
from infertune.errors import UsageError

RESERVED = ("output_tokens_per_s", "status", "j_per_output_token", "launch_s", "run_s")
_MOST_TABLE_BYTES = 64 * 1024**2  # about a million rows (judgement)
_STATUSES = ("ok", "oom", "crash", "timeout")


@dataclass(frozen=True)
class Row:
    """One recorded run of one configuration; costs in seconds, None where not recorded."""

    rate: float
    status: str = "ok"
    j_per_output_token: float | None = None
    launch_s: float = 0.0


@dataclass(frozen=True)
class Table:
    """Recorded runs by configuration, and the knobs that span them."""

    knobs: tuple[Knob, ...]
    rows: dict[Config, list[Row]]


def read_table(path: Path, ignore: Sequence[str] = ()) -> Table:
    """A recorded table: a CSV, a ledger or the folder of a run.

    The default configuration of a CSV is taken to be every knob's first value in ascending order (the first seen for
    words) if the table has that row, and its first row otherwise.

    Raises:
        UsageError: The file is missing, or is no such table.
    """
    if path.is_dir() or path.name == LEDGER_NAME:
        return _table_of_ledger(path if path.is_dir() else path.parent)
    text = read_text(path, "table", _MOST_TABLE_BYTES)
    try:
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except ValueError as error:
        raise UsageError(f"cannot read table {path}: {(str(error).splitlines() or ['it is no CSV'])[0]}") from None
    if "output_tokens_per_s" not in frame.columns or frame.empty:
        raise UsageError(f"table {path} has no rows with a column output_tokens_per_s")
    unknown = set(ignore) - set(frame.columns)
    if unknown:
        raise UsageError(f"table {path} has no column {', '.join(sorted(unknown))} to ignore")
    names = [name for name in frame.columns if name not in RESERVED and name not in ignore]
    if not names:
        raise UsageError(f"table {path} has no column that is a knob")
    frame = frame.fillna("")  # a row that ends early
    cells = {name: _cells(path, name, frame[name].tolist()) for name in names}
    rows: dict[Config, list[Row]] = defaultdict(list)
    for number, record in enumerate(frame.to_dict("records")):
        config = Config({name: cells[name][number] for name in names})
        rows[config].append(_row(path, number + 2, {str(k): str(v) for k, v in record.items()}))
    first = {name: (min(map(_as_float, cells[name])), cells[name]) for name in names if _numeric(cells[name])}
    lowest = Config(
        {
            name: next(v for v in first[name][1] if _as_float(v) == first[name][0]) if name in first else cells[name][0]
            for name in names
        }
    )
    default = lowest if lowest in rows else next(iter(rows))
    return Table(tuple(_knob(name, cells[name], default[name]) for name in names), dict(rows))


def _table_of_ledger(folder: Path) -> Table:
    """What a run measured in its search or grid; what it found rejected is not in the table, and so rejected again."""
    record = read_record(folder)
    rows: dict[Config, list[Row]] = defaultdict(list)
    for trial in record.trials:
        if trial.phase not in ("search", "grid"):
            continue
        match trial.outcome:
            case Measurement() as measurement:
                rate = measurement.output_tokens_per_s
                row = Row(rate, j_per_output_token=j_per_output_token(measurement), launch_s=measurement.load_s)
            case Infeasible(reason="rejected"):
                continue
            case Infeasible():
                row = Row(1.0, status="oom", launch_s=trial.cost_s)
            case failure:
                row = Row(1.0, status="timeout" if failure.kind == "timed_out" else "crash", launch_s=trial.cost_s)
        rows[trial.config].append(row)
    if not rows:
        raise UsageError(f"{folder} has no measured configuration to replay")
    return Table(record.header.space.knobs, dict(rows))


def _cells(path: Path, name: str, texts: Sequence[str]) -> list[Scalar]:
    """A knob's values; if one of its numbers is a fraction, `16` and `16.0` are the same."""
    values = [parse_scalar(text) for text in texts]
    for line, value in enumerate(values, start=2):
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"table {path}, line {line}: {name} is not a finite number")
    if _numeric(values) and any(isinstance(value, float) for value in values):
        return [_as_float(value) for value in values]
    return values


def _row(path: Path, line: int, record: dict[str, str]) -> Row:
    status = record.get("status", "").strip() or "ok"
    if status not in _STATUSES:
        raise UsageError(f"table {path}, line {line}: status {status!r} is not one of {', '.join(_STATUSES)}")
    try:
        rate = float(record["output_tokens_per_s"] or "nan") if status == "ok" else 1.0
        energy = record.get("j_per_output_token", "").strip()
        row = Row(
            rate=rate,
            status=status,
            j_per_output_token=float(energy) if energy else None,
            launch_s=float(record.get("launch_s", "").strip() or 0.0),
        )
    except ValueError as error:
        raise UsageError(f"table {path}, line {line}: {error}") from None
    costs = (row.launch_s, row.j_per_output_token or 0.0)
    if not all(0 <= cost < math.inf for cost in costs):
        raise UsageError(f"table {path}, line {line}: launch_s and j_per_output_token must not be below 0")
    if not 0 < row.rate < math.inf:
        raise UsageError(f"table {path}, line {line}: output_tokens_per_s must be over 0 where status is ok")
    return row


def _knob(name: str, values: Sequence[Scalar], default: Scalar) -> Knob:
    distinct = list({format_scalar(value): value for value in values}.values())
    if not _numeric(values):
        return Knob(name=name, kind="choice", values=tuple(distinct), default=default)
    kind = "int" if all(isinstance(value, int) for value in distinct) else "float"
    return Knob.model_validate(
        {"name": name, "kind": kind, "values": tuple(sorted(distinct, key=_as_float)), "default": default}
    )


def _numeric(values: Sequence[Scalar]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _as_float(value: Scalar) -> float:
    assert isinstance(value, int | float)
    return float(value)
