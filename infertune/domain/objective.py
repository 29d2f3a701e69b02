"""The objective: a figure of a launch that is to be improved, under limits (service-level objectives)."""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from infertune.domain.figures import (
    FIGURES,
    Prices,
    cost_per_million_tokens,
    energy_basis,
    j_per_output_token,
    window_j,
)
from infertune.domain.measurement import Measurement
from infertune.domain.promise import Promise, parse_limit
from infertune.domain.request import JobRequest, TuneRequest
from infertune.domain.service import why_none_sustained
from infertune.domain.serving_options import ServingOptions
from infertune.errors import UsageError

_LEAST_PRICE = 1e-12  # an hour or a kWh: a double loses the costs of less; judgement
_COMPARISONS = {"<": operator.le, ">": operator.ge}


@dataclass(frozen=True)
class Limit:
    """A service-level objective: a figure that must stay on one side of a value.

    Attributes:
        text: As the user wrote it.
        figure: Name of the figure, one of `FIGURES`.
        comparison: `<` or `>`; the value itself is allowed.
        value: In the figure's unit.
    """

    text: str
    figure: str
    comparison: str
    value: float

    def kept(self, measurement: Measurement) -> bool:
        """Whether a launch keeps it; one whose figure is unknown does not."""
        found = FIGURES[self.figure].of(measurement)
        return found is not None and bool(_COMPARISONS[self.comparison](found, self.value))

    def excess(self, measurement: Measurement) -> float | None:
        """By how much a launch breaks it, in the figure's unit; 0 and below where it is kept, None if unknown."""
        found = FIGURES[self.figure].of(measurement)
        if found is None:
            return None
        return found - self.value if self.comparison == "<" else self.value - found


@dataclass(frozen=True)
class Objective:
    """A figure to improve, under limits.

    Attributes:
        name: As in `--objective NAME`.
        unit: Of the figure.
        figure: The figure of one launch, > 0, or None where this machine cannot measure it.
        lower_is_better: Whether less is better.
        limits: What a configuration must keep.
        prices: What the machine costs, for the figures beside the objective's.
    """

    name: str
    unit: str
    figure: Callable[[Measurement], float | None]
    lower_is_better: bool = False
    limits: tuple[Limit, ...] = ()
    prices: Prices = Prices()

    def score(self, measurement: Measurement) -> float | None:
        """Logarithm of the figure, higher is better; None if it is unknown or a limit is broken."""
        value = self.figure(measurement)
        if value is None or not self.keeps_limits(measurement):
            return None
        return self.score_of(value)

    def score_of(self, figure: float) -> float:
        """Logarithm of a figure, its sign turned where less is better."""
        return -math.log(figure) if self.lower_is_better else math.log(figure)

    def figure_of(self, score: float) -> float:
        """The figure that a score stands for."""
        return math.exp(-score if self.lower_is_better else score)

    def keeps_limits(self, measurement: Measurement) -> bool:
        """Whether a launch keeps every limit."""
        return all(limit.kept(measurement) for limit in self.limits)

    def unknown(self, measurement: Measurement) -> str:
        """A sentence on the figures that are needed and cannot be measured here; empty if there is none."""
        asked = {limit.figure: FIGURES[limit.figure].of(measurement) for limit in self.limits}
        asked[f"the figure of --objective {self.name}"] = self.figure(measurement)
        missing = [name for name, value in asked.items() if value is None]
        if not missing:
            return ""
        loads = [window.service for window in measurement.windows if window.service]
        no_rate = self.name in GOODPUTS and measurement.sustained is None
        if no_rate and (why := why_none_sustained(loads, "loosen --slo or --attain")):
            return why
        known = ", ".join(name for name, figure in FIGURES.items() if figure.of(measurement) is not None)
        return f"{', '.join(missing)} cannot be measured here ({energy_basis(measurement)}); available are {known}"

    def better(self, new: float, than: float, by: float = 1.0) -> bool:
        """Whether a figure is better than another by more than a factor."""
        return self.score_of(new) > self.score_of(than) + math.log(by)


