"""Documents of strangers: bounded in size, time and meaning, and every complaint names a line."""

import contextlib
import gzip
import os
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from infertune.documents import (
    parse_json,
    plain_yaml,
    read_bytes,
    read_document,
    read_json,
    read_text,
    read_unpacked,
)
from infertune.errors import UsageError


def document(folder: Path, text: str) -> Path:
    path = folder / "d.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(path: Path) -> str:
    with pytest.raises(UsageError) as refused:
        read_document(path, "profile")
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: &a [x]\nb:\n  - *a\n", 3, "aliases are not allowed"),
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands twice"),
        ("a: 1\nb: {c: 1,\n  c: 2}\n", 3, "'c' stands twice"),
        ("a: 1\nb: !!python/object/apply:os.system [x]\n", 2, "could not determine a constructor"),
        ("%TAG ! tag:yaml.org,2002:python/\n---\nx: !object/apply:os.system [x]\n", 3, "could not determine"),
        ("a: 1\nb: [\n", 3, "expected the node content"),
        ("a: 1\n\nb: " + "x" * 20_000, 3, "a value is too long"),
        ("a: 1\n? [x]\n: y\n", 2, "found unhashable key"),
        ('a: 1\nb: !!int ""\n', 2, "a value is no int"),
        ('a: 1\nb: [1,\n !!int "-"]\n', 3, "a value is no int"),
        ('a: 1\n? !!float ""\n: y\n', 2, "a value is no float"),
        ('a: 1\nb: !!float "-"\n', 2, "a value is no float"),
        ("a: 1\nb: !!bool maybe\n", 2, "a value is no bool"),
        ("a: 1\nb: !!timestamp soon\n", 2, "a value is no timestamp"),
        ("a: 1\nb: 190" + ":59" * 4000 + ".5\n", 2, "a value is no float"),
        ("a: 1\nb: " + "9" * 5000 + "\n", 2, "a value is no int"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', 2, "Python int too large"),
        ('a: 1\nb: "\\uD800"\n', 2, "a value holds half of a character"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, text: str, line: int, why: str) -> None:
    assert f"line {line}: {why}" in complaint(document(tmp_path, text))


def test_nested_aliases_and_merge_keys_are_refused_before_they_are_expanded(tmp_path: Path) -> None:
    levels = [f"l{n}: &l{n} {{<<: [*l{n - 1}, *l{n - 1}]}}" for n in range(1, 60)]
    assert "aliases" in complaint(document(tmp_path, "l0: &l0 {a: 1}\n" + "\n".join(levels)))


@pytest.mark.parametrize(
    "text",
    ["[" * 60_000, "a: {" * 15_000, "- " * 30_000, "? " * 30_000, "x: " + ":".join(["59"] * 5_000), "!" * 60_000],
    ids=["lists", "mappings", "blocks", "keys", "sexagesimal", "tags"],
)
def test_a_small_but_deeply_nested_document_is_refused_quickly(tmp_path: Path, text: str) -> None:
    started = time.perf_counter()
    path = document(tmp_path, text)
    with contextlib.suppress(UsageError):
        read_document(path, "profile")
    assert time.perf_counter() - started < 10


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 1024**2)
    assert "too large to be a profile" in complaint(path)


def test_pipes_devices_sockets_and_folders_are_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket", tmp_path, Path("/dev/zero"), Path("/dev/null")):
            assert complaint(path).startswith(f"cannot read profile {path}: ")


def test_a_name_that_no_file_can_have_is_refused() -> None:
    assert "cannot read profile" in complaint(Path("a\0b"))
    assert "cannot read profile" in complaint(Path("x" * 5000))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=10))
@settings(max_examples=30)
def test_a_value_is_found_on_its_line_whatever_stands_before(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int]
) -> None:
    text, lines, line = "", [], 1
    for number, gap in enumerate(gaps):
        text += "\n" * (gap - 1) + f"k{number}: {{v: 1}}\n"
        line += gap - 1
        lines.append(line)
        line += 1
    found = read_document(document(tmp_path_factory.mktemp("d"), text), "profile")
    assert [found.line_of((f"k{n}", "v")) for n in range(len(gaps))] == lines
    assert found.line_of(("k0", "missing", 3)) == lines[0]
    assert found.line_of(()) == 1


