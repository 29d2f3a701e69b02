"""Ask for a configuration while others are being measured."""

from collections.abc import Sequence

from infertune.domain.knobs import Config
from infertune.search import Searcher


def ask_beside(searcher: Searcher, launched: Config | None, running: Sequence[Config]) -> Config | None:
    """The next configuration for a worker.

    Args:
        searcher: The strategy.
        launched: What the worker's engine was launched with; None if none is loaded.
        running: Configurations that other workers measure now.
    """
    return searcher.ask(launched)
