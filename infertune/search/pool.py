"""Configurations that may be tried next: the whole grid where it is small, else a sample around what is known."""

import random
from collections.abc import Sequence, Set

from infertune.domain.knobs import Config, SearchSpace

_WHOLE_GRID = 2000  # more are not scored within 100 ms
_SAMPLE = 800
_AROUND = 6


class Pool:
    """Candidates of a space."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._rng = random.Random(seed)
        self._grid = list(space.grid()) if space.size <= _WHOLE_GRID else None

    def candidates(self, told: Set[Config], best: Sequence[Config], launched: Config | None) -> list[Config]:
        """Configurations that were not told yet, without repetition.

        Args:
            told: What is left out.
            best: The best so far, best first; neighbours of the first few are among the candidates.
            launched: What the loaded engine was launched with; what it can run besides is among the candidates.
        """
        if self._grid is not None:
            return [config for config in self._grid if config not in told]
        found: dict[Config, None] = {}
        for base in best[:_AROUND]:
            found.update(dict.fromkeys(self._neighbours(base)))
        for number in range(_SAMPLE):
            values = {knob.name: self._rng.choice(knob.values) for knob in self._space.knobs}
            bases = best[: _AROUND // 2]
            if number % 2 and (launched or bases):  # every other one keeps the launch settings of a good place
                base = launched if launched and (number % 4 == 1 or not bases) else self._rng.choice(bases)
                values.update({name: base[name] for name in self._space.launch_names})
            found[self._space.repair(Config(values))] = None
        return [config for config in found if config not in told]

    def _neighbours(self, base: Config) -> list[Config]:
        """Configurations that differ in one knob, by any value of a choice and by one or two rungs of a ladder."""
        found = []
        for knob in self._space.knobs:
            at = knob.values.index(base[knob.name])
            for i, value in enumerate(knob.values):
                if i != at and (not knob.ordinal or abs(i - at) <= 2):
                    found.append(self._space.repair(base.updated({knob.name: value})))
        return found