def test_what_is_written_has_no_aliases() -> None:
    same = [1, 2]
    assert "*" not in plain_yaml({"a": same, "b": same, "c": {"d": same}})


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [
                "##[error]x",
                "###[",
                "::error::x",
                "\n",
                "\r",
                "\u2028",
                " ",
                "word " * 30,
                "'",
                '"',
                "\\",
                ": ",
                "#",
                "\x1b",
            ]
        )
    )
)
def test_no_line_that_is_written_is_a_workflow_command(pieces: list[str]) -> None:
    text = "".join(pieces)
    written = plain_yaml({"a": text, text: [text]})
    assert "##[" not in written and not any(line.lstrip().startswith("::") for line in written.splitlines())
    assert yaml.safe_load(written) == {"a": text, text: [text]}


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as refused:
        read()
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_a_file_that_unpacks_to_gigabytes_is_refused_at_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    block = gzip.compress(bytes(16 * 1024**2), mtime=0)
    path.write_bytes(block * 256)  # 4 GiB in 4 MiB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "unpacked, the most is 200.0 MiB" in refusal(lambda: read_unpacked(path, "workload", 200 * 1024**2))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_a_packed_file_is_unpacked_and_any_other_is_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"one ", mtime=0) + gzip.compress(b"two", mtime=0))
    assert read_unpacked(path, "workload", 100) == b"one two"
    path.write_bytes(b"one two")
    assert read_unpacked(path, "workload", 7) == b"one two"
    assert "the most is 6 B" in refusal(lambda: read_unpacked(path, "workload", 6))


@pytest.mark.parametrize("content", [b"\x1f\x8b", b"\x1f\x8bjunk" * 9, gzip.compress(b"x" * 999, mtime=0)[:-9]])
def test_damaged_gzip_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert "damaged gzip" in refusal(lambda: read_unpacked(tmp_path / "file", "workload", 9999))


def test_a_bound_asks_for_no_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert read_bytes(tmp_path / "file", "ledger", 2**60) == b"x"


def test_a_link_to_a_pipe_is_refused_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    assert "it is a pipe" in refusal(lambda: read_bytes(tmp_path / "link", "table", 100))
    reader, writer = os.pipe()  # what a shell's <(…) is
    try:
        assert "it is a pipe" in refusal(lambda: read_bytes(Path(f"/dev/fd/{reader}"), "workload", 100))
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0)
    assert "Permission denied" in refusal(lambda: read_bytes(tmp_path / "file", "table", 100))


def test_a_link_that_leads_nowhere_or_round_in_a_circle_is_named(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert "No such file" in refusal(lambda: read_bytes(tmp_path / "nowhere", "table", 100))
    assert "Too many levels" in refusal(lambda: read_bytes(tmp_path / "circle", "table", 100))


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_text(tmp_path / "file", "profile") == "a: 1\n"
    assert read_document(tmp_path / "file", "profile").value == {"a": 1}


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"a\nb\0c", "line 2 holds NUL bytes"), ("é".encode("latin-1"), "not UTF-8"), ("a".encode("utf-16"), "not UTF-8")],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert why in refusal(lambda: read_text(tmp_path / "file", "table"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 50_000, "nested too deeply"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ("[-Infinity]", "-Infinity is no JSON number"),
        ('["\\ud800"]', "half of a character"),
        ('{"\\uDFFF": 1}', "half of a character"),
        ("9" * 5000, "digits"),
        ("", "Expecting value"),
        ("{}{}", "Extra data"),
    ],
)
def test_json_that_is_none_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "file").write_text(text)
    assert why in refusal(lambda: read_json(tmp_path / "file", "config.json", 10**6))


def test_json_is_read_as_it_was_written() -> None:
    assert parse_json('{"a": [1, 2.5, null, true, "\\ud83d\\ude00"]}') == {"a": [1, 2.5, None, True, "\U0001f600"]}
