"""From the text of `--workload` to a workload."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from infertune.documents import read_unpacked
from infertune.domain.workload.lengths import MOST_TOKENS, parse_formula
from infertune.domain.workload.readers import READERS
from infertune.domain.workload.readers.base import Options, Reader
from infertune.domain.workload.readers.row import FormatError, shown
from infertune.domain.workload.readers.source import Source
from infertune.domain.workload.requests import Request
from infertune.domain.workload.workload import FEWEST_CONVERSATIONS, MOST_REQUESTS, Workload
from infertune.errors import UsageError

FORMS = (
    "synthetic:in=512,out=128 · synthetic:in=64-256,out=48,prefix=256 · synthetic:in=lognormal(512,0.6),out=128 · "
    f"file:FILE[,out=128] · {' · '.join(f'{reader.name}:FILE' for reader in READERS)}"
)
_SYNTHETIC, _ANY_FILE = "synthetic", "file"
_OPTION = re.compile(r",(?P<name>out|turns)=(?P<value>[0-9]{1,18})$")
_OPTIONS = f"behind a file may stand out=TOKENS and turns=ANSWERS, each from 1 to {MOST_TOKENS:,}"
_FEWEST_REQUESTS = 20
_DEFAULT_OUTPUT_TOKENS = 128
_MOST_FILE_BYTES = 1024**3  # packed and unpacked; the usual ShareGPT file has 0.7 GB (judgement)
_MOST_CHARACTERS = 256_000_000  # of all prompts and answers, as they stay in memory (judgement)
_MARK = b"\xef\xbb\xbf"  # a byte order mark
_OTHER_FILES = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip file",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"ARROW1": "an Arrow file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


@dataclass(frozen=True)
class _Form:
    """A form that names a file: its kind, the file, and the options behind it."""

    kind: str
    path: Path
    options: Options

    @classmethod
    def of(cls, spec: str) -> "_Form":
        kind, _, rest = spec.partition(":")
        given: dict[str, int] = {}
        while match := _OPTION.search(rest):
            name, value = match["name"], int(match["value"])
            if name in given:
                raise UsageError(f"workload {spec!r}: {name} is given twice; leave one out")
            if not 1 <= value <= MOST_TOKENS:
                raise UsageError(f"workload {spec!r}: {name}={value} is out of range: {_OPTIONS}")
            given[name] = value
            rest = rest[: match.start()]
        if wrong := _wrong_option(rest):
            raise UsageError(f"workload {spec!r}: {wrong!r} is no option: {_OPTIONS}")
        options = Options(given.get("out", _DEFAULT_OUTPUT_TOKENS), given.get("turns"))
        return cls(kind, Path(rest).expanduser(), options)


def _wrong_option(text: str) -> str:
    """What stands behind the comma after the name of a file that exists; empty where the whole text may be a name."""
    commas = [match.start() for match in re.finditer(",", text)]
    ends = [] if os.path.lexists(Path(text).expanduser()) else reversed(commas)
    at = next((end for end in ends if os.path.isfile(Path(text[:end]).expanduser())), len(text))
    return text[at + 1 :].partition(",")[0]


def workload_file(spec: str) -> Path | None:
    """The file that a workload reads; None for a synthetic one.

    Raises:
        UsageError: An option behind the file is unknown, out of range or given twice.
    """
    return None if spec.partition(":")[0] == _SYNTHETIC else _Form.of(spec).path


def parse_workload(spec: str, n_requests: int | None = None, seed: int = 0) -> Workload:
    """The workload that a `--workload` text means.

    Args:
        spec: One of `FORMS`.
        n_requests: Requests in a job; None lets the default configuration's rate decide.
        seed: Seeds every draw.

    Raises:
        UsageError: The text is malformed, or its file is missing, malformed or too small.
    """
    if n_requests is not None and n_requests < 1:
        raise UsageError(f"--requests {n_requests}: a job needs at least 1 request")
    kind, colon, rest = spec.partition(":")
    if not colon or not rest:
        hint = f": say file:{spec}" if os.path.isfile(spec) else f" {FORMS}"
        raise UsageError(f"workload {spec!r} is not one of the forms{hint}")
    if kind == _SYNTHETIC:
        formula = parse_formula(spec)
        return Workload(
            spec=spec,
            content_hash=_hash(formula.canonical.encode()),
            seed=seed,
            n_requests=n_requests,
            prompt_lengths=formula.prompt,
            output_lengths=formula.output,
            prefix_tokens=formula.prefix_tokens,
        )
    if kind not in (_ANY_FILE, *(reader.name for reader in READERS)):
        raise UsageError(f"unknown workload kind {kind!r}; the forms are {FORMS}")
    form = _Form.of(spec)
    content = _content(form.path)
    source = Source(content)
    try:
        reader, pool, notes = _read(form, source)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"workload file {form.path} is not UTF-8 text, from line {line} on") from None
    marks = "".join(f"|{mark}" for mark in sorted(source.marks))
    turns = f"|turns={form.options.turns}" if form.options.turns is not None else ""
    read_as = f"|{reader.name}|{form.options.output_tokens}{turns}{marks}"
    return Workload(
        spec=spec,
        content_hash=_hash(content, read_as.encode()),
        seed=seed,
        n_requests=n_requests,
        pool=tuple(pool),
        format=reader.name,
        notes=tuple(notes),
    )


def _read(form: _Form, source: Source) -> tuple[Reader, list[Request], list[str]]:
    """The requests of a file, by which reader, and notes on what was left out."""
    reader = next((reader for reader in READERS if reader.name == form.kind), None)
    notes = []
    if reader is None:
        reader = _recognised(form.path, source)
        notes.append(f"{form.path.name} is read as {reader.title} ({reader.name}:)")
    try:
        pool = _bounded(reader.read(source, form.options), source, notes)
    except FormatError as fault:
        hint = "" if form.kind == _ANY_FILE else _hint(reader, source)
        raise UsageError(f"workload file {form.path}, {fault}; {reader.title} needs {reader.needs}{hint}") from None
    n_left_out = source.left_out.total()
    notes += [
        f"{n:,} of {n_left_out + len(pool):,} requests {why} and are left out" for why, n in source.left_out.items()
    ]
    notes += [f"{n:,} {what}" for what, n in source.remarks.items()]
    pool = _different(pool, notes)
    _check_size(form.path, pool, source.left_out)
    first_s = min((request.arrival_s for request in pool if request.arrival_s is not None), default=0.0)
    if first_s:
        pool = [r if r.arrival_s is None else replace(r, arrival_s=r.arrival_s - first_s) for r in pool]
    return reader, pool, notes


def _recognised(path: Path, source: Source) -> Reader:
    try:
        reader = next((reader for reader in READERS if reader.recognises(source)), None)
    except FormatError as fault:
        raise UsageError(
            f"workload file {path}, {fault}; it begins like JSON: if its lines are prompts, say lines:{path}"
        ) from None
    if reader:
        return reader
    if source.is_json and source.first is None:
        raise UsageError(f"workload file {path} is an empty JSON array; {_known('json')}")
    if source.first:
        names = ", ".join(map(shown, list(source.first.values)[:12])) or "no fields"
        raise UsageError(
            f"workload file {path}, {source.first.where}: no format has an object of {names}; {_known('json')}"
        )
    columns = ", ".join(map(shown, source.columns[:12]))
    raise UsageError(
        f"workload file {path}, line 1: no format has a table with the columns {columns}; {_known('table')}; if its "
        f"lines are prompts, say lines:{path}"
    )


def _known(kind: str) -> str:
    """The formats of a kind, with what each is recognised by."""
    return "the formats are " + ", ".join(
        f"{reader.name} ({' or '.join(' + '.join(names) for names in reader.signs)})"
        for reader in READERS
        if reader.kind == kind
    )


def _hint(reader: Reader, source: Source) -> str:
    """Which other form would fit the file's beginning."""
    try:
        other = next((other for other in READERS if other.recognises(source)), reader)
    except (FormatError, UnicodeDecodeError):
        return ""
    return "" if other is reader or other.kind == "lines" else f". It looks like {other.title}: {other.name}:FILE"


