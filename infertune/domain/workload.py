"""What is asked of the engine: requests from a formula, a trace, or your own prompts.

A workload is cut into parts that share nothing: warm-up, search, confirmation and the final comparison. The search
part is the same job for every configuration; confirmation rounds are fresh draws.
"""

import csv
import hashlib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from infertune.documents import decoded, read_unpacked
from infertune.domain.measurement import Frozen
from infertune.errors import UsageError
from infertune.units import slugify

Part = Literal["warmup", "search", "confirm", "final"]
_PART_ENDS: dict[Part, float] = {"warmup": 0.1, "search": 0.5, "confirm": 0.8, "final": 1.0}
_FEWEST_REQUESTS = 20
_DEFAULT_OUTPUT_TOKENS = 128
_MOST_TOKENS = 10_000_000  # of one request; no model has a context of that
_MOST_SIGMA = 5.0
LONG_DRAW = 2048  # requests of the search's one draw, of which a job takes the first
MOST_REQUESTS = 1_000_000
_MOST_FILE_BYTES = 256 * 1024**2  # packed and unpacked; a request takes four times its text in memory (judgement)
FORMS = (
    "synthetic:in=512,out=128 · synthetic:in=64-256,out=48,prefix=256 · synthetic:in=lognormal(512,0.6),out=128 · "
    "trace:FILE.csv · jsonl:FILE[,out=128] · humaneval:FILE[,out=128]"
)


class Request(Frozen):
    """One request: either text, or a length for which token ids are drawn.

    Attributes:
        output_tokens: How many tokens to generate, exactly.
        prompt_tokens: Length of the prompt in tokens; None for text, whose length the tokenizer decides.
        text: The prompt itself; None where only its length matters.
        seed: Seeds the drawn token ids.
        prefix_tokens: How many of the first tokens all requests of the workload share.
    """

    output_tokens: int = Field(gt=0)
    prompt_tokens: int | None = Field(default=None, gt=0)
    text: str | None = None
    seed: int = 0
    prefix_tokens: int = Field(default=0, ge=0)


class WorkloadRecord(Frozen):
    """A workload as the ledger's header and a profile's fingerprint name it."""

    name: str
    spec: str
    content_hash: str
    n_requests: int | None = Field(ge=1, le=MOST_REQUESTS)
    seed: int = Field(ge=-(2**63), lt=2**63)


@dataclass(frozen=True)
class Lengths:
    """A distribution of token counts: fixed, uniform or lognormal."""

    low: int
    high: int
    sigma: float = 0.0

    def draw(self, rng: random.Random) -> int:
        """One token count, at least 1."""
        if self.sigma:
            return max(1, min(round(rng.lognormvariate(0, self.sigma) * self.low), self.high))
        return rng.randint(self.low, self.high)

    @property
    def largest(self) -> int:
        """No draw is longer."""
        return self.high


