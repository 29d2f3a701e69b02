"""Plain text: every line that is not blank is a prompt."""

from collections.abc import Iterator

from infertune.domain.workload.readers.base import Options, Reader
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Request


def _read(source: Source, options: Options) -> Iterator[Request]:
    for _, line in source.lines():
        yield Request(text=line, output_tokens=options.output_tokens)


READER = Reader(
    name="lines",
    title="plain text",
    needs="a prompt a line",
    kind="lines",
    signs=(),
    read=_read,
)
