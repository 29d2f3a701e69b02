"""One request on one HTTP/1.1 connection, and the tokens of its stream as they come; in the load generator's process.

Written out, because this is measured time: aiohttp and httpx take several times as long for it (see docs/serving.md).
"""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Protocol

from infertune.engines.serving.job import hidden

_MOST_ERROR = 300  # characters of an error that are kept
_NO_COMPLETION = (ValueError, KeyError, TypeError, IndexError, AttributeError)


class Request:
    """One request and what became of it; times on the loop's clock, in seconds."""

    __slots__ = (
        "asked", "body", "counted", "due", "end", "error", "first", "gaps", "last", "sent", "tried", "usage",
    )  # fmt: skip

    def __init__(self, due: float, asked: int, body: bytes) -> None:
        self.due = due
        self.asked = asked
        self.body = body
        self.sent: float | None = None
        self.first: float | None = None
        self.last: float | None = None
        self.end: float | None = None
        self.counted = 0
        self.usage: int | None = None
        self.gaps: list[float] = []
        self.error = ""
        self.tried = 0

    def tokens(self, number: int, now: float) -> None:
        """Some tokens came at once, without time between them."""
        if self.last is None:
            self.first = now
        else:
            self.gaps.append(now - self.last)
        self.gaps += [0.0] * (number - 1)
        self.counted += number
        self.last = now

    @property
    def output(self) -> int:
        """Tokens that came, as the server counts them if it does."""
        return self.counted if self.usage is None else self.usage

    def record(self, start: float) -> list[object]:
        """What is known of it, as `sender.py` reads it."""
        output, error = self.output, self.error
        if not error and output != self.asked:
            error = f"{output} of {self.asked} tokens came"
        end = self.last if self.last is not None and not error else self.end
        return [
            round(self.due, 6),
            *(None if at is None else round(at - start, 6) for at in (self.sent, end, self.first)),
            output,
            [round(gap, 6) for gap in self.gaps],
            error,
        ]


