"""Which of the measured configurations may still be the best, by a model of everything that was measured.

The highest of many noisy figures is mostly luck (the winner's curse); what its neighbours say of it is not. All that
ran on one launch of the engine shares what that launch did to it, so the model has a part for the launch as well.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from infertune.domain.knobs import Config, SearchSpace
from infertune.search.base import Result, requests_of
from infertune.search.belief import MOVES_OF_RECALL, Belief, Predictor, most_telling
from infertune.search.surrogate import Encoding, Prior

_PRIOR = Prior(launch=(math.log(0.03), 1.0))  # launches of one configuration lie 1 to 8% apart (MEASURING: noise seen)
_DRAWS = 2000  # a probability of 2% is known to ±0.3%
_MOST_DRAWN = 20  # configurations of which joint draws are made, best first: the rest cannot win
_SLIGHT_CHANCE = 0.02  # of being the best, below which a configuration is no rival; judgement


@dataclass(frozen=True)
class Standing:
    """How measured configurations stand after some launches.

    Attributes:
        order: Configurations that ran, best first by their expected ln(objective).
        leader: The best of those asked about.
        rivals: The leader and whatever may still be the best, likeliest first; the base is not among them.
        gain: Expected ln(objective) of the leader over the base.
        expected_loss: What is lost by taking the leader, in ln(objective): the expected best of all rivals less the
            leader (the expected value of perfect information).
    """

    order: tuple[Config, ...]
    leader: Config
    rivals: tuple[Config, ...]
    gain: float
    expected_loss: float


def standing(
    space: SearchSpace,
    results: Iterable[Result],
    rounds: Iterable[Sequence[Result]] = (),
    *,
    base: Config,
    among: Collection[Config] | None = None,
    predictor: Predictor | None = None,
) -> Standing | None:
    """Where measured configurations stand; None where nothing ran. The same results give the same answer.

    Args:
        space: Of the configurations.
        results: Of the search, one a configuration, each with the launch that it ran on.
        rounds: Of the confirmation: some of the same configurations measured again beside each other, each on a launch
            of its own. What a round's prompts and hour did to all of them alike is taken out first.
        base: What is to be beaten.
        among: The only ones that may lead, besides the base; None for all.
        predictor: A guess at the objective, adjusted to these results.
    """
    results = list(results)
    found = [(r.config, r.score, r.launch) for r in most_telling(results) if r.score is not None]
    if not found:
        return None
    searched = {config: score for config, score, _ in found}
    for one in rounds:
        again = [(r.config, r.score, r.launch) for r in one if r.score is not None and r.config in searched]
        shift = sum(searched[config] - score for config, score, _ in again) / max(1, len(again))
        found += [(config, score + shift, launch) for config, score, launch in again]
    belief = Belief(Encoding(space), seed=0, predictor=predictor, prior=_PRIOR)
    launches = _numbered([launch for _, _, launch in found])
    scores = np.array([score for _, score, _ in found])
    belief.fit([config for config, _, _ in found], scores, MOVES_OF_RECALL, requests_of(results), launches)
    configs = list(searched)
    means = belief.mean(configs)
    order = [configs[i] for i in np.argsort(-means)]
    allowed = [config for config in order if among is None or config in among or config == base]
    drawn = allowed[:_MOST_DRAWN]
    drawn += [base] if base in searched and base not in drawn else []
    if not drawn:
        return None
    draws = belief.draw(drawn, _DRAWS, np.random.default_rng(0))
    expected = draws.mean(axis=0)
    lead = int(expected.argmax())
    chances = np.bincount(draws.argmax(axis=1), minlength=len(drawn)) / len(draws)
    likeliest = sorted(range(len(drawn)), key=lambda i: (-chances[i], -expected[i]))
    rivals = [drawn[i] for i in likeliest if drawn[i] != base and (chances[i] >= _SLIGHT_CHANCE or i == lead)]
    return Standing(
        order=tuple(order),
        leader=drawn[lead],
        rivals=tuple(rivals),
        gain=float(expected[lead] - expected[drawn.index(base)]) if base in drawn else math.inf,
        expected_loss=float((draws.max(axis=1) - draws[:, lead]).mean()),
    )


def _numbered(launches: Sequence[int | None]) -> list[int]:
    """Launch numbers; what has none was on a launch of its own."""
    own = max((launch for launch in launches if launch is not None), default=-1) + 1
    return [own + i if launch is None else launch for i, launch in enumerate(launches)]
