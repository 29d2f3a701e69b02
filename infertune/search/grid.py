"""Grid search: every configuration of a space, the default first, with one launch for each launch setting."""

from collections.abc import Iterable

from infertune.domain.knobs import Config, SearchSpace
from infertune.search.base import Result


class GridSearcher:
    """Asks for every configuration of the grid once."""

    def __init__(self, space: SearchSpace) -> None:
        default = space.repair(space.default)
        default_launch = space.launch_key(default)
        self._space = space
        self._left = sorted(space.grid(), key=lambda c: (c != default, space.launch_key(c) != default_launch))

    def ask(self, launched: Config | None) -> Config | None:
        """The next point; one that needs no new launch, if there is any."""
        if launched is not None:
            key = self._space.launch_key(launched)
            for config in self._left:
                if self._space.launch_key(config) == key:
                    return config
        return self._left[0] if self._left else None

    def tell(self, result: Result) -> None:
        """Remove a measured point."""
        self.recall([result])

    def recall(self, results: Iterable[Result]) -> None:
        """Remove measured points."""
        done = {result.config for result in results}
        self._left = [config for config in self._left if config not in done]

    def exhausted(self) -> bool:
        """False: a grid is measured completely."""
        return False
