"""Reading files that a stranger may have written.

Every file that a user names is read here. Its kind is checked before it is opened (a pipe would be waited for, a device
may do something when it is opened), and its size, packed and unpacked, while it is read.

YAML is read without aliases, a few lines of which expand to gigabytes, and without tags that build objects. JSON is
read with a bound on its depth. Both name the line of a fault.
"""

import gzip
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import yaml

from infertune.errors import UsageError
from infertune.units import COMMAND_MARK, check_text, format_bytes, shortened

MOST_YAML_BYTES = 64 * 1024  # a profile has about 5 KiB; PyYAML takes up to 2 s for 64 KiB (judgement)
_MAX_SCALAR_CHARACTERS = 16 * 1024
_CHUNK_BYTES = 1024**2
_LONGEST_NAME_BYTES = 255  # of one part of a path, on every usual file system
_LONGEST_PATH_BYTES = 4095  # what Linux takes
_GZIP_MARK = b"\x1f\x8b"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# What PyYAML raises by itself where a value does not fit its tag or its escape: `!!int ""`, `"\UFFFFFFFF"`.
WRONG_VALUE = (ValueError, LookupError, ArithmeticError, AttributeError, TypeError)


@dataclass(frozen=True)
class Document:
    """A YAML text as plain values, with the lines on which they stand.

    Attributes:
        value: The values.
        root: Its nodes; None for an empty text.
    """

    value: object
    root: yaml.Node | None

    def line_of(self, place: Sequence[int | str]) -> int:
        """The line, from 1, of the deepest part of a place such as ("fingerprint", "device", "count") that exists."""
        node, line = self.root, 1
        for step in place:
            if isinstance(node, yaml.MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == str(step)), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                break
        return line


def read_document(path: Path, what: str, most_bytes: int = MOST_YAML_BYTES) -> Document:
    """The one YAML document of a file.

    Args:
        path: The file.
        what: What it should be, for the message: "profile".
        most_bytes: A larger file is refused.

    Raises:
        UsageError: It cannot be read, is no regular file, is too large, or is no plain YAML.
    """
    text = read_text(path, what, most_bytes)
    loader = None
    try:
        loader = _PlainLoader(text)
        root = loader.get_single_node()
        return Document(loader.construct_document(root) if root else None, root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise UsageError(f"{path} is not YAML: {line}{_short(error.problem or str(error))}") from None
    except (
        yaml.YAMLError,
        RecursionError,
        *WRONG_VALUE,
    ) as error:  # without a mark: the scanner stopped there
        line = f"line {loader.line + 1}: " if loader else ""
        raise UsageError(f"{path} is not YAML: {line}{_short(str(error))}") from None


_SHAPES = {
    "tuple_type": "must be a list, such as [8, 16]",
    "list_type": "must be a list, such as [8, 16]",
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type"),
        "must be a mapping of names to values, such as {name: value}",
    ),
}  # kind of pydantic's fault → what YAML calls it


def fault_text(kind: str, message: str) -> str:
    """What pydantic says of a fault of a document, in YAML's words, to stand behind a colon."""
    text = _SHAPES.get(kind, message.removeprefix("Value error, "))
    return text[:1].lower() + text[1:]


def plain_yaml(value: object) -> str:
    """Values as YAML: quoted where they must be, in their order, without aliases, in ASCII (PyYAML loses U+0085).

    The text is printed in CI too: no line of it is a workflow command, whatever the values are.
    """
    text: str = yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, width=100)
    return text.replace(COMMAND_MARK, "#\\x23[")  # stands in double quotes only, see _PlainDumper


class _PlainDumper(yaml.SafeDumper):
    """Writes everything out: what is read back here must have no aliases.

    Texts with line ends or marks of workflow commands are written in double quotes, where everything can be escaped.
    """

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        """A text, in double quotes where it needs escapes."""
        style = '"' if "\n" in data or "::" in data or COMMAND_MARK in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_PlainDumper.add_representer(str, _PlainDumper.represent_text)


