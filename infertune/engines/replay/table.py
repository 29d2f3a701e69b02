"""Recorded tables: a ledger of ours, or a CSV with one row a configuration; repeated rows are repeats.

Reserved columns: `output_tokens_per_s`, `status` (ok, oom, crash, timeout, rejected), `j_per_output_token`, `launch_s`,
`run_s`. Every other column is a knob, ordinal if all its values are numbers.

Other tools write a failed run as a row without a rate: 0, nothing or NaN. Without a status such a row is a crash, and a
note counts them. The words that other tools use for a status are understood (see `_STATUS_WORDS`).
"""

import csv
import hashlib
import io
import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from infertune.documents import decoded, read_unpacked
from infertune.domain.figures import j_per_output_token
from infertune.domain.knobs import Config, Knob, Scalar, check_scalars, format_scalar, parse_scalar
from infertune.domain.measurement import Infeasible, Measurement
from infertune.domain.record import FILE_NAME as LEDGER_NAME
from infertune.domain.record import read_record
from infertune.errors import UsageError

_MOST_TABLE_BYTES = 64 * 1024**2  # about a million rows (judgement)
_MOST_COLUMNS = 1000
_LEAST_RATE, _MOST_RATE = 1e-3, 1e9  # beyond them no duration of a job makes sense
_MOST_COST = 1e9  # joules or seconds
_RATE = "output_tokens_per_s"
RESERVED = (_RATE, "status", "j_per_output_token", "launch_s", "run_s")
Status = Literal["ok", "oom", "crash", "timeout", "rejected"]
# What tools write for a run's end, in lower case with "_" between words.
_STATUS_WORDS: dict[Status, str] = {
    "ok": "ok okay success successful succeeded complete completed done finished pass passed true valid measured",
    "oom": "oom out_of_memory outofmemory outofmemoryerror oom_killed oomkilled cuda_oom cuda_out_of_memory",
    "crash": "crash crashed fail failed failure error errored exception false aborted killed died cancelled canceled",
    "timeout": "timeout timeouts timed_out timedout timeouterror time_out deadline deadline_exceeded",
    "rejected": "rejected invalid infeasible unsupported not_supported skipped",
}
_STATUS_OF: dict[str, Status] = {word: status for status, words in _STATUS_WORDS.items() for word in words.split()}
_NO_NUMBER = {"", "nan", "na", "n/a", "#n/a", "null", "none", "-", "--", "<na>"}  # as pandas, R and people write it


@dataclass(frozen=True)
class Row:
    """One recorded run of one configuration.

    Attributes:
        rate: Output tokens per second; 1 where the run failed.
        status: How it ended.
        j_per_output_token: Joules; None where not recorded.
        launch_s: Seconds to load the engine.
    """

    rate: float
    status: Status = "ok"
    j_per_output_token: float | None = None
    launch_s: float = 0.0


@dataclass(frozen=True)
class Table:
    """Recorded runs by configuration, the knobs that span them, and what the user should know of them."""

    knobs: tuple[Knob, ...]
    rows: dict[Config, list[Row]]
    notes: tuple[str, ...] = ()

    @cached_property
    def mark(self) -> str:
        """A hash of what was recorded: other tables have another one, and so has this one once it is changed."""
        content = hashlib.sha256()
        for config, rows in self.rows.items():
            content.update(repr((config.key, [astuple(row) for row in rows])).encode())
        return content.hexdigest()[:16]


def read_table(path: Path, ignore: Sequence[str] = ()) -> Table:
    """A recorded table: a CSV, a ledger or the folder of a run.

    The default configuration of a CSV is every knob's first value in ascending order (the first seen for words) if the
    table has a rate for it, and otherwise the first row with a rate.

    Raises:
        UsageError: The file is missing, or is no such table.
    """
    is_folder = os.path.isdir(path)
    if is_folder or path.name == LEDGER_NAME:
        return _table_of_ledger(path if is_folder else path.parent)
    columns, lines = cells_of(path)
    names = _knob_names(path, columns, ignore)
    cells = {name: knob_values(path, name, columns[name], lines) for name in names}
    rows, without_rate = rows_of(path, columns, lines, cells)
    default = default_of(rows, cells)
    if default is None:
        raise UsageError(f"table {path} has no row with a rate: every one is a failure, so there is nothing to replay")
    knobs = tuple(knob_of(name, cells[name], default[name]) for name in names)
    return Table(knobs, rows, notes_of(without_rate, len(lines)))


