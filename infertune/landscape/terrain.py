"""The results of a landscape's statistics: measured points, noise, steps, plateau, peaks.

A score is the logarithm of the objective's figure, with its sign changed where less is better, so that higher is always
better. Only search, grid and bench trials count: those of the confirmation ran on other requests and other launches.
"""

import math
from functools import cached_property

from infertune.domain.knobs import Config, Knob, Scalar
from infertune.domain.measurement import Frozen

_MAPPED = 0.5  # share of the grid that must have been visited before peaks are counted; judgement


class Spot(Frozen):
    """A configuration with the results of its search, grid or bench trials.

    Attributes:
        config: The configuration.
        scores: One for each trial that was measured and kept the limits.
        failed: Number of failed trials. A trial that broke a limit, or whose figure is unknown, is in neither.
    """

    config: Config
    scores: tuple[float, ...]
    failed: int = 0

    @property
    def score(self) -> float:
        """Mean score; only where there is at least one."""
        return sum(self.scores) / len(self.scores)


class Noise(Frozen):
    """The spread of repeated measurements of one configuration.

    Attributes:
        deviation: Standard deviation of one trial's score: 0.02 is 2%.
        degrees: Its degrees of freedom.
        source: Which repeats it is from, in words.
    """

    deviation: float
    degrees: int
    source: str

    def margin(self, n_first: int, n_second: int, critical: float) -> float:
        """The largest difference of two means that a critical value allows, in ln(objective)."""
        return critical * self.deviation * math.sqrt(1 / n_first + 1 / n_second)


class Step(Frozen):
    """The change between two neighbouring values of a knob, over all pairs of configurations that differ in them.

    Attributes:
        knob: The knob.
        low: One value; the lower one of an ordinal knob.
        high: The other value.
        ratio: Factor of the figure from low to high: the median over the pairs that jump, or over all if none does.
        ratio_least: The smallest factor of a pair.
        ratio_most: The largest factor of a pair.
        pairs: Pairs that were measured at both values.
        jumps: Pairs that change by more than the noise and by at least 5%.
        starts_failing: Pairs that were measured at the low value and failed at the high one.
        stops_failing: Pairs that failed at the low value and were measured at the high one.
    """

    knob: str
    low: Scalar
    high: Scalar
    ratio: float | None
    ratio_least: float | None
    ratio_most: float | None
    pairs: int
    jumps: int
    starts_failing: int
    stops_failing: int

    @property
    def steepness(self) -> float:
        """For sorting: the largest change of a pair in ln(objective); infinite where configurations fail."""
        if self.starts_failing or self.stops_failing:
            return math.inf
        return max(abs(math.log(self.ratio_least or 1)), abs(math.log(self.ratio_most or 1)))


class Span(Frozen):
    """The values of a knob on the plateau, and the number of its values that were tried."""

    knob: str
    values: tuple[Scalar, ...]
    tried: int


class Plateau(Frozen):
    """The region within 2% of the best.

    Attributes:
        within: Configurations whose mean is within 2% of the best mean.
        connected: Those of them that are connected with the best by neighbours within the region.
        level_with_best: Configurations that do not differ significantly from the best; None if the noise is unknown.
        spans: For each knob, its values in the region.
    """

    within: int
    connected: int
    level_with_best: int | None
    spans: tuple[Span, ...]


class Peak(Frozen):
    """A local maximum: a configuration better than its neighbours.

    Attributes:
        config: The configuration.
        prominence: Factor between its figure and that of the highest saddle on the way to a better configuration; None
            for the highest of its region.
        real: Whether the prominence is statistically significant; None if the noise is unknown.
    """

    config: Config
    prominence: float | None
    real: bool | None


class Terrain(Frozen):
    """A landscape with its statistics.

    Attributes:
        knobs: Knobs that took more than one value.
        spots: Every configuration that was tried.
        grid: Combinations of the space, before rules exclude some.
        noise: None if nothing was repeated.
        steps: Neighbouring values with a jump or a failure between them, the steepest first.
        plateau: None if nothing could be measured.
        peaks: The highest first; empty if less than half of the grid was visited.
    """

    knobs: tuple[Knob, ...]
    spots: tuple[Spot, ...]
    grid: int
    noise: Noise | None
    steps: tuple[Step, ...]
    plateau: Plateau | None
    peaks: tuple[Peak, ...]

    @cached_property
    def measured(self) -> list[Spot]:
        """Configurations with a score, best first."""
        return sorted((spot for spot in self.spots if spot.scores), key=lambda spot: -spot.score)

    @property
    def best(self) -> Spot | None:
        """The configuration with the highest mean, which is biased upwards (the winner's curse)."""
        return self.measured[0] if self.measured else None

    @property
    def mapped(self) -> bool:
        """Whether enough of the grid was visited to count its peaks."""
        return self.grid > 1 and len(self.spots) >= _MAPPED * self.grid
