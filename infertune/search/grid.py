"""Grid search: every configuration of a space, the default first, with one launch for each launch setting."""

from collections.abc import Collection, Iterable

from infertune.domain.knobs import Config, SearchSpace
from infertune.search.base import Result


class GridSearcher:
    """Asks for every configuration of the grid once."""

    def __init__(self, space: SearchSpace) -> None:
        default = space.repair(space.default)
        default_launch = space.launch_key(default)
        self._space = space
        order = sorted(space.grid(), key=lambda c: (c != default, space.launch_key(c) != default_launch))
        self._left = {config: space.launch_key(config) for config in order}

    def ask(self, launched: Config | None, pending: Collection[Config] = ()) -> Config | None:
        """The next point; one that needs no new launch, if there is any; else one that no other worker's launch has."""
        loaded = None if launched is None else self._space.launch_key(launched)
        elsewhere = {self._space.launch_key(config) for config in pending}
        left = {config: key for config, key in self._left.items() if config not in pending}
        return min(left, key=lambda config: (left[config] != loaded, left[config] in elsewhere), default=None)

    def tell(self, result: Result) -> None:
        """Remove a measured point."""
        self.recall([result])

    def recall(self, results: Iterable[Result]) -> None:
        """Remove measured points."""
        for result in results:
            self._left.pop(result.config, None)

    def exhausted(self) -> bool:
        """False: a grid is measured completely."""
        return False
