"""Which measured configurations may still be the best, by the posterior over everything that was measured.

The highest of many noisy figures is too high on average (the winner's curse); the posterior also uses the figures of
similar configurations. Measurements on one launch of the engine share an effect of that launch, which is modelled too.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from infertune.domain.knobs import Config, SearchSpace
from infertune.search.base import Result, requests_of
from infertune.search.posterior import Posterior, Predictor, most_informative
from infertune.search.surrogate import Encoding, Prior

_PRIOR = Prior(launch=(math.log(0.03), 1.0))  # launches of one configuration lie 1 to 8% apart (MEASURING: noise seen)
# Metropolis moves of each particle. After a dozen they are still near their prior, in which launches lie further apart:
# a choice then seems to risk several times what it does, and is confirmed again and again. Judgement.
_MOVES = 80
_DRAWS = 2000  # a probability of 2% is known to ±0.3%
_MOST_DRAWN = 20  # configurations, best first, of which joint draws are made; judgement
_SLIGHT_CHANCE = 0.02  # of being the best, below which a configuration is no rival; judgement
_SLIGHT_CHANCE_LATER = 0.1  # the same once rivals were launched beside each other; judgement


@dataclass(frozen=True)
class Standing:
    """The measured configurations by their posterior.

    Attributes:
        order: Configurations that ran, by their posterior mean of ln(objective), best first.
        leader: The best of those that may lead.
        rivals: The leader and every other configuration that is the best with a probability of 2% or more, the most
            probable first; without the base.
        gain: Posterior mean of ln(leader / base).
        expected_loss: Of choosing the leader, in ln(objective): the expected maximum over all rivals less the leader's
            mean (the expected value of perfect information).
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
    """The posterior of measured configurations; None if nothing ran. The same results give the same answer.

    Args:
        space: The knobs.
        results: Results of the search, one a configuration, each with the launch that it ran on.
        rounds: Rounds of the confirmation: some of the same configurations, measured again, each on a launch of its
            own. A round's shift (the mean difference to the search, from its prompts and its time) is removed first.
        base: The configuration that is to be beaten.
        among: The configurations that may lead, besides the base; None for all.
        predictor: The prior mean; it is fitted to these results.
    """
    results, rounds = list(results), list(rounds)
    found = [(r.config, r.score, r.launch) for r in most_informative(results) if r.score is not None]
    if not found:
        return None
    searched = {config: score for config, score, _ in found}
    for one in rounds:
        again = [(r.config, r.score, r.launch) for r in one if r.score is not None and r.config in searched]
        shift = sum(searched[config] - score for config, score, _ in again) / max(1, len(again))
        found += [(config, score + shift, launch) for config, score, launch in again]
    posterior = Posterior(Encoding(space), seed=0, predictor=predictor, prior=_PRIOR)
    launches = _numbered([launch for _, _, launch in found])
    scores = np.array([score for _, score, _ in found])
    posterior.fit([config for config, _, _ in found], scores, _MOVES, requests_of(results), launches)
    configs = list(searched)
    means = posterior.mean(configs)
    order = [configs[i] for i in np.argsort(-means)]
    allowed = [config for config in order if among is None or config in among or config == base]
    drawn = allowed[:_MOST_DRAWN]
    drawn += [base] if base in searched and base not in drawn else []
    if not drawn:
        return None
    draws = posterior.draw(drawn, _DRAWS, np.random.default_rng(0))
    expected = draws.mean(axis=0)
    lead = int(expected.argmax())
    chances = np.bincount(draws.argmax(axis=1), minlength=len(drawn)) / len(draws)
    likeliest = sorted(range(len(drawn)), key=lambda i: (-chances[i], -expected[i]))
    slight = _SLIGHT_CHANCE_LATER if rounds else _SLIGHT_CHANCE
    rivals = [drawn[i] for i in likeliest if drawn[i] != base and (chances[i] >= slight or i == lead)]
    return Standing(
        order=tuple(order),
        leader=drawn[lead],
        rivals=tuple(rivals),
        gain=float(expected[lead] - expected[drawn.index(base)]) if base in drawn else math.inf,
        expected_loss=float((draws.max(axis=1) - draws[:, lead]).mean()),
    )


def _numbered(launches: Sequence[int | None]) -> list[int]:
    """Launch numbers; a result without one was on a launch of its own."""
    own = max((launch for launch in launches if launch is not None), default=-1) + 1
    return [own + i if launch is None else launch for i, launch in enumerate(launches)]
