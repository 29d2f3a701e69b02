"""Reading YAML that a stranger may have written, and writing files whole or not at all.

A document is read with bounds on its size and on every scalar, without aliases (a few lines of which expand to
gigabytes) and without tags that build objects; it remembers on which line each value stands, for the complaint.
"""

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from infertune.errors import UsageError

_MAX_FILE_BYTES = 64 * 1024  # a real profile has 5 KiB, and PyYAML takes up to 2 s for this much
_MAX_SCALAR_CHARACTERS = 16 * 1024
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


def read_document(path: Path, what: str) -> Document:
    """The one YAML document of a file.

    Args:
        path: The file.
        what: What it should be, for the message: "profile".

    Raises:
        UsageError: It cannot be read, is no regular file, is too large, or is no plain YAML.
    """
    text = read_text(path, what)
    loader = None
    try:
        loader = _PlainLoader(text)
        root = loader.get_single_node()
        return Document(loader.construct_document(root) if root else None, root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise UsageError(f"{path} is not YAML: {line}{_short(error.problem or str(error))}") from None
    except (yaml.YAMLError, RecursionError, *WRONG_VALUE) as error:  # the scanner's: it stands where it stopped
        line = f"line {loader.line + 1}: " if loader else ""
        raise UsageError(f"{path} is not YAML: {line}{_short(str(error))}") from None


def write_whole(path: Path, text: str, what: str) -> Path:
    """Write a file whole or not at all, its folders too.

    Raises:
        UsageError: The path cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with draft.open("x", encoding="utf-8") as file:  # never through a link that someone left in its place
            file.write(text)
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise UsageError(f"cannot write {what} {path}: {error.strerror}") from None
    return path


def plain_yaml(value: object) -> str:
    """Values as YAML: quoted where they must be, in their order, without aliases, in ASCII (PyYAML loses U+0085)."""
    text: str = yaml.dump(value, Dumper=_PlainDumper, sort_keys=False, width=100)
    return text


class _PlainDumper(yaml.SafeDumper):
    """Writes everything out: what is read back here must have no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


class _PlainLoader(yaml.SafeLoader):
    """The safe loader without aliases, endless scalars and keys that stand twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = "aliases are not allowed here" if isinstance(event, yaml.AliasEvent) else ""
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _MAX_SCALAR_CHARACTERS:
            problem = "a value is too long"
        if isinstance(event, yaml.ScalarEvent) and any("\ud800" <= letter <= "\udfff" for letter in event.value):
            problem = "a value holds half of a character"  # which no file and no terminal takes
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


def read_text(path: Path, what: str, most_bytes: int = _MAX_FILE_BYTES) -> str:
    """A regular file's text; a pipe or a device is refused unread, so nothing waits for it.

    Args:
        path: The file.
        what: What it should be, for the message: "profile".
        most_bytes: A larger file is refused.

    Raises:
        UsageError: It cannot be read, is no regular file, is too large, or is no UTF-8.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise UsageError(f"cannot read {what} {path}: it is {_kind(mode)}")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(most_bytes + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UsageError(f"cannot read {what} {path}: {error.strerror}") from None
    except ValueError as error:  # a name with a NUL in it
        raise UsageError(f"cannot read {what} {str(path)!r}: {error}") from None
    if len(content) > most_bytes:
        raise UsageError(f"{path} is too large to be a {what}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no {what}: it is not UTF-8 text") from None


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "no regular file"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"
