"""Compare search strategies on made landscapes: those to develop on, or those held out.

    python -m tests.benchmarks.search.unseen [--held-out] [--landscapes 24] [--family NAME]... [--strategy NAME]...

Prints for each family the mean regret in percent of the best that was tried after 4, 8, 12, 16 and 24 trials, by its
true rate, and the failures in the first 8 and in all trials. A strategy is chosen on the development half only.
"""

import argparse
import random
import statistics
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from infertune.domain.knobs import Config, SearchSpace
from infertune.search import Result, Searcher, make_searcher
from infertune.search.model_based import ModelSearcher
from tests.benchmarks.search.strategies import AsSampler, OneKnobAtATime
from tests.benchmarks.search.unknown import FAMILIES, LAUNCH_S, RUN_S, Family, Landscape, landscapes

AT = (4, 8, 12, 16, 24)
_EARLY = 8


def _sampler(name: str) -> Callable[[SearchSpace, int], Searcher]:
    return lambda space, seed: make_searcher(space, sampler=name, trials=max(AT), seed=seed)


STRATEGIES: dict[str, Callable[[SearchSpace, int], Searcher]] = {
    "auto": lambda space, seed: ModelSearcher(space, seed=seed),
    "as a sampler": AsSampler,
    "gp": _sampler("gp"),
    "tpe": _sampler("tpe"),
    "random": _sampler("random"),
    "one knob at a time": OneKnobAtATime,
}


@dataclass(frozen=True)
class Replay:
    """What came of one strategy on one landscape.

    Attributes:
        regrets: After each trial, 1 - true rate of the best tried so far / rate of the best.
        failed: Whether each trial failed.
    """

    regrets: list[float]
    failed: list[bool]


def replay(landscape: Landscape, strategy: str, seed: int, trials: int) -> Replay:
    """Run a strategy; a launch is paid for where a launch setting changes. In two knobs, as in tables, nothing is."""
    searcher = STRATEGIES[strategy](landscape.space, seed)
    rng = random.Random(zlib.crc32(f"{landscape.name}/{seed}".encode()))
    free = len(landscape.space.knobs) == 2
    launched: Config | None = None
    found, regrets, failed = 0.0, list[float](), list[bool]()
    while len(regrets) < trials and (config := searcher.ask(launched)) is not None:
        score = landscape.score(config, rng)
        same = launched is not None and landscape.space.launch_key(launched) == landscape.space.launch_key(config)
        searcher.tell(Result(config, score, 0.0 if same or free else LAUNCH_S, RUN_S))
        launched = None if score is None else config
        found = max(found, landscape.rate(config) or 0.0)
        regrets.append(1 - found / landscape.best)
        failed.append(score is None)
    short = trials - len(regrets)
    return Replay(regrets + [regrets[-1]] * short, failed + [False] * short)


def of_family(family: Family, strategy: str, n: int, *, held_out: bool, trials: int = max(AT)) -> list[Replay]:
    """A strategy on the first n landscapes of a family, one seed each."""
    pairs = enumerate(landscapes(family, n, held_out=held_out))
    return [replay(landscape, strategy, seed, trials) for seed, landscape in pairs]


def mean_regrets(replays: list[Replay]) -> dict[int, float]:
    """In percent, after each of so many trials."""
    n = len(replays[0].regrets)
    return {at: 100 * statistics.mean(one.regrets[at - 1] for one in replays) for at in AT if at <= n}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--landscapes", type=int, default=24, help="of each family")
    parser.add_argument("--family", action="append", default=[], help="one whose name begins so")
    parser.add_argument("--strategy", action="append", default=[], choices=STRATEGIES)
    arguments = parser.parse_args()
    families = [f for f in FAMILIES if not arguments.family or f.name.startswith(tuple(arguments.family))]
    strategies = arguments.strategy or list(STRATEGIES)
    jobs = [(family, strategy) for family in families for strategy in strategies]
    run = partial(of_family, n=arguments.landscapes, held_out=arguments.held_out)
    print(f"{'mean regret of the best tried, %':34}" + "".join(f"{n:>8}" for n in AT) + "   failures of 8, of 24")
    with ProcessPoolExecutor(2) as pool:
        for (family, strategy), found in zip(jobs, pool.map(run, *zip(*jobs, strict=True)), strict=True):
            if strategy == strategies[0]:
                print(family.name)
            cells = "".join(f"{regret:8.2f}" for regret in mean_regrets(found).values())
            early, all_ = (statistics.mean(sum(one.failed[:n]) for one in found) for n in (_EARLY, max(AT)))
            print(f"  {strategy:32}{cells}{early:10.1f}{all_:6.1f}", flush=True)


if __name__ == "__main__":
    main()
