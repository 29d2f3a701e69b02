"""OpenAI chat messages, one conversation a line.

One that ends with an answer is a recorded conversation: every answer is a request, as long as the answer. One that ends
with the user's (or a tool's) turn is a request as it was sent: its length is its `max_tokens`, or the one given.
"""

from collections.abc import Iterator

from infertune.domain.workload.readers.base import NO_OUTPUT, NO_PROMPT, Options, Reader
from infertune.domain.workload.readers.conversations import answered, messages_of
from infertune.domain.workload.readers.row import Row
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Message, Request

LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_SESSIONS = ("session_id", "conversation_id")


class ChatRequests:
    """Makes requests of messages, and finds which of them go on with an earlier one's conversation."""

    def __init__(self, source: Source, options: Options) -> None:
        self._source, self._options = source, options
        self._known: dict[tuple[Message, ...], tuple[str, int]] = {}

    def of(self, row: Row, name: str) -> Iterator[Request]:
        """The requests of one row.

        Raises:
            FormatError: Its messages are none, or its limit is no number of tokens.
        """
        messages = messages_of(row, name)
        session = row.first_of(*_SESSIONS)
        given = None if session is None else str(row.values[session])
        if messages[-1].role == "assistant":
            yield from answered(self._source, messages, self._options, given or f"#{row.number}")
            return
        limit = row.first_of(*LIMITS)
        output = self._options.output_tokens if limit is None else row.tokens(limit)
        if output == 0:
            self._source.left_out[NO_OUTPUT] += 1
        elif not messages[-1].content.strip():
            self._source.left_out[NO_PROMPT] += 1
        else:
            conversation, turn = self._place(messages, given or f"#{row.number}")
            yield Request(output_tokens=output, messages=messages, conversation=conversation, turn=turn)

    def _place(self, messages: tuple[Message, ...], name: str) -> tuple[str, int]:
        """Conversation and turn: an earlier request's, if its messages begin these."""
        before = [self._known.get(messages[:at]) for at, m in enumerate(messages) if m.role == "assistant" and at]
        found = next((place for place in reversed(before) if place), None)
        place = (found[0], found[1] + 1) if found else (name, sum(m.role == "assistant" for m in messages))
        self._known.setdefault(messages, place)
        return place


def _read(source: Source, options: Options) -> Iterator[Request]:
    requests = ChatRequests(source, options)
    for row in source.rows():
        if row.values.get("messages") == []:
            source.left_out[NO_PROMPT] += 1
        else:
            yield from requests.of(row, "messages")


READER = Reader(
    name="chat",
    title="OpenAI chat messages",
    needs="one JSON object a line with messages: a list of turns with role (system, user, assistant, tool) and content",
    kind="json",
    signs=(("messages",),),
    read=_read,
)
