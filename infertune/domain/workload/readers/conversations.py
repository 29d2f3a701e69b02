"""Turns of a conversation as messages, and the requests that a conversation was made of."""

import json
from collections.abc import Iterator, Sequence

from infertune.domain.workload.readers.base import NO_OUTPUT, NO_PROMPT, Options, estimated_tokens
from infertune.domain.workload.readers.row import Row, shown
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Message, Request, Role

# OpenAI's roles, and those of ShareGPT and of the tools that write its format.
_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response"), "tool"),
}
_OTHER_MEDIA = "messages hold images, sound or files; only their text is used"


def messages_of(row: Row, name: str) -> tuple[Message, ...]:
    """The messages in a list of `role` and `content`, or of `from` and `value`.

    Raises:
        FormatError: It is no such list; the message names the turn and the field.
    """
    messages = []
    for number, item in enumerate(row.items(name)):
        turn = row.element(f"{name}[{number}]", item)
        said_by, content = ("from", "value") if turn.has("from") else ("role", "content")
        role = _ROLES.get(turn.text(said_by).strip().lower())
        if role is None:
            raise turn.fault(said_by, f"{shown(turn.values[said_by])} is not one of {', '.join(_ROLES)}")
        messages.append(Message(role, _content(turn, content)))
    return tuple(messages)


def answered(
    source: Source, messages: Sequence[Message], options: Options, conversation: str, arrival_s: float | None = None
) -> Iterator[Request]:
    """A request for every answer of a recorded conversation: the prompt is all that was said before it."""
    turn = 0
    for at, message in enumerate(messages):
        if message.role != "assistant":
            continue
        if not any(earlier.role in ("user", "tool") for earlier in messages[:at]):
            continue  # a greeting, or a conversation that was cut in the middle
        if options.turns is not None and turn >= options.turns:
            break
        if not message.content.strip():
            source.left_out[NO_OUTPUT] += 1
        elif not messages[at - 1].content.strip():
            source.left_out[NO_PROMPT] += 1
        else:
            yield Request(
                output_tokens=estimated_tokens(message.content),
                messages=tuple(messages[:at]),
                answer=message.content,
                arrival_s=arrival_s if turn == 0 else None,
                conversation=conversation,
                turn=turn,
            )
        turn += 1


def _content(turn: Row, name: str) -> str:
    """A message's text: a string, the text parts of a list, or the calls of a message that only calls tools."""
    value = turn.values.get(name)
    if value is None and turn.has("tool_calls"):
        return json.dumps(turn.values["tool_calls"], ensure_ascii=True)
    if not isinstance(value, list):
        return turn.text(name)
    texts = []
    for number, item in enumerate(value):
        part = turn.element(f"{name}[{number}]", item)
        if part.has("text"):
            texts.append(part.text("text"))
        elif part.has("type"):
            turn.remarks[_OTHER_MEDIA] += 1
        else:
            raise part.fault("text", "is missing")
    return "\n".join(texts)
