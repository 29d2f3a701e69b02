"""Answers and log probabilities of a loaded `vllm.LLM`."""

import math
from collections.abc import Sequence
from typing import Any

from infertune.engines.base import NotOfferedError, Prompt, TokenScores


def greedy_answers(llm: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Greedy answers, each at most as long as asked for."""
    from vllm import SamplingParams

    sampling = [SamplingParams(temperature=0.0, max_tokens=prompt.output_tokens) for prompt in prompts]
    requests = [{"prompt_token_ids": prompt.token_ids} for prompt in prompts]
    outputs = llm.generate(requests, sampling, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def token_scores(llm: Any, sequences: Sequence[Sequence[int]], top: int) -> list[TokenScores]:
    """vLLM's `prompt_logprobs`; a request that asks for them reads nothing from the prefix cache.

    Raises:
        NotOfferedError: The engine was launched without them.
    """
    from vllm import SamplingParams

    most = int(llm.llm_engine.vllm_config.model_config.max_logprobs)
    if most == 0:
        raise NotOfferedError("vLLM gives no log probabilities with max_logprobs=0; leave that argument out")
    top = top if most < 0 else min(top, most)  # -1 is the whole vocabulary
    # It must generate a token, so the last position is left for it where a sequence fills the context.
    sampling = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=top, detokenize=False)
    requests = [{"prompt_token_ids": list(ids)} for ids in sequences]
    outputs = llm.generate(requests, sampling, use_tqdm=False)
    return [_scores(output.prompt_logprobs, ids, top) for output, ids in zip(outputs, sequences, strict=True)]


def _scores(prompt_logprobs: Any, token_ids: Sequence[int], top: int) -> TokenScores:
    if not prompt_logprobs:
        raise NotOfferedError("this vLLM gives no prompt log probabilities")
    logprobs, tops = [], []
    for token, found in zip(token_ids[1:], prompt_logprobs[1:], strict=True):
        logprobs.append(float(found[token].logprob))
        ranked = sorted(found.items(), key=lambda item: item[1].rank or math.inf)[:top]
        tops.append({int(candidate): float(entry.logprob) for candidate, entry in ranked})
    return TokenScores(logprobs, tops)
