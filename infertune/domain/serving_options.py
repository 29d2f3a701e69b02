"""The flags of commands that measure a server: when requests come, and what they must keep."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, field_validator

from infertune.domain.arrivals import Arrivals
from infertune.domain.promise import DEFAULT_ATTAIN
from infertune.units import check_duration_s, parse_duration_s, parse_share


class ServingOptions(BaseModel):
    """When requests come, and what they must keep.

    Attributes:
        arrivals: When requests come: all-at-once, poisson, gamma:CV, constant, trace[:SPEEDUP] or concurrency:N; None
            takes poisson where a server is loaded.
        slo: Limits, each like `ttft_s<0.5` (every request), `ttft_p99_s<2` or `j_per_output_token<0.05` (a launch).
        attain: The share of requests that must keep all limits on requests.
    """

    arrivals: str | None = None
    slo: tuple[str, ...] = ()
    attain: float = DEFAULT_ATTAIN

    @field_validator("arrivals")
    @classmethod
    def _arrivals(cls, given: str | None) -> str | None:
        return given if given is None else str(Arrivals.parse(given))

    @field_validator("attain", mode="before")
    @classmethod
    def _attain(cls, given: Any) -> Any:
        return parse_share(str(given))


class LoadOptions(ServingOptions):
    """A load at a rate.

    Attributes:
        rate: Requests a second; None where arrivals need none.
        duration: Length of the load in seconds; None takes the window.
        target: URL of a server that runs already: it is measured, and nothing is changed on it.
    """

    rate: Annotated[float, Field(gt=0, le=1e6)] | None = None
    duration: Annotated[float, AfterValidator(check_duration_s)] | None = None
    target: str | None = None

    @field_validator("duration", mode="before")
    @classmethod
    def _duration(cls, given: Any) -> Any:
        return parse_duration_s(given) if isinstance(given, str) else given

    @property
    def loads_a_server(self) -> bool:
        """Whether requests are sent at set times, or a server is named."""
        return self.rate is not None or self.duration is not None or self.arrivals is not None
