"""Candidates for the next trial: the whole grid if it is small, else a random sample and neighbours of the best."""

import random
from collections.abc import Sequence, Set

from infertune.domain.knobs import Config, SearchSpace

_WHOLE_GRID = 2000  # combinations; larger grids are sampled, so that an `ask` stays within about 100 ms; judgement
_SAMPLE = 800  # random candidates of a larger grid; judgement
_AROUND = 6  # configurations, from the best down, whose neighbours are candidates; judgement


class Pool:
    """The candidates of a space."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._rng = random.Random(seed)
        self._grid = list(space.grid()) if space.size <= _WHOLE_GRID else None

    def candidates(self, told: Set[Config], best: Sequence[Config], launched: Config | None) -> list[Config]:
        """Configurations without a result yet, each once.

        Args:
            told: Configurations that have a result.
            best: The measured configurations, best first; neighbours of the first few are candidates.
            launched: What the loaded engine was launched with; a quarter of the sample needs no other launch.
        """
        if self._grid is not None:
            return [config for config in self._grid if config not in told]
        found: dict[Config, None] = {}
        for base in best[:_AROUND]:
            found.update(dict.fromkeys(self._neighbours(base)))
        for number in range(_SAMPLE):
            values = {knob.name: self._rng.choice(knob.values) for knob in self._space.knobs}
            bases = best[: _AROUND // 2]
            if number % 2 and (launched or bases):  # half of the sample has the loaded or a good configuration's launch
                base = launched if launched and (number % 4 == 1 or not bases) else self._rng.choice(bases)
                values.update({name: base[name] for name in self._space.launch_names})
            found[self._space.repair(Config(values))] = None
        return [config for config in found if config not in told]

    def _neighbours(self, base: Config) -> list[Config]:
        """Configurations that differ in one knob: any value of a choice, one or two positions of an ordinal knob."""
        found = []
        for knob in self._space.knobs:
            position = knob.values.index(base[knob.name])
            for i, value in enumerate(knob.values):
                if i != position and (not knob.ordinal or abs(i - position) <= 2):
                    found.append(self._space.repair(base.updated({knob.name: value})))
        return found