def rows_of(
    path: Path, columns: Mapping[str, Sequence[str]], lines: Sequence[int], cells: Mapping[str, Sequence[Scalar]]
) -> tuple[dict[Config, list[Row]], int]:
    """The runs by configuration, and how many rows have neither a rate nor a status.

    Args:
        path: The table, for messages.
        columns: The reserved columns, under their own names.
        lines: The line of each row.
        cells: The values of each knob, row by row.

    Raises:
        UsageError: A row is no run.
    """
    rows: dict[Config, list[Row]] = defaultdict(list)
    without_rate = 0
    for number, line in enumerate(lines):
        row = _row(path, line, {name: columns[name][number] for name in RESERVED if name in columns})
        without_rate += row is None
        rows[Config({name: values[number] for name, values in cells.items()})].append(row or Row(1.0, "crash"))
    return dict(rows), without_rate


def default_of(rows: Mapping[Config, Sequence[Row]], cells: Mapping[str, Sequence[Scalar]]) -> Config | None:
    """The lowest configuration if it has a rate, else the first that has one; None if none has."""
    measured = [config for config, repeats in rows.items() if any(row.status == "ok" for row in repeats)]
    lowest = Config({name: _first_value(values) for name, values in cells.items()})
    return lowest if lowest in measured else next(iter(measured), None)


def cells_of(path: Path, called: Mapping[str, str] | None = None) -> tuple[dict[str, list[str]], list[int]]:
    """The cells by column, without blanks around them, and the line on which each row ends.

    A column that is called by another name is there under both.

    Args:
        path: The table.
        called: Reserved name → the column that holds it, where it has another name.

    Raises:
        UsageError: The file cannot be read, or is no table with a column of rates.
    """
    called = called or {}
    rate = called.get(_RATE, _RATE)
    text = decoded(read_unpacked(path, "table", _MOST_TABLE_BYTES), path, "table")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise UsageError(f"cannot read table {path}: line {reader.line_num}: {error}") from None
    if len(names) > _MOST_COLUMNS:
        raise UsageError(f"table {path} has more than {_MOST_COLUMNS:,} columns")
    if not any(names):
        raise UsageError(f"cannot read table {path}: its first line names no columns")
    if lacking := next((name for name in (rate, *called.values()) if name not in names), None):
        shown = ", ".join(repr(name[:40]) for name in names[:20])
        cure = f": rename the one that holds output tokens per second to {_RATE}" if lacking == _RATE else ""
        raise UsageError(f"table {path} has no column {lacking}; its columns are {shown}{cure}")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"table {path} has two columns {twice!r}")
    if not found:
        raise UsageError(f"table {path} has no rows")
    for line, row in found:
        if any(row[len(names) :]):
            raise UsageError(f"table {path}, line {line}: {len(row)} values for {len(names)} columns")
    columns = {name: [row[at] if at < len(row) else "" for _, row in found] for at, name in enumerate(names)}
    columns.pop("", None)  # of a comma at the end of the line
    columns |= {name: columns[source] for name, source in called.items()}
    return columns, [line for line, _ in found]


def _knob_names(path: Path, columns: Mapping[str, object], ignore: Sequence[str]) -> list[str]:
    unknown = set(ignore) - set(columns)
    if unknown:
        raise UsageError(f"table {path} has no column {', '.join(sorted(unknown))} to ignore")
    names = [name for name in columns if name not in RESERVED and name not in ignore]
    if not names:
        raise UsageError(f"table {path} has no column that is a knob")
    return names


