"""Statistics of a run's landscape: noise, cliffs, plateau, peaks, effects of knobs, the Pareto front with energy."""

from infertune.landscape.devices import DeviceEffect, device_effects, shift_of
from infertune.landscape.edges import at_end, why_no_further
from infertune.landscape.effects import Effect, Effects, Interaction, knob_effects
from infertune.landscape.front import PLACES, Place, Point, pareto_front, point_on
from infertune.landscape.shape import noise_within, survey, terrain_of
from infertune.landscape.terrain import Noise, Peak, Plateau, Span, Spot, Step, Terrain

__all__ = [
    "PLACES", "DeviceEffect", "Effect", "Effects", "Interaction", "Noise", "Peak", "Place", "Plateau", "Point", "Span",
    "Spot", "Step", "Terrain", "at_end", "device_effects", "knob_effects", "noise_within", "pareto_front", "point_on",
    "shift_of", "survey", "terrain_of", "why_no_further",
]  # fmt: skip
