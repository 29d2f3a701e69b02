"""Conversations through a tokenizer's chat template, or not, where it has none or refuses."""

from typing import Any

import pytest

from infertune.domain.models import resolve_model
from infertune.domain.workload import Message
from infertune.engines.chat_template import chat_token_ids

TALK = (Message("system", "Be brief."), Message("user", "Why?"), Message("assistant", "So."), Message("user", "Ah"))
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TEMPLATE


class ScriptedTokenizer:
    """Answers with what it was asked, or raises."""

    def __init__(self, chat_template: str | None, error: Exception | None = None) -> None:
        self.chat_template = chat_template
        self.asked: tuple[object, object] = ()  # type: ignore[assignment]
        self._error = error

    def apply_chat_template(self, turns: object, **options: object) -> list[int]:
        if self._error:
            raise self._error
        self.asked = (turns, options)
        return [5, 6, 7]


def test_the_template_gets_every_turn_and_opens_the_next_answer() -> None:
    tokenizer = ScriptedTokenizer("any")
    assert chat_token_ids(tokenizer, TALK[:2]) == [5, 6, 7]
    turns, options = tokenizer.asked
    assert turns == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert options == {"add_generation_prompt": True, "tokenize": True, "return_dict": False}


@pytest.mark.parametrize("error", [ValueError("roles must alternate"), TypeError("x"), RuntimeError("template")])
def test_a_template_that_refuses_gives_nothing(error: Exception) -> None:
    assert chat_token_ids(ScriptedTokenizer("any", error), TALK) is None
    assert chat_token_ids(ScriptedTokenizer(None, error), TALK) is None
    assert chat_token_ids(object(), TALK) is None


@pytest.mark.hf
def test_a_real_tokenizer_writes_the_conversation_as_its_template_says() -> None:
    import transformers

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(resolve_model("builtin:tiny").path)
    assert chat_token_ids(tokenizer, TALK) is None, "the built-in model has no template"
    tokenizer.chat_template = TEMPLATE
    ids = chat_token_ids(tokenizer, TALK)
    assert ids is not None and all(isinstance(token, int) for token in ids)
    assert tokenizer.decode(ids) == "<system>Be brief.<user>Why?<assistant>So.<user>Ah<assistant>"
    tokenizer.chat_template = REFUSING
    assert chat_token_ids(tokenizer, TALK) is None
    assert chat_token_ids(tokenizer, TALK[1:]) is not None
