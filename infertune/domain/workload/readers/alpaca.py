"""Alpaca-style instructions: `instruction`, `input`, `output` (github.com/tatsu-lab/stanford_alpaca).

Dolly's names for the last two, `context` and `response`, are read too.
"""

from collections.abc import Iterator

from infertune.domain.workload.readers.base import (
    NO_OUTPUT,
    NO_PROMPT,
    Options,
    Reader,
    estimated_tokens,
)
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Request

# The prompt of the Alpaca repository, with and without an input.
_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)


def _read(source: Source, options: Options) -> Iterator[Request]:
    for row in source.rows():
        instruction = row.text("instruction")
        given = row.first_of("input", "context")
        context = "" if given is None else row.text(given)
        named = row.first_of("output", "response")
        answer = None if named is None else row.text(named)
        if answer is not None and not answer.strip():
            source.left_out[NO_OUTPUT] += 1
        elif not instruction.strip():
            source.left_out[NO_PROMPT] += 1
        else:
            form = _WITH_INPUT if context.strip() else _WITHOUT_INPUT
            tokens = options.output_tokens if answer is None else estimated_tokens(answer)
            prompt = form.replace("{input}", context, 1).replace("{instruction}", instruction, 1)
            yield Request(text=prompt, output_tokens=tokens, answer=answer)


READER = Reader(
    name="alpaca",
    title="Alpaca-style instructions",
    needs="JSON objects with instruction and, if wished, input and output",
    kind="json",
    signs=(("instruction",),),
    read=_read,
)
