"""The load that a profile holds for: when requests come, which share must keep limits, and at which rate they did."""

from typing import Annotated

from pydantic import Field, field_validator

from infertune.domain.arrivals import Arrivals
from infertune.domain.frozen import Frozen, Rate
from infertune.domain.knobs import Config
from infertune.domain.objective import GOODPUTS
from infertune.domain.promise import DEFAULT_ATTAIN
from infertune.domain.trial import Phase
from infertune.runs.ledger import Ledger

_PHASES: tuple[tuple[Phase, ...], ...] = (("final",), ("confirm",), ("search", "grid"))


class Promised(Frozen):
    """A load.

    Attributes:
        arrivals: When requests come, as `--arrivals` has it.
        attain: The share of requests that must keep the limits.
        rate_per_s: Requests a second at which they were kept on every launch of the proof; None where they never were.
    """

    arrivals: Annotated[str, Field(max_length=40)]
    attain: Annotated[float, Field(gt=0, lt=1)] = DEFAULT_ATTAIN
    rate_per_s: Rate | None = None

    @property
    def asked(self) -> tuple[str, ...]:
        """What a user asks for besides the limits: another load is another question."""
        return f"arrivals={self.arrivals}", f"attain={self.attain:g}"

    @field_validator("arrivals")
    @classmethod
    def _possible(cls, given: str) -> str:
        return str(Arrivals.parse(given))


def promised_of(ledger: Ledger, config: Config) -> Promised | None:
    """The load that a configuration of a run holds for; None for a run that tuned for something else than goodput."""
    request = ledger.header.request
    if request.get("objective") not in GOODPUTS:
        return None
    rates: list[float] = []
    for phases in _PHASES:
        launches = [t.measurement for t in ledger.trials if t.phase in phases and t.config == config and t.measurement]
        rates = rates or [found.low_per_s for launch in launches if (found := launch.sustained)]
    return Promised(
        arrivals=str(request.get("arrivals") or "poisson"),
        attain=float(str(request.get("attain") or DEFAULT_ATTAIN)),
        rate_per_s=min(rates, default=None),
    )
