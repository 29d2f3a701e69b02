"""Whether the best of a search lies at the end of a ladder of values, and why the search went no further."""

import math
from collections.abc import Mapping

from infertune.domain.knobs import Config, Knob, format_scalar

CLEAR_GAIN = math.log(1.01)  # of the end over everything before it: less is noise, and no reason to go on


def at_end(knob: Knob, best: Config, scores: Mapping[Config, float]) -> bool:
    """Whether the best lies at the end of a ladder, clearly above everything further down.

    Args:
        knob: The ladder.
        best: The best configuration.
        scores: ln(objective) of every configuration that ran, higher is better; the best among them.
    """
    if not knob.ordinal or len(knob.values) < 2 or best.root.get(knob.name) != knob.values[-1] or best not in scores:
        return False
    below = [score for config, score in scores.items() if config.root.get(knob.name) != knob.values[-1]]
    return bool(below) and scores[best] - max(below) >= CLEAR_GAIN


def why_no_further(knob: Knob, n_requests: int | None, *, chosen: bool) -> str:
    """Why a search did not look beyond the end of a ladder, at which the best lies.

    Args:
        knob: The ladder.
        n_requests: Requests of a job, None if unknown.
        chosen: The user gave its values.
    """
    last = format_scalar(knob.values[-1])
    if chosen:
        return f"--knob {knob.name} goes no further; give larger values to look beyond"
    if knob.is_concurrency and n_requests is not None and knob.numbers[-1] >= n_requests:
        return f"a job has {n_requests} requests, which tell no more apart; --requests asks for larger ones"
    if knob.most is None:
        return "this machine or the engine allows no more"
    if 2 * knob.numbers[-1] > knob.most:
        return f"the engine takes {knob.most:,g} at most"
    return f"a rule between the knobs forbids more, or the search ended before it went beyond {last}"
