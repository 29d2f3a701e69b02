"""Landscapes whose best configuration is known: recorded ones, the fake engine's, and generated ones of two knobs."""

import itertools
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infertune.domain.knobs import Config, Constraint, Int, Knob, Scalar, SearchSpace
from infertune.engines import get_engine
from infertune.engines.base import EngineOptions
from infertune.engines.fake.engine import LANDSCAPES, FakeEngine
from infertune.engines.hf.space import BATCHES
from infertune.runs.job import restrict

RECORDED = Path(__file__).parents[2] / "data" / "landscapes"
_LAUNCH_S, _RUN_S = 40.0, 12.0
_PARTS_BY_RATE = 5  # of a landscape, each with a noise of its own


@dataclass(frozen=True)
class Run:
    """One measurement: its rate in output tokens per second, None if it failed, and its costs in seconds."""

    rate: float | None
    launch_s: float
    run_s: float


@dataclass(frozen=True)
class Problem:
    """A landscape that answers at once.

    Attributes:
        name: For the table.
        space: Its knobs; `space.default` is the first trial.
        true: The rate of every configuration without noise; absent where it fails.
        run: One noisy measurement of a configuration on a launch with a number.
        once: The first recorded run of each configuration; empty for simulated landscapes.
        header: What a recorded table says about its run; empty for others.
    """

    name: str
    space: SearchSpace
    true: dict[Config, float]
    run: Callable[[Config, random.Random], Run]
    once: dict[Config, Run] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> float:
        """The rate of the best configuration."""
        return max(self.true.values())


def recorded() -> Iterator[Problem]:
    """The tables under tests/data/landscapes."""
    for table in sorted(RECORDED.glob("*.csv.gz")):
        yield of_table(table)


def of_table(table: Path) -> Problem:
    """A recorded table with its header beside it."""
    header = json.loads(table.with_name(table.name.removesuffix(".csv.gz") + ".json").read_text())
    knobs = tuple(Knob.model_validate(knob) for knob in header["space"]["knobs"])
    frame = pd.read_csv(table)
    rows: dict[Config, list[tuple[int, Run]]] = defaultdict(list)
    for row in frame.to_dict("records"):
        config = Config({knob.name: _value(knob, row[knob.name]) for knob in knobs})
        rate = float(row["output_tokens_per_s"]) if row["status"] == "ok" else None
        rows[config].append((int(row["round"]), Run(rate, float(row["launch_s"]), float(row["run_s"]))))
    runs = _without_drift(rows)
    rates = {config: [run.rate for run in found if run.rate] for config, found in runs.items()}
    true = _shrunk({config: found for config, found in rates.items() if found})
    noise = _residuals(rates, true)

    def run(config: Config, rng: random.Random) -> Run:
        drawn = rng.choice(runs[config])
        return drawn if drawn.rate is None else replace(drawn, rate=true[config] * math.exp(rng.choice(noise[config])))

    return Problem(
        name=table.name.removesuffix(".csv.gz"),
        space=SearchSpace(knobs, constraints=_rules(knobs), batches=BATCHES if header["engine"] == "hf" else None),
        true=true,
        run=run,
        once={config: found[0] for config, found in runs.items()},
        header=header,
    )


def slice_of(problem: Problem, name: str, value: Scalar) -> Problem:
    """The part of a landscape in which a knob has a value: two thread counts stand in for two devices."""
    space = restrict(problem.space, {name: value}, {})
    true = {config: rate for config, rate in problem.true.items() if config[name] == value}
    return replace(problem, name=f"{problem.name}:{name}={value}", space=space, true=true)


def _without_drift(rows: dict[Config, list[tuple[int, Run]]]) -> dict[Config, list[Run]]:
    """Runs freed of what the machine did from round to round: every round has each configuration once."""
    means: dict[Config, float] = {c: _log_mean([r.rate for _, r in found if r.rate]) for c, found in rows.items()}
    by_round: dict[int, list[float]] = defaultdict(list)
    for config, found in rows.items():
        for number, run in found:
            if run.rate:
                by_round[number].append(math.log(run.rate) - means[config])
    drift = {number: sum(values) / len(values) for number, values in by_round.items()}
    return {
        config: [replace(run, rate=run.rate and run.rate / math.exp(drift[number])) for number, run in found]
        for config, found in rows.items()
    }


def _residuals(rates: dict[Config, list[float]], true: dict[Config, float]) -> dict[Config, list[float]]:
    """The residuals that are drawn as a configuration's noise: those of the repeats of configurations about as fast.

    A fifth of the landscape, by rate, shares its residuals: some landscapes' slowest lie twice as far apart as their
    fastest. Each is of logarithms, and widened for the degree of freedom that the mean took.
    """
    noise: dict[Config, list[float]] = {}
    slowest_first = sorted(true, key=lambda config: true[config])
    for fifth in np.array_split(np.arange(len(slowest_first)), _PARTS_BY_RATE):
        alike = [slowest_first[i] for i in fifth]
        found = []
        for repeats in (rates[config] for config in alike if len(rates[config]) > 1):
            wider = math.sqrt(len(repeats) / (len(repeats) - 1))
            found += [wider * (math.log(rate) - _log_mean(repeats)) for rate in repeats]
        noise.update(dict.fromkeys(alike, found or [0.0]))
    return noise


