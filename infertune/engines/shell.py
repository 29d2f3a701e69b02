"""A command line as a POSIX shell would split it, and what in it is secret; no shell is ever run.

What only a shell could complete is refused.
"""

import os
import re
import shlex
from collections.abc import Mapping

from infertune.errors import UsageError

UNFILLED = "\ue000"  # a `$` that only a shell would replace, until it is known whether it is kept
_MOST_LETTERS = 65_536
_SECRET_ENDS = ("key", "token", "secret", "password", "passwd", "credential", "credentials")
_OPERATOR = re.compile(r"[();<>|&]+")
_KNOWN = re.compile(r"\$\(\s*pwd\s*\)|`pwd`|\$\{(?:HOME|PWD)\}|\$(?:HOME|PWD)\b", re.ASCII)
_VARIABLE = re.compile(r"\$\((\w+)\)|\$\{(\w+)(?::?-([^}]*))?\}", re.ASCII)


def split(text: str) -> list[str]:
    """The words of a command line.

    Raises:
        UsageError: It has a shell's operators or substitutions, unbalanced quotes, or is none at all.
    """
    if len(text) > _MOST_LETTERS:
        raise UsageError(f"--current: a command of more than {_MOST_LETTERS:,} letters")
    lines = re.sub(r"\\\r?\n", " ", text).strip().splitlines()
    whole = "\n".join(line for line in lines if not line.lstrip().startswith("#")).strip().removeprefix("$ ")
    if any(not letter.isprintable() and letter not in f"\n\t{UNFILLED}" for letter in whole):
        raise UsageError("--current: the command has control characters")
    marked = _without_substitutions(whole)
    lexer = shlex.shlex(marked, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.whitespace = " \t\r"  # a line break that is not continued ends a command, as `;` does
    try:
        words = list(lexer)
    except ValueError:
        raise UsageError("--current: the command's quotes are not balanced") from None
    for word in words:
        if _OPERATOR.fullmatch(word):
            raise UsageError(f"--current: {word!r} is for a shell; give one command without it")
    if any("\n" in word and not word.lstrip().startswith(("{", "[", "--")) for word in words):
        raise UsageError("--current: more than one line; continue a line with \\")
    if not words:
        raise UsageError("--current: no command")
    return words


def _without_substitutions(text: str) -> str:
    """The text without comments, `$NAME` marked outside of single quotes; `$HOME` and `$PWD` are filled in.

    Raises:
        UsageError: A shell would run a command, or read a file, to fill something in.
    """
    found, single, double, escaped, comment, known_to = [], False, False, False, False, 0
    for at, letter in enumerate(text):
        if at < known_to:
            continue
        if comment and letter != "\n":
            continue
        comment = letter == "#" and not (single or double or escaped) and text[at - 1 : at].isspace()
        if comment:
            continue
        if not (single or escaped) and (match := _KNOWN.match(text, at)):
            value = os.environ.get("HOME", "") if "HOME" in match[0] else os.getcwd()
            found.append(value if double else re.sub(r"([^\w/.-])", r"\\\1", value))
            known_to = match.end()
            continue
        if escaped:
            escaped = False
        elif letter == "\\" and not single:
            escaped = True
        elif letter == "'" and not double:
            single = not single
        elif letter == '"' and not single:
            double = not double
        elif not single and (letter == "`" or text.startswith(("$(", "$'"), at)):
            raise UsageError("--current: a shell would have to run or expand a part of this; write what it comes to")
        elif not single and letter == "$" and re.match(r"\$\{?[A-Za-z_]", text[at:]):
            letter = UNFILLED
        found.append(letter)
    return "".join(found)


def fill_in(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` and `${NAME:-default}`, as manifests and compose files have them, by what they stand for.

    What is not known is marked as what only a shell could fill in.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return variables.get(name, UNFILLED + name if match[3] is None else match[3])

    return _VARIABLE.sub(value, text.replace("$$", "\ue001")).replace("\ue001", "$")


def filled(value: str, flag: str) -> str:
    """A value, unless only a shell could complete it.

    Raises:
        UsageError: It has a variable in it.
    """
    if UNFILLED in value:
        raise UsageError(f"--current: {flag} takes a variable that only a shell fills in: write its value")
    return value


def holds_secret(name: str) -> bool:
    """Whether the value of a flag or a variable must not be written anywhere, by its name.

    Abbreviations of two usual flags count too: vLLM's parser takes them.
    """
    plain = name.lower().replace("-", "_").lstrip("_")
    if any(len(plain) > 2 and whole.startswith(plain) for whole in ("api_key", "hf_token")):
        return True
    return plain.rpartition("_")[2] in _SECRET_ENDS or "password" in plain or "secret" in plain
