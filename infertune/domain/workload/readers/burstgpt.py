"""BurstGPT: lengths and times of a university's Azure OpenAI service (github.com/HPMLL/BurstGPT).

Rows whose response has 0 tokens are failed requests. Later versions have a session for every row.
"""

from collections import Counter
from collections.abc import Iterator

from infertune.domain.workload.readers.base import NO_OUTPUT, NO_PROMPT, Options, Reader
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Request

_COLUMNS = {"timestamp": "Timestamp", "requesttokens": "Request tokens", "responsetokens": "Response tokens"}


def _read(source: Source, options: Options) -> Iterator[Request]:
    source.require(_COLUMNS)
    turns: Counter[str] = Counter()
    for row in source.cells():
        arrival_s = row.seconds("timestamp")
        prompt, output = row.tokens("requesttokens"), row.tokens("responsetokens")
        session = row.text("sessionid") if row.has("sessionid") else None
        turn = 0
        if session is not None:
            turn = turns[session]
            turns[session] += 1
        if output == 0:
            source.left_out[NO_OUTPUT] += 1
        elif prompt == 0:
            source.left_out[NO_PROMPT] += 1
        else:
            yield Request(
                prompt_tokens=prompt, output_tokens=output, arrival_s=arrival_s, conversation=session, turn=turn
            )


READER = Reader(
    name="burstgpt",
    title="BurstGPT trace",
    needs="a CSV with the columns Timestamp (seconds), Request tokens and Response tokens",
    kind="table",
    signs=(("Request tokens", "Response tokens"),),
    read=_read,
)