@dataclass(frozen=True)
class Workload:
    """Requests, all submitted at the start of a job (the offline objective).

    Attributes:
        spec: What the user wrote.
        content_hash: Changes when the requests would.
        seed: Seeds every draw.
        n_requests: Requests in a job as the user asked; None lets the default configuration's rate decide.
        pool: The requests of a file; empty for a synthetic workload.
        prompt_lengths: Prompt lengths of a synthetic workload.
        output_lengths: Output lengths of a synthetic workload.
        prefix_tokens: Tokens that all prompts of a synthetic workload share.
    """

    spec: str
    content_hash: str
    seed: int = 0
    n_requests: int | None = None
    pool: tuple[Request, ...] = ()
    prompt_lengths: Lengths | None = None
    output_lengths: Lengths | None = None
    prefix_tokens: int = 0

    @property
    def name(self) -> str:
        """A short name for folders."""
        kind, _, rest = self.spec.partition(":")
        tail = rest if kind == "synthetic" else Path(rest.split(",")[0]).name.partition(".")[0]
        return slugify(f"{kind} {tail}")

    @property
    def largest_output_tokens(self) -> int:
        """The longest output that any request asks for."""
        if self.output_lengths:
            return self.output_lengths.largest
        return max(request.output_tokens for request in self.pool)

    def record(self) -> WorkloadRecord:
        """What is written to disk about it."""
        return WorkloadRecord(
            name=self.name,
            spec=self.spec,
            content_hash=self.content_hash,
            n_requests=self.n_requests,
            seed=self.seed,
        )

    def draw(self, part: Part, n: int, round_number: int = 0) -> tuple[Request, ...]:
        """n requests of a part; every round of a part is another draw, the same each time it is asked for.

        A file's part may hold fewer than n: then lengths are drawn again with other token ids, and of texts there
        are only as many as the part has (see `most`).
        """
        rng = random.Random(f"{self.seed}/{part}/{round_number}")
        if not self.pool:
            assert self.prompt_lengths and self.output_lengths
            return tuple(
                Request(
                    prompt_tokens=max(self.prompt_lengths.draw(rng), self.prefix_tokens + 1),
                    output_tokens=self.output_lengths.draw(rng),
                    seed=rng.getrandbits(48),
                    prefix_tokens=self.prefix_tokens,
                )
                for _ in range(n)
            )
        held = self._part_of_pool(part)
        texts = held[0].text is not None
        chosen = rng.sample(held, min(n, len(held)))
        if not texts:
            chosen += rng.choices(held, k=n - len(chosen))
        return tuple(request.model_copy(update={"seed": rng.getrandbits(48)}) for request in chosen)

    def most(self, part: Part) -> int | None:
        """How many different requests a part has; None without limit."""
        if not self.pool or self.pool[0].text is None:
            return None
        return len(self._part_of_pool(part))

    def _part_of_pool(self, part: Part) -> Sequence[Request]:
        order = list(self.pool)
        random.Random(f"{self.seed}/split").shuffle(order)
        names = list(_PART_ENDS)
        start = _PART_ENDS[names[names.index(part) - 1]] if names.index(part) else 0.0
        return order[round(start * len(order)) : round(_PART_ENDS[part] * len(order))]


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
        raise UsageError(f"workload {spec!r} is not one of the forms {FORMS}")
    if kind == "synthetic":
        return _synthetic(spec, rest, n_requests, seed)
    readers = {"trace": _read_trace, "jsonl": _read_jsonl, "humaneval": _read_jsonl}
    if kind not in readers:
        raise UsageError(f"unknown workload kind {kind!r}; the forms are {FORMS}")
    option = re.fullmatch(r"(?P<path>.+?)(?:,out=(?P<out>\d{1,8}))?", rest)
    assert option
    path, output_tokens = Path(option["path"]), int(option["out"] or _DEFAULT_OUTPUT_TOKENS)
    if output_tokens < 1:
        raise UsageError(f"workload {spec!r}: out must be at least 1 token")
    content = _read_bytes(path)
    try:
        pool = readers[kind](decoded(content, path, "workload file"), output_tokens)
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise UsageError(f"workload file {path} is malformed: {error}") from None
    if pool and pool[0].text is not None:  # the same text in two parts would have been seen before
        pool = list({request.text: request for request in pool}.values())
    if len(pool) < _FEWEST_REQUESTS:
        raise UsageError(
            f"workload file {path} has {len(pool)} different requests; tuning and confirmation need separate ones, "
            f"so give at least {_FEWEST_REQUESTS}"
        )
    digest = hashlib.sha256(content + f"|{kind}|{output_tokens}".encode()).hexdigest()[:16]
    return Workload(spec=spec, content_hash=digest, seed=seed, n_requests=n_requests, pool=tuple(pool))


