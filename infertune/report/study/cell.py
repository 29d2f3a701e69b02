"""A cell of a study: the landscape of one model on one engine, device and workload, from a ledger or a recorded table.

Goodness is the objective's figure where more is better, and its inverse where less is: higher is always better.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from infertune.domain.figures import j_per_output_token
from infertune.domain.knobs import Config, Knob, Scalar, format_scalar
from infertune.domain.measurement import Infeasible
from infertune.domain.objective import Objective
from infertune.domain.trial import EXPLORING, Trial
from infertune.landscape import Terrain
from infertune.stats import Estimate, geometric_mean

AXES = ("device", "engine", "model", "workload")
SETTINGS, RUN = "settings", "run"  # further axes of runs that no plan made
# What engines and published tables call the number of GPUs of one model's engine, and the requests in a batch.
_GPU_NAMES = ("gpus", "n_gpus", "num_gpus", "gpu_count", "n_gpu", "ngpus", "tensor_parallel_size", "tp")
_BATCH_NAMES = ("batch_size", "batch", "batchsize", "bs", "max_num_seqs", "concurrency")


@dataclass(frozen=True)
class Point:
    """One configuration of a cell.

    Attributes:
        config: Every knob's value; whole numbers are integers.
        samples: Goodness, one a launch, of the repeats that ran.
        failures: How each repeat that did not run failed: oom, crashed, …
        j_per_output_token: Joules, over the repeats; None if unknown.
    """

    config: Config
    samples: tuple[float, ...]
    failures: tuple[str, ...] = ()
    j_per_output_token: float | None = None

    @property
    def ran(self) -> bool:
        """Whether every repeat ran. What failed once is no recommendation, so it has no goodness here."""
        return bool(self.samples) and not self.failures

    @cached_property
    def goodness(self) -> float:
        """Geometric mean over the launches; only of a configuration that ran."""
        return geometric_mean(self.samples)


@dataclass(frozen=True)
class Brought:
    """A configuration of elsewhere that was launched in turn with this cell's best on unseen prompts (`tune --from`).

    Attributes:
        config: The configuration.
        gain: The best here over it.
        to_default: It over the default here.
    """

    config: Config
    gain: Estimate
    to_default: Estimate | None


@dataclass(frozen=True)
class Cell:
    """One landscape of a study.

    Attributes:
        labels: Its value on every axis: device, engine, model, workload.
        knobs: Its space.
        points: What was tried, in the order of the grid: knobs' values ascending, the first knob slowest.
        default: The engine's default, or the table's.
        terrain: Its statistics.
        unit: Of goodness.
        recommended: What a tune proved; None for a grid, whose best is its highest mean.
        gpus_name: The knob that counts GPUs; None finds it by its name.
        recorded: It comes from a table, not from a run.
        brought: What a tune brought from elsewhere and compared; None where it brought nothing.
        notes: What the user should know of it.
        shown: The axes that tell it from the other cells; None shows all.
    """

    labels: Mapping[str, str]
    knobs: tuple[Knob, ...]
    points: Mapping[Config, Point]
    default: Config
    terrain: Terrain
    unit: str = "tok/s"
    recommended: Config | None = None
    gpus_name: str | None = None
    recorded: bool = False
    brought: Brought | None = None
    notes: tuple[str, ...] = ()
    shown: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Its labels in one line."""
        return self.text_of(self.labels) or "the only cell"

    def text_of(self, axes: Iterable[str]) -> str:
        """Its labels on some axes in one line, without those that all cells share."""
        wanted = [axis for axis in axes if self.shown is None or axis in self.shown]
        return " · ".join(self.labels[axis] for axis in wanted if self.labels[axis])

    @cached_property
    def tuned(self) -> tuple[Knob, ...]:
        """Knobs that took more than one value."""
        return tuple(knob for knob in self.knobs if len(self.values_of(knob.name)) > 1)

    def values_of(self, name: str) -> tuple[Scalar, ...]:
        """The values of a knob that were tried, in the knob's order."""
        tried = {plain(point.config[name]) for point in self.points.values()}
        return tuple(value for value in map(plain, self._knob(name).values) if value in tried)

    @cached_property
    def running(self) -> list[Point]:
        """The configurations that ran, in the order of the grid."""
        return [point for point in self.points.values() if point.ran]

    @cached_property
    def best(self) -> Point | None:
        """The best configuration: what a tune recommends, else the highest mean; of equals the first of the grid."""
        if self.recommended is not None and (found := self.points.get(self.recommended)) and found.ran:
            return found
        return max(self.running, key=lambda point: point.goodness, default=None)

    @property
    def ties(self) -> int:
        """How many further configurations are exactly as good as the best."""
        best = self.best
        return sum(point.goodness == best.goodness for point in self.running) - 1 if best else 0

    @property
    def default_point(self) -> Point | None:
        """The default, if it ran."""
        point = self.points.get(self.default)
        return point if point and point.ran else None

    @cached_property
    def gpus(self) -> Knob | None:
        """The knob that counts GPUs."""
        return self._named((self.gpus_name,) if self.gpus_name else _GPU_NAMES)

    @cached_property
    def batch(self) -> Knob | None:
        """The knob that is the batch size, or the most requests at once."""
        said = next((knob for knob in self.knobs if knob.is_concurrency and knob.ordinal), None)
        return said or self._named(_BATCH_NAMES)

    def short(self, config: Config) -> str:
        """A configuration by the knobs that took more than one value."""
        names = [knob.name for knob in self.tuned]
        return " ".join(f"{name}={format_scalar(config[name])}" for name in names) or "its only one"

    def _knob(self, name: str) -> Knob:
        return next(knob for knob in self.knobs if knob.name == name)

    def _named(self, names: Sequence[str | None]) -> Knob | None:
        return next((knob for name in names for knob in self.knobs if knob.name == name and knob.ordinal), None)


