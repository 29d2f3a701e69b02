"""The contract of every workload format; a new one adds a line to FORMATS.

The samples are made here, after the published formats; none is copied.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from infertune.domain.workload import Part, Request, Workload, parse_workload
from infertune.domain.workload.readers import READERS
from infertune.errors import UsageError

PARTS: tuple[Part, ...] = ("warmup", "search", "confirm", "final", "quality")
JsonRow = dict[str, object]
N = 40


@dataclass(frozen=True)
class Case:
    """A format with a way to make its rows.

    Attributes:
        name: The form.
        row: The n-th row, an object or a line; every row is one request.
        first: What the first request must be.
        header: A CSV's first line.
        broken: A row with a fault.
        fault: What the message must say of it, behind its line.
    """

    name: str
    row: Callable[[int], JsonRow | str]
    first: dict[str, object]
    header: str = ""
    broken: JsonRow | str = ""
    fault: str = ""

    @property
    def is_json(self) -> bool:
        return isinstance(self.row(0), dict)

    def lines(self, n: int = N) -> list[str]:
        rows = [self.row(number) for number in range(n)]
        written = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        return [self.header] * bool(self.header) + written

    def text(self, n: int = N) -> str:
        return "\n".join(self.lines(n)) + "\n"


def chat(n: int) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"question {n}"}]


FORMATS = [
    Case(
        "trace",
        lambda n: f"2023-11-16 18:17:{n:02d}.9799600,{100 + n},{1 + n}",
        {"prompt_tokens": 100, "output_tokens": 1, "arrival_s": 0.0},
        header="TIMESTAMP,ContextTokens,GeneratedTokens",
        broken="2023-11-16 18:17:59.1,12,many",
        fault='GeneratedTokens must be a whole number of tokens, not "many"',
    ),
    Case(
        "burstgpt",
        lambda n: f"{5 + n},ChatGPT,{472 + n},{18 + n},{490 + 2 * n},Conversation log",
        {"prompt_tokens": 472, "output_tokens": 18, "arrival_s": 0.0},
        header="Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
        broken="50,ChatGPT,-4,18,14,API log",
        fault="Request tokens must be a number of tokens from 0 to 10,000,000, not -4",
    ),
    Case(
        "mooncake",
        lambda n: {"timestamp": 3000 * n, "input_length": 600 + n, "output_length": 5 + n, "hash_ids": [0, n + 1]},
        {"prompt_tokens": 600, "output_tokens": 5, "arrival_s": 0.0, "block_ids": (0, 1)},
        broken={"timestamp": 1, "input_length": 600, "hash_ids": [0, 1]},
        fault="output_length is missing",
    ),
    Case(
        "sharegpt",
        lambda n: {
            "id": f"talk_{n}",
            "conversations": [{"from": "human", "value": f"question {n}"}, {"from": "gpt", "value": "an answer"}],
        },
        {"answer": "an answer", "conversation": "talk_0", "turn": 0},
        broken={"id": "x", "conversations": [{"from": "human", "value": 3}]},
        fault="conversations[0].value must be text, not a number",
    ),
    Case(
        "chat",
        lambda n: {"messages": chat(n), "max_tokens": 10 + n},
        {"output_tokens": 10, "turn": 0},
        broken={"messages": [{"role": "wizard", "content": "x"}]},
        fault='messages[0].role "wizard" is not one of system',
    ),
    Case(
        "batch",
        lambda n: {
            "custom_id": f"request-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "any", "messages": chat(n), "max_tokens": 10 + n},
        },
        {"output_tokens": 10, "turn": 0},
        broken={"custom_id": "x", "method": "POST", "url": "/v1/embeddings", "body": {"input": "x"}},
        fault='url "/v1/embeddings" generates no text',
    ),
    Case(
        "humaneval",
        lambda n: {
            "task_id": f"HumanEval/{n}",
            "prompt": f"def f{n}():\n    ",
            "entry_point": f"f{n}",
            "canonical_solution": "    return 1\n",
            "test": "assert True",
        },
        {"text": "def f0():\n    ", "output_tokens": 128},
        broken={"task_id": "HumanEval/x", "prompt": ["def"], "entry_point": "f"},
        fault="prompt must be text, not a list",
    ),
    Case(
        "mbpp",
        lambda n: {"task_id": n, "text": f"Add {n}.", "code": "def f(): pass", "test_list": ["assert f()"]},
        {
            "text": "You are an expert Python programmer, and here is your task: Add 0. "
            "Your code should pass these tests:\n\nassert f()\n",
            "output_tokens": 128,
        },
        broken={"task_id": 1, "text": "Add.", "test_list": ["assert f()"]},
        fault="code is missing",
    ),
    Case(
        "alpaca",
        lambda n: {"instruction": f"Name {n} colours.", "input": "", "output": "Red. " * 8},
        {
            "text": "Below is an instruction that describes a task. Write a response that appropriately completes the "
            "request.\n\n### Instruction:\nName 0 colours.\n\n### Response:",
            "answer": "Red. " * 8,
            "output_tokens": 10,
        },
        broken={"instruction": None, "output": "x"},
        fault="instruction is null",
    ),
    Case(
        "jsonl",
        lambda n: {"prompt": f"question {n}", "output_tokens": 7 + n},
        {"text": "question 0", "output_tokens": 7},
        broken={"prompt": "x", "output_tokens": "seven"},
        fault='output_tokens must be a whole number of tokens, not "seven"',
    ),
    Case("lines", lambda n: f"Tell me, in short, about {n}.", {"text": "Tell me, in short, about 0."}),
]
# A reader that needs fewer fields takes the rows of one that needs more: (reader, rows).
FITTING = {("jsonl", "humaneval"), ("humaneval", "jsonl"), ("sharegpt", "chat")}
JSON = [case for case in FORMATS if case.is_json]


@pytest.fixture(params=FORMATS, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(params=JSON, ids=lambda case: case.name)
def json_case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def read(path: Path, content: str | bytes, form: str = "file") -> Workload:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return parse_workload(f"{form}:{path}")


def refusal(path: Path, content: str | bytes, form: str) -> str:
    with pytest.raises(UsageError) as refused:
        read(path, content, form)
    message = str(refused.value)
    assert str(path) in message and "\n" not in message
    return message


def test_every_format_has_a_case() -> None:
    assert {case.name for case in FORMATS} == {reader.name for reader in READERS}


def test_a_row_is_the_request_that_the_format_means(case: Case, tmp_path: Path) -> None:
    workload = read(tmp_path / "data", case.text(), case.name)
    assert len(workload.pool) == N
    first = workload.pool[0]
    assert {name: getattr(first, name) for name in case.first} == case.first
    assert (first.prompt_tokens is None) is (first.prompt_text is not None)


def test_a_file_is_told_by_its_content_whatever_its_name(case: Case, tmp_path: Path) -> None:
    named = read(tmp_path / "other.bin", case.text(), case.name)
    for name in ("data", "data.csv", "data.jsonl", "data.txt", "HumanEval.jsonl.gz", "sharegpt.json"):
        found = read(tmp_path / name, case.text())
        assert (found.format, found.pool, found.content_hash) == (case.name, named.pool, named.content_hash)
        title = next(reader.title for reader in READERS if reader.name == case.name)
        assert found.notes == (f"{name} is read as {title} ({case.name}:)",)


@pytest.mark.parametrize("form", ["file", "its own"])
def test_packing_windows_line_ends_marks_and_blank_lines_change_no_request(
    case: Case, form: str, tmp_path: Path
) -> None:
    form = case.name if form == "its own" else form
    plain = read(tmp_path / "data", case.text(), form).pool
    lines = case.lines()
    for content in (
        gzip.compress(case.text().encode()),
        b"\xef\xbb\xbf" + case.text().encode(),
        gzip.compress(b"\xef\xbb\xbf" + "\r\n".join(lines).encode()),
        "\r\n".join([*lines, "", ""]),
        "\n\n".join(["", *lines]),
        "\n".join(lines),
    ):
        assert read(tmp_path / "data", content, form).pool == plain


def test_a_broken_row_among_good_ones_is_named_with_line_field_and_need(case: Case, tmp_path: Path) -> None:
    if not case.broken:
        assert case.name == "lines", "any line is a prompt"
        return
    broken = case.broken if isinstance(case.broken, str) else json.dumps(case.broken)
    lines = [*case.lines(25), broken, *case.lines(5)[1:]]
    needs = next(reader.needs for reader in READERS if reader.name == case.name)
    line = 25 + 1 + bool(case.header)
    for form in ("file", case.name):
        message = refusal(tmp_path / "data", "\n".join(lines), form)
        assert f", line {line}: {case.fault}" in message
        assert needs in message


def test_a_line_that_is_cut_off_is_named(json_case: Case, tmp_path: Path) -> None:
    lines = json_case.lines()
    lines[30] = lines[30][: len(lines[30]) // 2]
    for form in ("file", json_case.name):
        assert ", line 31: is not JSON (" in refusal(tmp_path / "data", "\n".join(lines), form)
    lines = json_case.lines()
    lines[0] = lines[0][:-1]
    assert ", line 1: is not JSON (" in refusal(tmp_path / "data", "\n".join(lines), json_case.name)


def test_rows_of_another_format_among_its_own_are_named(json_case: Case, tmp_path: Path) -> None:
    for other in JSON:
        if other.name == json_case.name or (json_case.name, other.name) in FITTING:
            continue
        lines = [*json_case.lines(20), other.lines(1)[0], *json_case.lines(5)]
        assert ", line 21: " in refusal(tmp_path / "data", "\n".join(lines), json_case.name)


def test_json_may_be_lines_an_array_or_objects_over_many_lines(json_case: Case, tmp_path: Path) -> None:
    plain = read(tmp_path / "data", json_case.text(), json_case.name).pool
    rows = [json_case.row(n) for n in range(N)]
    for content in (
        json.dumps(rows),
        json.dumps(rows, indent=2),
        json.dumps(rows, indent=2).replace("\n", "\r\n"),
        "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
        "\n".join(json.dumps(row, indent=1) for row in rows),
    ):
        for form in ("file", json_case.name):
            found = read(tmp_path / "data", content, form)
            assert found.format == json_case.name
            assert [as_asked(request) for request in found.pool] == [as_asked(request) for request in plain]


def as_asked(request: Request) -> tuple[object, ...]:
    return (request.text, request.messages, request.prompt_tokens, request.output_tokens, request.arrival_s)


def test_a_fault_in_a_json_array_names_the_line_on_which_its_object_begins(json_case: Case, tmp_path: Path) -> None:
    assert isinstance(json_case.broken, dict)
    rows = [*(json_case.row(n) for n in range(25)), json_case.broken]
    before = json.dumps(rows[:-1], indent=2).count("\n")
    message = refusal(tmp_path / "data", json.dumps(rows, indent=2), json_case.name)
    assert f", line {before + 1}: {json_case.fault}" in message
    cut = json.dumps(rows[:-1], indent=2)[:-5]
    assert "is not JSON" in refusal(tmp_path / "data", cut, json_case.name)


def test_the_parts_share_no_request(case: Case, tmp_path: Path) -> None:
    workload = read(tmp_path / "data", case.text())
    drawn = [{as_asked(request) for request in workload.draw(part, N)} for part in PARTS]
    assert all(drawn)
    assert sum(map(len, drawn)) == len(set.union(*drawn)) == N


@pytest.mark.parametrize(
    "content", [b"", b"\n \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n", gzip.compress(b" \n", mtime=0)]
)
def test_an_empty_file_is_called_empty(case: Case, content: bytes, tmp_path: Path) -> None:
    for form in ("file", case.name):
        assert refusal(tmp_path / "data", content, form).endswith("is empty")


def test_too_few_requests_are_refused_with_their_number(case: Case, tmp_path: Path) -> None:
    assert "has 19 different requests; tuning" in refusal(tmp_path / "data", case.text(19), case.name)


def test_the_wrong_form_names_the_right_one(case: Case, tmp_path: Path) -> None:
    if case.name == "lines":
        return
    title = next(reader.title for reader in READERS if reader.name == case.name)
    wrong = "trace" if case.name != "trace" else "mooncake"
    assert refusal(tmp_path / "data", case.text(), wrong).endswith(f". It looks like {title}: {case.name}:FILE")
