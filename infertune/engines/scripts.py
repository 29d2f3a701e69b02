"""The command that starts a server in a shell script or a systemd unit, and the variables that are set there."""

import os
import pathlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice

from infertune.engines.shell import UNFILLED, fill_in, not_sure, unsure
from infertune.engines.statements import Path, Statement, pieces, run_before, statements
from infertune.engines.variables import read_variables
from infertune.errors import UsageError

_UNIT = re.compile(r"^\[Service\]", re.MULTILINE)
_ENVIRONMENT_FILE = "EnvironmentFile="
_STARTED = re.compile(r"ExecStart=[-@:+!|]*")
_SPECIFIER = re.compile(r"%([a-zA-Z%])")
_SETS = re.compile(
    r"(?:(?P<exported>export\s+|(?:declare|typeset)\s+-\w*x\w*\s+|Environment=)"
    r"|(?P<local>(?:declare|typeset|local|readonly)\s+(?:-\w+\s+)*))?(?P<words>\S.*)",
    re.DOTALL,
)
_ELEMENT = "[@]"  # stands behind the name of an array here
_ASSIGNED = re.compile(r"([A-Za-z_]\w*(?:\[@\])?)(\+?)=(.*)", re.ASCII | re.DOTALL)
_COMPUTED = re.compile(r"\$\(|`")
_COMES_OF_A_COMMAND = re.compile(
    r"(?:(?<=\s)|^)(\w+)\+?=(?:[^\s'\"]*(?:\"[^\s'\"]*)?(?:\$\(|`)|\((?=\s|$|[^()]*\$\())", re.ASCII
)
_EACH = re.compile(r"(?:for|select)\s+(\w+)", re.ASCII)
_READS = re.compile(
    r"(?:\w+=(?:[^\s'\"]|'[^']*'|\"[^\"]*\")*\s+)*(read|mapfile|readarray|getopts|printf(?=\s+-v))\s", re.ASCII
)
_COUNTS = re.compile(r"(\w+)\s*(?:\+\+|--|[-+*/%]?=(?!=))|(?:\+\+|--)(\w+)", re.ASCII)
_ONE_ELEMENT = re.compile(r"(?:(?<=\s)|^)(\w+)\[(?!@\]\+?=)[^=\n]{1,200}?\]\+?=(?!=)", re.ASCII)
_SOURCES = re.compile(
    r"(?:builtin\s+|command\s+)?(?:(?P<file>source|\.)|(?P<how>eval|export(?=\s+\"?[$`])))\s+(?P<given>.+)", re.DOTALL
)
# Files that set up a shell, and programs that print how to: none sets what a server is given.
_HARMLESS_FILE = re.compile(
    r"(?:activate|conda\.sh|mamba\.sh|\.bashrc|\.zshrc|profile|setvars\.sh|\.cargo/env|\.local/bin/env)['\"]?(?=\s|$)"
)
_HARMLESS_EVAL = re.compile(
    r"set\s+--\s|\"?(?:\$\(|`)[^;&|]{0,200}(?:\bhook\b|\binit\b|ssh-agent)[^;&|]{0,99}(?:\)|`)\"?$"
)
_USED = re.compile(r"\$\{?([A-Za-z_]\w*)", re.ASCII)
_NAMED = re.compile(r"\$(\w+)", re.ASCII)
_ARRAY = re.compile(
    r"(?<![^\s;&|)])(\w+)(\+?)=\(((?:(?<!\S)#[^\n]*|(?<=\S)#|[^()'\"#]|'[^']*'|\"[^\"]*\")*)\)", re.ASCII
)
_ELEMENTS = re.compile(r"\"?\$\{(\w+)\[[@*]\]\}\"?", re.ASCII)
# Where a text begins that goes to a program: `<<WORD`; what is quoted, counted or a comment is passed over.
_HEREDOC = re.compile(
    r"\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\"|\(\(.{0,200}?\)\)|(?<!\S)#[^\n]*|<<<|<<-?[ \t]*(['\"\\]?)([A-Za-z_][\w.-]*)\1?",
    re.ASCII | re.DOTALL,
)
_SHELL = re.compile(r"(?:^|[\s;{&|(/])(?:bash|sh|dash|zsh|ksh|ssh|su|sbatch)(?=\s|$)")
_COMMENT = re.compile(r"(^|\s)#.*$", re.MULTILINE)
# A line may name a server without starting it.
_STARTS_NOTHING = re.compile(
    r"(?:\d?>&\d\s*)?(?:sudo\s+)?(?:\S*/)?(?:(?:echo|printf|cat|pkill|pgrep|kill|killall|ps|grep|which|type|command"
    r"|trap|log|logger|if|elif|while|until|for|test|\[|\[\[|curl|wget)(?=\s|$)"
    r"|(?:docker|podman|nerdctl)\s+(?!run\b|create\b|container\b|compose\b))"
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
    lines = _with_environment_files(_lines(text, unit)) if unit else _lines(_with_arrays_quoted(text), unit)
    said = [Statement(n, line) for n, line in enumerate(lines)] if unit else statements(lines)
    _, known, words = _set_by(said)
    found = [
        each
        for each in said
        if _may_start(each, lines[each.line], unit) and starts.search(_plainly(_with_elements(each.text, words), known))
    ]
    if not found or len(lines) < 2:
        return None
    if len({each.line for each in found}) > 1:
        raise UsageError("--current: more than one line starts a server; give the one that is meant")
    first = found[0]
    before = said if unit else run_before(first, said)
    environment, variables, words = _set_by(before, first.path, _USED.findall(text))
    line = lines[first.line]
    if unit:
        line = _SPECIFIER.sub(_specified, _STARTED.sub("", line, count=1))
    return Line(_with_elements(line, words), tuple(environment), variables)


def _lines(text: str, unit: bool) -> list[str]:
    """The lines that say something, each with what continues it: behind a backslash, or within quotes."""
    lines, pending, quote, ends, run = [], "", "", "", False
    for number, raw in enumerate(text.splitlines(), start=1):
        if ends and raw.strip() == ends:
            lines += [")"] if run else []
            ends = ""
            continue
        if ends and not run:
            continue
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
        lines += [pending.strip()] if unit else _apart(pending.strip())
        if not (unit or ends):
            ends, run = _heredoc(pending)
            lines += ["("] if run else []
        pending = ""
    return lines + [line.strip() for line in pending.splitlines()]  # a quote that is never closed is none


def _with_environment_files(lines: Iterable[str]) -> list[str]:
    """The lines of a unit, with the variables of the files that `EnvironmentFile=` names behind them: those win.

    A file that is not here stays a line of its own: it may set whatever it likes.
    """
    kept: list[str] = []
    behind: list[str] = []
    for line in lines:
        name = line.removeprefix(_ENVIRONMENT_FILE).strip().removeprefix("-").strip("\"'")
        if not line.startswith(_ENVIRONMENT_FILE):
            kept.append(line)
        elif not name:  # forget the files before it
            behind.clear()
        elif os.path.isfile(name):
            variables = read_variables(pathlib.Path(name))
            behind += [f"Environment={shlex.quote(f'{key}={value}')}" for key, value in variables.items()]
        else:
            behind.append(line)
    return kept + behind


def _apart(line: str) -> list[str]:
    """A line of a script, with the variables that it sets before a `;` on lines of their own."""
    found: list[str] = []
    while line:
        (_, first), (operator, _) = islice(chain(pieces(line), [("", "")]), 2)
        if operator != ";" or not _assignments(first)[1]:
            return [*found, line]
        found.append(first)
        line = line[line.index(";", len(first)) + 1 :].strip()
    return found


def _heredoc(line: str) -> tuple[str, bool]:
    """The word that ends the text which begins behind a line, and whether a shell runs it; empty where none begins."""
    found = [match for match in _HEREDOC.finditer(line) if match[2]]
    return (found[-1][2], _SHELL.search(line[: found[0].start()]) is not None) if found else ("", False)


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


def _with_arrays_quoted(text: str) -> str:
    """The text with each `NAME=(…)` as `NAME[@]='…'`, on one line."""

    def quoted(match: re.Match[str]) -> str:
        name, more, body = match.groups()
        return f"{name}[@]{more}={shlex.quote(' '.join(_COMMENT.sub('', body).split()))}"

    return _ARRAY.sub(quoted, text)


def _set_by(
    found: Iterable[Statement], path: Path | None = None, used: Iterable[str] = ()
) -> tuple[list[tuple[str, str]], dict[str, str], dict[str, str]]:
    """The variables that statements give to what starts behind them, all that they set, and their arrays' words.

    Args:
        found: The statements.
        path: The constructs around what starts; None where each statement counts as one that runs.
        used: Names of variables that stand anywhere, which a file that is read may set.
    """
    exported: dict[str, None] = {}
    variables: dict[str, str] = {}
    arrays: dict[str, str] = {}
    for statement in found:
        apart = statement.apart_from(path) if path is not None else ""
        exports, assigned = _assignments(statement.text)
        for name, more, given in assigned:
            where = apart or ("by a command" if path is not None and _COMPUTED.search(given) else "")
            if name.endswith(_ELEMENT):
                name = name.removesuffix(_ELEMENT)
                words = f"{arrays.get(name, '') if more else ''} {_with_elements(given, arrays)}"
                arrays[name] = shlex.quote(not_sure(name, where)) if where else words.strip()
                continue
            value = _plainly(given, variables)
            before = variables.get(name, UNFILLED + name) if more else ""
            variables[name] = not_sure(name, where) if where else before + value
        if exports:
            exported |= dict.fromkeys([name for name, _, _ in assigned] or statement.text.split()[1:])
        for name, how in _otherwise_set(statement.text) if path is not None else ():
            variables[name] = not_sure(name, apart or how)
            arrays[name] = shlex.quote(variables[name])
        if path is not None and (how := _sets_anything(statement.text)):
            variables |= {name: not_sure(name, how) for name in {*variables, *used}}
            arrays |= {name: shlex.quote(not_sure(name, how)) for name in {*arrays, *used}}
    environment = [(name, variables[name]) for name in exported if name in variables]
    known = {name: value for name, value in variables.items() if UNFILLED not in value or unsure(value)}
    return environment, known, arrays


def _with_elements(text: str, arrays: Mapping[str, str]) -> str:
    """A text with the words of arrays in the place of `${NAME[@]}`."""
    return _ELEMENTS.sub(lambda match: arrays.get(match[1], match[0]), text)


def _assignments(text: str) -> tuple[bool, list[tuple[str, str, str]]]:
    """Whether a statement gives variables to what starts behind it, and those that it sets; none where it is a command.

    Each is a name, `+` where it is appended to, and what it is given.
    """
    sets = _SETS.fullmatch(text)
    try:
        found = [_ASSIGNED.fullmatch(word) for word in shlex.split(sets["words"], comments=True)] if sets else []
    except ValueError:
        found = []
    exported = sets is not None and sets["exported"] is not None
    lenient = exported or (sets is not None and sets["local"] is not None)
    if not (lenient or all(found)):
        return False, []
    return exported, [(match[1], match[2], match[3]) for match in found if match]


def _otherwise_set(text: str) -> Iterator[tuple[str, str]]:
    """What a statement sets that nothing but its run says the value of: names, and how each is set."""
    if match := _EACH.match(text):
        yield match[1], "in a loop"
    elif match := _READS.match(text):
        yield from ((word, f"by {match[1]}") for word in text[match.end() :].split() if word.isidentifier())
    elif text.startswith(("((", "let ")):
        yield from ((match[1] or match[2], "by arithmetic") for match in _COUNTS.finditer(text))
    elif text.startswith("unset "):
        yield from ((word, "and unset again") for word in text.split()[1:] if word.isidentifier())
    else:
        yield from ((match[1], "by a command") for match in _COMES_OF_A_COMMAND.finditer(text))
        yield from ((match[1], "element by element") for match in _ONE_ELEMENT.finditer(text))


def _sets_anything(text: str) -> str:
    """How a statement sets variables that it does not name, as a file that it reads may; empty where it sets none."""
    if text.startswith(_ENVIRONMENT_FILE):
        return f"by {_ENVIRONMENT_FILE.removesuffix('=')}"
    match = _SOURCES.fullmatch(text)
    if match is None:
        return ""
    if match["file"]:
        return "" if _HARMLESS_FILE.search(match["given"]) else "by source"
    return "" if _HARMLESS_EVAL.match(match["given"]) else f"by {match['how']}"


def _may_start(statement: Statement, line: str, unit: bool) -> bool:
    """Whether a statement can be the one that starts a server."""
    if unit:
        return line.startswith("ExecStart=")
    starts_nothing = _STARTS_NOTHING.match(line) or _STARTS_NOTHING.match(statement.text)
    return not (starts_nothing or _assignments(statement.text)[1])


def _plainly(text: str, variables: Mapping[str, str]) -> str:
    """A text with what its variables stand for."""
    return fill_in(_NAMED.sub(r"${\1}", text), variables)


def _specified(match: re.Match[str]) -> str:
    """What systemd replaces: a doubled `%`, the home folder; the rest is known to it alone."""
    return {"%": "%", "h": os.environ.get("HOME", "~")}.get(match[1], UNFILLED + match[1])
