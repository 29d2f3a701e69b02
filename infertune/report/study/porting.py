"""Does a configuration travel? The best of one cell, used in another one.

The gain of retuning is best here over the configuration brought here, minus one. A configuration that fails here, or
that nobody measured here, has no gain: it is counted apart.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from infertune.domain.knobs import Config
from infertune.report.study.cell import AXES, RUN, Cell, Point, plain
from infertune.stats import Estimate, unpaired_ratio

Kind = Literal["compared", "fails here", "not measured here", "nothing ran"]
_OFF_THE_PLATEAU = 1.02  # a loss that the statistics of a landscape would not call level with the best (judgement)


@dataclass(frozen=True)
class Port:
    """The best configuration of `there`, used in `here`.

    Attributes:
        there: Where it was best.
        here: Where it is used.
        axes: What differs between the two.
        config: What is brought: the knobs that were tuned there.
        kind: Whether it could be compared.
        why: How it fails, or what is missing; empty if it was compared.
        ported: The configuration here; None if it did not run.
        gain: The best here over it; None unless compared. Without an interval after a single repetition.
        to_default: It over the default here; None unless compared, or where the default did not run.
        same: It is the best here too.
    """

    there: Cell
    here: Cell
    axes: tuple[str, ...]
    config: Config
    kind: Kind
    why: str = ""
    ported: Point | None = None
    gain: Estimate | None = None
    to_default: Estimate | None = None
    same: bool = False

    @property
    def gain_percent(self) -> float | None:
        """The gain of retuning in percent."""
        return None if self.gain is None else (self.gain.mean - 1) * 100

    @property
    def surely_loses(self) -> bool:
        """Whether the best here is better beyond the noise of the repeats."""
        return self.gain is not None and self.gain.low is not None and self.gain.low > 1 and not self.same


@dataclass(frozen=True)
class Travel:
    """Ports of one kind, together: from one value of an axis to another, over the models that both have.

    Attributes:
        axis: What differs, such as `device`.
        there: Its value where the configurations were best; empty for all ordered pairs.
        here: Its value where they are used; empty for all ordered pairs.
        group: The other labels that they share.
        ports: One each.
        absent: Cells there that have no counterpart here.
    """

    axis: str
    there: str
    here: str
    group: str
    ports: tuple[Port, ...]
    absent: int = 0

    @property
    def gains(self) -> list[float]:
        """Gains of retuning in percent, of those that could be compared."""
        return [gain for port in self.ports if (gain := port.gain_percent) is not None]

    @property
    def mean(self) -> float | None:
        """Arithmetic mean of the gains in percent."""
        return statistics.fmean(self.gains) if self.gains else None

    @property
    def median(self) -> float | None:
        """Their median."""
        return statistics.median(self.gains) if self.gains else None

    @property
    def most(self) -> float | None:
        """The largest."""
        return max(self.gains, default=None)

    @property
    def lose(self) -> int:
        """How many are slower here than the best here."""
        return sum(gain > 0 for gain in self.gains)

    @property
    def lose_clearly(self) -> int:
        """How many are slower by more than 2%."""
        return sum(gain > (_OFF_THE_PLATEAU - 1) * 100 for gain in self.gains)

    @property
    def lose_surely(self) -> int:
        """How many are slower beyond the noise of the repeats."""
        return sum(port.surely_loses for port in self.ports)

    @property
    def without_interval(self) -> int:
        """How many differ from the best here and have a single repetition, so no interval."""
        return sum(port.gain is not None and port.gain.low is None and not port.same for port in self.ports)

    @property
    def below_default(self) -> int:
        """How many are slower here than the default here."""
        return sum(port.to_default is not None and port.to_default.mean < 1 for port in self.ports)

    def count(self, kind: Kind) -> int:
        """How many ports ended in a way."""
        return sum(port.kind == kind for port in self.ports)


def differing(first: Cell, second: Cell) -> tuple[str, ...]:
    """The axes on which two cells differ; `run` for two runs of the same thing."""
    axes = tuple(axis for axis in first.labels if first.labels[axis] != second.labels.get(axis))
    return tuple(axis for axis in axes if axis != RUN) or axes


def ports_between(
    cells: Sequence[Cell], wanted: Callable[[tuple[str, ...]], bool] = lambda axes: len(axes) == 1
) -> list[Port]:
    """A port for every ordered pair of cells whose knobs are comparable.

    Args:
        cells: The cells.
        wanted: Which sets of differing axes count; one axis unless told otherwise.
    """
    pairs = ((there, here) for there in cells for here in cells if there is not here)
    made = (port(there, here, axes) for there, here in pairs if wanted(axes := differing(there, here)))
    return [one for one in made if one is not None]


def port(there: Cell, here: Cell, axes: tuple[str, ...]) -> Port | None:
    """The best of one cell in another; None if the two have no tuned knob in common."""
    names = {knob.name for knob in here.knobs}
    tuned = {knob.name for knob in there.tuned}
    if not tuned & names:
        return None
    if there.best is None or here.best is None:
        where = "there" if there.best is None else "here"
        return Port(there, here, axes, Config({}), "nothing ran", f"nothing ran {where}")
    brought = Config({name: value for name, value in there.best.config.root.items() if name in tuned})
    if lacking := sorted(tuned - names):
        return Port(there, here, axes, brought, "not measured here", f"there is no {', '.join(lacking)} here")
    whole = _as_here(here, there.best.config, tuned | {knob.name for knob in here.tuned})
    point = here.points.get(whole)
    proved = here.brought if here.brought and here.brought.config == whole else None
    if point is None:
        return Port(there, here, axes, brought, "not measured here", "no such configuration here")
    if not point.ran:
        return Port(there, here, axes, brought, "fails here", ", ".join(dict.fromkeys(point.failures)))
    default = here.default_point
    return Port(
        there=there,
        here=here,
        axes=axes,
        config=brought,
        kind="compared",
        ported=point,
        gain=proved.gain if proved else _ratio(here.best, point),
        to_default=proved.to_default if proved else None if default is None else _ratio(point, default),
        same=point is here.best,
    )


def travels(cells: Sequence[Cell], ports: Iterable[Port]) -> list[Travel]:
    """Ports by what differs and between which values, over models; and over all ordered pairs of an axis."""
    groups: dict[_Group, dict[tuple[str, str], list[Port]]] = defaultdict(lambda: defaultdict(list))
    for one in ports:
        group = _Group(one.axes, _shared(one.there, one.axes))
        groups[group][_end(one.there, one.axes), _end(one.here, one.axes)].append(one)
    present = Counter((group, _end(cell, group.axes)) for group in groups for cell in cells if group.holds(cell))
    made = []
    for group, pairs in groups.items():
        every = [one for found in pairs.values() for one in found]
        axis, shared = " and ".join(group.axes), every[0].there.text_of(axis for axis, _ in group.shared)
        for (there, here), found in pairs.items():
            absent = present[group, there] - len(found)
            made.append(Travel(axis, there, here, shared, tuple(found), absent))
        if len(pairs) > 2:
            made.append(Travel(axis, "", "", shared, tuple(every)))
    order = {axis: number for number, axis in enumerate(AXES)}
    return sorted(made, key=lambda travel: (order.get(travel.axis, len(AXES)), travel.group, not travel.there))


def over_groups(found: Iterable[Travel]) -> list[Travel]:
    """The same changes over all groups of cells together, and over all ordered pairs where there are more than two."""
    together: dict[tuple[str, str, str], list[Travel]] = defaultdict(list)
    for travel in found:
        if travel.there:
            together[travel.axis, travel.there, travel.here].append(travel)
    made = [
        Travel(axis, there, here, "", tuple(port for t in own for port in t.ports), sum(t.absent for t in own))
        for (axis, there, here), own in together.items()
    ]
    for axis in dict.fromkeys(travel.axis for travel in made):
        pairs = [travel for travel in made if travel.axis == axis]
        if len(pairs) > 2:
            made.append(Travel(axis, "", "", "", tuple(port for travel in pairs for port in travel.ports)))
    return made


@dataclass(frozen=True)
class _Group:
    """Ports over one set of axes between cells that share all other labels but the model's."""

    axes: tuple[str, ...]
    shared: tuple[tuple[str, str], ...]

    def holds(self, cell: Cell) -> bool:
        """Whether a cell has these labels."""
        return all(cell.labels[axis] == text for axis, text in self.shared)


def _shared(cell: Cell, axes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((axis, text) for axis, text in cell.labels.items() if axis not in (*axes, "model", RUN))


def _end(cell: Cell, axes: tuple[str, ...]) -> str:
    return " · ".join(cell.labels[axis] or "none" for axis in axes)


def _as_here(here: Cell, config: Config, names: set[str]) -> Config:
    """A configuration's values at some knobs, with this cell's own at all others."""
    asked = {name: plain(value) for name, value in config.root.items() if name in names and name in here.default}
    return here.default.updated(asked)


def _ratio(new: Point, base: Point) -> Estimate:
    return unpaired_ratio(new.samples, base.samples)
