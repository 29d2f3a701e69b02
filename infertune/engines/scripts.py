"""The command that starts a server in a shell script or a systemd unit, and the variables that are set there."""

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from infertune.engines.shell import ASSIGNMENT, UNFILLED, fill_in
from infertune.errors import UsageError

_UNIT = re.compile(r"^\[Service\]", re.MULTILINE)
_STARTED = re.compile(r"ExecStart=[-@:+!|]*")
_SPECIFIER = re.compile(r"%([a-zA-Z%])")
_SETS = re.compile(r"(?P<exported>export\s+|declare\s+-x\s+|Environment=)?(?P<words>\S.*)", re.DOTALL)
_NAMED = re.compile(r"\$(\w+)", re.ASCII)
_ARRAY = re.compile(r"^[ \t]*(\w+)(\+?)=\(((?:[^()'\"]|'[^']*'|\"[^\"]*\")*)\)", re.ASCII | re.MULTILINE)
_ELEMENTS = re.compile(r"\"?\$\{(\w+)\[[@*]\]\}\"?", re.ASCII)
_COMMENT = re.compile(r"(^|\s)#.*$", re.MULTILINE)
# A line may name a server without starting it.
_STARTS_NOTHING = re.compile(
    r"(?:sudo\s+)?(?:\S*/)?(?:(?:echo|printf|pkill|pgrep|kill|killall|ps|grep|which|type|command|trap|log|if|elif|while"
    r"|until|for|test|\[|\[\[|curl|wget)(?=\s|$)|(?:docker|podman|nerdctl)\s+(?!run\b|create\b|container\b|compose\b))"
)


@dataclass(frozen=True)
class Line:
    """A line that starts a server.

    Attributes:
        text: As a shell would read it.
        environment: The variables that the server is given by lines of their own, in their order.
        variables: What names stand for in the line.
    """

    text: str
    environment: tuple[tuple[str, str], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def command_line(text: str, starts: re.Pattern[str]) -> Line | None:
    """The line that starts a server.

    Args:
        text: The whole script or unit; a line that ends in a backslash goes on with the next one.
        starts: What a line that starts the server has in it.

    Returns:
        None where the text is a single line, or no line of it starts the server.

    Raises:
        UsageError: More than one line starts it, or one does not go on where it was meant to.
    """
    unit = _UNIT.search(text) is not None
    arrays, text = ({}, text) if unit else _without_arrays(text)
    lines = _lines(text, unit)
    known = _set_by(lines)[1]
    found = [n for n, line in enumerate(lines) if _may_start(line, unit) and starts.search(_plainly(line, known))]
    if not found or (len(lines) < 2 and not arrays):
        return None
    if len(found) > 1:
        raise UsageError("--current: more than one line starts a server; give the one that is meant")
    environment, variables = _set_by(lines if unit else lines[: found[0]])
    line = lines[found[0]]
    if unit:
        line = _SPECIFIER.sub(_specified, _STARTED.sub("", line, count=1))
    return Line(_ELEMENTS.sub(lambda match: arrays.get(match[1], match[0]), line), tuple(environment), variables)


def _lines(text: str, unit: bool) -> list[str]:
    """The lines that say something, each with what continues it: behind a backslash, or within quotes."""
    lines, pending, quote = [], "", ""
    for number, raw in enumerate(text.splitlines(), start=1):
        if not pending and (not raw.strip() or raw.lstrip().startswith("#")):
            continue
        if re.search(r"\\[ \t]+$", raw):
            raise UsageError(f"--current: line {number}: a blank stands behind the backslash, so it continues no line")
        if raw.endswith("\\"):
            pending += raw[:-1] + " "
            quote = "" if unit else _quote_left_open(raw[:-1], quote)
            continue
        pending += raw
        quote = "" if unit else _quote_left_open(raw, quote)
        if quote:
            pending += "\n"
            continue
        lines.append(pending.strip())
        pending = ""
    return lines + [line.strip() for line in pending.splitlines()]  # a quote that is never closed is none


def _quote_left_open(line: str, quote: str) -> str:
    """The quote that a line of a script leaves open; empty where none is.

    Args:
        line: The line.
        quote: The one that is open before it.
    """
    before = " "
    for letter in line:
        if before == "\\" and quote != "'":
            letter = " "  # escaped: whatever it is, it begins and ends nothing
        elif letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        elif letter == "#" and not quote and before.isspace():
            return ""
        before = letter
    return quote


def _without_arrays(text: str) -> tuple[dict[str, str], str]:
    """The words of each `NAME=(…)`, and the text without them."""
    arrays: dict[str, str] = {}
    for name, more, body in _ARRAY.findall(text):
        words = " ".join(_COMMENT.sub("", body).split())
        arrays[name] = f"{arrays.get(name, '')} {words}" if more else words
    return arrays, _ARRAY.sub("", text)


def _set_by(lines: Iterable[str]) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The variables that lines give to what starts behind them, and all that they set."""
    environment: list[tuple[str, str]] = []
    variables: dict[str, str] = {}
    for line in lines:
        exported, found = _assignments(line)
        for name, given in found:
            variables[name] = _plainly(given, variables)
            if exported:
                environment.append((name, variables[name]))
    return environment, {name: value for name, value in variables.items() if UNFILLED not in value}


def _assignments(line: str) -> tuple[bool, list[tuple[str, str]]]:
    """Whether a line gives variables to what starts behind it, and those that it sets; none where it is a command."""
    sets = _SETS.fullmatch(line)
    try:
        found = [ASSIGNMENT.fullmatch(word) for word in shlex.split(sets["words"], comments=True)] if sets else []
    except ValueError:
        found = []
    exported = sets is not None and sets["exported"] is not None
    return exported, [(match[1], match[2]) for match in found if match] if exported or all(found) else []


def _may_start(line: str, unit: bool) -> bool:
    """Whether a line can be the one that starts a server."""
    return line.startswith("ExecStart=") if unit else not (_STARTS_NOTHING.match(line) or _assignments(line)[1])


def _plainly(text: str, variables: Mapping[str, str]) -> str:
    """A text with what its variables stand for."""
    return fill_in(_NAMED.sub(r"${\1}", text), variables)


def _specified(match: re.Match[str]) -> str:
    """What systemd replaces: a doubled `%`, the home folder; the rest is known to it alone."""
    return {"%": "%", "h": os.environ.get("HOME", "~")}.get(match[1], UNFILLED + match[1])
