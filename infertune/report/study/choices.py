"""Choices for people who cannot tune: fixed rules, the best single configuration, and the most robust one."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infertune.domain.knobs import Config, Scalar
from infertune.report.study.cell import Cell, Point, plain

_BATCH = 256  # of the rule "all GPUs, batch 256": what the study (arXiv 2408.01050) found to be near the plateau
RuleValues = Mapping[str, Scalar]


@dataclass(frozen=True)
class Fared:
    """How a choice did in one cell.

    Attributes:
        cell: The cell.
        config: What the choice is there; None where it says nothing of this cell's knobs.
        point: What was measured; None if nobody did.
    """

    cell: Cell
    config: Config | None
    point: Point | None

    @property
    def ran(self) -> bool:
        """Whether it ran there."""
        return self.point is not None and self.point.ran

    @property
    def of_best(self) -> float | None:
        """Its goodness over the best's, at most 1; None if it did not run."""
        best = self.cell.best
        return self.point.goodness / best.goodness if self.point and self.point.ran and best else None

    @property
    def share_of_gain(self) -> float | None:
        """The share of full tuning's gain over the default that it gets; None where tuning gains nothing."""
        best, default = self.cell.best, self.cell.default_point
        if not (self.point and self.point.ran and best and default) or best.goodness <= default.goodness:
            return None
        return (self.point.goodness - default.goodness) / (best.goodness - default.goodness)


@dataclass(frozen=True)
class Choice:
    """A fixed choice over several cells.

    Attributes:
        name: In words.
        group: Which cells, in words.
        fared: How it did in each.
    """

    name: str
    group: str
    fared: tuple[Fared, ...]

    @property
    def shares_of_best(self) -> list[float]:
        """Goodness over the best's, of the cells in which it ran."""
        return [share for one in self.fared if (share := one.of_best) is not None]

    @property
    def mean_of_best(self) -> float | None:
        """Their geometric mean."""
        found = self.shares_of_best
        return math.exp(statistics.fmean(map(math.log, found))) if found else None

    @property
    def worst(self) -> Fared | None:
        """The cell in which it loses most, of those in which it ran."""
        ran = [one for one in self.fared if one.of_best is not None]
        return min(ran, key=lambda one: one.of_best or 0.0, default=None)

    @property
    def share_of_gain(self) -> float | None:
        """Its gain over the default as a share of full tuning's, on the log scale and over all cells together.

        One number that a cell with next to no gain cannot blow up, as it does a mean of shares.
        """
        own = whole = 0.0
        for one in self.fared:
            best, default = one.cell.best, one.cell.default_point
            if one.ran and one.point and best and default:
                own += math.log(one.point.goodness / default.goodness)
                whole += math.log(best.goodness / default.goodness)
        return own / whole if whole > 0 else None

    @property
    def median_share_of_gain(self) -> float | None:
        """The median over cells of the share of the gain."""
        found = [share for one in self.fared if (share := one.share_of_gain) is not None]
        return statistics.median(found) if found else None

    @property
    def failed(self) -> int:
        """Cells in which it failed."""
        return sum(one.point is not None and not one.point.ran for one in self.fared)

    @property
    def unknown(self) -> int:
        """Cells in which it was not measured."""
        return sum(one.point is None for one in self.fared)


@dataclass(frozen=True)
class Robust:
    """The configuration with the smallest worst-case loss over a group of cells.

    Attributes:
        over: The axis over which it is robust.
        group: The labels that the cells share, in words.
        config: The configuration, at its tuned knobs.
        choice: How it does in each cell.
        candidates: Configurations that ran in every cell; 0 if none did, and then it ran in the most cells.
    """

    over: str
    group: str
    config: Config
    choice: Choice
    candidates: int


def fixed_choices(cells: Sequence[Cell], rules: Mapping[str, RuleValues]) -> list[Choice]:
    """The engine's default, every rule, and the best single configuration, over the cells of one engine each.

    Args:
        cells: The cells.
        rules: Name → knob → value, `max` or `min`; without any, "all GPUs, batch 256" where there are such knobs.
    """
    made = []
    for group, own in _by_engine(cells).items():
        made.append(Choice("the default", group, tuple(Fared(c, c.default, c.points.get(c.default)) for c in own)))
        for name, setting in (rules or usual_rules(own)).items():
            made.append(Choice(name, group, tuple(_fared(cell, rule_config(cell, setting)) for cell in own)))
        single = best_single(own)
        if single is not None:
            name = f"best single configuration ({single})"
            made.append(Choice(name, group, tuple(_fared(cell, at(cell, single)) for cell in own)))
    return made