class Owner(Protocol):
    """What a connection tells of its requests."""

    def start(self, request: Request) -> None:
        """It was not sent: send it on another connection."""

    def finished(self, request: Request, connection: "Connection | None", now: float) -> None:
        """It has ended, well or not."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: a request at a time, the body's events as they come."""

    def __init__(self, load: "Owner", head: bytes, secrets: Sequence[str] = ()) -> None:
        self._load = load
        self._head = head
        self._secrets = secrets
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.request: Request | None = None
        self.idle_since = 0.0
        self.used = False
        self.closed = False
        self._clear()

    def _clear(self) -> None:
        self._raw = bytearray()
        self._text = bytearray()
        self._status = 0
        self._chunked = self._close = self._done = False
        self._left: int | None = None
        self._in_body = False

    def send(self, request: Request) -> None:
        """Send a request; the connection is open and idle."""
        assert self.transport
        self._clear()
        self.request = request
        self.transport.write(self._head % len(request.body) + request.body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        now = self._loop.time()
        self._raw += data
        try:
            if not self._in_body and not self._read_head():
                return
            if self._read_body(now):
                self._finished(now)
        except _NO_COMPLETION as error:
            self._failed(f"an answer that is no completion: {type(error).__name__}: {error}", now)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed by the other side, or by ours."""
        self.closed = True
        request, now = self.request, self._loop.time()
        if request is None:
            return
        if self.used and not self._in_body and not self._raw and request.tried < 2:
            self.request = None
            self._load.start(request)  # a kept connection that the server had just closed: nothing was answered on it
            return
        if self._in_body:
            with contextlib.suppress(*_NO_COMPLETION):  # an event that was cut
                self._read_last_line(now)
            if self._status != 200 or self._whole(request):
                self._finished(now)
                return
        what = "closed the connection without an answer"
        if request.counted:
            what = f"closed the stream early, after {request.counted} of {request.asked} tokens"
        elif self._in_body:
            what = "closed the stream before the first token"
        self._failed(f"the server {what}", now)

    def _read_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = bytes(self._raw[:end]).decode("latin-1").split("\r\n")
        del self._raw[: end + 4]
        self._status = int(lines[0].split(" ", 2)[1])
        if 100 <= self._status < 200:
            return self._read_head()
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip().lower()
            if name == "transfer-encoding":
                self._chunked = "chunked" in value
            elif name == "content-length":
                self._left = int(value)
            elif name == "connection":
                self._close = value == "close"
        self._in_body = True
        return True

    def _read_body(self, now: float) -> bool:
        """Take in what came of the body; whether that was all of it."""
        complete = False
        if self._chunked:
            while (line := self._raw.find(b"\r\n")) >= 0:
                size = int(bytes(self._raw[:line]).partition(b";")[0], 16)
                if len(self._raw) < line + 2 + size + 2:
                    break
                self._text += self._raw[line + 2 : line + 2 + size]
                del self._raw[: line + 2 + size + 2]
                if size == 0:
                    complete = True
                    break
        else:
            self._text += self._raw
            if self._left is not None:
                self._left -= len(self._raw)
                complete = self._left <= 0
            self._raw.clear()
        if self._status == 200:
            self._read_events(now)
        if complete:
            self._read_last_line(now)
        return complete

    def _read_last_line(self, now: float) -> None:
        """Take in what came after the last end of a line; the body has ended."""
        if self._status == 200:
            self._text += b"\n"
            self._read_events(now)

    def _read_events(self, now: float) -> None:
        request = self.request
        if request is None:
            return
        while (end := self._text.find(b"\n")) >= 0:
            line = bytes(self._text[:end]).strip()
            del self._text[: end + 1]
            if not line.startswith(b"data:"):
                continue
            content = line[5:].strip()
            if not content:
                continue
            if content == b"[DONE]":
                self._done = True
                continue
            event = json.loads(content)
            choices = event.get("choices") or ()
            if event.get("error") or (event.get("message") and not choices):
                request.error = request.error or f"the server answered an error: {said(event, self._secrets)}"
                continue
            tokens = (event.get("usage") or {}).get("completion_tokens")
            if tokens is not None:
                request.usage = int(tokens)
            for choice in choices:
                if number := _tokens_in(choice):
                    request.tokens(number, now)

    def _whole(self, request: Request) -> bool:
        """Whether a stream that has ended was all of it; some servers do not say so."""
        return self._done or request.output == request.asked

    def _finished(self, now: float) -> None:
        request = self.request
        if request is None:
            return
        self.request = None
        if self._status != 200:
            request.error = f"HTTP {self._status}{_reason(self._text, self._secrets)}"
        elif not request.error and not self._whole(request):
            request.error = f"the stream ended early, after {request.counted} of {request.asked} tokens"
        self.used = True
        self.idle_since = now
        if self._close or request.error:
            self._abort()
        self._load.finished(request, self, now)

    def _failed(self, what: str, now: float) -> None:
        request = self.request
        self.request = None
        self._abort()
        if request is not None:
            request.error = request.error or what
            self._load.finished(request, self, now)

    def _abort(self) -> None:
        self.closed = True
        if self.transport:
            self.transport.abort()


def _tokens_in(choice: dict[str, Sequence[object] | None]) -> int:
    """How many tokens an event brings: as many as the server says, else one where it has a text or may have had one.

    A token that is a part of a character has an empty text.
    """
    ids, text = choice.get("token_ids"), choice.get("text")
    if ids is not None:
        return len(ids)
    return int(bool(text) or (text is not None and not choice.get("finish_reason")))


def said(content: object, secrets: Sequence[str] = ()) -> str:
    """What an error in an answer says, in one line, without what must not be shown."""
    error = content.get("error", content) if isinstance(content, dict) else content
    message = error.get("message", error) if isinstance(error, dict) else error
    return hidden(" ".join(str(message).split()), secrets)[:_MOST_ERROR]  # in this order: of a key no part may stay


def _reason(body: bytearray, secrets: Sequence[str]) -> str:
    content: object = body.decode(errors="replace")
    with contextlib.suppress(ValueError):
        content = json.loads(body)
    line = said(content, secrets)
    return f": {line}" if line else ""
