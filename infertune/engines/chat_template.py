"""Conversations through the chat template of a Hugging Face tokenizer, for the engines that have one."""

from collections.abc import Sequence
from typing import Any

from infertune.domain.workload import Message


def chat_token_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int] | None:
    """Token ids by the tokenizer's chat template, with the start of the next answer.

    None if it has no template, or the template refuses the conversation: many raise for a system turn, for a tool's, or
    for two user turns in a row.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
    except Exception:  # a template is a program of the model's authors, and refuses by raising what it likes
        return None
    return list(ids)
