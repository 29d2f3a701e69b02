"""Simulated answers and scores whose true loss is known.

With `fake:NAME,loss=2%` there is a knob `bits`: 8 are faster than 16 and raise the perplexity by the given share, 4 are
faster still and raise it by three times as much. Prompts differ: the change at one prompt has a standard deviation of
`SPREAD`. Equal scores are never quite equal, as on a GPU, where sums depend on the batch: `JITTER`.
"""

import math
import random
import zlib
from collections.abc import Mapping, Sequence

from infertune.engines.base import Prompt, TokenScores

SPREAD = 0.015  # nats; judgement
JITTER = 0.0005  # nats; judgement
SPEED = {16: 1.0, 8: 1.3, 4: 1.5}
_TOP = 4
_COMPILED = 0.001  # nats: another order of sums


def byte_text(token_ids: Sequence[int]) -> str:
    """A byte a token; tokens that are none are left out."""
    return bytes(token for token in token_ids if token < 256).decode("utf-8", "replace")


def true_loss(settings: Mapping[str, float], loss: float) -> float:
    """By which share the perplexity rises."""
    return {16: 0.0, 8: loss, 4: 3 * loss}[int(settings.get("bits", 16))]


def greedy_answers(prompts: Sequence[Prompt], vocab_size: int) -> list[list[int]]:
    """The same tokens for the same prompt."""
    found = []
    for prompt in prompts:
        rng = random.Random(_seed(prompt.token_ids))
        found.append([rng.randrange(3, vocab_size) for _ in range(prompt.output_tokens)])
    return found


def token_scores(
    sequences: Sequence[Sequence[int]], settings: Mapping[str, float], loss: float, launch_seed: int
) -> list[TokenScores]:
    """Scores of a model whose probabilities are drawn from the tokens alone, shifted as the settings do."""
    share = true_loss(settings, loss)
    found = []
    for ids in sequences:
        seed = _seed(ids)
        shift = -math.log1p(share)
        if share:
            shift += random.Random(seed + int(settings["bits"])).gauss(0, SPREAD)
        if settings.get("compiled"):
            shift += random.Random(seed + 1).gauss(0, _COMPILED)
        shift += random.Random(seed ^ hash((launch_seed, len(sequences)))).gauss(0, JITTER)
        found.append(_sequence(ids, seed, shift, min(0.5, 4 * share)))
    return found


def _sequence(ids: Sequence[int], seed: int, shift: float, flips: float) -> TokenScores:
    rng, flipping = random.Random(seed), random.Random(seed + 2)
    logprobs, tops = [], []
    for token in ids[1:]:
        own = -1.0 - rng.random()
        others = {(token + step) % 1000: own - step for step in range(1, _TOP)}
        logprob = own + shift
        logprobs.append(logprob)
        top = {token: logprob, **others}
        if flipping.random() < flips:
            second = next(iter(others))
            top = {
                second: logprob + 0.01,
                token: logprob,
                **{other: p for other, p in others.items() if other != second},
            }
        tops.append(top)
    return TokenScores(logprobs, tops)


def _seed(token_ids: Sequence[int]) -> int:
    return zlib.crc32(b",".join(b"%d" % token for token in token_ids))