def cell_of_trials(
    labels: Mapping[str, str],
    trials: Iterable[Trial],
    knobs: tuple[Knob, ...],
    objective: Objective,
    terrain: Terrain,
    default: Config,
    recommended: Config | None = None,
    brought: Brought | None = None,
    notes: tuple[str, ...] = (),
) -> Cell:
    """The cell of a run: its exploring trials, on the same requests for every configuration."""
    rates: dict[Config, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    failures: dict[Config, list[str]] = defaultdict(list)
    joules: dict[Config, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.phase not in EXPLORING:
            continue
        config = plain_config(trial.config)
        if trial.measurement is None:
            outcome = trial.outcome
            failures[config].append(outcome.reason if isinstance(outcome, Infeasible) else outcome.kind)
        elif (score := objective.score(trial.measurement)) is None:
            failures[config].append("limit")
        else:
            rates[config][trial.launch_number].append(math.exp(score))
            if (energy := j_per_output_token(trial.measurement)) is not None:
                joules[config].append(energy)
    points = [
        Point(
            config,
            tuple(map(geometric_mean, rates[config].values())) if config in rates else (),
            tuple(failures[config]) if config in failures else (),
            geometric_mean(joules[config]) if joules.get(config) else None,
        )
        for config in {**dict.fromkeys(rates), **dict.fromkeys(failures)}
    ]
    return Cell(
        labels=labels,
        knobs=knobs,
        points=in_grid_order(points, knobs),
        default=plain_config(default),
        terrain=terrain,
        unit=f"1 / ({objective.unit})" if objective.lower_is_better else objective.unit,
        recommended=None if recommended is None else plain_config(recommended),
        brought=brought,
        notes=notes,
    )


def told_apart(cells: Sequence[Cell]) -> tuple[list[Cell], dict[str, str]]:
    """The same cells, named by the axes on which they differ, and what they share: axis → value."""
    shared = {axis: text for axis, text in cells[0].labels.items() if all(cell.labels[axis] == text for cell in cells)}
    shown = tuple(axis for axis in cells[0].labels if axis not in shared)
    return [replace(cell, shown=shown) for cell in cells], {axis: text for axis, text in shared.items() if text}


def in_grid_order(points: Iterable[Point], knobs: Sequence[Knob]) -> dict[Config, Point]:
    """Points by configuration: values ascending on every ladder, the first knob slowest."""
    place = {knob.name: {plain(value): n for n, value in enumerate(knob.values)} for knob in knobs}
    ordered = sorted(points, key=lambda point: [place[k.name].get(plain(point.config[k.name]), -1) for k in knobs])
    return {point.config: point for point in ordered}


def plain(value: Scalar) -> Scalar:
    """A value as it compares between tables: 8.0 is 8."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain_config(config: Config) -> Config:
    """A configuration with such values."""
    return Config({name: plain(value) for name, value in config.root.items()})
