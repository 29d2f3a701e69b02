"""The traces of Azure's LLM services of 2023 and 2024: lengths and times (github.com/Azure/AzurePublicDataset).

2023 writes `2023-11-16 18:17:03.9799600`, 2024 `2024-05-10 00:00:00.009930+00:00`.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from infertune.domain.workload.readers.base import NO_OUTPUT, NO_PROMPT, Options, Reader
from infertune.domain.workload.readers.row import Row, shown
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Request

_COLUMNS = {"contexttokens": "ContextTokens", "generatedtokens": "GeneratedTokens"}
_TIME = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[ T](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,9}))? ?"
    r"(?P<zone>Z|UTC|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?)?",
    re.ASCII,
)
_SOME_DAY = datetime(2000, 1, 1)


def _read(source: Source, options: Options) -> Iterator[Request]:
    source.require(_COLUMNS)
    start: tuple[str, int] | None = None
    for row in source.cells():
        arrival_s = None
        if "timestamp" in source.header:
            kind, now_ns = _moment(row)
            start = start or (kind, now_ns)
            if kind != start[0]:
                raise row.fault("timestamp", f"is {kind}, and in the rows before {start[0]}")
            arrival_s = (now_ns - start[1]) / 1e9
        prompt, output = row.tokens("contexttokens"), row.tokens("generatedtokens")
        if output == 0:
            source.left_out[NO_OUTPUT] += 1
        elif prompt == 0:
            source.left_out[NO_PROMPT] += 1
        else:
            yield Request(prompt_tokens=prompt, output_tokens=output, arrival_s=arrival_s)


def _moment(row: Row) -> tuple[str, int]:
    """The kind of a timestamp, and its nanoseconds from some start."""
    text = str(row.values.get("timestamp") or "")
    if re.fullmatch(r"\d{1,12}(\.\d*)?", text, re.ASCII):
        return "a number of seconds", round(float(text) * 1e9)
    match = _TIME.fullmatch(text)
    there = _date_time(f"{match['day']} {match['time']}") if match else None
    if match is None or there is None:
        raise row.fault("timestamp", f"must be a time such as 2023-11-16 18:17:03.9799600, not {shown(text)}")
    offset = timedelta(hours=int(match["hours"] or 0), minutes=int(match["minutes"] or 0))
    moment = there - (-offset if match["sign"] == "-" else offset)
    whole_s = (moment - _SOME_DAY) // timedelta(seconds=1)
    fraction_ns = int((match["fraction"] or "").ljust(9, "0"))
    kind = "a time with a time zone" if match["zone"] else "a time without a time zone"
    return kind, whole_s * 10**9 + fraction_ns


def _date_time(text: str) -> datetime | None:
    """A date that exists, far enough from the calendar's ends for any time zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if 1 < found.year < 9999 else None


READER = Reader(
    name="trace",
    title="Azure LLM inference trace",
    needs="a CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens",
    kind="table",
    signs=(("ContextTokens", "GeneratedTokens"),),
    read=_read,
)
