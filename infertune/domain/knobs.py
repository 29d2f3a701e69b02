"""Knobs, the space they span, and configurations in it.

Every knob has a finite, ordered list of values: an engine's settings are worth telling apart on a ladder of values
(1, 2, 4, …), not on a continuum. That makes size, neighbours and a full grid well defined for every space.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, RootModel, model_validator

from infertune.domain.scalars import Scalar as Scalar
from infertune.domain.scalars import check_scalars as check_scalars
from infertune.domain.scalars import format_scalar as format_scalar
from infertune.domain.scalars import is_number as is_number
from infertune.domain.scalars import parse_scalar as parse_scalar

Scope = Literal["launch", "live"]
Effect = Literal["exact", "numeric", "lossy"]


class Config(RootModel[dict[str, Scalar]]):
    """One setting of every knob: name → scalar. Frozen, hashable by its canonical key."""

    model_config = ConfigDict(frozen=True)

    def __getitem__(self, name: str) -> Scalar:
        return self.root[name]

    def __contains__(self, name: str) -> bool:
        return name in self.root

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.key == other.key

    @cached_property
    def key(self) -> str:
        """The same text for the same setting, whatever the order of its names."""
        return json.dumps(self.root, sort_keys=True)

    def updated(self, changes: Mapping[str, Scalar]) -> "Config":
        """A copy with some values changed."""
        return Config({**self.root, **changes})

    def subset(self, names: set[str] | frozenset[str]) -> "Config":
        """Only the named settings."""
        return Config({name: value for name, value in self.root.items() if name in names})

    def __str__(self) -> str:
        return " ".join(f"{name}={format_scalar(value)}" for name, value in self.root.items())


class Knob(BaseModel):
    """One setting of an engine that can be searched.

    Attributes:
        name: The engine's own name for it.
        kind: `int` and `float` are ordinal, `choice` is not.
        values: Every value that may be tried, ascending where ordinal.
        default: What the engine uses when it is told nothing, or what the user holds it at; always among `values`.
        scope: `launch` needs a new engine, `live` changes on a loaded one.
        live_at_most_launched: A live knob that a loaded engine can only lower below what it was launched with.
        is_concurrency: Its value is how many requests run at once: a job must have as many to tell values apart.
        unit: Unit of the values, empty if they have none.
        why: One sentence for the user: what it trades.
        effect: What other values do to the answers: `exact` nothing (scheduling, caching, sizes), `numeric` another
            order of sums or another kernel, `lossy` fewer bits or work left out. A knob of which nobody has said
            anything counts as lossy.
        most: The engine takes values up to this one, and a search whose best lies at the ladder's end may double on;
            None where the ladder ends for a reason.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["int", "float", "choice"]
    values: tuple[Scalar, ...]
    default: Scalar
    scope: Scope = "launch"
    live_at_most_launched: bool = False
    is_concurrency: bool = False
    unit: str = ""
    why: str = ""
    effect: Effect = "lossy"
    most: float | None = None

    @model_validator(mode="after")
    def _check(self) -> "Knob":
        for value in self.values:
            check_scalars({self.name: value})
            if self.ordinal and not is_number(value, whole=self.kind == "int"):
                raise ValueError(f"{self.name}: {value!r} is no value of the kind {self.kind}")
        if self.default not in self.values:
            raise ValueError(f"{self.name}: default {self.default!r} is not among {self.values}")
        if len(set(map(repr, self.values))) != len(self.values):
            raise ValueError(f"{self.name}: a value stands twice in {self.values}")
        if self.ordinal and list(self.numbers) != sorted(self.numbers):
            raise ValueError(f"{self.name}: ordinal values must ascend, got {self.values}")
        return self

    @property
    def ordinal(self) -> bool:
        """Whether its values are ordered numbers, so that neighbours have similar effects."""
        return self.kind != "choice"

    @property
    def numbers(self) -> tuple[float, ...]:
        """The values of an ordinal knob as numbers."""
        return tuple(float(value) for value in self.values if isinstance(value, int | float))

    def nearest(self, value: Scalar) -> Scalar:
        """The allowed value nearest to a number on a log scale; the default for a choice that is not allowed."""
        if equal := self._equal(value):
            return equal[0]
        if not self.ordinal or isinstance(value, bool) or not isinstance(value, int | float):
            return self.default
        target = float(value)
        return min(self.values, key=lambda v: abs(_log_like(float(v or 0)) - _log_like(target)))

    def at_least(self, floor: float) -> Scalar:
        """The smallest allowed number ≥ floor, or the largest allowed one."""
        return next((v for v in self.values if isinstance(v, int | float) and v >= floor), self.values[-1])

    def _equal(self, value: Scalar) -> list[Scalar]:
        """The allowed value equal to another, in this knob's spelling: 16.0 may be 16, but True is not 1."""
        return [v for v in self.values if v == value and isinstance(v, bool) == isinstance(value, bool)]

    def takes(self, value: Scalar) -> bool:
        """Whether a value is of this knob's kind and within what the engine is known to take."""
        if self._equal(value):
            return True
        if not self.ordinal or isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.kind == "int" and not isinstance(value, int):
            return False
        return self.numbers[0] <= value <= max(self.numbers[-1], self.most or self.numbers[-1])

    def may_grow_to(self, value: Scalar) -> bool:
        """Whether a search that goes on beyond the ladder's end may come to a value: a doubling of the last one."""
        if self.most is None or not is_number(value) or not self.ordinal or not isinstance(value, int | float):
            return False
        times = value / self.numbers[-1] if self.numbers[-1] > 0 else 0
        return times > 1 and math.log2(times).is_integer() and value <= self.most

    def with_values(self, values: Iterable[Scalar]) -> "Knob":
        """The same knob with further values, at their place on a ladder."""
        own = dict.fromkeys((*self.values, *(value for value in values if not self._equal(value))))
        ordered = tuple(sorted(own, key=float)) if self.ordinal else tuple(own)  # type: ignore[arg-type]
        return Knob(**{**self.model_dump(), "values": ordered})

    def with_default(self, value: Scalar) -> "Knob":
        """The same knob, resting at another value."""
        return Knob(**{**self.with_values([value]).model_dump(), "default": (self._equal(value) or [value])[0]})

    def restricted(self, values: tuple[Scalar, ...]) -> "Knob":
        """The same knob over other values; the default moves to the nearest of them."""
        if self.kind == "choice" and None in self.values and all(type(value) is int for value in values):
            return self._laddered(values)
        own = tuple((self._equal(value) or [value])[0] for value in values)
        ordered = tuple(sorted(own, key=float)) if self.ordinal else own  # type: ignore[arg-type]
        loose = self.model_copy(update={"values": ordered, "default": ordered[0], "most": None})
        return Knob(**{**loose.model_dump(), "default": loose.nearest(self.default)})

    def _laddered(self, values: tuple[Scalar, ...]) -> "Knob":
        """An ordinal knob from a choice of numbers and `None` (the engine chooses), without the `None`."""
        ladder = tuple(sorted(values, key=float))  # type: ignore[arg-type]
        changes = {"kind": "int", "values": ladder, "default": ladder[0], "most": None}
        return Knob(**{**self.model_dump(), **changes})


