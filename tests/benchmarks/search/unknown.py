"""Made landscapes in families, from seeds: one half to develop a strategy on, the other held out to judge it.

All have a parallel size and a batch size, with what recorded tables show: a rise and a plateau along the batch ladder,
with the peak inside, at an edge or behind a dip; a cliff in the parallel size; drops on a quarter of the cells or
rungs; memory limits that move with the size of the model and with the parallel size. Families of more knobs add knobs
that act alone or in pairs, and some that do nothing.
"""

import math
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from infertune.domain.knobs import Choice, Config, Int, Knob, Scalar, SearchSpace, doubling

LAUNCH_S, RUN_S = 40.0, 12.0
_BASE_RATE = 1000.0
_RAGGED_SHARE = 0.25


@dataclass(frozen=True)
class Family:
    """Landscapes of one kind.

    Attributes:
        name: For the table.
        knobs: Fewest and most knobs, the parallel size and the batch size among them.
        missing: Least and largest share of failing cells of the two main knobs.
        noise: Whether a measurement has noise, 0.5 to 3%.
        idle: How many of the knobs do nothing, None to draw it.
    """

    name: str
    knobs: tuple[int, int] = (2, 2)
    missing: tuple[float, float] = (0.0, 0.0)
    noise: bool = False
    idle: int | None = 0


FAMILIES = (
    Family("2 knobs, all run"),
    Family("2 knobs, all run, noise", noise=True),
    Family("2 knobs, a third fails", missing=(0.2, 0.45)),
    Family("2 knobs, a third fails, noise", missing=(0.2, 0.45), noise=True),
    Family("3 to 5 knobs", knobs=(3, 5), missing=(0.0, 0.4), noise=True, idle=None),
    Family("6 to 9 knobs", knobs=(6, 9), missing=(0.0, 0.4), noise=True, idle=None),
    Family("12 knobs, 3 matter", knobs=(12, 12), missing=(0.0, 0.3), noise=True, idle=9),
)


@dataclass(frozen=True)
class Landscape:
    """A landscape that answers at once.

    Attributes:
        name: Of its family, with its number.
        space: Its knobs; the default runs.
        rate: Output tokens per second without noise, None where it fails.
        best: The rate of the best configuration.
        noise: Standard deviation of ln(rate) of one measurement.
    """

    name: str
    space: SearchSpace
    rate: Callable[[Config], float | None]
    best: float
    noise: float

    def score(self, config: Config, rng: random.Random) -> float | None:
        """ln(rate) of one measurement; None if it fails."""
        rate = self.rate(config)
        return None if rate is None else math.log(rate) + rng.gauss(0, self.noise)


def landscapes(family: Family, n: int, *, held_out: bool) -> Iterator[Landscape]:
    """The first n of a family: the same in every run, and none of the held-out ones among the others."""
    for number in range(n):
        half = "held out" if held_out else "development"
        rng = random.Random(zlib.crc32(f"{family.name}/{half}/{number}".encode()))
        yield _landscape(f"{family.name} {half} {number}", family, rng)


Cells = dict[tuple[int, int], float]