GOODPUTS = ("goodput", "goodput-per-joule")
NAMES = ("throughput", "tokens-per-joule", "energy", "cost", *GOODPUTS)


def get_objective(name: str, limits: Sequence[str] = (), prices: Prices | None = None) -> Objective:
    """The objective of a name, under limits.

    Args:
        name: One of `NAMES`.
        limits: Each like `j_per_output_token<0.05`.
        prices: For `cost`.

    Raises:
        UsageError: There is no such objective or figure, a limit is malformed, or `cost` has no price over 0.
    """
    given = prices or Prices()
    parsed = tuple(_launch_limits(limits, name))
    if name == "throughput":
        return Objective(name, "tok/s", lambda m: m.output_tokens_per_s, False, parsed, given)
    if name == "tokens-per-joule":
        return Objective(name, "tok/J", _tokens_per_joule, False, parsed, given)
    if name == "energy":
        return Objective(name, "J/token", j_per_output_token, True, parsed, given)
    if name == "cost":
        if max(given.per_hour or 0.0, given.per_kwh or 0.0) < _LEAST_PRICE:
            raise UsageError("--objective cost needs a price over 0: --price-per-hour or --price-per-kwh, or both")
        figure = partial(cost_per_million_tokens, prices=given)
        return Objective(name, "per million tokens", figure, True, parsed, given)
    if name == "goodput":
        return Objective(name, "req/s", _goodput, False, parsed, given)
    if name == "goodput-per-joule":
        return Objective(name, "req/J", _goodput_per_joule, False, parsed, given)
    raise UsageError(f"unknown objective {name!r}; there are {', '.join(NAMES)}")


def objective_of(request: JobRequest) -> Objective:
    """The objective of a request; throughput for commands other than `tune`.

    Raises:
        UsageError: As `get_objective`.
    """
    prices = Prices(per_hour=request.price_per_hour, per_kwh=request.price_per_kwh)
    if not isinstance(request, TuneRequest):
        return get_objective("throughput", (), prices)
    return get_objective(request.objective, request.slo, prices)


def _tokens_per_joule(measurement: Measurement) -> float | None:
    joules = j_per_output_token(measurement)
    return None if joules is None else 1 / joules


def _goodput(measurement: Measurement) -> float | None:
    found = measurement.sustained
    return None if found is None else found.goodput_per_s


def _goodput_per_joule(measurement: Measurement) -> float | None:
    """Requests that kept the promise a joule, at the highest rate that keeps it."""
    found = measurement.sustained
    loads = measurement.judged
    joules = [window_j(window) for window in loads]
    if found is None or any(value is None or value <= 0 for value in joules):
        return None
    seconds = sum(window.duration_s for window in loads)
    return found.goodput_per_s * seconds / sum(value or 0.0 for value in joules)


def promise_of(request: JobRequest) -> Promise:
    """What the requests of a load must keep, by the `--slo` and `--attain` of a request.

    Raises:
        UsageError: A limit is malformed.
    """
    if not isinstance(request, ServingOptions):
        return Promise()
    limits = [parse_limit(text, tuple(FIGURES)) for text in request.slo]
    return Promise(limits=tuple(one.of_requests for one in limits if one.of_requests), attain=request.attain)


def limits_a_launch(text: str) -> bool:
    """Whether a limit of `--slo` is on a figure of a launch that no load is held against, such as `power_w<200`.

    Raises:
        UsageError: It is malformed.
    """
    return parse_limit(text, tuple(FIGURES)).of_requests is None


def _launch_limits(texts: Sequence[str], name: str) -> Iterator[Limit]:
    """The limits on figures of a launch; those on requests are a server's promise.

    Raises:
        UsageError: A limit is malformed, or is on requests where none come at a rate.
    """
    for text in texts:
        found = parse_limit(text, tuple(FIGURES))
        if found.of_requests is not None and name in GOODPUTS:
            continue
        if found.figure not in FIGURES:
            raise UsageError(f"--slo {text!r} is on single requests: it needs --objective {GOODPUTS[0]}")
        yield Limit(text=text.strip(), figure=found.figure, comparison=found.comparison, value=found.value)
