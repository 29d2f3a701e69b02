"""What the measured points say about a landscape: the values that its statistics are told in.

All of it is on scores: logarithms of the objective's figure, turned so that more is better. Only search and grid trials
count: the confirmation's ran on other requests and other launches.
"""

import math
from functools import cached_property

from infertune.domain.knobs import Config, Knob, Scalar
from infertune.domain.measurement import Frozen

_MAPPED = 0.5  # of the grid, from which on it makes sense to count its peaks


class Spot(Frozen):
    """A configuration and what the exploration found there.

    Attributes:
        config: The configuration.
        scores: One for each trial that could be measured and kept the limits.
        failed: How many trials failed; one that broke a limit, or whose figure is unknown, counts nowhere.
    """

    config: Config
    scores: tuple[float, ...]
    failed: int = 0

    @property
    def score(self) -> float:
        """Mean score; only for a spot that has one."""
        return sum(self.scores) / len(self.scores)


class Noise(Frozen):
    """How far repeats of one configuration lie apart.

    Attributes:
        deviation: Standard deviation of one trial's score: 0.02 is 2%.
        degrees: Degrees of freedom behind it.
        source: What it was taken from, in words.
    """

    deviation: float
    degrees: int
    source: str

    def margin(self, n_first: int, n_second: int, critical: float) -> float:
        """How far two means may lie apart by chance."""
        return critical * self.deviation * math.sqrt(1 / n_first + 1 / n_second)


class Step(Frozen):
    """What happens between two neighbouring values of a knob, over all pairs of neighbours that it separates.

    Attributes:
        knob: The knob.
        low: One value; of an ordinal knob the lower.
        high: The other.
        ratio: Median over the pairs that jump, else over all, of the figure's factor, going from low to high.
        ratio_least: The smallest factor of a pair.
        ratio_most: The largest.
        pairs: How many pairs were measured on both sides.
        jumps: How many of them change by more than noise and by at least 5%.
        starts_failing: Pairs that could be measured at the low value and failed at the high one.
        stops_failing: Pairs the other way round.
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
        """For sorting: the largest change of a pair, a failure beyond any."""
        if self.starts_failing or self.stops_failing:
            return math.inf
        return max(abs(math.log(self.ratio_least or 1)), abs(math.log(self.ratio_most or 1)))


class Span(Frozen):
    """The values of a knob on the plateau, out of how many that were tried."""

    knob: str
    values: tuple[Scalar, ...]
    tried: int


class Plateau(Frozen):
    """The region within 2% of the best.

    Attributes:
        within: Configurations whose mean is within 2% of the best one's.
        connected: Those of them that can be reached from the best without leaving the region.
        level_with_best: Configurations that noise does not tell from the best; None where the noise is unknown.
        spans: Knob by knob, the values found in the region.
    """

    within: int
    connected: int
    level_with_best: int | None
    spans: tuple[Span, ...]


class Peak(Frozen):
    """A configuration better than its neighbours.

    Attributes:
        config: The configuration.
        prominence: Factor by which one must descend to get to a better one; None for the highest of its region.
        real: Whether that is more than noise; None where the noise is unknown.
    """

    config: Config
    prominence: float | None
    real: bool | None


class Terrain(Frozen):
    """What the measured points say about the landscape.

    Attributes:
        knobs: Those that took more than one value.
        spots: Every configuration that was tried.
        grid: How many combinations the space has, before rules take some away.
        noise: None where nothing was repeated.
        steps: Neighbouring values with a jump or a failure between them, the steepest first.
        plateau: None where nothing could be measured.
        peaks: The highest first; empty where too little of the grid was visited to tell.
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
        """Spots with a score, best first."""
        return sorted((spot for spot in self.spots if spot.scores), key=lambda spot: -spot.score)

    @property
    def best(self) -> Spot | None:
        """The best spot; its mean flatters it."""
        return self.measured[0] if self.measured else None

    @property
    def mapped(self) -> bool:
        """Whether enough of the grid was visited to count its peaks."""
        return self.grid > 1 and len(self.spots) >= _MAPPED * self.grid
