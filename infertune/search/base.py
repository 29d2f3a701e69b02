"""What a search strategy is, and which one a space and a budget get."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from infertune.errors import UsageError
from infertune.knobs import Config, SearchSpace
from infertune.search.grid import GridSearcher
from infertune.search.tpe import OptunaSearcher

SAMPLERS = ("auto", "tpe", "random", "grid")


class Searcher(Protocol):
    """Asks and is told. It never asks for a configuration that was told before, nor for one that breaks a rule."""

    def ask(self, launched: Config | None) -> Config | None:
        """The next configuration to measure, or None when there is nothing left.

        Args:
            launched: What the loaded engine was launched with: a configuration that differs in live knobs only is
                measured without paying for a launch.
        """

    def tell(self, config: Config, score: float | None) -> None:
        """What came of a configuration: its score (higher is better), or None if it cannot run here."""

    def recall(self, results: Iterable[tuple[Config, float | None]]) -> None:
        """Many tells at once, from a ledger."""


def make_searcher(
    space: SearchSpace,
    *,
    sampler: str = "auto",
    trials: int | None,
    seed: int = 0,
    seeds: Sequence[Config] = (),
) -> Searcher:
    """A strategy for a space.

    Args:
        space: What to search.
        sampler: One of `SAMPLERS`; `auto` takes the whole grid where the budget reaches for it.
        trials: The budget in trials, None if only time is limited.
        seed: Seeds whatever is random.
        seeds: Configurations to try first, after the default.

    Raises:
        UsageError: There is no such sampler.
    """
    if sampler not in SAMPLERS:
        raise UsageError(f"unknown sampler {sampler!r}; there are {', '.join(SAMPLERS)}")
    affordable = trials is not None and space.size <= max(4096, trials) and sum(1 for _ in space.grid()) <= trials
    if sampler == "grid" or (sampler == "auto" and affordable):
        return GridSearcher(space)
    return OptunaSearcher(space, random=sampler == "random", trials=trials, seed=seed, seeds=seeds)