def _bounded(requests: Iterator[Request], source: Source, notes: list[str]) -> list[Request]:
    """The first requests, as many as there may be, in number and in the size of their texts."""
    pool: list[Request] = []
    characters = 0
    for request in islice(requests, MOST_REQUESTS + 1):
        # Of a conversation's earlier turns the texts are shared with the requests before.
        last = len(request.messages[-1].content) if request.messages else len(request.text or "")
        characters += last + len(request.answer or "")
        if len(pool) == MOST_REQUESTS or characters > _MOST_CHARACTERS:
            source.marks.add(f"first {len(pool)}")
            notes.append(f"only the file's first {len(pool):,} requests are used: the rest is over the bound on memory")
            break
        pool.append(request)
    return pool


def _different(pool: list[Request], notes: list[str]) -> list[Request]:
    """Texts once each: the same text in two parts would have been seen before. Lengths may repeat."""
    if not pool or pool[0].prompt_tokens is not None:
        return pool
    different = list({(request.text, request.messages): request for request in pool}.values())
    if repeats := len(pool) - len(different):
        notes.append(f"{repeats:,} of {len(pool):,} requests have the prompt of another and are left out")
    return different


def _check_size(path: Path, pool: Sequence[Request], left_out: Mapping[str, int]) -> None:
    besides = "".join(f", and {n:,} that {why}" for why, n in left_out.items())
    if len(pool) < _FEWEST_REQUESTS:
        raise UsageError(
            f"workload file {path} has {len(pool)} different requests{besides}; tuning and confirmation need separate "
            f"ones, so give at least {_FEWEST_REQUESTS}"
        )
    n_apart = len({number if r.conversation is None else r.conversation for number, r in enumerate(pool)})
    if n_apart < FEWEST_CONVERSATIONS:
        raise UsageError(
            f"workload file {path} has {n_apart} conversations; tuning and confirmation need separate ones, so give at "
            f"least {FEWEST_CONVERSATIONS}"
        )


def _content(path: Path) -> bytes:
    content = read_unpacked(path, "workload file", _MOST_FILE_BYTES)
    start = content[: 1 << 16].removeprefix(_MARK)
    if not start.strip() and not content.removeprefix(_MARK).strip():
        raise UsageError(f"workload file {path} is empty")
    for mark, what in _OTHER_FILES.items():
        if start.startswith(mark):
            raise UsageError(f"workload file {path} is not UTF-8 text but {what}; save it as JSON lines or CSV first")
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise UsageError(f"workload file {path} is no text: line {line} holds NUL bytes")
    return content


def _hash(*pieces: bytes) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()[:16]
