"""Mooncake: lengths, times and the hashes of 512-token blocks of a Kimi cluster (github.com/kvcache-ai/Mooncake).

Requests with the same hash id share that block and all before it. The shared tokens are made real: see `token_ids`.
"""

from collections.abc import Iterator

from infertune.domain.workload.readers.base import NO_OUTPUT, NO_PROMPT, Options, Reader
from infertune.domain.workload.readers.row import Row, shown
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import BLOCK_TOKENS, Request


def _read(source: Source, options: Options) -> Iterator[Request]:
    for row in source.rows():
        arrival_s = row.seconds("timestamp") / 1000
        prompt, output = row.tokens("input_length"), row.tokens("output_length")
        blocks = _block_ids(row, prompt) if row.has("hash_ids") else ()
        if output == 0:
            source.left_out[NO_OUTPUT] += 1
        elif prompt == 0:
            source.left_out[NO_PROMPT] += 1
        else:
            yield Request(prompt_tokens=prompt, output_tokens=output, arrival_s=arrival_s, block_ids=blocks)


def _block_ids(row: Row, prompt_tokens: int) -> tuple[int, ...]:
    """The ids; those of whole blocks alone are enough, and the tokens of the rest are then the request's own."""
    found = row.values["hash_ids"]
    if not isinstance(found, list):
        raise row.fault("hash_ids", f"must be a list of whole numbers, not {shown(found)}")
    ids = []
    for value in found:
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**64:
            raise row.fault("hash_ids", f"must be a list of whole numbers, not of {shown(value)}")
        ids.append(value)
    whole, most = prompt_tokens // BLOCK_TOKENS, -(-prompt_tokens // BLOCK_TOKENS)
    if ids and not whole <= len(ids) <= most:
        raise row.fault(
            "hash_ids",
            f"has {len(ids)} blocks, but an input_length of {prompt_tokens} is {most} of {BLOCK_TOKENS} tokens each",
        )
    return tuple(ids)


READER = Reader(
    name="mooncake",
    title="Mooncake trace",
    needs="one JSON object a line with timestamp (ms), input_length, output_length and hash_ids (of 512-token blocks)",
    kind="json",
    signs=(("input_length",), ("hash_ids",)),
    read=_read,
)