def Int(name: str, values: tuple[int, ...], default: int, **about: str | bool | float) -> Knob:  # noqa: N802
    """An integer knob on a ladder of values; a default off the ladder is added to it."""
    return _ordinal("int", name, values, default, about)


def Float(name: str, values: tuple[float, ...], default: float, **about: str | bool | float) -> Knob:  # noqa: N802
    """A floating-point knob on a ladder of values; a default off the ladder is added to it."""
    return _ordinal("float", name, values, default, about)


def Choice(name: str, values: tuple[Scalar, ...], default: Scalar, **about: str | bool | float) -> Knob:  # noqa: N802
    """A knob whose values have no order."""
    return Knob.model_validate({"name": name, "kind": "choice", "values": values, "default": default, **about})


def _ordinal(
    kind: str, name: str, values: tuple[float, ...], default: float, about: Mapping[str, str | bool | float]
) -> Knob:
    ladder = tuple(sorted({*values, default}))
    return Knob.model_validate({"name": name, "kind": kind, "values": ladder, "default": default, **about})


def doubling(low: int, high: int) -> tuple[int, ...]:
    """low, 2·low, 4·low, … up to high."""
    ladder = [low]
    while ladder[-1] * 2 <= high:
        ladder.append(ladder[-1] * 2)
    return tuple(ladder)


@dataclass(frozen=True)
class Constraint:
    """A relation between knobs that the engine is known to insist on.

    Attributes:
        name: Short, for the ledger and the report.
        reason: What goes wrong otherwise.
        holds: Whether a configuration (plain dict) satisfies it.
        mend: Changes that make a violating configuration satisfy it.
    """

    name: str
    reason: str
    holds: Callable[[Mapping[str, Scalar]], bool]
    mend: Callable[[Mapping[str, Scalar]], Mapping[str, Scalar]]


@dataclass(frozen=True)
class Condition:
    """A knob that is active only while another knob has one of some values; else it stays at its default."""

    knob: str
    on: str
    among: tuple[Scalar, ...]


@dataclass(frozen=True)
class FixedBatches:
    """Static batching: how an engine that does not refill its batches groups a job's requests.

    Attributes:
        knobs: Those that decide.
        of: From their values and the requests' prompt lengths in tokens to batches of positions, in turn.
    """

    knobs: tuple[str, ...]
    of: Callable[[Mapping[str, Scalar], Sequence[float]], list[list[int]]]


