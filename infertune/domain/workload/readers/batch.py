"""The input of OpenAI's batch API, and of `vllm run-batch`: a request's body a line."""

from collections.abc import Iterator

from infertune.domain.workload.readers.base import NO_OUTPUT, NO_PROMPT, Options, Reader
from infertune.domain.workload.readers.chat import LIMITS, ChatRequests
from infertune.domain.workload.readers.row import Row, shown
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Request

# What a body of each endpoint holds its prompt in.
_PROMPTS = {"chat/completions": "messages", "completions": "prompt", "responses": "input"}


def _read(source: Source, options: Options) -> Iterator[Request]:
    chats = ChatRequests(source, options)
    for row in source.rows():
        name = _prompt_name(row)
        body = row.inner("body")
        if isinstance(body.values.get(name), str):
            limit = body.first_of(*LIMITS)
            output = options.output_tokens if limit is None else body.tokens(limit)
            text = body.text(name)
            if output == 0:
                source.left_out[NO_OUTPUT] += 1
            elif not text.strip():
                source.left_out[NO_PROMPT] += 1
            else:
                yield Request(text=text, output_tokens=output)
        else:
            yield from chats.of(body, name)


def _prompt_name(row: Row) -> str:
    if not row.has("url"):
        body = row.inner("body")
        return body.first_of(*_PROMPTS.values()) or "messages"
    url = row.text("url").split("?")[0].rstrip("/")
    for ending in sorted(_PROMPTS, key=len, reverse=True):
        if url.endswith(f"/{ending}"):
            return _PROMPTS[ending]
    raise row.fault(
        "url", f"{shown(row.values['url'])} generates no text; requests to /v1/chat/completions and /v1/completions do"
    )


READER = Reader(
    name="batch",
    title="OpenAI batch file",
    needs="one JSON object a line with custom_id, url and body, the body with messages or prompt",
    kind="json",
    signs=(("body",),),
    read=_read,
)
