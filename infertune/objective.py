"""What is tuned for: a score per measurement, higher is better, on a log scale so that ratios add."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from infertune.errors import UsageError
from infertune.measurement import Measurement


@dataclass(frozen=True)
class Objective:
    """A figure to maximise.

    Attributes:
        name: As in `--objective NAME`.
        unit: Of the figure.
        figure: The figure of one launch, > 0, or None where this machine cannot measure it.
    """

    name: str
    unit: str
    figure: Callable[[Measurement], float | None]

    def score(self, measurement: Measurement) -> float | None:
        """Natural logarithm of the figure."""
        value = self.figure(measurement)
        return None if value is None else math.log(value)


OBJECTIVES = {
    objective.name: objective
    for objective in (Objective("throughput", "tok/s", lambda measurement: measurement.output_tokens_per_s),)
}


def get_objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in OBJECTIVES:
        raise UsageError(f"unknown objective {name!r}; there are {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
