"""Recorded tables that hold several landscapes: split by columns that name the device, the model and so on.

The rows of one configuration are its repeats. Which runs failed is decided as for a table of the replay engine.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infertune.domain.knobs import Config, Scalar, format_scalar, parse_scalar
from infertune.engines.replay.table import (
    RESERVED,
    Row,
    Table,
    cells_of,
    default_of,
    is_failure,
    knob_of,
    knob_values,
    notes_of,
    rows_of,
)
from infertune.errors import UsageError

__all__ = ["Columns", "Row", "Table", "read_recorded"]
_MOST_FRACTIONS = 16  # different values of a knob such as a share of memory (judgement)
Wanted = Mapping[str, tuple[Scalar, ...]]


@dataclass(frozen=True)
class Columns:
    """What the columns of a table mean.

    Attributes:
        called: Reserved name → the column that holds it, such as `output_tokens_per_s` → `throughput`.
        labels: Columns whose values split the table: one landscape for each combination.
        knobs: The columns that are knobs; None takes every column that is nothing else.
        ignore: Columns that are nothing.
        where: Only rows with one of these values in these columns are read.
        failed: Rows with one of these values in these columns are failed runs, whatever their rate.
        default: The default configuration; None takes the lowest that has a rate, landscape by landscape.
    """

    called: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    knobs: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    where: Wanted = field(default_factory=dict)
    failed: Wanted = field(default_factory=dict)
    default: Config | None = None


def read_recorded(path: Path, meaning: Columns) -> dict[tuple[str, ...], Table]:
    """The landscapes of a table, by the values of its label columns, in the order of the file.

    All have the same knobs with the same ladders: those of the whole table.

    Raises:
        UsageError: The file is no such table, a named column is not there, or no row is left.
    """
    columns, lines = cells_of(path, meaning.called)
    _check_columns(path, columns, meaning)
    kept = [n for n in range(len(lines)) if _matches(columns, n, meaning.where)]
    if not kept:
        raise UsageError(f"table {path} has no row where {_text(meaning.where)}")
    names = _knob_names(columns, meaning)
    if not names:
        raise UsageError(f"table {path} has no column that is a knob")
    if meaning.knobs is None:
        _check_no_result(path, {name: [columns[name][n] for n in kept] for name in names})
    if meaning.failed:
        failed = [_matches(columns, n, meaning.failed, every=False) for n in range(len(lines))]
        given = columns.get("status", [""] * len(lines))
        columns["status"] = [
            "failed" if bad and not is_failure(said) else said for bad, said in zip(failed, given, strict=True)
        ]
    kept_lines = [lines[n] for n in kept]
    whole = {name: knob_values(path, name, [columns[name][n] for n in kept], kept_lines) for name in names}
    own: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, n in enumerate(kept):
        own[tuple(columns[name][n] for name in meaning.labels)].append(at)
    _check_default(path, whole, meaning.default)
    tables = {}
    for labels, places in own.items():
        reserved = {name: [columns[name][kept[at]] for at in places] for name in RESERVED if name in columns}
        cells = {name: [values[at] for at in places] for name, values in whole.items()}
        rows, without_rate = rows_of(path, reserved, [kept_lines[at] for at in places], cells)
        default = meaning.default or default_of(rows, cells) or next(iter(rows))
        knobs = tuple(knob_of(name, whole[name], default[name]) for name in names)
        tables[labels] = Table(knobs, rows, notes_of(without_rate, len(places)))
    return tables


def _check_columns(path: Path, columns: Mapping[str, Sequence[str]], meaning: Columns) -> None:
    for what, names in (
        ("labels", meaning.labels),
        ("knobs", meaning.knobs or ()),
        ("ignore", meaning.ignore),
        ("where", tuple(meaning.where)),
        ("failed", tuple(meaning.failed)),
        ("default", tuple(meaning.default.root) if meaning.default else ()),
    ):
        if lacking := [name for name in names if name not in columns]:
            shown = ", ".join(repr(name[:40]) for name in list(columns)[:20])
            raise UsageError(f"table {path} has no column {lacking[0]!r} ({what}); its columns are {shown}")


def _knob_names(columns: Mapping[str, Sequence[str]], meaning: Columns) -> list[str]:
    if meaning.knobs is not None:
        return list(meaning.knobs)
    single = {name for name, values in meaning.where.items() if len(values) == 1}
    taken = {*RESERVED, *meaning.called.values(), *meaning.labels, *meaning.ignore, *meaning.failed, *single}
    return [name for name in columns if name not in taken]


def _check_no_result(path: Path, cells: Mapping[str, Sequence[str]]) -> None:
    """Refuse a column that nobody called a knob and whose values are those of a result."""
    for name, texts in cells.items():
        values = {parse_scalar(text) for text in texts}
        fractions = any(isinstance(value, float) and not value.is_integer() for value in values)
        if fractions and len(values) > max(_MOST_FRACTIONS, len(texts) / 2):
            raise UsageError(
                f"table {path}: column {name!r} has {len(values):,} different values in {len(texts):,} rows, like a "
                "result; name the columns that are knobs with `knobs`, or leave it out with `ignore`"
            )


def _check_default(path: Path, whole: Mapping[str, Sequence[Scalar]], default: Config | None) -> None:
    if default is None:
        return
    if lacking := sorted(set(whole) - set(default.root)):
        raise UsageError(f"table {path}: the default says nothing of {lacking[0]!r}, which is a knob of the table")
    for name, value in default.root.items():
        if name in whole and value not in whole[name]:
            raise UsageError(f"table {path}: no row has the default's {name}={format_scalar(value)}")


def _matches(columns: Mapping[str, Sequence[str]], row: int, wanted: Wanted, *, every: bool = True) -> bool:
    found = (any(_equal(columns[name][row], value) for value in values) for name, values in wanted.items())
    return all(found) if every else any(found)


def _equal(text: str, value: Scalar) -> bool:
    """Whether a cell holds a value: `8.0` is 8, `True` is true, and words are compared as they stand."""
    parsed = parse_scalar(text)
    if isinstance(parsed, bool) != isinstance(value, bool):
        return text == format_scalar(value)
    return parsed == value or text == format_scalar(value)


def _text(wanted: Wanted) -> str:
    return " and ".join(f"{name} is {' or '.join(map(format_scalar, values))}" for name, values in wanted.items())
