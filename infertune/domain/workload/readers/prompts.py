"""Own prompts, in the JSON lines of `vllm bench --dataset-name custom`: `prompt`, and if wished `output_tokens`."""

from collections.abc import Iterator

from infertune.domain.workload.readers.base import NO_OUTPUT, NO_PROMPT, Options, Reader
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Request


def read_prompts(source: Source, options: Options) -> Iterator[Request]:
    """A request for every `prompt`, with its `output_tokens` or `max_tokens`, or the number given."""
    for row in source.rows():
        text = row.text("prompt")
        limit = row.first_of("output_tokens", "max_tokens")
        if limit == "max_tokens":
            source.marks.add(limit)
        output = options.output_tokens if limit is None else row.tokens(limit)
        if output == 0:
            source.left_out[NO_OUTPUT] += 1
        elif not text:
            source.left_out[NO_PROMPT] += 1
        else:
            yield Request(text=text, output_tokens=output)


READER = Reader(
    name="jsonl",
    title="prompts (vLLM's custom data set)",
    needs="one JSON object a line with prompt and, if wished, output_tokens or max_tokens",
    kind="json",
    signs=(("prompt",),),
    read=read_prompts,
)
