"""Statistics of what a run measured: its shape, what each knob does, and the front of throughput against energy."""

from infertune.landscape.effects import Effect, Effects, Interaction, knob_effects
from infertune.landscape.front import PLACES, Place, Point, pareto_front, point_on
from infertune.landscape.shape import survey
from infertune.landscape.terrain import Noise, Peak, Plateau, Span, Spot, Step, Terrain

__all__ = [
    "PLACES", "Effect", "Effects", "Interaction", "Noise", "Peak", "Place", "Plateau", "Point", "Span",
    "Spot", "Step", "Terrain", "knob_effects", "pareto_front", "point_on", "survey",
]  # fmt: skip