def _shrunk(rates: dict[Config, list[float]]) -> dict[Config, float]:
    """An estimate of each configuration's true rate: its mean, shrunk towards a model of all configurations.

    With a few noisy repeats the highest of 160 means is biased upwards (the winner's curse). Main effects and
    interactions of two knobs are fitted to all means; the mean of a configuration counts by the share of the misfit
    that is not noise (Efron and Morris, Stein's estimation rule and its competitors, JASA 1973).
    """
    configs = list(rates)
    means = np.array([_log_mean(rates[config]) for config in configs])
    columns = [np.ones(len(configs))]
    names = list(configs[0].root)
    indicators = {
        name: [np.array([float(c[name] == value) for c in configs]) for value in {c[name]: 0 for c in configs}]
        for name in names
    }
    for name in names:
        columns += indicators[name]
    for one, other in itertools.combinations(names, 2):
        columns += [a * b for a in indicators[one] for b in indicators[other]]
    design = np.stack(columns, axis=1)
    coefficients, _, rank, _ = np.linalg.lstsq(design, means, rcond=None)
    fitted = design @ coefficients
    spread = [np.var(np.log(rates[config]), ddof=1) for config in configs if len(rates[config]) > 1]
    noise = float(np.mean(spread)) / float(np.mean([len(found) for found in rates.values()]))
    misfit = float(((means - fitted) ** 2).sum()) / max(1, len(configs) - int(rank))
    own = max(0.0, 1 - noise / misfit) if misfit > 0 else 1.0
    return {c: math.exp(f + own * (m - f)) for c, f, m in zip(configs, fitted, means, strict=True)}


def _value(knob: Knob, cell: object) -> Scalar:
    """The knob's value that a cell of the table stands for."""
    return next(value for value in knob.values if str(value) == str(cell) or value == cell)


def _rules(knobs: Sequence[Knob]) -> tuple[Constraint, ...]:
    """The rule between the two knobs of a scheduler, as its engine states it."""
    slots, budget = "max_num_seqs", "max_num_batched_tokens"
    if not {slots, budget} <= {knob.name for knob in knobs}:
        return ()
    return (
        Constraint(
            name="a token for every sequence",
            reason=f"{budget} must not be below {slots}",
            holds=lambda c: float(c[budget] or 0) >= float(c[slots] or 0),
            mend=lambda c: {budget: c[slots]},
        ),
    )


def simulated() -> Iterator[Problem]:
    """The fake engine's landscapes."""
    for name in LANDSCAPES:
        engine = get_engine(f"fake:{name}", EngineOptions(variant=name))
        assert isinstance(engine, FakeEngine)
        yield of_fake(name, engine)


def of_fake(name: str, engine: FakeEngine) -> Problem:
    """One of the fake engine's landscapes."""
    space = engine.space(None, None, None)  # type: ignore[arg-type]
    fits = engine.fits
    true = {config: engine.true_rate(config) for config in space.grid() if fits(config)}

    def run(config: Config, rng: random.Random) -> Run:
        if config not in true:
            return Run(None, _LAUNCH_S, 0.0)
        return Run(true[config] * math.exp(rng.gauss(0, 0.012)), _LAUNCH_S, _RUN_S)

    return Problem(f"fake:{name}", space, true, run)


def made(n: int = 12) -> Iterator[Problem]:
    """Tables of two ordinal knobs and 20 to 44 cells, of random shape, with some cells missing."""
    for seed in range(n):
        yield _made(seed)


def _made(seed: int) -> Problem:
    rng = random.Random(seed)
    sizes = rng.choice(
        [(4, 5), (5, 4), (5, 5), (4, 6), (6, 5), (7, 4), (5, 7), (6, 6), (9, 4), (5, 8), (4, 11), (11, 4), (7, 6)]
    )
    first = Int("a", tuple(2**i for i in range(sizes[0])), 1)
    second = Int("b", tuple(256 * 2**i for i in range(sizes[1])), 256)
    space = SearchSpace((first, second))
    knee = rng.uniform(0.5, 4) + sizes[0] / 4
    peak, curve = rng.uniform(0, 1), rng.uniform(0, 0.6)
    tilt = rng.uniform(-0.3, 0.5)
    ragged = rng.choice([0.005, 0.01, 0.02, 0.04, 0.08])
    cliff, depth = (rng.uniform(0.5, 1.0), rng.uniform(0.05, 0.4)) if rng.random() < 0.5 else (2.0, 0.0)
    missing = rng.choice(["none", "random", "corner"])
    true: dict[Config, float] = {}
    for i, a in enumerate(first.values):
        for j, b in enumerate(second.values):
            u, v = i / (sizes[0] - 1), j / (sizes[1] - 1)
            rate = 2**i / (2**i + 2 ** (knee + tilt * 2 * v))
            rate *= math.exp(-curve * (v - peak) ** 2 + rng.gauss(0, ragged))
            if u > cliff and v > 0.4:
                rate *= 1 - depth
            gone = (missing == "random" and rng.random() < 0.12) or (missing == "corner" and u + v > 1.7)
            if not gone:
                true[Config({"a": a, "b": b})] = 1000 * rate

    def run(config: Config, noise: random.Random) -> Run:
        if config not in true:
            return Run(None, _LAUNCH_S, 0.0)
        return Run(true[config], _LAUNCH_S, _RUN_S)

    if space.default not in true:
        true[space.default] = 1000 / (1 + 2**knee)
    return Problem(f"made-{seed}", space, true, run)


def _log_mean(rates: list[float]) -> float:
    return sum(map(math.log, rates)) / len(rates) if rates else 0.0
