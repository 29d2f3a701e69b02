"""Answers of servers as they come over the wire, byte by byte: whole, odd, broken off, and with a key in them."""

import socket
import threading
from collections.abc import Iterator

import pytest

from infertune.domain.load import Sent
from infertune.engines.serving.sender import Address, Outgoing, Sender

HOST = "127.0.0.1"
STREAM = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
TOKEN = b'data: {"choices": [{"text": "a", "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"text": "b", "finish_reason": "length"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ROLE = b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n'
END = b'data: {"choices": [{"text": "", "finish_reason": "stop"}]}\n\n'
KEY = "k" * 400


@pytest.fixture(scope="module")
def sender() -> Iterator[Sender]:
    made = Sender()
    yield made
    made.close()


def answer(sender: Sender, raw: bytes, asked: int = 2, key: str = "") -> Sent:
    """What becomes of a request that is answered with these bytes and the end of the connection."""
    with socket.create_server((HOST, 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(raw)

        server = threading.Thread(target=talk)
        server.start()
        headers = (("Authorization", f"Bearer {key}"),) if key else ()
        address = Address(HOST, listener.getsockname()[1], headers=headers)
        sent = sender.run(address, "/v1/completions", [Outgoing(0.0, asked, "{}")], cut_after_s=10).sent
        server.join()
    return sent[0]


@pytest.mark.parametrize(
    "body",
    {
        "as usual": TOKEN + LAST + DONE,
        "no end of the last line": TOKEN + LAST + b"data: [DONE]",
        "no word at the end": TOKEN + LAST,
        "no spaces, CRLF": (TOKEN + LAST + DONE).replace(b"data: ", b"data:").replace(b"\n", b"\r\n"),
        "names, comments, empty data": b": hello\nevent: completion\nid: 1\ndata:\n\n" + TOKEN + LAST + DONE,
        "no finish_reason": b'data: {"choices": [{"text": ""}]}\n\n' + LAST + DONE,
        "a first event without text": ROLE + TOKEN + LAST + DONE,
        "a text of null": b'data: {"choices": [{"text": null}]}\n\n' + TOKEN + LAST + DONE,
        "a finish without text": TOKEN + TOKEN + END + DONE,
        "nothing in choices": b'data: {"choices": []}\n\ndata: {"choices": null}\n\n' + TOKEN + LAST + DONE,
        "usage of null": TOKEN.replace(b'{"ch', b'{"usage": null, "ch') + LAST + DONE,
        "usage without a number": TOKEN + LAST + b'data: {"usage": {"completion_tokens": null}}\n\n' + DONE,
        "usage without the field": TOKEN + LAST + b'data: {"usage": {"prompt_tokens": 3}}\n\n' + DONE,
        "no error": TOKEN.replace(b'{"ch', b'{"error": null, "ch') + LAST + DONE,
    }.items(),
    ids=lambda body: body[0],
)
def test_streams_of_other_servers_are_read(sender: Sender, body: tuple[str, bytes]) -> None:
    sent = answer(sender, STREAM + body[1])
    assert (sent.error, sent.output_tokens) == ("", 2) and sent.first_s


@pytest.mark.parametrize(
    ("raw", "error"),
    {
        "error of text": (STREAM + b'data: {"error": "no memory"}\n\n', "the server answered an error: no memory"),
        "error beside it": (
            STREAM + b'event: error\ndata: {"object": "error", "message": "no\\nmemory"}\n\n',
            "the server answered an error: no memory",
        ),
        "in an event": (STREAM + TOKEN + b'data: {"cho', "the server closed the stream early, after 1 of 2 tokens"),
        "before any": (STREAM, "the server closed the stream before the first token"),
        "in the body": (
            b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + TOKEN,
            "the server closed the stream early, after 1 of 2 tokens",
        ),
        "too few": (STREAM + LAST + DONE, "1 of 2 tokens came"),
        "nothing": (b"", "the server closed the connection without an answer"),
        "no length": (
            b'HTTP/1.0 401 Unauthorized\r\nConnection: close\r\n\r\n{"error": {"message": "no\\nkey"}}',
            "HTTP 401: no key",
        ),
        "text without a length": (b"HTTP/1.0 503 Busy\r\nConnection: close\r\n\r\ntoo\nbusy\n", "HTTP 503: too busy"),
        "no body": (b"HTTP/1.1 500 X\r\n\r\n", "HTTP 500"),
        "half of a body": (b"HTTP/1.1 500 X\r\nContent-Length: 99\r\n\r\nno", "HTTP 500: no"),
    }.values(),
)
def test_what_went_wrong_is_told_as_the_server_says_it(sender: Sender, raw: bytes, error: str) -> None:
    assert answer(sender, raw).error == error


@pytest.mark.parametrize(
    "raw",
    [
        b'HTTP/1.1 400 X\r\n\r\n{"error": {"message": "%s wrong key: Bearer %s"}}',
        b"HTTP/1.1 400 X\r\n\r\n%s wrong key: Bearer %s",
        STREAM + b'data: {"error": {"message": "%s wrong key: %s"}}\n\n',
    ],
)
def test_no_part_of_a_long_key_that_the_server_repeats_is_told(sender: Sender, raw: bytes) -> None:
    error = answer(sender, raw % (b"-" * 250, KEY.encode()), key=KEY).error
    assert "kkk" not in error and "wrong key: …" in error


def test_the_longest_gap_of_tokens_that_come_together_is_known_and_single_gaps_are_not(sender: Sender) -> None:
    usage = b'data: {"usage": {"completion_tokens": 4}}\n\n'
    together = answer(sender, STREAM + TOKEN + TOKEN + LAST + usage + DONE, asked=4)
    assert not together.error and together.output_tokens == 4
    assert len(together.gaps_s) == 2 and together.token_gaps_s == ()
    singly = answer(sender, STREAM + TOKEN + TOKEN + TOKEN + LAST + usage + DONE, asked=4)
    assert len(singly.gaps_s) == 3 and singly.token_gaps_s == singly.gaps_s
