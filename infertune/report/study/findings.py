"""Everything that a study's report says, computed once from its cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infertune.report.study.cell import Cell, told_apart
from infertune.report.study.choices import Choice, Robust, RuleValues, fixed_choices, robust_choices
from infertune.report.study.porting import Port, Travel, ports_between, travels
from infertune.report.study.shape import Shape, shape_of


@dataclass(frozen=True)
class Missing:
    """A cell of the plan without a whole landscape.

    Attributes:
        name: Its labels in one line.
        why: Why it is not there, or not whole.
    """

    name: str
    why: str


@dataclass(frozen=True)
class StudyFindings:
    """A study and what was found in it.

    Attributes:
        title: Of the plan.
        shared: What all cells share: axis → value.
        shapes: One a cell.
        choices: Fixed rules and the best single configuration.
        robust: The most robust choices over groups of cells.
        ports: Every ordered pair of cells that differ on one axis.
        travels: The same, together by what changes.
        missing: Cells that could not be measured, or not wholly.
        machines: Where the live cells were measured, and when.
    """

    title: str
    shared: Mapping[str, str]
    shapes: tuple[Shape, ...]
    choices: tuple[Choice, ...]
    robust: tuple[Robust, ...]
    ports: tuple[Port, ...]
    travels: tuple[Travel, ...]
    missing: tuple[Missing, ...] = ()
    machines: tuple[str, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """The cells."""
        return [shape.cell for shape in self.shapes]


def find_study(
    title: str,
    cells: Sequence[Cell],
    rules: Mapping[str, RuleValues] | None = None,
    missing: Sequence[Missing] = (),
    machines: Sequence[str] = (),
) -> StudyFindings:
    """Compute everything; there must be at least one cell."""
    named, shared = told_apart(cells)
    ports = ports_between(named)
    return StudyFindings(
        title=title,
        shared=shared,
        shapes=tuple(map(shape_of, named)),
        choices=tuple(fixed_choices(named, rules or {})),
        robust=tuple(robust_choices(named)),
        ports=tuple(ports),
        travels=tuple(travels(named, ports)),
        missing=tuple(missing),
        machines=tuple(machines),
    )
