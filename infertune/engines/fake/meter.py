"""The energy meter of the simulated engine and of the simulated server."""

from infertune.domain.measurement import Energy
from infertune.energy import Reading

_NO_CO2 = "simulated; CO₂ unknown: the energy is simulated"


class SimulatedMeter:
    """Says what the simulation used in its last job or load.

    Attributes:
        gpu_j: Energy of it in joules; whoever simulates sets it.
    """

    def __init__(self, idle_w: float) -> None:
        self._idle_w = idle_w
        self.gpu_j = 0.0

    def measure_idle(self) -> None:
        """Nothing to measure: the idle power is a constant of the simulation."""

    def begin(self) -> None:
        """Nothing to start in a simulation."""

    def end(self) -> Reading:
        """The simulated energy, labelled modelled because nothing was measured."""
        return Reading(Energy(gpu_j=self.gpu_j, gpu_idle_w=self._idle_w, gpu_source="modelled", reason=_NO_CO2))

    def close(self) -> None:
        """Nothing to close."""
