"""One request, and the token ids of a request that gives only lengths."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

Role = Literal["system", "user", "assistant", "tool"]
_SALTED_TOKENS = 8  # of 747 token ids at least: no two salts give the same ones (judgement)
BLOCK_TOKENS = 512  # of one hash id in a Mooncake trace, as its authors define it


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request: a text, a conversation, or a length for which token ids are drawn.

    A file may hold a million of them, so this is a plain value with slots; pydantic checks it where it crosses to the
    worker.

    Attributes:
        output_tokens: How many tokens to generate, exactly; an estimate where `answer` is given.
        prompt_tokens: Length of the prompt in tokens; None for texts, whose length the tokenizer decides.
        text: The prompt itself.
        messages: The conversation so far, for the model's chat template.
        answer: The recorded answer; as many tokens as it has in the model's tokenizer are generated.
        seed: Seeds the drawn token ids.
        prefix_tokens: How many of the first tokens all requests of the workload share.
        block_ids: Requests with the same id have the same tokens in that block of `BLOCK_TOKENS`.
        block_seed: Seeds the blocks' token ids: equal for all requests of one draw, so that they share blocks.
        arrival_s: When it was sent, in seconds from the first request of its file; None if the file does not say.
        conversation: Which conversation it belongs to; None if the file does not say.
        turn: Its place in the conversation, from 0.
    """

    output_tokens: Annotated[int, Field(gt=0)]
    prompt_tokens: Annotated[int | None, Field(gt=0)] = None
    text: str | None = None
    seed: int = 0
    prefix_tokens: Annotated[int, Field(ge=0)] = 0
    messages: tuple[Message, ...] = ()
    answer: str | None = None
    block_ids: tuple[int, ...] = ()
    block_seed: int = 0
    arrival_s: float | None = None
    conversation: str | None = None
    turn: int = 0

    @property
    def prompt_text(self) -> str | None:
        """The prompt as text, a conversation without the model's template; None where only its length is known."""
        return plain_chat(self.messages) if self.messages else self.text


def token_ids(request: Request, vocab_size: int) -> list[int]:
    """Token ids for a request that gives only a length, from the middle of the vocabulary (no special tokens)."""
    assert request.prompt_tokens is not None
    low, high = _drawn_from(vocab_size)
    if high - low == 1:  # a simulated vocabulary
        return [low] * request.prompt_tokens
    shared = list(_shared("prefix", low, high, request.prefix_tokens))
    for block_id in request.block_ids:
        shared += _shared(f"{request.block_seed}/{block_id}", low, high, BLOCK_TOKENS)
    del shared[request.prompt_tokens :]
    own = random.Random(request.seed).choices(range(low, high), k=request.prompt_tokens - len(shared))
    return shared + own


def salted(ids: Sequence[int], vocab_size: int, salt: str) -> list[int]:
    """Drawn token ids with others at the start, so that no prefix cache knows them from another salt.

    With one salt, prompts with the same first tokens still have the same ones, and others still differ.
    """
    low, high = _drawn_from(vocab_size)
    steps = _shared(f"salt {salt}", low, high, _SALTED_TOKENS)
    first = [low + (token + step - 2 * low) % (high - low) for token, step in zip(ids, steps, strict=False)]
    return [*first, *ids[_SALTED_TOKENS:]]


def _drawn_from(vocab_size: int) -> tuple[int, int]:
    """The token ids that are drawn: the first, and the one after the last."""
    return 3, max(4, vocab_size * 3 // 4)


@lru_cache(maxsize=8192)  # 8192 blocks are 4 million tokens: what a draw shares is made once
def _shared(seed: str, low: int, high: int, n: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).choices(range(low, high), k=n))


def plain_chat(messages: Sequence[Message]) -> str:
    """A conversation as text for a model without a chat template: a line `role: content` each, then `assistant:`."""
    return "".join(f"{message.role}: {message.content}\n" for message in messages) + "assistant:"