class SpaceRecord(BaseModel):
    """A space as it is written to disk: the knobs, and its rules in words."""

    model_config = ConfigDict(frozen=True)

    knobs: tuple[Knob, ...]
    rules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def with_values_of(self, config: Config) -> "SpaceRecord":
        """The same space with what a configuration adds to ladders that may be gone beyond."""
        longer = {
            knob.name: knob.with_values([config[knob.name]])
            for knob in self.knobs
            if knob.name in config and knob.may_grow_to(config[knob.name])
        }
        if not longer:
            return self
        return self.model_copy(update={"knobs": tuple(longer.get(knob.name, knob) for knob in self.knobs)})


@dataclass(frozen=True)
class SearchSpace:
    """Knobs with the rules between them.

    Attributes:
        knobs: In the order in which people should read them.
        conditions: Knobs that rest at their default unless another has some value.
        constraints: Relations that always hold for a repaired configuration.
        notes: What was left out and why, for the user.
        batches: How requests are put together; None where one that ends makes room for the next at once.
    """

    knobs: tuple[Knob, ...]
    conditions: tuple[Condition, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    notes: tuple[str, ...] = field(default=())
    batches: FixedBatches | None = None

    def __getitem__(self, name: str) -> Knob:
        return next(knob for knob in self.knobs if knob.name == name)

    def __contains__(self, name: str) -> bool:
        return any(knob.name == name for knob in self.knobs)

    @property
    def names(self) -> tuple[str, ...]:
        """The knobs' names."""
        return tuple(knob.name for knob in self.knobs)

    @property
    def launch_names(self) -> frozenset[str]:
        """Knobs that need a new engine when they change."""
        return frozenset(knob.name for knob in self.knobs if knob.scope == "launch")

    @property
    def default(self) -> Config:
        """The engine's default configuration."""
        return Config({knob.name: knob.default for knob in self.knobs})

    @property
    def most_concurrent(self) -> int:
        """The most requests that any configuration runs at once, 1 if no knob says."""
        return max((int(knob.numbers[-1]) for knob in self.knobs if knob.is_concurrency and knob.numbers), default=1)

    @property
    def size(self) -> int:
        """How many combinations there are before rules take some away."""
        return math.prod(len(knob.values) for knob in self.knobs)

    def grid(self) -> Iterator[Config]:
        """Every configuration that all rules allow; launch knobs vary slowest."""
        ordered = sorted(self.knobs, key=lambda knob: knob.scope != "launch")
        for values in itertools.product(*(knob.values for knob in ordered)):
            chosen = dict(zip((knob.name for knob in ordered), values, strict=True))
            config = Config({name: chosen[name] for name in self.names})
            if self.repair(config) == config:
                yield config

    def repair(self, config: Config) -> Config:
        """The nearest configuration that the rules allow: values on the ladders, conditions and constraints met."""
        values = {knob.name: knob.nearest(config.root.get(knob.name, knob.default)) for knob in self.knobs}
        for _ in range(len(self.constraints) + 1):
            for condition in self.conditions:
                if values[condition.on] not in condition.among:
                    values[condition.knob] = self[condition.knob].default
            broken = [constraint for constraint in self.constraints if not constraint.holds(values)]
            if not broken:
                break
            for constraint in broken:
                self._enforce(constraint, values)
        for knob in self.knobs:  # a restricted knob may lack the value that repairs: reset one by one
            if all(constraint.holds(values) for constraint in self.constraints):
                break
            values[knob.name] = knob.default
        return Config(values)

    def _enforce(self, constraint: Constraint, values: dict[str, Scalar]) -> None:
        """Make values satisfy a constraint, unless repairing another one already did."""
        if constraint.holds(values):
            return
        for name, value in constraint.mend(values).items():
            if name in self:
                values[name] = self[name].nearest(value)
                if not constraint.holds(values) and isinstance(value, int | float):  # the nearest value is too low
                    values[name] = self[name].at_least(value)

    def violations(self, config: Config) -> list[str]:
        """Why a configuration is not allowed, one sentence each; empty if it is."""
        found = [
            f"{knob.name}={format_scalar(config.root.get(knob.name))} is not one of "
            + ", ".join(map(format_scalar, knob.values))
            for knob in self.knobs
            if config.root.get(knob.name, "missing") not in knob.values
        ]
        found += [f"unknown knob {name}" for name in config.root if name not in self]
        if not found:
            found = [c.reason for c in self.constraints if not c.holds(config.root)]
        return found

    def launch_key(self, config: Config) -> str:
        """The part of a configuration that needs a new engine when it changes."""
        return config.subset(self.launch_names).key

    def with_knob(self, changed: Knob) -> "SearchSpace":
        """The same space with one knob replaced by another of its name."""
        knobs = tuple(changed if knob.name == changed.name else knob for knob in self.knobs)
        return replace(self, knobs=knobs)

    def with_new(self, knob: Knob) -> "SearchSpace":
        """The same space with one more knob."""
        return replace(self, knobs=(*self.knobs, knob))

    def record(self) -> SpaceRecord:
        """What is written to the ledger's header."""
        rules = tuple(constraint.reason for constraint in self.constraints)
        return SpaceRecord(knobs=self.knobs, rules=rules, notes=self.notes)


def _log_like(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)
