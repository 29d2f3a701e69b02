"""The search strategy for a space and a budget."""

from collections.abc import Sequence

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.request import is_code
from infertune.errors import UsageError
from infertune.search.base import Searcher
from infertune.search.grid import GridSearcher
from infertune.search.model_based import ModelSearcher, Parts
from infertune.search.optuna_searcher import OptunaSearcher
from infertune.search.posterior import Predictor
from infertune.search.third_party import load_sampler

SAMPLERS = ("auto", "gp", "tpe", "random", "grid")


def make_searcher(
    space: SearchSpace,
    *,
    sampler: str = "auto",
    trials: int | None,
    seed: int = 0,
    seeds: Sequence[Config] = (),
    predictor: Predictor | None = None,
) -> Searcher:
    """A strategy for a space.

    Args:
        space: What to search.
        sampler: One of `SAMPLERS`, or `MODULE:CLASS` of a third party. `auto` measures the whole grid if the budget
            covers it, and otherwise uses infertune's own strategy. `gp` is that strategy without predictor and without
            costs; `tpe` and `random` are Optuna's.
        trials: The budget in trials, None if only time is limited.
        seed: Seed of every random draw.
        seeds: Configurations to try first, after the default.
        predictor: The prior mean of ln(objective), for `auto`.

    Raises:
        UsageError: There is no such sampler.
    """
    if is_code(sampler):
        return OptunaSearcher(space, load_sampler(sampler, seed % 2**32), seed=seed, seeds=seeds)
    if sampler not in SAMPLERS:
        raise UsageError(f"unknown sampler {sampler!r}; there are {', '.join(SAMPLERS)}, or MODULE:CLASS of yours")
    affordable = trials is not None and space.size <= max(4096, trials) and sum(1 for _ in space.grid()) <= trials
    if sampler == "grid" or (sampler == "auto" and affordable):
        return GridSearcher(space)
    if sampler == "auto":
        return ModelSearcher(space, seed=seed, seeds=seeds, predictor=predictor)
    if sampler == "gp":
        return ModelSearcher(space, seed=seed, seeds=seeds, parts=Parts(costs=0.0))
    return OptunaSearcher(space, _optunas(sampler, trials, seed % 2**32), seed=seed, seeds=seeds)


def _optunas(name: str, trials: int | None, seed: int) -> BaseSampler:
    if name == "random":
        return RandomSampler(seed=seed)
    startup = 10 if trials is None else min(10, max(4, trials // 4))
    return TPESampler(seed=seed, multivariate=True, n_startup_trials=startup)
