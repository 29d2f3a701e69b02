"""The arguments of the installed `llama-server`, read from its `--help`: it is the only list of them that there is."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from infertune.engines.asking import canonical
from infertune.engines.base import first_line
from infertune.engines.llamacpp.binary import ask
from infertune.engines.serving.arguments import Flag, Kind
from infertune.errors import UsageError

_SPELLING = re.compile(r"--?[A-Za-z][\w-]*(\.\w[\w-]*)*")
_SPELLINGS = re.compile(rf"({_SPELLING.pattern})(, +{_SPELLING.pattern})*")
_DEFAULT = re.compile(r"\(default:\s+('?)(.*?)\1(?:[,)]|$)")
_WORDS = (
    re.compile(r"^\[([\w|+.-]+)\]$"),
    re.compile(r"^\{([\w,+.-]+)\}$"),
    re.compile(r"^<([\w+-]+(?:\|[\w+-]+)+)>$"),
)
_ALLOWED = re.compile(r"allowed values: ([\w, +.-]+?)(?:\n|$|\()")
_LISTED = re.compile(r"^- ([\w+.-]+)(?: \(default\))?:", re.MULTILINE)
_FEWEST = (
    40  # arguments that any llama-server has, at the least (judgement): fewer means that its help was not understood
)


def flags_of(binary: Path) -> Mapping[str, Flag]:
    """Every argument of a server, by its canonical name.

    Raises:
        UsageError: It prints no help that is understood.
    """
    answer = ask(binary, "--help")
    found = parse_help(answer.text)
    if len(found) < _FEWEST:
        raise UsageError(f"{binary} --help lists no arguments: {first_line(answer.text) or 'it says nothing'}")
    return found


@cache
def parse_help(text: str) -> Mapping[str, Flag]:
    """The arguments that a help text lists, by canonical name."""
    found: dict[str, Flag] = {}
    for head, description in _entries(text):
        flag = _flag(head, description)
        if flag is not None:
            found.setdefault(flag.name, flag)
    return found


def _entries(text: str) -> list[tuple[str, str]]:
    """Each entry of the help: what stands at the line's start, and what is explained of it."""
    entries: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("-") and (match := _SPELLINGS.match(line)) and not line.startswith("-----"):
            head, _, rest = _split(line, match.end())
            entries.append((head, rest))
        elif entries and line.startswith("  "):
            head, description = entries[-1]
            entries[-1] = (head, f"{description}\n{line.strip()}".strip())
    return entries


def _split(line: str, end: int) -> tuple[str, str, str]:
    """An entry's first line: up to the gap of two spaces behind the spellings and the value's name, and the rest."""
    gap = re.compile(r" {2,}").search(line, end)
    return (line.rstrip(), "", "") if gap is None else (line[: gap.start()], gap[0], line[gap.end() :])


def _flag(head: str, description: str) -> Flag | None:
    spelled = _SPELLINGS.match(head)
    if spelled is None or "the argument has been removed" in description:
        return None
    spellings = _SPELLING.finditer(spelled[0])
    hint = head[spelled.end() :].strip()
    on: list[str] = []
    off: list[str] = []
    for word in (match[0] for match in spellings):
        # The negative ones stand last; their short forms begin with -n, as some positive ones do that stand first.
        long_seen = any(other.startswith("--") for other in on)
        negative = word.startswith("--no-") or (not word.startswith("--") and long_seen and word.startswith("-n"))
        (off if negative else on).append(word)
    if not on and off:  # a switch such as --no-host, which turns something off and has no opposite
        on, off = off, []
    longs = [word for word in on if word.startswith("--")]
    if not longs:
        return None
    turned_off = next((word for word in reversed(off) if word.startswith("--")), "")
    kind: Kind = "value" if hint else "pair" if turned_off else "switch"
    default = _DEFAULT.search(description)
    plain = default[2].strip() if default and re.fullmatch(r"[\w.+-]+", default[2].strip()) else None
    return Flag(
        name=canonical(longs[0]),
        on=longs[0],
        off=turned_off if kind == "pair" else "",
        kind=kind,
        aliases=frozenset(canonical(word) for word in on) - {canonical(longs[0])},
        hint=hint,
        words=_words(hint, description),
        default=plain,
        help=description,
    )


def _words(hint: str, description: str) -> tuple[str, ...]:
    for form in _WORDS:
        if match := form.match(hint):
            return tuple(re.split(r"[|,]", match[1]))
    if match := _ALLOWED.search(description):
        return tuple(word.strip() for word in match[1].split(","))
    if "one of" in description or " mode" in description:
        return tuple(_LISTED.findall(description))
    return ()