def _synthetic(spec: str, rest: str, n_requests: int | None, seed: int) -> Workload:
    given: dict[str, str] = {}
    for option in re.split(r",(?![^(]*\))", rest):
        name, equals, value = option.partition("=")
        if not equals or name not in ("in", "out", "prefix"):
            raise UsageError(f"workload {spec!r}: {option!r} is not in=…, out=… or prefix=…")
        given[name] = value
    prefix = given.get("prefix", "0")
    if not re.fullmatch(r"\d{1,8}", prefix) or int(prefix) > _MOST_TOKENS:
        raise UsageError(f"workload {spec!r}: prefix={prefix} is not a number of tokens up to {_MOST_TOKENS:,}")
    if not {"in", "out"} <= given.keys():
        raise UsageError(f"workload {spec!r} needs in=… and out=…, such as synthetic:in=512,out=128")
    canonical = f"synthetic|{given['in']}|{given['out']}|{prefix}"
    return Workload(
        spec=spec,
        content_hash=hashlib.sha256(canonical.encode()).hexdigest()[:16],
        seed=seed,
        n_requests=n_requests,
        prompt_lengths=_parse_lengths(spec, given["in"]),
        output_lengths=_parse_lengths(spec, given["out"]),
        prefix_tokens=int(prefix),
    )


def _parse_lengths(spec: str, text: str) -> Lengths:
    if match := re.fullmatch(r"(\d{1,8})", text):
        lengths = Lengths(int(match[1]), int(match[1]))
    elif match := re.fullmatch(r"(\d{1,8})-(\d{1,8})", text):
        lengths = Lengths(int(match[1]), int(match[2]))
    elif match := re.fullmatch(r"lognormal\((\d{1,8}),(\d{1,3}(?:\.\d{1,9})?)\)", text):
        sigma = float(match[2])
        lengths = Lengths(int(match[1]), int(match[1]) * (16 if sigma else 1), sigma)
    else:
        raise UsageError(f"workload {spec!r}: {text!r} is not 512, 64-256 or lognormal(MEDIAN,SIGMA)")
    if not 1 <= lengths.low <= lengths.high <= _MOST_TOKENS:
        raise UsageError(
            f"workload {spec!r}: lengths {text!r} must be at least 1 token, at most {_MOST_TOKENS:,}, and ascend"
        )
    if lengths.sigma > _MOST_SIGMA:
        raise UsageError(f"workload {spec!r}: the sigma of {text!r} must be at most {_MOST_SIGMA:g}")
    return lengths


def _read_bytes(path: Path) -> bytes:
    content = read_unpacked(path, "workload file", _MOST_FILE_BYTES)
    if not content.strip():
        raise UsageError(f"workload file {path} is empty")
    return content


def _read_trace(text: str, _output_tokens: int) -> list[Request]:
    """Rows of an Azure-style trace; a row that asks for no output is left out, as there is nothing to time."""
    rows = csv.DictReader(text.splitlines())
    missing = {"ContextTokens", "GeneratedTokens"} - set(rows.fieldnames or ())
    if missing:
        raise ValueError(f"no column {' and '.join(sorted(missing))}")
    pool = []
    for row in rows:
        try:
            prompt, output = int(row["ContextTokens"]), int(row["GeneratedTokens"])
        except (TypeError, ValueError):
            raise ValueError(f"line {rows.line_num}: token counts must be whole numbers") from None
        if prompt > 0 and output > 0:
            pool.append(Request(prompt_tokens=prompt, output_tokens=output))
    return pool


def _read_jsonl(text: str, output_tokens: int) -> list[Request]:
    """One JSON object a line with `prompt` and, if wished, `output_tokens`."""
    pool = []
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a JSON text may hold U+2028
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            prompt = row["prompt"]
            wanted = row.get("output_tokens", output_tokens)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f'line {number} is no JSON object with a "prompt"') from None
        if not isinstance(prompt, str) or not prompt or not isinstance(wanted, int) or wanted < 1:
            raise ValueError(f"line {number}: prompt must be text, output_tokens a number ≥ 1")
        pool.append(Request(text=prompt, output_tokens=wanted))
    return pool


def token_ids(request: Request, vocab_size: int) -> list[int]:
    """Token ids for a request that gives only a length, from the middle of the vocabulary (no special tokens)."""
    assert request.prompt_tokens is not None
    low, high = 3, max(4, vocab_size * 3 // 4)
    shared = random.Random("prefix").choices(range(low, high), k=request.prefix_tokens)
    own = random.Random(request.seed).choices(range(low, high), k=request.prompt_tokens - len(shared))
    return shared + own
