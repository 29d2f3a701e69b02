"""What the tests of search strategies share: landscapes in closed form, and a search over one as a tune runs it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from infertune.domain.knobs import Config, Int, SearchSpace, doubling
from infertune.search import Result, Searcher
from tests.builders import space

LAUNCH_S, RUN_S = 40.0, 10.0
Score = Callable[[Config], float | None]


def number(chosen: Config, name: str) -> float:
    value = chosen[name]
    assert isinstance(value, int | float)
    return float(value)


def score(chosen: Config) -> float | None:
    """ln(rate) over the five knobs of `builders.space`: saturates in slots, needs tokens, and runs out of memory."""
    slots, budget = number(chosen, "slots"), number(chosen, "budget")
    if slots >= 128 and number(chosen, "share") >= 0.9:
        return None
    rate = 9000 * slots / (slots + 48)
    rate *= min(1.0, 0.6 + 0.1 * math.log2(budget / slots))
    rate *= 1.2 if chosen["compiled"] else 1.0
    rate *= 1.05 if chosen["block"] == 32 else 1.0
    return math.log(rate * (1 + 0.1 * number(chosen, "share")))


def roomy_score(chosen: Config) -> float:
    """The same without the out-of-memory region."""
    found = score(chosen.updated({"share": 0.8}))
    assert found is not None
    return found


def best_score(of: SearchSpace, landscape: Score) -> float:
    """The best score of a whole grid."""
    return max(found for chosen in of.grid() if (found := landscape(chosen)) is not None)


def memory_space() -> SearchSpace:
    """Four launch knobs of eleven values each."""
    return SearchSpace(tuple(Int(name, doubling(1, 1024), 8) for name in ("slots", "budget", "block", "share")))


def out_of_memory(chosen: Config) -> bool:
    return number(chosen, "slots") * number(chosen, "budget") > 2**12


def limited_score(chosen: Config) -> float | None:
    """Rises up to the memory limit, beyond which every configuration fails."""
    return None if out_of_memory(chosen) else unlimited_score(chosen)


def unlimited_score(chosen: Config) -> float:
    """The same without the limit."""
    return 0.2 * math.log2(number(chosen, "slots")) + 0.1 * math.log2(number(chosen, "budget"))


@dataclass
class Trajectory:
    """The trials of one search.

    Attributes:
        configs: In order.
        launches: How often an engine was launched.
        scores: The score of each trial, None if it failed.
    """

    configs: list[Config] = field(default_factory=list)
    launches: int = 0
    scores: list[float | None] = field(default_factory=list)

    @property
    def best(self) -> float:
        return max(found for found in self.scores if found is not None)

    def before(self, good: float) -> list[float | None]:
        """The scores before the first that is at least `good`; all of them if none is."""
        reached = [n for n, found in enumerate(self.scores) if found is not None and found >= good]
        return self.scores[: reached[0]] if reached else self.scores


def run_search(
    searcher: Searcher, n: int, landscape: Score = score, of: SearchSpace | None = None, launch_cost_s: float = LAUNCH_S
) -> Trajectory:
    """Ask and tell up to n times; a launch is paid for wherever the launch settings change."""
    of = of or space()
    launched: Config | None = None
    found = Trajectory()
    for _ in range(n):
        chosen = searcher.ask(launched)
        if chosen is None:
            break
        is_live = launched is not None and of.launch_key(launched) == of.launch_key(chosen)
        value = landscape(chosen)
        launch_s, run_s = 0.0 if is_live else launch_cost_s, 0.0 if value is None else RUN_S
        searcher.tell(Result(chosen, value, launch_s, run_s))
        if not is_live:
            found.launches += 1
            launched = chosen if value is not None else None  # a failed launch leaves no engine loaded
        found.configs.append(chosen)
        found.scores.append(value)
    return found
