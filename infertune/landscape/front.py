"""The Pareto front of throughput and energy: the configurations that no other one beats in both."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from infertune.domain.figures import j_per_output_token
from infertune.domain.knobs import Config
from infertune.domain.measurement import Frozen
from infertune.domain.objective import Objective
from infertune.domain.trial import Trial
from infertune.errors import UsageError
from infertune.stats import geometric_mean

Place = Literal["fastest", "greenest", "knee"]
PLACES: tuple[Place, ...] = ("fastest", "greenest", "knee")


class Point(Frozen):
    """A configuration with its two figures, geometric means over its search or grid trials.

    Attributes:
        config: The configuration.
        output_tokens_per_s: Its throughput.
        j_per_output_token: Its gross energy, in joules per output token.
    """

    config: Config
    output_tokens_per_s: float
    j_per_output_token: float


def pareto_front(trials: Sequence[Trial], objective: Objective) -> list[Point]:
    """The configurations that no other beats in both throughput and energy, fastest first; empty without energy.

    Configurations that broke a limit of the objective, or whose energy is unknown, are left out.
    """
    broke = {trial.config for trial in trials if trial.measurement and not objective.keeps_limits(trial.measurement)}
    rates: dict[Config, list[float]] = defaultdict(list)
    joules: dict[Config, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.phase not in ("search", "grid") or trial.measurement is None or trial.config in broke:
            continue
        energy = j_per_output_token(trial.measurement)
        if energy is not None:
            rates[trial.config].append(trial.measurement.output_tokens_per_s)
            joules[trial.config].append(energy)
    points = [
        Point(config=c, output_tokens_per_s=geometric_mean(rates[c]), j_per_output_token=geometric_mean(joules[c]))
        for c in rates
    ]
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.output_tokens_per_s, p.j_per_output_token)):
        if not front or point.j_per_output_token < front[-1].j_per_output_token:
            front.append(point)
    return front


def point_on(front: Sequence[Point], place: Place) -> Point:
    """One point of a Pareto front.

    The knee is the point farthest from the straight line between the fastest and the greenest, both figures on a
    logarithmic scale (Branke et al., Finding Knees in Multi-objective Optimization, PPSN 2004); with two points or
    fewer it is the fastest.

    Raises:
        UsageError: The front is empty: no energy was measured.
    """
    if not front:
        raise UsageError("this run has no energy figures, so there is nothing to trade throughput against")
    if place == "greenest":
        return front[-1]
    if place == "fastest" or len(front) < 3:
        return front[0]
    return max(front, key=lambda point: _above_line(point, front[0], front[-1]))


def _above_line(point: Point, fastest: Point, greenest: Point) -> float:
    """Distance of a point beyond the line between fastest and greenest, both axes scaled to the front's extent."""
    speed = math.log(point.output_tokens_per_s / greenest.output_tokens_per_s)
    speed /= math.log(fastest.output_tokens_per_s / greenest.output_tokens_per_s)
    thrift = math.log(fastest.j_per_output_token / point.j_per_output_token)
    thrift /= math.log(fastest.j_per_output_token / greenest.j_per_output_token)
    return speed + thrift