def _landscape(name: str, family: Family, rng: random.Random) -> Landscape:
    sizes = rng.randint(4, 5), rng.randint(5, 11)
    if sizes[0] * sizes[1] > 44:
        sizes = 4, sizes[1]
    cells = _main(rng, *sizes)
    missing = _walled(rng, *sizes, rng.uniform(*family.missing)) if family.missing[1] else set[tuple[int, int]]()
    cells = {at: value for at, value in cells.items() if at not in missing}
    start = (0, 0) if (0, 0) in cells else min(cells)
    n_extra = rng.randint(*family.knobs) - 2
    idle = rng.randint(0, n_extra // 2) if family.idle is None else family.idle
    first_batch = 1 if sizes[1] > 8 else rng.choice((1, 4, 8))
    parallel, batch = doubling(1, 2 ** (sizes[0] - 1)), doubling(first_batch, first_batch * 2 ** (sizes[1] - 1))
    scopes = ("launch", "live") if n_extra else ("launch", "launch")
    main = (
        Int("parallel", parallel, parallel[start[0]]),
        Int("batch", batch, batch[start[1]], scope=scopes[1]),
    )
    extras = [_extra(rng, number, acts=number >= idle) for number in range(n_extra)]
    rng.shuffle(extras)
    pairs = _pairs(rng, extras)
    space = SearchSpace((*main, *(extra.knob for extra in extras)))

    def rate(config: Config) -> float | None:
        at = parallel.index(_whole(config["parallel"])), batch.index(_whole(config["batch"]))
        if at not in cells:
            return None
        value = cells[at] + sum(extra.effects[config[extra.knob.name]] for extra in extras)
        value += sum(pair.of(config) for pair in pairs)
        return _BASE_RATE * math.exp(value)

    best = max(cells.values()) + _best_of(extras, pairs)
    return Landscape(name, space, rate, _BASE_RATE * math.exp(best), rng.uniform(0.005, 0.03) if family.noise else 0.0)


def _whole(value: Scalar) -> int:
    assert isinstance(value, int)
    return value


def _main(rng: random.Random, n_parallel: int, n_batch: int) -> Cells:
    """ln(rate) over the rungs of parallel size and batch size."""
    top = n_batch - 1
    knee, knee_shift, sharpness = rng.uniform(0.0, 0.8 * top), rng.uniform(0.0, 0.9), rng.uniform(0.6, 1.3)
    shape = rng.choice(("plateau", "inside", "inside", "low edge", "dip"))
    peak = {"inside": rng.uniform(0.3, 0.9) * top, "low edge": -1.0}.get(shape, top)
    fall = rng.uniform(0.02, 0.15) if shape == "inside" else rng.uniform(0.05, 0.2)
    peak_shift = rng.uniform(-0.3, 0.7)
    dip_at, dip_depth = rng.uniform(0.3, 0.8) * top, rng.uniform(0.05, 0.4) if shape == "dip" else 0.0
    gain = rng.uniform(-0.35, 0.6)  # ln(rate) for each doubling of the parallel size
    overhead = rng.uniform(0.0, 0.25)  # of a parallel size, at the smallest batch; less at larger ones
    cliff_at = rng.randint(1, n_parallel - 1) if rng.random() < 0.5 else n_parallel
    cliff_depth, cliff_from = rng.uniform(0.1, 0.8), rng.choice((0, 0, n_batch // 2))
    ragged, fine = rng.uniform(0.02, 0.15), rng.uniform(0.001, 0.012)
    by_rung = rng.random() < 0.5
    dropped_rungs = {j: ragged * rng.uniform(0.3, 1) for j in range(n_batch) if rng.random() < _RAGGED_SHARE}
    cells: Cells = {}
    for i in range(n_parallel):
        for j in range(n_batch):
            value = -math.log1p(2 ** (-sharpness * (j - knee - knee_shift * i)))
            value -= fall * max(0.0, j - peak - peak_shift * i) if shape in ("inside", "low edge") else 0.0
            value -= dip_depth * math.exp(-((j - dip_at) ** 2))
            value += gain * i - overhead * i * (1 - j / top)
            value -= cliff_depth if i >= cliff_at and j >= cliff_from else 0.0
            if by_rung:
                value -= dropped_rungs.get(j, 0.0)
            elif rng.random() < _RAGGED_SHARE:
                value -= ragged * rng.uniform(0.3, 1)
            cells[i, j] = value + rng.gauss(0, fine)
    return cells


def _walled(rng: random.Random, n_parallel: int, n_batch: int, share: float) -> set[tuple[int, int]]:
    """The cells that fail: batches beyond what the memory holds, and some that fail for no reason."""
    cells = [(i, j) for i in range(n_parallel) for j in range(n_batch)]
    slope = rng.choice((0.0, 0.5, 1.0, 1.5))  # rungs of batch that a doubling of the parallel size makes room for
    too_large_below = rng.choice((0, 0, 1))  # the model's weights alone do not fit on so few devices
    by_need = sorted(cells, key=lambda at: (at[0] >= too_large_below, slope * at[0] - at[1], rng.random()))
    failing = set(by_need[: round(share * 0.85 * len(cells))])
    return failing | {at for at in cells if rng.random() < share * 0.15 / max(0.1, 1 - share)} - {by_need[-1]}


@dataclass(frozen=True)
class _Extra:
    """A further knob: what each of its values adds to ln(rate)."""

    knob: Knob
    effects: dict[Scalar, float]


@dataclass(frozen=True)
class _Pair:
    """Two knobs of which the upper values together add something."""

    one: _Extra
    other: _Extra
    bonus: float

    def of(self, config: Config) -> float:
        """What it adds to ln(rate)."""
        return self.at(config[self.one.knob.name], config[self.other.knob.name])

    def at(self, one: Scalar, other: Scalar) -> float:
        """The same by values."""
        return self.bonus * (one == self.one.knob.values[-1]) * (other == self.other.knob.values[-1])


def _extra(rng: random.Random, number: int, *, acts: bool) -> _Extra:
    scope = rng.choice(("launch", "live"))
    if rng.random() < 0.5:
        values: tuple[Scalar, ...] = rng.choice(((False, True), ("a", "b", "c"), ("a", "b", "c", "d")))
        knob = Choice(f"choice_{number}", values, values[0], scope=scope)
        effects = [rng.choice((0.0, rng.uniform(-0.25, 0.25))) for _ in values]
    else:
        ladder = doubling(1, 2 ** rng.randint(2, 6))
        knob = Int(f"ladder_{number}", ladder, rng.choice(ladder), scope=scope)
        peak, curve = rng.uniform(0, 1), rng.uniform(0.05, 0.5)
        effects = [-curve * (i / (len(ladder) - 1) - peak) ** 2 for i in range(len(ladder))]
    if not acts:
        effects = [0.0] * len(effects)
    return _Extra(knob, dict(zip(knob.values, effects, strict=True)))


def _pairs(rng: random.Random, extras: Sequence[_Extra]) -> list[_Pair]:
    """Pairs of knobs that act, each knob in one pair at most."""
    acting = [extra for extra in extras if any(extra.effects.values())]
    if len(acting) < 2 or rng.random() < 0.5:
        return []
    return [_Pair(acting[0], acting[1], rng.uniform(-0.15, 0.15))]


def _best_of(extras: Sequence[_Extra], pairs: Sequence[_Pair]) -> float:
    """The most that the further knobs add to ln(rate) in all."""
    paired = {id(extra) for pair in pairs for extra in (pair.one, pair.other)}
    total = sum(max(extra.effects.values()) for extra in extras if id(extra) not in paired)
    for pair in pairs:
        one, other = pair.one.effects, pair.other.effects
        total += max(one[a] + other[b] + pair.at(a, b) for a in one for b in other)
    return total