class _PlainLoader(yaml.SafeLoader):
    """The safe loader without aliases, endless scalars and keys that stand twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = "aliases are not allowed here" if isinstance(event, yaml.AliasEvent) else ""
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _MAX_SCALAR_CHARACTERS:
            problem = "a value is too long"
        if isinstance(event, yaml.ScalarEvent) and any("\ud800" <= letter <= "\udfff" for letter in event.value):
            problem = "a value holds half of a character"  # a lone surrogate cannot be encoded
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        try:
            return super().construct_object(node, deep)
        except WRONG_VALUE as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                problem=f"a value is no {kind} ({_short(str(error))})", problem_mark=node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value[:40]!r} stands twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        mapping: dict[object, object] = super().construct_mapping(node, deep)
        return mapping


def read_bytes(path: Path, what: str, most_bytes: int) -> bytes:
    """A regular file's content; a pipe or a device is refused unopened, so that nothing waits for it.

    Args:
        path: The file; a link is followed.
        what: What it should be, for the message: "profile".
        most_bytes: A larger file is refused.

    Raises:
        UsageError: It cannot be read, is no regular file, or is too large.
    """
    try:
        _check_regular(os.stat(path), path, what)
        # The file may be replaced between stat and open: O_NONBLOCK does not wait for a pipe, and fstat checks again.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:
            about = os.fstat(descriptor)
            _check_regular(about, path, what)
            content = _read_up_to(file, most_bytes) if about.st_size <= most_bytes else None
    except OSError as error:
        raise UsageError(f"cannot read {what} {path}: {error.strerror}") from None
    except ValueError as error:  # a name with a NUL or half of a character in it
        raise UsageError(f"cannot read {what} {str(path)!r}: {error}") from None
    if content is None:
        raise UsageError(f"{path} is too large to be a {what}: the most is {format_bytes(most_bytes)}")
    return content


def read_unpacked(path: Path, what: str, most_bytes: int) -> bytes:
    """A regular file's content, unpacked if it is packed by gzip.

    Args:
        path: The file; a link is followed.
        what: What it should be, for the message: "workload".
        most_bytes: A file that is larger, packed or unpacked, is refused before it takes this much memory.

    Raises:
        UsageError: It cannot be read, is no regular file, is damaged, or is too large.
    """
    content = read_bytes(path, what, most_bytes)
    if not content.startswith(_GZIP_MARK):
        return content
    unpacked = None
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            # Count first and keep nothing: what is too large takes no memory.
            if _length_up_to(packed, most_bytes) <= most_bytes:
                packed.seek(0)
                unpacked = _read_up_to(packed, most_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{what} {path} is damaged gzip: {error}") from None
    if unpacked is None:
        raise UsageError(f"{path} is too large to be a {what}: unpacked, the most is {format_bytes(most_bytes)}")
    return unpacked


def read_text(path: Path, what: str, most_bytes: int = MOST_YAML_BYTES) -> str:
    """A regular file's text, without a byte order mark.

    Args:
        path: The file; a link is followed.
        what: What it should be, for the message: "profile".
        most_bytes: A larger file is refused.

    Raises:
        UsageError: It cannot be read, is no regular file, is too large, or is no UTF-8 text.
    """
    return decoded(read_bytes(path, what, most_bytes), path, what)


def decoded(content: bytes, path: Path, what: str) -> str:
    """A file's content as text, without a byte order mark.

    Raises:
        UsageError: It is no UTF-8, or holds NUL bytes, which no text does.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no {what}: it is not UTF-8 text") from None
    if "\0" in text:
        raise UsageError(f"{path} is no {what}: line {text.count(chr(10), 0, text.index(chr(0))) + 1} holds NUL bytes")
    return text


def check_path(path: Path) -> None:
    """Refuse a path that no file can have.

    Raises:
        ValueError: It has a NUL character, is not UTF-8, or is too long.
    """
    check_text(str(path))
    if max((len(os.fsencode(part)) for part in path.parts), default=0) > _LONGEST_NAME_BYTES:
        raise ValueError(f"a name in it has more than {_LONGEST_NAME_BYTES} bytes")
    if len(os.fsencode(path)) > _LONGEST_PATH_BYTES:
        raise ValueError(f"it has more than {_LONGEST_PATH_BYTES:,} bytes")


def read_json(path: Path, what: str, most_bytes: int) -> object:
    """The JSON document of a file.

    Args:
        path: The file; a link is followed.
        what: What it should be, for the message: "model's config.json".
        most_bytes: A larger file is refused.

    Raises:
        UsageError: It cannot be read, is no regular file, is too large, or is no JSON.
    """
    text = read_text(path, what, most_bytes)
    try:
        return parse_json(text)
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {_short(str(error))}") from None


def check_schema(value: object, path: Path, what: str, reads: int, *, needed: bool = True) -> None:
    """Refuse a document of a later schema version, or of none: whoever wrote it, nobody knows which.

    Args:
        value: The document, or the first part of it; one that is no mapping is left to whoever reads it.
        path: Its file, for the message.
        what: What it should be, for the message: "profile".
        reads: The version that this infertune reads.
        needed: Whether the version must be there, as in all that infertune writes.

    Raises:
        UsageError: It is of a later version, or names none.
    """
    if not isinstance(value, dict):
        return
    refused = f"{path} is no {what} that this version of infertune reads: it"
    if needed and "schema_version" not in value:
        raise UsageError(f"{refused} names no schema_version, and this infertune reads {reads}")
    version = value.get("schema_version")
    if type(version) is int and reads < version < 1_000_000:
        raise UsageError(f"{refused} has schema version {version}, this infertune reads {reads}: upgrade infertune")


def parse_json(text: str) -> object:
    """The values of a JSON text; NaN and infinity, which JSON does not have, are refused.

    Raises:
        ValueError: The text is no JSON, is nested too deeply, or has half of a character in a string.
    """
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant)
        if "\\u" in text and _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            raise ValueError("a text holds half of a character")  # a lone surrogate cannot be encoded
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _read_up_to(file: IO[bytes] | gzip.GzipFile, most_bytes: int) -> bytes | None:
    """All of a file in chunks, so that a large bound allocates nothing; None if it is larger."""
    content = bytearray()
    while chunk := file.read(min(_CHUNK_BYTES, most_bytes + 1 - len(content))):
        content += chunk
        if len(content) > most_bytes:
            return None
    return bytes(content)


def _length_up_to(file: IO[bytes] | gzip.GzipFile, most_bytes: int) -> int:
    """How many bytes a file has; counting ends soon after the bound."""
    length = 0
    while length <= most_bytes and (chunk := file.read(_CHUNK_BYTES)):
        length += len(chunk)
    return length


def _check_regular(found: os.stat_result, path: Path, what: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"cannot read {what} {path}: it is {_kind(found.st_mode)}")


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe; write it to a file first" if stat.S_ISFIFO(mode) else "no regular file"


def _short(text: str) -> str:
    return shortened(" ".join(text.split()), 200)
