"""ShareGPT: recorded conversations of `from` and `value`, as a JSON array or JSON lines."""

from collections.abc import Iterator

from infertune.domain.workload.readers.base import Options, Reader
from infertune.domain.workload.readers.conversations import answered, messages_of
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Message, Request

_LISTS = ("conversations", "conversation", "messages")
_UNANSWERED = "are conversations without an answer"


def _read(source: Source, options: Options) -> Iterator[Request]:
    for row in source.rows():
        name = row.first_of(*_LISTS) or _LISTS[0]
        if row.values.get(name) == []:
            source.left_out[_UNANSWERED] += 1
            continue
        messages = messages_of(row, name)
        if row.has("system") and messages[0].role != "system" and (system := row.text("system")):
            messages = (Message("system", system), *messages)
        if not any(message.role == "assistant" for message in messages):
            source.left_out[_UNANSWERED] += 1
            continue
        named = row.values.get("id")
        known_as = str(named) if isinstance(named, str | int) else f"#{row.number}"
        yield from answered(source, messages, options, known_as)


READER = Reader(
    name="sharegpt",
    title="ShareGPT",
    needs="JSON objects with conversations: a list of turns with from (human, gpt) and value",
    kind="json",
    signs=(("conversations",), ("conversation",)),
    read=_read,
)
