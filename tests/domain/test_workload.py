"""Workloads: their forms, the files they read, and the parts they are cut into."""

import gzip
import json
from pathlib import Path

import pytest

from infertune.domain.workload import Part, Workload, parse_workload, token_ids
from infertune.errors import UsageError

PARTS: tuple[Part, ...] = ("warmup", "search", "confirm", "final", "quality")
NOON = "2023-11-16 12:00:00"
DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the data files are not on this machine")


def trace_text(rows: int) -> str:
    lines = [f"2023-11-16 18:17:{n % 60:02d},{100 + n},{1 + n}" for n in range(rows)]
    return "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines, ""])


def jsonl_text(rows: int) -> str:
    return "".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(rows))


def trace(folder: Path, rows: int = 100, **options: int) -> Workload:
    path = folder / "trace.csv"
    path.write_text(trace_text(rows))
    return parse_workload(f"trace:{path}", **options)


def jsonl(folder: Path, rows: int = 100, **options: int) -> Workload:
    path = folder / "own.jsonl"
    path.write_text(jsonl_text(rows))
    return parse_workload(f"jsonl:{path}", **options)


@pytest.mark.parametrize(
    ("spec", "prompts", "outputs"),
    [
        ("synthetic:in=512,out=128", (512, 512), (128, 128)),
        ("synthetic:in=64-256,out=8-16", (64, 256), (8, 16)),
        ("synthetic:in=lognormal(512,0.6),out=128", (1, 8192), (128, 128)),
        ("synthetic:in=lognormal(512,0),out=128", (512, 512), (128, 128)),
        ("synthetic:out=4,in=2,prefix=256", (257, 257), (4, 4)),
    ],
)
def test_synthetic_lengths_stay_within_their_form(
    spec: str, prompts: tuple[int, int], outputs: tuple[int, int]
) -> None:
    workload = parse_workload(spec)
    drawn = workload.draw("search", 200)
    assert {prompts[0] <= (r.prompt_tokens or 0) <= prompts[1] for r in drawn} == {True}
    assert {outputs[0] <= r.output_tokens <= outputs[1] for r in drawn} == {True}
    assert workload.largest_output_tokens == outputs[1]


def test_lognormal_lengths_have_the_median_that_was_asked_for() -> None:
    drawn = parse_workload("synthetic:in=lognormal(512,0.6),out=1").draw("search", 2001)
    assert sorted(r.prompt_tokens or 0 for r in drawn)[1000] == pytest.approx(512, rel=0.06)


def test_a_trace_gives_lengths_and_leaves_out_rows_that_ask_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(trace_text(40) + f"{NOON},0,5\n{NOON},5,0\n{NOON},6,0\n")
    workload = parse_workload(f"trace:{tmp_path / 't.csv'}")
    pool = workload.pool
    assert workload.notes == (
        "1 of 43 requests have an empty prompt and are left out",
        "2 of 43 requests ask for no output and are left out",
    )
    assert [(r.prompt_tokens, r.output_tokens) for r in pool] == [(100 + n, 1 + n) for n in range(40)]


