"""Importance of knobs for being among the best configurations: PED-ANOVA, through Optuna."""

from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from infertune.domain.knobs import Config, Knob
from infertune.domain.measurement import Frozen

_BEST_SHARE = 0.1  # of the configurations count as the best: Optuna's default quantile
_FEWEST_BEST = 5  # configurations; judgement
_FEWEST = 12  # results, of which five are less than half; judgement


class Importance(Frozen):
    """Importance of each knob.

    Attributes:
        shares: Knob → importance; they sum to 1, largest first.
        best_share: The share of the configurations that counted as the best.
    """

    shares: dict[str, float]
    best_share: float


def ped_anova(knobs: Sequence[Knob], results: Sequence[tuple[Config, float]]) -> Importance | None:
    """Importance by PED-ANOVA (Watanabe, Bansal & Hutter, IJCAI 2023, arXiv:2304.10255).

    For each knob, the distribution of its values among the best tenth of the configurations is compared with that among
    all of them. With fewer than 50 results, the best five are taken.

    Args:
        knobs: Those that took more than one value.
        results: Configurations with their scores (more is better), each once.

    Returns:
        The importances, or None with fewer than 12 results or a single knob.
    """
    if len(results) < _FEWEST or len(knobs) < 2:
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions: dict[str, BaseDistribution] = {
        knob.name: IntDistribution(0, len(knob.values) - 1)
        if knob.ordinal
        else CategoricalDistribution(range(len(knob.values)))
        for knob in knobs
    }
    positions = {knob.name: {repr(value): n for n, value in enumerate(knob.values)} for knob in knobs}
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: index[repr(config[name])] for name, index in positions.items()},
                distributions=distributions,
                value=score,
            )
            for config, score in results
        ]
    )
    best_share = max(_BEST_SHARE, min(0.5, _FEWEST_BEST / len(results)))
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=best_share))
    shares = {name: float(share) for name, share in sorted(found.items(), key=lambda item: (-item[1], item[0]))}
    return Importance(shares=shares, best_share=best_share)
