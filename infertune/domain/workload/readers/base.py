"""What a reader of a workload format is.

To add a format: a module with a `READER`, a line in the registry (`readers/__init__.py`), and a line in
`tests/contracts/test_workload_formats.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from infertune.domain.workload.readers.source import Source, plain
from infertune.domain.workload.requests import Request

NO_OUTPUT = "ask for no output"
NO_PROMPT = "have an empty prompt"


@dataclass(frozen=True)
class Options:
    """What stands behind the file's name.

    Attributes:
        output_tokens: Of a request for which the file does not say how many.
        turns: Take only the first so many answers of a conversation; None takes all.
    """

    output_tokens: int
    turns: int | None = None


@dataclass(frozen=True)
class Reader:
    """One format.

    A reader yields requests in the file's order. It raises `Fault` for a row that is not of its format, naming line and
    field; a row that is of its format but is nothing to run (no output, no prompt) is counted in `source.left_out`.

    Attributes:
        name: The form, as in `sharegpt:FILE`.
        title: What people call the format.
        needs: What it needs of a file, for messages.
        kind: What its files are: JSON objects, a CSV with a header, or plain lines.
        signs: What a file is recognised by: all columns, or all fields of the first object, of one of these sets.
        read: The requests of a file.
    """

    name: str
    title: str
    needs: str
    kind: Literal["json", "table", "lines"]
    signs: tuple[tuple[str, ...], ...]
    read: Callable[[Source, Options], Iterator[Request]]

    def recognises(self, source: Source) -> bool:
        """Whether a file is of this format, by its header or its first object.

        Raises:
            FormatError: It begins like JSON and is none.
        """
        if self.kind == "lines":
            return not source.is_json and not source.is_table
        if self.kind == "table":
            return any(source.header >= set(map(plain, names)) for names in self.signs)
        return source.first is not None and any(source.first.has(*names) for names in self.signs)


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, before a tokenizer says: 4 bytes a token, as in English."""
    return max(1, len(text.encode()) // 4)
