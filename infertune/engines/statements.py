"""The statements of a shell script, and whether each is sure to run; nothing is ever run."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count, zip_longest

from infertune.errors import UsageError

_OPERATOR = re.compile(r";;&?|;&?|&&|\|\|?|(?<![<>])&(?!>)|\n")
_KEYWORD = re.compile(r"(?:if|then|elif|else|fi|while|until|do|done|esac|!|\{|\})(?:\s+|$)|[()]$|\)\s*(?=\d?[<>]|&>)")
_CASE = re.compile(r"case\s.*?\sin(?:\s+|$)", re.DOTALL)
_EACH = re.compile(r"(?:for|select)\b")
_FUNCTION = re.compile(r"(?:function\s+([\w:.-]+)\s*(?:\(\s*\))?|([\w:.-]+)\s*\(\s*\))\s*(?=[{(]|$)")
_CALL = re.compile(r"(?:\w+=(?:[^\s'\"]|'[^']*'|\"[^\"]*\")*\s+)*([\w:.-]+)(?=\s|$)", re.ASCII)
_LOCAL = re.compile(r"(?:local|declare|typeset)\s+(?!-\w*g)", re.ASCII)
_PATTERN = re.compile(r"\(?[^()]*\)\s*")
_DEEPEST = 100
_LOOP, _IN_FUNCTION = "in a loop", "in a function"
_OPENS = {"if": "in a branch", "while": _LOOP, "until": _LOOP, "(": "in a subshell"}
_CLOSES = {"fi": ("if",), "done": ("while", "until", "for"), "esac": ("case",), "}": ("{",), ")": ("(",)}

Path = tuple[tuple[int, str], ...]  # constructs, outermost first: the number of an arm, and what to call it

_LATER = (-1, "on a later line")


@dataclass
class _Frame:
    """A construct that is open: what opened it, which of its arms this is, what to call it, a function's name."""

    kind: str
    arm: int
    where: str
    function: str
    before_pattern: bool = False


@dataclass(frozen=True)
class Statement:
    """A simple command of a script.

    Attributes:
        line: The number of its line.
        text: As it stands there, without the keywords before it.
        path: The constructs around it.
        functions: The names of the functions around it.
    """

    line: int
    text: str
    path: Path = ()
    functions: tuple[str, ...] = ()

    def apart_from(self, path: Path) -> str:
        """What this statement is in and another is not; empty where it runs before that one in any case."""
        pairs = zip_longest(self.path, path)
        return next((own[1] for own, other in pairs if own is not None and own != other), "")


def statements(lines: Iterable[str]) -> list[Statement]:
    """Every simple command of a script's lines.

    Raises:
        UsageError: They are nested deeper than anybody would write.
    """
    walk = _Walk()
    return [found for number, line in enumerate(lines) for found in walk.of_line(number, line)]


def run_before(first: Statement, found: Iterable[Statement]) -> list[Statement]:
    """The statements that run before another one, or may, in that order; those of later lines are never sure.

    The body of a function runs where it is called, that of a loop again and again.
    """
    found = list(found)
    rest, ordered = [each for each in found if each.line != first.line], []
    later = [replace(each, path=(*each.path, _LATER)) for each in rest if each.line > first.line]
    for depth, (_, where) in enumerate(first.path, start=1):
        if where not in (_LOOP, _IN_FUNCTION):
            continue
        around = first.path[:depth]
        ordered += [each for each in rest if each.line < first.line and each.path[:depth] != around]
        ordered += [each for each in later if where == _IN_FUNCTION or each.path[:depth] == around]
        rest = [each for each in rest if each.path[:depth] == around]
    return list(_with_calls([*ordered, *(each for each in rest if each.line < first.line)], first, found))


