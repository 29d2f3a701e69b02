"""Every configuration of a space, the default first, with as few launches as there are launch settings."""

from collections.abc import Iterable

from infertune.domain.knobs import Config, SearchSpace
from infertune.search.base import Result


class GridSearcher:
    """Asks for the whole grid."""

    def __init__(self, space: SearchSpace) -> None:
        default = space.repair(space.default)
        near = space.launch_key(default)
        self._space = space
        self._left = sorted(space.grid(), key=lambda c: (c != default, space.launch_key(c) != near))

    def ask(self, launched: Config | None) -> Config | None:
        """The next point, one that the loaded engine can run if there is any."""
        if launched is not None:
            key = self._space.launch_key(launched)
            for config in self._left:
                if self._space.launch_key(config) == key:
                    return config
        return self._left[0] if self._left else None

    def tell(self, result: Result) -> None:
        """Strike a point off."""
        self.recall([result])

    def recall(self, results: Iterable[Result]) -> None:
        """Strike many points off."""
        done = {result.config for result in results}
        self._left = [config for config in self._left if config not in done]

    def exhausted(self) -> bool:
        """The whole grid was asked for."""
        return False
