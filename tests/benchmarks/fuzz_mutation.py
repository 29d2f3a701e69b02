"""Changes to sound documents: of their fields, and of their bytes."""

import copy
import gzip
import json
import re
from random import Random
from typing import Any

import yaml

# Numbers that JSON and YAML can spell and Python cannot hold, or not without turning them into others.
RAW_NUMBERS = (
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "1" + "0" * 400,
    "1e-320",
    "-0.0",
    "1E5",
    "0x10",
    ".5",
)
HOSTILE_TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "\u202e", "\x1b]0;title\x07", "\x9b31m", "line\nbreak", "x" * 300, "x" * 5000,
    "../../outside/precious", "/dev/zero", "nan", "inf", "-1", "1e400", "9" * 400, "2026-11-27T12:33:24+00:NaN",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-27", "::error::x", "##[error]x", "[bold]x[/b]",
    "=1+1", "<script>alert(1)</script>", "${{x}}", "{{x}}", "%s%n", "\u00e9" * 200, "true", "none", "~", "a=b", "a:b",
    "-x", "--help", "fake", "vllm-args", "latency_p99_s<0", "power_w<1e400", "trace:../samples/odd/pipe", "jsonl:..",
)  # fmt: skip
HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 0.5, -0.0, 2**31, 2**63, -(2**63) - 1, 10**25, 1e300, 5e-324, [], {}, [[]], [None],
    {"a": {}}, {"": 1}, [1, "x"],
)  # fmt: skip
_RAW_MARK = "@raw@"


def mutated_tree(random: Random, document: Any) -> Any:
    """A copy of a document of mappings, lists and scalars with one to three of its parts changed."""
    tree = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return _hostile(random)
        parent, key = random.choice(places)
        _change(random, parent, key, tree)
    return tree


def _places(tree: Any) -> "list[tuple[Any, Any]]":
    """Every part of a document, as its parent and its key there."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < 5000:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            waiting.append(node[key])
    return found


def _change(random: Random, parent: Any, key: Any, tree: Any) -> None:
    value = parent[key]
    match random.randrange(10):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, list):
            parent.insert(key, copy.deepcopy(value))
        case 1 | 2:
            if isinstance(parent, dict):
                parent[random.choice(HOSTILE_TEXTS)] = parent.pop(key)
            else:
                parent.reverse()
        case 3:
            other, there = random.choice(_places(tree))
            parent[key] = copy.deepcopy(other[there])
        case 4:
            parent[key] = [value] if random.random() < 0.5 else {"x": value}
        case 5 if isinstance(value, int | float) and not isinstance(value, bool):
            parent[key] = random.choice((-value, value + 1, value - 1, value * 1e18, value / 1e18, str(value)))
        case 5 if isinstance(value, str):
            parent[key] = random.choice(
                (value * 50, value[:-1], value + "\0", value.upper(), value + ":x", "x" + value)
            )
        case 6:
            nested: Any = value
            for _ in range(random.choice((10, 300))):
                nested = [nested]
            parent[key] = nested
        case _:
            parent[key] = _hostile(random)


def _hostile(random: Random) -> Any:
    kind = random.randrange(3)
    if kind == 0:
        return _RAW_MARK + random.choice(RAW_NUMBERS)
    return random.choice(HOSTILE_TEXTS) if kind == 1 else copy.deepcopy(random.choice(HOSTILE_VALUES))


def as_json(tree: Any) -> bytes:
    """A document on one line, with numbers that JSON cannot hold spelled out."""
    return _spelled(json.dumps(tree)).encode()


def as_yaml(tree: Any) -> bytes:
    """A document as YAML, with numbers that YAML cannot hold spelled out."""
    try:
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=False)
    except (yaml.YAMLError, UnicodeError):
        text = json.dumps(tree)
    return _spelled(text).encode("utf-8", "surrogatepass")


def _spelled(text: str) -> str:
    return re.sub(rf"""(["']?){_RAW_MARK}([^"'\s,]+)\1""", r"\2", text)


def mutated_bytes(random: Random, content: bytes) -> bytes:
    """A copy of a file with some of its bytes changed, or the whole of it packed, marked or cut."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5))):
        start = random.randrange(len(changed) + 1)
        end = min(len(changed), start + random.choice((1, 1, 2, 8, 200)))
        match random.randrange(9):
            case 0:
                del changed[start:end]
            case 1:
                changed[start:start] = changed[start:end]
            case 2:
                changed[start:end] = random.choice(
                    (b"\0", b"\xff", b"\xc3", b"\r", b"\n", b'"', b"{", b"]", b",", b"\x1f\x8b")
                )
            case 3:
                changed[start:start] = random.choice(RAW_NUMBERS).encode()
            case 4:
                changed[start:end] = bytes(random.randrange(256) for _ in range(end - start))
            case 5:
                del changed[start:]
            case 6:
                changed[start:start] = random.choice(HOSTILE_TEXTS).encode("utf-8", "surrogatepass")
            case 7:
                lines = bytes(changed).split(b"\n")
                at = random.randrange(len(lines))
                lines[at:at] = [random.choice(lines)]
                changed = bytearray(b"\n".join(lines))
            case _:
                whole = bytes(changed)
                changed = bytearray(
                    random.choice(
                        (b"\xef\xbb\xbf" + whole, gzip.compress(whole, 1), whole * 2, whole[::-1], b"\n" + whole, b"")
                    )
                )
    return bytes(changed)