def usual_rules(cells: Sequence[Cell]) -> dict[str, RuleValues]:
    """The rule "all GPUs, batch 256" in the names of the cells' own knobs; empty where they have neither."""
    gpus, batch = cells[0].gpus, cells[0].batch
    values: dict[str, Scalar] = {}
    names = []
    if gpus is not None and len(gpus.values) > 1:
        values[gpus.name] = "max"
        names.append("all GPUs")
    if batch is not None and len(batch.values) > 1:
        small = batch.numbers[-1] < _BATCH
        values[batch.name] = "max" if small else _BATCH
        names.append("largest batch" if small else f"batch {_BATCH}")
    return {", ".join(names): values} if values else {}


def rule_config(cell: Cell, setting: RuleValues) -> Config | None:
    """What a rule is in a cell: its values, or the nearest on each ladder, and the default's elsewhere.

    None where it names a knob that the cell does not have.
    """
    knobs = {knob.name: knob for knob in cell.knobs}
    if not setting.keys() <= knobs.keys():
        return None
    chosen: dict[str, Scalar] = {}
    for name, value in setting.items():
        tried = cell.values_of(name)
        ladder = knobs[name]
        if value in ("max", "min") and ladder.ordinal:
            chosen[name] = tried[-1 if value == "max" else 0]
        else:
            chosen[name] = plain(ladder.nearest(value))
    return cell.default.updated(chosen)


def best_single(cells: Sequence[Cell]) -> Config | None:
    """The configuration with the highest mean share of each cell's best, of those that ran in the most cells."""
    return _chosen(cells, lambda shares: statistics.fmean(map(math.log, shares)))


def robust_choices(cells: Sequence[Cell]) -> list[Robust]:
    """For every group of cells that differ in one axis only, the configuration with the smallest worst-case loss."""
    made = []
    for axis in next((tuple(cell.labels) for cell in cells), ()):
        groups: dict[tuple[str, ...], list[Cell]] = defaultdict(list)
        for cell in cells:
            groups[tuple(text for name, text in cell.labels.items() if name != axis)].append(cell)
        for own in groups.values():
            alike = len({frozenset(knob.name for knob in cell.knobs) for cell in own}) == 1
            config = _chosen(own, min) if len(own) > 1 and alike else None
            if config is None:
                continue
            fared = tuple(_fared(cell, at(cell, config)) for cell in own)
            group = own[0].text_of(name for name in own[0].labels if name != axis)
            everywhere = [shares for shares in _shares(own).values() if len(shares) == len(own)]
            made.append(Robust(axis, group, config, Choice("robust", group, fared), len(everywhere)))
    return made


def at(cell: Cell, config: Config) -> Config:
    """A configuration of tuned knobs with the cell's own values elsewhere."""
    return cell.default.updated({name: value for name, value in config.root.items() if name in cell.default})


def _chosen(cells: Sequence[Cell], goodness: Callable[[list[float]], float]) -> Config | None:
    found = _shares(cells)
    if not found:
        return None
    most = max(map(len, found.values()))
    return max((config for config, shares in found.items() if len(shares) == most), key=lambda c: goodness(found[c]))


def _shares(cells: Sequence[Cell]) -> dict[Config, list[float]]:
    """Of every configuration of the knobs that some cell tuned, its share of the best in the cells where it ran."""
    names = {knob.name for cell in cells for knob in cell.tuned}
    found: dict[Config, list[float]] = defaultdict(list)
    for cell in cells:
        if cell.best is None:
            continue
        for point in cell.running:
            found[point.config.subset(names)].append(point.goodness / cell.best.goodness)
    return found


def _by_engine(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.labels["engine"]].append(cell)
    return groups


def _fared(cell: Cell, config: Config | None) -> Fared:
    return Fared(cell, config, None if config is None else cell.points.get(config))
