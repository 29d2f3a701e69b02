"""What each workload format says of its requests, beyond the contract in tests/contracts/test_workload_formats.py."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from infertune.domain.workload import Message, Part, Request, Workload, parse_workload, parsing, token_ids
from infertune.domain.workload.readers import json_text
from infertune.errors import UsageError

PARTS: tuple[Part, ...] = ("warmup", "search", "confirm", "final", "quality")
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"


def read(folder: Path, lines: Sequence[object], form: str = "file", options: str = "", seed: int = 0) -> Workload:
    """A file of these lines; what is no text is written as JSON."""
    path = folder / "data"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return parse_workload(f"{form}:{path}{options}", seed=seed)


def refusal(folder: Path, lines: Sequence[object], form: str = "file", options: str = "") -> str:
    with pytest.raises(UsageError) as refused:
        read(folder, lines, form, options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def said(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


# Traces


@pytest.mark.parametrize(
    ("first", "second", "gap_s"),
    [
        ("2023-11-16 18:17:03.9799600", "2023-11-16 18:17:04.0319600", 0.052),
        ("2023-11-16 18:17:03.9799600", "2023-11-16 18:17:03.9799601", 1e-7),
        ("2024-05-10 00:00:00.009930+00:00", "2024-05-10 00:00:01+00:00", 0.99007),
        ("2024-05-10 02:00:00+02:00", "2024-05-10 00:00:05Z", 5.0),
        ("2024-05-10T00:00:00Z", "2024-05-09 20:00:09-04:00", 9.0),
        ("2023-12-31 23:59:59", "2024-01-01 00:00:01", 2.0),
        ("12.5", "15", 2.5),
    ],
)
def test_azure_times_are_seconds_from_the_first_request_in_every_spelling(
    tmp_path: Path, first: str, second: str, gap_s: float
) -> None:
    rows = [f"{first},{n},3" for n in range(1, 20)]
    pool = read(tmp_path, [AZURE, *rows, f"{second},99,3"]).pool
    assert [request.arrival_s for request in pool] == [*([0.0] * 19), pytest.approx(gap_s, abs=1e-9)]


def test_arrivals_count_from_the_earliest_request_that_is_kept_and_the_order_stays_the_files(tmp_path: Path) -> None:
    rows = [
        "2023-11-16 12:00:00,5,0",
        "2023-11-16 12:00:09,1,1",
        *(f"2023-11-16 12:00:0{n % 8 + 1},{n + 2},1" for n in range(30)),
    ]
    pool = read(tmp_path, [AZURE, *rows]).pool
    assert [request.prompt_tokens for request in pool] == list(range(1, 32))
    assert [request.arrival_s for request in pool[:3]] == [8.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "time", ["yesterday", "", "2023-13-01 00:00:00", "2023-11-16", "-5", "nan", "16.11.2023 10:00:00"]
)
def test_a_time_that_is_none_is_named(tmp_path: Path, time: str) -> None:
    message = refusal(tmp_path, [AZURE, *["2023-11-16 12:00:00,5,5"] * 30, f"{time},5,5"])
    assert ", line 32: TIMESTAMP must be a time such as 2023-11-16 18:17:03.9799600" in message


def test_times_with_and_without_a_zone_in_one_file_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, [AZURE, *["2023-11-16 12:00:00,5,5"] * 30, "2023-11-16 12:00:00Z,5,5"])
    assert "line 32: TIMESTAMP is a time with a time zone, and in the rows before a time without a time zone" in message


def test_a_trace_without_times_has_none(tmp_path: Path) -> None:
    pool = read(tmp_path, ["ContextTokens,GeneratedTokens", *(f"{n},3" for n in range(1, 30))]).pool
    assert {request.arrival_s for request in pool} == {None}


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        (AZURE.replace(",", ";"), ";"),
        (AZURE.replace(",", "\t"), "\t"),
        ('"timestamp","Context Tokens", generated_tokens', ","),
    ],
)
def test_a_table_may_have_other_separators_quotes_and_spellings_of_its_columns(
    tmp_path: Path, header: str, separator: str
) -> None:
    rows = [separator.join(("2023-11-16 12:00:00", str(n), "3.0")) for n in range(1, 30)]
    pool = read(tmp_path, [header, *rows]).pool
    assert [(r.prompt_tokens, r.output_tokens) for r in pool] == [(n, 3) for n in range(1, 30)]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("2023-11-16 12:00:00,-5,5", "ContextTokens must be a number of tokens from 0 to 10,000,000, not -5"),
        (
            "2023-11-16 12:00:00,5,99999999",
            "GeneratedTokens must be a number of tokens from 0 to 10,000,000, not 99999999",
        ),
        ("2023-11-16 12:00:00,5,1.5", 'GeneratedTokens must be a whole number of tokens, not "1.5"'),
        ("2023-11-16 12:00:00,5,1e3", 'GeneratedTokens must be a whole number of tokens, not "1e3"'),
        ("2023-11-16 12:00:00,,5", "ContextTokens is null"),
        ("2023-11-16 12:00:00,5,5,7", "4 values for 3 columns"),
    ],
)
def test_a_count_that_cannot_be_is_named(tmp_path: Path, row: str, fault: str) -> None:
    assert f", line 41: {fault}" in refusal(tmp_path, [AZURE, *["2023-11-16 12:00:00,5,5"] * 39, row])


def test_a_failed_request_of_burstgpt_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [f"{n * 1.5},GPT-4,{20 + n},{n % 4},{20 + n + n % 4},API log" for n in range(40)]
    workload = read(tmp_path, [BURST, *rows])
    assert len(workload.pool) == 30 and workload.pool[0].arrival_s == 0.0 and workload.pool[1].arrival_s == 1.5
    assert workload.notes[1:] == ("10 of 40 requests ask for no output and are left out",)


def test_sessions_of_burstgpt_are_conversations_and_stay_in_one_part(tmp_path: Path) -> None:
    rows = [f"{n},GPT-4,{20 + n},5,{25 + n},Conversation log,session {n % 12},1.5" for n in range(60)]
    workload = read(tmp_path, [f"{BURST},Session ID,Elapsed time", *rows])
    assert (workload.pool[13].conversation, workload.pool[13].turn) == ("session 1", 1)
    seen = [{request.conversation for request in workload.draw(part, 200)} for part in PARTS]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 12
    drawn = workload.draw("search", 200)
    assert len(drawn) == 200 and len({request.seed for request in drawn}) == 200, "lengths are drawn again"


# Mooncake


def mooncake(n: int, blocks: list[int], tokens: int = 1100) -> dict[str, object]:
    return {"timestamp": 100 * n, "input_length": tokens, "output_length": 5, "hash_ids": blocks}


def test_the_same_hash_ids_are_the_same_tokens_and_others_are_others(tmp_path: Path) -> None:
    workload = read(tmp_path, [mooncake(n, [0, n % 2 + 1, 100 + n]) for n in range(60)])
    drawn = workload.draw("search", 24)
    ids = [token_ids(request, 1000) for request in drawn]
    assert {len(one) for one in ids} == {1100}
    assert len({tuple(one[:512]) for one in ids}) == 1
    assert len({tuple(one[512:1024]) for one in ids}) == 2
    assert len({tuple(one[1024:]) for one in ids}) == 24
    assert ids == [token_ids(request, 1000) for request in workload.draw("search", 24)]


def test_no_two_parts_and_no_two_rounds_share_a_block(tmp_path: Path) -> None:
    workload = read(tmp_path, [mooncake(n, [0, 1, 100 + n]) for n in range(60)])
    draws = [workload.draw(part, 3, number) for part in PARTS for number in (0, 1)]
    assert len({tuple(token_ids(draw[0], 1000)[:16]) for draw in draws}) == len(draws)


def test_a_request_that_is_drawn_again_shares_with_its_like_and_not_with_itself(tmp_path: Path) -> None:
    workload = read(tmp_path, [mooncake(n, [0, 1, 100 + n]) for n in range(30)])
    drawn = workload.draw("warmup", 40)
    assert len(drawn) == 40 and len({tuple(token_ids(request, 1000)) for request in drawn}) == 40


def test_the_rest_behind_the_hashed_blocks_is_the_requests_own(tmp_path: Path) -> None:
    workload = read(tmp_path, [mooncake(n, [0, 1]) for n in range(30)])
    ids = [token_ids(request, 1000) for request in workload.draw("search", 8)]
    assert len({tuple(one[:1024]) for one in ids}) == 1 and len({tuple(one[1024:]) for one in ids}) == 8
    alone = read(tmp_path, [mooncake(n, []) for n in range(30)])
    assert len({tuple(token_ids(request, 1000)[:16]) for request in alone.draw("search", 8)}) == 8


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"hash_ids": [1]}, "hash_ids has 1 blocks, but an input_length of 1100 is 3 of 512 tokens each"),
        ({"hash_ids": list(range(69))}, "hash_ids has 69 blocks"),
        ({"hash_ids": "0,1"}, 'hash_ids must be a list of whole numbers, not "0,1"'),
        ({"hash_ids": [0, 1, "x"]}, 'hash_ids must be a list of whole numbers, not of "x"'),
        ({"hash_ids": [0, 1, True]}, "hash_ids must be a list of whole numbers, not of true"),
        ({"timestamp": "soon"}, 'timestamp must be a time as a number from 0, not "soon"'),
        ({"timestamp": -1}, "timestamp must be a time as a number from 0, not -1"),
        ({"timestamp": None}, "timestamp is null"),
        ({"input_length": "1100"}, 'input_length must be a whole number of tokens, not "1100"'),
        ({"input_length": True}, "input_length must be a whole number of tokens, not true"),
        (
            {"output_length": 10**30},
            "output_length must be a number of tokens from 0 to 10,000,000, not a number of many digits",
        ),
    ],
)
def test_a_fault_of_a_mooncake_row_is_named(tmp_path: Path, change: dict[str, object], fault: str) -> None:
    rows = [mooncake(n, [0, 1, 2]) for n in range(30)]
    assert f", line 31: {fault}" in refusal(tmp_path, [*rows, {**rows[0], **change}])


def test_mooncake_times_are_milliseconds(tmp_path: Path) -> None:
    pool = read(tmp_path, [mooncake(n + 3, [0, 1, 2]) for n in range(30)]).pool
    assert [request.arrival_s for request in pool[:3]] == pytest.approx([0.0, 0.1, 0.2])


# Conversations


def test_every_answer_of_a_sharegpt_conversation_is_a_request_with_all_that_was_said_before(tmp_path: Path) -> None:
    talk = [human("Why?"), gpt("So."), human("And?"), gpt("Then.")]
    workload = read(tmp_path, [{"id": f"c{n}", "conversations": [human(f"{n}"), gpt("Yes"), *talk]} for n in range(20)])
    assert len(workload.pool) == 60
    assert [(r.conversation, r.turn, r.answer) for r in workload.pool[:3]] == [
        ("c0", 0, "Yes"),
        ("c0", 1, "So."),
        ("c0", 2, "Then."),
    ]
    assert workload.pool[1].messages == (Message("user", "0"), Message("assistant", "Yes"), Message("user", "Why?"))
    assert (
        len(
            read(
                tmp_path, [{"conversations": [human(f"{n}"), gpt("Yes"), *talk]} for n in range(20)], options=",turns=2"
            ).pool
        )
        == 40
    )


def test_a_conversation_never_spans_two_parts_and_its_turns_come_in_order(tmp_path: Path) -> None:
    rows = [
        {"id": f"c{n}", "conversations": [human(f"{n}"), gpt("Yes")] + [human("And?"), gpt("So.")] * (n % 4)}
        for n in range(40)
    ]
    workload = read(tmp_path, rows)
    parts = [workload.draw(part, 1000) for part in PARTS]
    assert sum(map(len, parts)) == len(workload.pool) == 100
    names = [{request.conversation for request in part} for part in parts]
    assert sum(map(len, names)) == len(set.union(*names)) == 40
    assert [workload.most(part) for part in PARTS] == list(map(len, parts))
    for part in parts:
        assert [r.turn for r in part] == [
            n
            for name in dict.fromkeys(r.conversation for r in part)
            for n in range(sum(r.conversation == name for r in part))
        ]
    assert workload.draw("search", 7) == workload.draw("search", 1000)[:7]
    assert workload.draw("search", 1000) != workload.draw("search", 1000, 1)


def test_turns_by_role_and_content_other_names_and_a_system_field_are_sharegpt_too(tmp_path: Path) -> None:
    talks: list[dict[str, object]] = [
        {"conversation": [said("user", "one"), said("assistant", "yes")]},
        {"conversations": [{"from": "system", "value": "Brief."}, human("two"), gpt("yes")]},
        {"system": "Brief.", "conversations": [human("three"), gpt("yes")]},
        {"conversations": [gpt("Hello!"), human("four"), gpt("yes")]},
        {
            "conversations": [
                human("five"),
                {"from": "function_call", "value": "{}"},
                {"from": "observation", "value": "5"},
                gpt("yes"),
            ]
        },
    ]
    rows = [*talks, *({"conversations": [human(f"{n}"), gpt("yes")]} for n in range(20))]
    pool = read(tmp_path, rows, "sharegpt").pool
    assert [[m.role for m in request.messages] for request in pool[:6]] == [
        ["user"],
        ["system", "user"],
        ["system", "user"],
        ["assistant", "user"],
        ["user"],
        ["user", "assistant", "tool"],
    ]


@pytest.mark.parametrize("at", [0, 20])
def test_an_empty_conversation_is_one_without_an_answer(tmp_path: Path, at: int) -> None:
    rows: list[object] = [{"conversations": [human(f"{n}"), gpt("yes")]} for n in range(20)]
    rows.insert(at, {"conversations": []})
    workload = read(tmp_path, [rows])
    assert len(workload.pool) == 20
    assert workload.notes[1:] == ("1 of 21 requests are conversations without an answer and are left out",)


@pytest.mark.parametrize("at", [0, 20])
def test_a_chat_without_messages_is_left_out(tmp_path: Path, at: int) -> None:
    rows: list[object] = [{"messages": [{"role": "user", "content": f"{n}"}], "max_tokens": 4} for n in range(20)]
    rows.insert(at, {"messages": [], "max_tokens": 4})
    workload = read(tmp_path, rows)
    assert len(workload.pool) == 20
    assert workload.notes[1:] == ("1 of 21 requests have an empty prompt and are left out",)


def test_what_has_no_answer_or_no_question_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"conversations": [human(f"{n}"), gpt("yes")]} for n in range(20)]
    rows += [
        {"conversations": talk}
        for talk in ([human("a"), gpt("")], [human(" "), gpt("b")], [human("c")], [human("d"), gpt("\n")])
    ]
    workload = read(tmp_path, rows)
    assert len(workload.pool) == 20
    assert set(workload.notes[1:]) == {
        "2 of 24 requests ask for no output and are left out",
        "1 of 24 requests have an empty prompt and are left out",
        "1 of 24 requests are conversations without an answer and are left out",
    }


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"conversations": "hello"}, 'conversations must be a list that is not empty, not "hello"'),
        ({"id": "x"}, "conversations is missing"),
        ({"conversations": [human("a"), None]}, "conversations[1] must be an object, not null"),
        ({"conversations": [human("a"), "b"]}, 'conversations[1] must be an object, not "b"'),
        ({"conversations": [{"from": "human"}]}, "conversations[0].value is missing"),
        ({"conversations": [{"value": "x"}]}, "conversations[0].role is missing"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, 'conversations[0].from "alien" is not one of system'),
    ],
)
def test_a_fault_of_a_turn_is_named(tmp_path: Path, row: object, fault: str) -> None:
    rows = [{"conversations": [human(f"{n}"), gpt("yes")]} for n in range(20)]
    assert f", line 21: {fault}" in refusal(tmp_path, [*rows, row], "sharegpt")


def test_a_chat_that_ends_with_the_user_is_one_request_and_one_that_ends_with_an_answer_a_record(
    tmp_path: Path,
) -> None:
    rows = [{"messages": [said("user", f"{n}"), said("assistant", "Yes."), said("user", "Why?")]} for n in range(20)]
    rows.append(
        {"messages": [said("user", "x"), said("assistant", "Yes."), said("user", "Why?"), said("assistant", "So.")]}
    )
    pool = read(tmp_path, rows, options=",out=9").pool
    assert len(pool) == 22
    assert (pool[0].output_tokens, pool[0].answer, len(pool[0].messages)) == (9, None, 3)
    assert [(request.answer, request.turn) for request in pool[20:]] == [("Yes.", 0), ("So.", 1)]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_chats_limit_is_its_output(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, object]] = [{"messages": [said("user", f"{n}")], name: 7} for n in range(20)]
    rows += [{"messages": [said("user", "x")], name: None}, {"messages": [said("user", "y")], name: 0}]
    workload = read(tmp_path, rows)
    assert [request.output_tokens for request in workload.pool] == [7] * 20 + [128]
    assert workload.notes[1:] == ("1 of 22 requests ask for no output and are left out",)
    assert f'line 23: {name} must be a whole number of tokens, not "7"' in refusal(
        tmp_path, [*rows, {**rows[0], name: "7"}]
    )


def test_a_line_that_goes_on_with_an_earlier_one_is_of_its_conversation(tmp_path: Path) -> None:
    lines: list[object] = []
    for n in range(15):
        first = [said("system", "Be brief."), said("user", f"{n}")]
        second = [*first, said("assistant", "Yes."), said("user", "Why?")]
        lines += [
            {"messages": first},
            {"messages": second},
            {"messages": [*second, said("assistant", "So."), said("user", "Ah")]},
        ]
    workload = read(tmp_path, lines)
    assert [(r.conversation, r.turn) for r in workload.pool[3:6]] == [("#4", 0), ("#4", 1), ("#4", 2)]
    names = [{request.conversation for request in workload.draw(part, 100)} for part in PARTS]
    assert sum(map(len, names)) == len(set.union(*names)) == 15


def test_a_session_that_is_named_is_the_conversation(tmp_path: Path) -> None:
    pool = read(tmp_path, [{"messages": [said("user", f"{n}")], "session_id": f"s{n % 11}"} for n in range(40)]).pool
    assert {request.conversation for request in pool} == {f"s{n}" for n in range(11)}


def test_parts_of_a_message_are_its_text_and_other_media_are_counted(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "x.png"}}
    rows = [
        {"messages": [said("user", [{"type": "text", "text": f"Look {n}"}, image, {"type": "text", "text": "here"}])]}
        for n in range(20)
    ]
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    rows.append({"messages": [said("user", "x"), call, said("tool", "5")]})  # type: ignore[list-item]
    workload = read(tmp_path, rows)
    assert workload.pool[0].messages == (Message("user", "Look 0\nhere"),)
    assert workload.pool[20].messages[1] == Message("assistant", '[{"id": "1"}]')
    assert workload.notes[1:] == ("20 messages hold images, sound or files; only their text is used",)


def test_a_batch_file_may_ask_for_chats_completions_and_responses(tmp_path: Path) -> None:
    def line(n: int, url: str, **body: object) -> dict[str, object]:
        return {"custom_id": f"{n}", "method": "POST", "url": url, "body": {"model": "m", **body}}

    rows = [
        *(line(n, "/v1/chat/completions", messages=[said("user", f"{n}")], max_tokens=5) for n in range(10)),
        *(line(n, "/v1/completions", prompt=f"go on {n}", max_tokens=6) for n in range(10)),
        line(20, "/v1/responses", input="answer", max_output_tokens=7),
        line(21, "/v1/responses", input=[said("user", "answer")], max_output_tokens=8),
        line(22, "https://host/v1/chat/completions", messages=[said("user", "x")], max_completion_tokens=9),
    ]
    pool = read(tmp_path, rows).pool
    assert [request.output_tokens for request in pool] == [5] * 10 + [6] * 10 + [7, 8, 9]
    assert [bool(request.text) for request in pool] == [False] * 10 + [True] * 11 + [False] * 2
    for row, fault in (
        (line(1, "/v1/chat/completions", prompt="x"), "body.messages is missing"),
        (line(1, "/v1/chat/completions", messages=[]), "body.messages must be a list that is not empty"),
        (line(1, "/v1/completions", prompt=["a", "b"]), 'body.prompt[0] must be an object, not "a"'),
        (
            line(1, "/v1/completions", prompt="a", max_tokens="b"),
            'body.max_tokens must be a whole number of tokens, not "b"',
        ),
        ({"custom_id": "x", "url": "/v1/completions"}, "body is missing"),
        ({"custom_id": "x", "body": "x"}, 'body must be an object, not "x"'),
        (line(1, "/v1/chat/completions", messages=[{"role": "user"}]), "body.messages[0].content is missing"),
    ):
        assert f", line 24: {fault}" in refusal(tmp_path, [*rows, row])


def test_a_repeated_prompt_counts_once(tmp_path: Path) -> None:
    rows = [{"messages": [said("user", f"{n % 25}")]} for n in range(40)]
    workload = read(tmp_path, rows)
    assert len(workload.pool) == 25
    assert workload.notes[1:] == ("15 of 40 requests have the prompt of another and are left out",)


def test_too_few_requests_say_how_many_more_were_left_out_and_why(tmp_path: Path) -> None:
    rows = [{"conversations": [human(f"{n}"), *[gpt("yes")] * (n < 7), *[gpt("")] * (n == 8)]} for n in range(30)]
    message = refusal(tmp_path, rows)
    assert (
        "has 7 different requests, and 22 that are conversations without an answer, and 1 that ask for no out"
        in message
    )


def test_a_few_long_conversations_are_too_few(tmp_path: Path) -> None:
    talk = [turn for n in range(9) for turn in (human(f"{n}"), gpt("yes"))]
    message = refusal(tmp_path, [{"conversations": [human(f"first {n}"), gpt("yes"), *talk]} for n in range(9)])
    assert "has 9 conversations; tuning and confirmation need separate ones, so give at least 10" in message
    assert (
        len(read(tmp_path, [{"conversations": [human(f"first {n}"), gpt("yes"), *talk]} for n in range(10)]).pool)
        == 100
    )


# Prompts


def test_an_alpaca_input_is_part_of_the_prompt_and_braces_in_it_stay(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"instruction": "Add {input}.", "input": "{instruction} 1, 2", "output": "3"},
        {"instruction": "Sum.", "context": "4, 5", "response": "9"},
        {"instruction": "Sing."},
    ]
    pool = read(
        tmp_path, [*rows, *({"instruction": f"Say {n}", "output": "yes"} for n in range(20))], options=",out=9"
    ).pool
    assert "### Instruction:\nAdd {input}.\n\n### Input:\n{instruction} 1, 2\n\n### Response:" in (pool[0].text or "")
    assert "### Input:\n4, 5\n" in (pool[1].text or "") and pool[1].answer == "9"
    assert "### Input" not in (pool[2].text or "") and (pool[2].output_tokens, pool[2].answer) == (9, None)


def test_max_tokens_stands_for_output_tokens_and_changes_the_hash(tmp_path: Path) -> None:
    plain = read(tmp_path, [{"prompt": f"{n}"} for n in range(20)], "jsonl")
    limited = read(tmp_path, [{"prompt": f"{n}", "max_tokens": 5} for n in range(20)], "jsonl")
    both = read(tmp_path, [{"prompt": f"{n}", "max_tokens": 5, "output_tokens": 6} for n in range(20)], "jsonl")
    assert [w.pool[0].output_tokens for w in (plain, limited, both)] == [128, 5, 6]


def test_half_of_a_character_is_replaced_and_counted(tmp_path: Path) -> None:
    workload = read(tmp_path, [*({"prompt": f"{n}"} for n in range(20)), '{"prompt": "cut \\ud83d here"}'])
    assert workload.pool[-1].text == "cut \N{REPLACEMENT CHARACTER} here"
    assert workload.notes[1:] == ("1 texts hold half of a character, which is replaced",)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"PAR1\x15\x04", "is not UTF-8 text but a Parquet file; save it as JSON lines or CSV first"),
        (b"PK\x03\x04", "is not UTF-8 text but a zip file"),
        ("prompt\n".encode("utf-16"), "is not UTF-8 text but UTF-16 text"),
        (b"one\ntwo\xe9\n", "is not UTF-8 text, from line 2 on"),
        (b"one\ntwo\0\n", "is no text: line 2 holds NUL bytes"),
        (b"name,score\na,1\nb,2\n", 'no format has a table with the columns "name", "score"; the formats are trace'),
        (b"name,score\na,1\nb,2\n", "if its lines are prompts, say lines:"),
        (b'{"question": "x", "score": 1}\n', 'line 1: no format has an object of "question", "score"; the formats are'),
        (b'[{"question": "x"}]', 'no format has an object of "question"'),
        (b"{}", "no format has an object of no fields"),
        (b'["a", "b"]', 'item 1: "a" is not a JSON object'),
        (
            b"[INST] hello [/INST]\n",
            "line 1: is not JSON (Expecting value); it begins like JSON: if its lines are prompts",
        ),
        (b"{oops\n", "line 1: is not JSON"),
        (b"[]", "is an empty JSON array; the formats are"),
    ],
)
def test_a_file_of_no_format_is_refused_with_the_formats_or_the_reason(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    path = tmp_path / "data"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        parse_workload(f"file:{path}")
    assert fault in str(refused.value) and str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("line", ["Hello, world", "Translate, please: one, 2", "2, 3, 5", "a|b", "- item 1; item 2"])
def test_prose_with_signs_of_a_table_is_prompts(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, [f"{line} and so on in a long sentence {n}" for n in range(20)]).format == "lines"


@pytest.mark.parametrize("options", ["turns=0", "out=0", "turns=0,out=5"])
def test_options_of_nothing_are_refused(tmp_path: Path, options: str) -> None:
    assert "is out of range: behind a file may" in refusal(tmp_path, ["x"], "sharegpt", f",{options}")


def test_options_come_in_any_order_and_change_the_hash(tmp_path: Path) -> None:
    rows = [{"conversations": [human(f"{n}"), gpt("yes"), human("and?"), gpt("so")]} for n in range(20)]
    found = [read(tmp_path, rows, options=options) for options in (",turns=1,out=5", ",out=5,turns=1", ",out=5", "")]
    assert [len(workload.pool) for workload in found] == [20, 20, 40, 40]
    assert found[0].content_hash == found[1].content_hash
    assert len({workload.content_hash for workload in found}) == 3


# Size


def test_a_value_longer_than_a_piece_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": "\u00e9\n" * 50 + f'"{n}" \\ [1, {{"a": 2}}]', "score": 12345} for n in range(40)]
    plain = read(tmp_path, rows).pool
    for piece in (1, 7, 64, 1000):
        monkeypatch.setattr(json_text, "_CHUNK_CHARACTERS", piece)
        for content in (json.dumps(rows), json.dumps(rows, indent=3, ensure_ascii=False)):
            assert read(tmp_path, [content]).pool == plain


def test_only_as_many_requests_as_memory_takes_are_read_with_a_note_and_another_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{n},3" for n in range(1, 51)]
    whole = read(tmp_path, ["ContextTokens,GeneratedTokens", *rows])
    monkeypatch.setattr(parsing, "MOST_REQUESTS", 30)
    cut = read(tmp_path, ["ContextTokens,GeneratedTokens", *rows])
    assert [request.prompt_tokens for request in cut.pool] == list(range(1, 31))
    assert cut.notes[1:] == ("only the file's first 30 requests are used: the rest is over the bound on memory",)
    assert cut.content_hash != whole.content_hash
    monkeypatch.setattr(parsing, "_MOST_CHARACTERS", 25 * 10)
    texts = read(tmp_path, [{"prompt": f"{n:010d}"} for n in range(40)])
    assert len(texts.pool) == 25 and "first 25 requests" in texts.notes[1]


def test_a_request_takes_a_fraction_of_a_kilobyte() -> None:
    assert not hasattr(Request(output_tokens=1), "__dict__")


def test_a_file_without_a_form_is_refused_with_the_form_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text('{"prompt": "x"}\n')
    with pytest.raises(UsageError, match=r"workload 'prompts.jsonl' is not one of the forms: say file:prompts.jsonl$"):
        parse_workload("prompts.jsonl", None, 0)