def _first_value(values: Sequence[Scalar]) -> Scalar:
    return min(values, key=_as_float) if _numeric(values) else values[0]


def notes_of(without_rate: int, n_rows: int) -> tuple[str, ...]:
    """A sentence on rows that were taken as failed runs; empty if there are none."""
    if not without_rate:
        return ()
    what = "1 row of the table has" if without_rate == 1 else f"{without_rate} rows of the table have"
    return (f"{what} no rate (0, empty or NaN) and no status: taken as failed runs, of {n_rows:,} rows in all",)


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


def knob_values(path: Path, name: str, texts: Sequence[str], lines: Sequence[int]) -> list[Scalar]:
    """A knob's values; if one of its numbers is a fraction, `16` and `16.0` are the same."""
    values = [parse_scalar(text) for text in texts]
    for line, value in zip(lines, values, strict=True):
        try:
            check_scalars({name: value})
        except ValueError as error:
            raise UsageError(f"table {path}, line {line}: {error}") from None
    if _numeric(values) and any(isinstance(value, float) for value in values):
        return [_as_float(value) for value in values]
    return values


def _row(path: Path, line: int, record: Mapping[str, str]) -> Row | None:
    """A line's run; None if it has neither a rate nor a status."""
    status, rate_text = _status(path, line, record.get("status", "")), record[_RATE]
    if status is None:
        status = _STATUS_OF.get(_as_word(rate_text))  # a word where the rate should stand: OOM, error
    try:
        rate = 0.0 if rate_text.lower() in _NO_NUMBER or _as_word(rate_text) in _STATUS_OF else float(rate_text)
    except ValueError:
        raise UsageError(f"table {path}, line {line}: {_RATE} {rate_text[:40]!r} is not a number") from None
    rate = 0.0 if math.isnan(rate) else rate
    if status is None and rate == 0:
        return None
    if status == "ok" and rate == 0:
        raise UsageError(
            f"table {path}, line {line}: {_RATE} must be over 0 where status is ok; give the run's real status "
            "(oom, crash, timeout) or leave the status empty"
        )
    if status in (None, "ok") and not _LEAST_RATE <= rate <= _MOST_RATE:
        raise UsageError(
            f"table {path}, line {line}: {_RATE} must be over 0 and finite, from {_LEAST_RATE:g} to {_MOST_RATE:g}, "
            f"not {rate_text[:40]}"
        )
    energy = _cost(path, line, "j_per_output_token", record)
    launch_s = _cost(path, line, "launch_s", record) or 0.0
    return Row(rate if status in (None, "ok") else 1.0, status or "ok", energy, launch_s)


def _status(path: Path, line: int, text: str) -> Status | None:
    """What a status means; None if there is none."""
    if text.lower() in _NO_NUMBER:
        return None
    status = _STATUS_OF.get(_as_word(text))
    if status is None:
        raise UsageError(
            f"table {path}, line {line}: status {text[:40]!r} is not one of {', '.join(_STATUS_WORDS)}, "
            "nor a known word for one of them"
        )
    return status


def is_failure(status: str) -> bool:
    """Whether a status says that a run failed."""
    return _STATUS_OF.get(_as_word(status), "ok") != "ok"


def _as_word(text: str) -> str:
    """`Out of memory` → `out_of_memory`."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _cost(path: Path, line: int, name: str, record: Mapping[str, str]) -> float | None:
    text = record.get(name, "")
    if text.lower() in _NO_NUMBER:
        return None
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"table {path}, line {line}: {name} {text[:40]!r} is not a number") from None
    if not 0 <= value <= _MOST_COST:
        raise UsageError(
            f"table {path}, line {line}: {name} must be a finite number not below 0 nor above {_MOST_COST:g}, "
            f"not {text[:40]}"
        )
    return value


def knob_of(name: str, values: Sequence[Scalar], default: Scalar) -> Knob:
    """A knob over the values of a column: ordinal if all are numbers."""
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
