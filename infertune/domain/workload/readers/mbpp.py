"""MBPP: small programs to write (github.com/google-research/google-research/tree/master/mbpp).

The whole set calls the task `text`, the sanitized one `prompt`. The prompt is that of the paper
(Austin et al. 2021): the task and its tests. The reference solutions set no length.
"""

from collections.abc import Iterator

from infertune.domain.workload.readers.base import NO_PROMPT, Options, Reader
from infertune.domain.workload.readers.row import Row, shown
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Request


def _read(source: Source, options: Options) -> Iterator[Request]:
    for row in source.rows():
        task = row.text(row.first_of("text", "prompt") or "text")
        row.text("code")
        if not task.strip():
            source.left_out[NO_PROMPT] += 1
            continue
        prompt = f"You are an expert Python programmer, and here is your task: {task}"
        if tests := _tests(row):
            prompt += " Your code should pass these tests:\n\n" + "\n".join(tests)
        yield Request(text=prompt + "\n", output_tokens=options.output_tokens)


def _tests(row: Row) -> list[str]:
    if not row.has("test_list"):
        return []
    found = row.values["test_list"]
    if not isinstance(found, list) or not all(isinstance(test, str) for test in found):
        raise row.fault("test_list", f"must be a list of texts, not {shown(found)}")
    return [test for test in found if isinstance(test, str)]


READER = Reader(
    name="mbpp",
    title="MBPP",
    needs="JSON objects with text (or prompt), code and test_list",
    kind="json",
    signs=(("text", "code"), ("prompt", "code")),
    read=_read,
)