def test_jsonl_gives_texts_with_a_length_each_or_the_one_given(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(jsonl_text(20) + '\n{"prompt": "long", "output_tokens": 7}\r\n')
    pool = parse_workload(f"jsonl:{path},out=64").pool
    assert [r.output_tokens for r in pool] == [64] * 20 + [7]
    assert pool[3].text == "question 3"


def test_a_prompt_may_hold_any_unicode_line_separator(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    prompt = "one\u2028two\u0085three"
    path.write_text(jsonl_text(20) + json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert parse_workload(f"jsonl:{path}").pool[-1].text == prompt


def test_files_may_be_gzipped_and_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + jsonl_text(20).encode()))
    assert len(parse_workload(f"humaneval:{path}").pool) == 20


@pytest.mark.parametrize(
    ("spec", "cure"),
    [
        ("", "forms synthetic:in="),
        ("synthetic", "forms synthetic:in="),
        ("synthetic:", "forms synthetic:in="),
        ("poem:haiku", "forms are synthetic:in="),
        ("synthetic:in=512", "such as synthetic:in=512,out=128"),
        ("synthetic:in=512,out=128,speed=9", "not in=…, out=… or prefix=…"),
        ("synthetic:in=512,out", "not in=…, out=… or prefix=…"),
        ("synthetic:in=many,out=128", "not 512, 64-256 or lognormal"),
        ("synthetic:in=lognormal(512),out=128", "not 512, 64-256 or lognormal"),
        ("synthetic:in=256-64,out=128", "must be at least 1 token, at most 10,000,000, and ascend"),
        ("synthetic:in=0,out=128", "must be at least 1 token"),
        ("synthetic:in=8,out=0", "must be at least 1 token"),
        ("synthetic:in=-8,out=1", "not 512, 64-256 or lognormal"),
        ("synthetic:in=8,out=1,prefix=-1", "not a number of tokens"),
        ("synthetic:in=8,out=1,prefix=²", "not a number of tokens"),
        ("synthetic:in=8,out=1,prefix=" + "9" * 5000, "not a number of tokens"),
        ("synthetic:in=lognormal(512,999),out=8", "the sigma of 'lognormal(512,999)' must be at most 5"),
        ("synthetic:in=99999999,out=8", "at most 10,000,000"),
        ("synthetic:in=8-" + "9" * 5000 + ",out=8", "not 512, 64-256 or lognormal"),
        ("trace:no/such/file.csv", "cannot read workload file"),
        ("synthetic:in=10,in=3,out=8", "in is given twice; leave one out"),
        (
            "jsonl:no/such/file.jsonl,out=0",
            "out=0 is out of range: behind a file may stand out=TOKENS and turns=ANSWERS",
        ),
        ("jsonl:no/such/file.jsonl,out=10000001", "out=10000001 is out of range"),
        ("jsonl:no/such/file.jsonl,turns=99999999999", "each from 1 to 10,000,000"),
        ("jsonl:no/such/file.jsonl,out=16,out=17", "out is given twice; leave one out"),
    ],
)
def test_a_malformed_form_is_refused_with_the_cure(spec: str, cure: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_workload(spec)
    assert cure in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "content", "cure"),
    [
        ("trace", b"", "is empty"),
        ("trace", b"\xef\xbb", "has no column ContextTokens"),
        ("jsonl", b"\xef\xbb\xbf", "is empty"),
        ("jsonl", b" \n\n", "is empty"),
        ("trace", b"\xff\xfe\x00bad", "not UTF-8"),
        ("trace", b"\x1f\x8b broken gzip", "damaged gzip"),
        ("trace", gzip.compress(trace_text(50).encode(), mtime=0)[:60], "damaged gzip"),
        ("trace", b"TIMESTAMP,GeneratedTokens\n1,2\n", "no column ContextTokens"),
        (
            "trace",
            b"ContextTokens,GeneratedTokens\n1,2\n3,many\n",
            'line 3: GeneratedTokens must be a whole number of tokens, not "many"',
        ),
        (
            "trace",
            b"ContextTokens,GeneratedTokens\n1\n",
            "line 2: GeneratedTokens is missing; Azure LLM inference trace needs",
        ),
        ("trace", b"ContextTokens,GeneratedTokens\n" + b"1" * 200_000 + b",2\n", "line 2: field larger"),
        ("trace", trace_text(19).encode(), "has 19 different requests; tuning and confirmation need separate ones"),
        ("jsonl", jsonl_text(19).encode(), "give at least 20"),
        ("jsonl", b'{"prompt": "x"}\n{"question": "y"}\n', "line 2: prompt is missing; prompts"),
        ("jsonl", b"[1]\n", "item 1: 1 is not a JSON object"),
        ("jsonl", b'[{"prompt": "x"}, {"question": "y"}]\n', "item 2: prompt is missing; prompts"),
        ("jsonl", b'[{"prompt": "x"}, {"prompt": ]', "item 2: is not JSON (Expecting value)"),
        ("jsonl", b'[{"prompt": "x"} {"prompt": "y"}]', "item 1: is not JSON (no comma or ] after it)"),
        ("jsonl", b'[{"prompt": "x"},\n{"prompt": 7}]', "line 2: prompt must be text, not a number"),
        ("jsonl", b"plain text\n", 'line 1: "plain text" is not JSON'),
        ("jsonl", b"[" * 100_000, "line 1: is nested too deeply"),
        ("jsonl", b'{"prompt": ""}\n', "has 0 different requests, and 1 that have an empty prompt; tuning"),
        ("jsonl", b'{"prompt": "x", "output_tokens": -1}\n', "line 1: output_tokens must be a number of tokens from 0"),
        ("humaneval", b'{"prompt": 5}\n', "line 1: prompt must be text"),
    ],
)
def test_a_malformed_file_is_refused_with_the_cure(tmp_path: Path, kind: str, content: bytes, cure: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        parse_workload(f"{kind}:{path}")
    assert cure in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("option", ["out=-1", "out=x", "foo=1", "turns=", "out=" + "9" * 30])
@pytest.mark.parametrize("after", ["", ",turns=1"])
def test_what_is_no_option_behind_a_file_is_named_with_those_there_are(tmp_path: Path, option: str, after: str) -> None:
    path = tmp_path / "a,b.jsonl"
    path.write_text(jsonl_text(40))
    with pytest.raises(UsageError) as refused:
        parse_workload(f"jsonl:{path},{option}{after}")
    assert f"'{option}' is no option: behind a file may stand out=TOKENS and turns=ANSWERS, each from" in str(
        refused.value
    )
    assert len(parse_workload(f"jsonl:{path},out=10000000").pool) == 40


def test_a_folder_is_no_workload_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read workload file"):
        parse_workload(f"jsonl:{tmp_path}")


def test_a_job_of_no_requests_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1 request"):
        parse_workload("synthetic:in=8,out=8", n_requests=0)


@pytest.mark.parametrize("rows", [20, 21, 99, 164])
def test_the_parts_of_a_file_share_nothing_and_leave_nothing_out(tmp_path: Path, rows: int) -> None:
    workload = jsonl(tmp_path, rows)
    texts = [{r.text for r in workload.draw(part, rows)} for part in PARTS]
    assert all(texts)
    assert sum(map(len, texts)) == len(set.union(*map(set, texts))) == rows
    assert [workload.most(part) for part in PARTS] == [len(part) for part in texts]


def test_the_parts_of_a_trace_share_no_row_and_no_token_ids(tmp_path: Path) -> None:
    workload = trace(tmp_path)
    drawn = {part: workload.draw(part, 300) for part in PARTS}
    assert all(len(requests) == 300 for requests in drawn.values()), "lengths are drawn again where rows run out"
    rows = [{r.prompt_tokens for r in requests} for requests in drawn.values()]
    assert len(set.union(*rows)) == sum(map(len, rows)) == 100
    assert len({r.seed for requests in drawn.values() for r in requests}) == 1500
    assert workload.most("search") is None


def test_texts_are_never_repeated_to_fill_a_job(tmp_path: Path) -> None:
    assert len(jsonl(tmp_path, 100).draw("search", 1000)) == 40


def test_the_parts_of_a_formula_have_other_prompts() -> None:
    workload = parse_workload("synthetic:in=8-64,out=4")
    assert len({r.seed for part in PARTS for r in workload.draw(part, 50)}) == 250


def test_rounds_differ_and_each_is_the_same_again(tmp_path: Path) -> None:
    for workload in (parse_workload("synthetic:in=8-64,out=4"), trace(tmp_path), jsonl(tmp_path)):
        assert workload.draw("confirm", 10, 1) == workload.draw("confirm", 10, 1)
        assert workload.draw("confirm", 10, 1) != workload.draw("confirm", 10, 2)


def test_another_seed_is_another_sample_and_another_cut(tmp_path: Path) -> None:
    one, two, again = (jsonl(tmp_path, seed=seed, n_requests=10) for seed in (1, 2, 1))
    assert one.draw("search", 10) == again.draw("search", 10)
    assert {r.text for r in one.draw("search", 40)} != {r.text for r in two.draw("search", 40)}
    assert one.content_hash == two.content_hash


def test_requests_asked_for_are_a_seeded_sample_not_the_files_first(tmp_path: Path) -> None:
    workload = jsonl(tmp_path, n_requests=10, seed=3)
    sample = [r.text for r in workload.draw("search", 10)]
    assert len(set(sample)) == 10
    assert sample != [r.text for r in workload.pool[:10]]
    assert workload.record().n_requests == 10


def test_the_hash_changes_with_the_content_and_not_with_the_files_name(tmp_path: Path) -> None:
    first = jsonl(tmp_path)
    (tmp_path / "own.jsonl").rename(tmp_path / "renamed.jsonl")
    renamed = parse_workload(f"jsonl:{tmp_path / 'renamed.jsonl'}")
    assert first.content_hash == renamed.content_hash != jsonl(tmp_path, 99).content_hash
    assert parse_workload(f"jsonl:{tmp_path / 'renamed.jsonl'},out=5").content_hash != first.content_hash


def test_equal_formulas_have_equal_hashes_whatever_the_order() -> None:
    one, two = parse_workload("synthetic:in=8,out=4"), parse_workload("synthetic:out=4,in=8")
    assert one.content_hash == two.content_hash != parse_workload("synthetic:in=8,out=5").content_hash


def test_a_name_is_short_and_without_folders(tmp_path: Path) -> None:
    assert trace(tmp_path).name == "trace-trace"
    assert parse_workload("synthetic:in=512,out=128").name == "synthetic-in-512-out-128"


def test_a_shared_prefix_is_the_same_tokens_in_every_request_and_only_there() -> None:
    drawn = parse_workload("synthetic:in=80,out=4,prefix=64").draw("search", 5)
    ids = [token_ids(request, 1000) for request in drawn]
    assert {len(one) for one in ids} == {80}
    assert len({tuple(one[:64]) for one in ids}) == 1
    assert len({tuple(one[64:]) for one in ids}) == 5


def test_without_a_prefix_no_two_prompts_begin_alike() -> None:
    drawn = parse_workload("synthetic:in=80,out=4").draw("search", 50)
    assert len({tuple(token_ids(request, 1000)[:16]) for request in drawn}) == 50


@pytest.mark.parametrize("vocab_size", [5, 300, 151_936])
def test_token_ids_lie_within_the_vocabulary_and_are_no_special_ones(vocab_size: int) -> None:
    request = parse_workload("synthetic:in=500,out=4").draw("search", 1)[0]
    ids = token_ids(request, vocab_size)
    assert min(ids) >= 3 and max(ids) < vocab_size
    assert ids == token_ids(request, vocab_size)


@needs_data
def test_the_azure_trace_has_its_8819_requests() -> None:
    workload = parse_workload(f"trace:{DATA / 'azure_llm_code_2023.csv'}")
    assert len(workload.pool) == 8819
    assert (workload.pool[0].prompt_tokens, workload.pool[0].output_tokens) == (4808, 10)


@needs_data
def test_humaneval_has_its_164_problems() -> None:
    workload = parse_workload(f"humaneval:{DATA / 'HumanEval.jsonl.gz'},out=96")
    assert len(workload.pool) == 164
    assert {r.output_tokens for r in workload.pool} == {96}
    assert "def has_close_elements" in (workload.pool[0].text or "")
