"""Answers and scores of a loaded engine, checked. Runs in the worker; nothing of it is measured time."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

from infertune.bench.channel import AnswerCommand, ScoreCommand
from infertune.domain.quality import Answered, Scores
from infertune.engines.base import LoadedEngine, Prompt, TokenScores

_PROBE = "def f(x):\n    return {'a': 1.5, \"β\": x}  # 日本 -> 42\n"  # text that tokenizers cut differently
_ROUNDING = 0.01  # nats by which ln p may be above 0 in half precision (judgement)
_DIGITS = 6


class NotNumbersError(Exception):
    """Log probabilities are not numbers, or no ln of a probability."""


class OtherVocabularyError(Exception):
    """The tokens to score are of another vocabulary."""


def vocabulary_of(engine: LoadedEngine) -> str:
    """What tells one tokenizer and vocabulary from another."""
    ids = ",".join(map(str, engine.tokenize(_PROBE)))
    return f"{engine.vocab_size()} tokens, {hashlib.sha256(ids.encode()).hexdigest()[:12]}"


def answered(engine: LoadedEngine, command: AnswerCommand, prompts: Sequence[Prompt]) -> tuple[Answered, ...]:
    """Prompts with the engine's greedy answers; an answer of no token is left out with its prompt.

    Raises:
        NotOfferedError: The engine gives no token ids.
    """
    short = [
        replace(
            prompt,
            token_ids=prompt.token_ids[-command.most_prompt_tokens :],
            output_tokens=min(prompt.output_tokens, command.most_answer_tokens),
        )
        for prompt in prompts
        if prompt.token_ids
    ]
    requests = [request for request, prompt in zip(command.requests, prompts, strict=True) if prompt.token_ids]
    found = []
    for request, prompt, answer in zip(requests, short, engine.answer(short), strict=True):
        if answer:
            drawn = request.prompt_tokens is not None  # token ids without a text
            found.append(
                Answered(
                    token_ids=(*prompt.token_ids, *answer),
                    first=len(prompt.token_ids),
                    prompt_tokens=len(prompt.token_ids),
                    prompt="" if drawn else engine.text(prompt.token_ids),
                    answer=engine.text(answer),
                )
            )
    return tuple(found)


def scored(engine: LoadedEngine, command: ScoreCommand) -> tuple[Scores, ...]:
    """The scores of sequences, each from its first scored position on.

    Raises:
        NotOfferedError: The engine gives no log probabilities.
        OtherVocabularyError: The engine's tokens are others than those of the sequences.
        NotNumbersError: A score is no number.
    """
    here = vocabulary_of(engine)
    if here != command.vocabulary:
        raise OtherVocabularyError(f"the reference's vocabulary ({command.vocabulary}) is not this one's ({here})")
    found: list[Scores] = []
    size = command.batch or len(command.sequences) or 1
    for start in range(0, len(command.sequences), size):
        part = command.sequences[start : start + size]
        firsts = [answered.first for answered in part]
        scores = engine.score([answered.token_ids for answered in part], command.top, firsts)
        found += [_checked(sequence, whole) for sequence, whole in zip(part, scores, strict=True)]
    return tuple(found)


def _checked(sequence: Answered, whole: TokenScores) -> Scores:
    """The scores from the first scored position on.

    Raises:
        NotNumbersError: A score is not ln of a probability, or some are missing.
    """
    n_scores = len(sequence.token_ids) - whole.first
    if (len(whole.logprobs), len(whole.top)) != (n_scores, n_scores) or not 1 <= whole.first <= sequence.first:
        raise NotNumbersError(f"answers are not numbers: {len(whole.logprobs)} scores came back for {n_scores} tokens")
    skipped = sequence.first - whole.first
    logprobs, tops = whole.logprobs[skipped:], whole.top[skipped:]
    for values in (logprobs, *(top.values() for top in tops)):
        for value in values:
            if not (math.isfinite(value) and value < _ROUNDING):
                raise NotNumbersError(f"answers are not numbers: {value} came back as a log probability")
    if not all(tops):
        raise NotNumbersError("answers are not numbers: a position came back without any likely token")
    return Scores(
        logprobs=tuple(round(value, _DIGITS) for value in logprobs),
        top_ids=tuple(tuple(top) for top in tops),
        top_logprobs=tuple(tuple(round(value, _DIGITS) for value in top.values()) for top in tops),
    )