def _with_calls(before: Iterable[Statement], first: Statement, found: Iterable[Statement]) -> Iterator[Statement]:
    """Statements, and behind each call of a function what may run in it; those around `first` are not entered."""
    bodies: dict[str, list[Statement]] = defaultdict(list)
    for each in found:
        for name in each.functions:
            if name not in first.functions and not _LOCAL.match(each.text):
                bodies[name].append(each)
    for each in before:
        yield each
        waiting, called = [each], set[str]()
        while waiting:
            match = _CALL.match(waiting.pop().text)
            if match and match[1] in bodies and match[1] not in called:
                called.add(match[1])
                yield from bodies[match[1]]
                waiting += bodies[match[1]]


def pieces(line: str) -> Iterator[tuple[str, str]]:
    """A line's simple commands, each with the operator before it; quotes and parentheses are not looked into."""
    operator, start, at, quote, depth = "", 0, 0, "", 0
    while at < len(line):
        letter = line[at]
        if letter == "\\" and quote != "'":
            at += 1
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"`":
            quote = letter
        elif letter == "#" and not line[at - 1 : at].strip():
            break
        elif letter in "()":
            depth = max(0, depth + (1 if letter == "(" else -1))
        elif not depth and (match := _OPERATOR.match(line, at)):
            yield operator, line[start:at].strip()
            operator, start = match[0], match.end()
            at = start - 1
        at += 1
    yield operator, line[start:at].strip()


class _Walk:
    """What is open while a script is read from its top."""

    def __init__(self) -> None:
        self._frames: list[_Frame] = []
        self._numbers = count()
        self._function = ""  # a function whose name was read and whose body begins next

    def of_line(self, number: int, line: str) -> Iterator[Statement]:
        """The statements of the next line."""
        for operator, text in pieces(line):
            if operator.startswith((";;", ";&")):
                self._next_arm("case")
            text = self._without_keywords(text, operator)
            path = [(frame.arm, frame.where) for frame in self._frames if frame.where]
            if operator in ("&&", "||"):
                path.append((next(self._numbers), f"behind {operator}"))
            if text:
                functions = tuple(frame.function for frame in self._frames if frame.function)
                yield Statement(number, text, tuple(path), functions)
            if _EACH.match(text):
                self._open("for", _LOOP)

    def _without_keywords(self, text: str, operator: str) -> str:
        """A statement's own words; what its keywords open and close is noted."""
        while text:
            top = self._frames[-1] if self._frames else None
            if top and top.before_pattern and not text.startswith("esac"):
                match = _PATTERN.match(text)
                if match is None:
                    return ""  # the first part of `a | b)`
                top.before_pattern = False
            elif match := _CASE.match(text):
                self._open("case", "in a branch", before_pattern=True)
            elif match := _FUNCTION.match(text):
                self._function = match[1] or match[2]
            elif match := _KEYWORD.match(text):
                self._keyword(match[0].strip(), operator)
            else:
                break
            text = text[match.end() :]
        return text

    def _keyword(self, word: str, operator: str) -> None:
        if word in ("{", "(") and self._function:
            self._open(word, _IN_FUNCTION)
        elif word in _OPENS:
            self._open(word, _OPENS[word])
        elif word == "{":
            self._open(word, f"behind {operator}" if operator in ("&&", "||") else "")
        elif word in ("elif", "else"):
            self._next_arm("if")
        elif word in _CLOSES and self._frames and self._frames[-1].kind in _CLOSES[word]:
            self._frames.pop()

    def _open(self, kind: str, where: str, *, before_pattern: bool = False) -> None:
        if len(self._frames) >= _DEEPEST:
            raise UsageError(f"--current: more than {_DEEPEST} branches and loops within each other")
        self._frames.append(_Frame(kind, next(self._numbers), where, self._function, before_pattern))
        self._function = ""

    def _next_arm(self, kind: str) -> None:
        if self._frames and self._frames[-1].kind == kind:
            self._frames[-1].arm = next(self._numbers)
            self._frames[-1].before_pattern = kind == "case"
