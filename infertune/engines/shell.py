"""A command line as a POSIX shell would split it, what stands before its program, and what in it is secret.

No shell is ever run: what only a shell could complete is refused.
"""

import contextlib
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infertune.domain.command import Command
from infertune.errors import UsageError


def names_in(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.ASCII | re.DOTALL)
# Programs that start another one, whose words stand behind their own options.
WRAPPERS = names_in("""
    env exec nohup sudo time nice ionice chrt taskset numactl stdbuf timeout setsid srun uv uvx pipx poetry pipenv pixi
    conda mamba micromamba apptainer singularity
""")
PYTHON = re.compile(r"python(\d(\.\d+)?)?", re.ASCII)
# Of a package index or a proxy; of a request's head; of its address; tokens of model hubs and services, by their form.
_CREDENTIALS = re.compile(
    r"(?<=://)[^/@\s]+@|(?<=[Bb]earer )[^\s'\"]+"
    r"|(?<=uthorization: [Bb]asic )[^\s'\"]+|(?<=[Bb]asic )[\w+/]{8,}={0,2}(?=['\"])"
    r"|(?P<of_address>[?&][\w.-]*(?:key|token|secret|password|sig|signature)=)[^&\s'\"]+"
    r"|(?<![\w-])(?:hf_[A-Za-z0-9]{30,}|sk-(?:proj-|ant-\w+-)?[A-Za-z0-9]{20,}|gh[pousr]_\w{30,}|glpat-[\w-]{20,})",
    re.ASCII,
)
UNFILLED = "\ue000"  # a `$` that only a shell would replace, until it is known whether it is kept
_MOST_LETTERS = 65_536
_SECRET_ENDS = names_in("""
    key keys token secret secrets passwd pass credential credentials creds pat auth
""")
_SECRET_WORDS = re.compile(
    r"password|passphrase|secret|apikey|token$|(^|_)(api_key|access_key|private_key|hf_token|auth_(token|header))(_|$)"
)
_BROKEN_NAME = re.compile(r"[\w-]+(?=['\"]?\s*:)", re.ASCII)  # of an entry of what was to be JSON
_SHORTEST_SECRET = 8  # characters of a value that is looked for elsewhere; judgement
_LONG = re.compile(r"^(--[\w.-]+=)?\s*[{\[]|^--")  # a value that may go over several lines
_OPERATOR = re.compile(r"[();<>|&]+")
_NAMED = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})", re.ASCII)
_KNOWN = re.compile(r"\$\(\s*pwd\s*\)|`pwd`|\$\{(?:HOME|PWD)\}|\$(?:HOME|PWD)\b", re.ASCII)
_FILLED_IN = re.compile(r"\$(?:[\w@*#?!$]|\{[^}])", re.ASCII)
_ARGUMENT = re.compile(rf"{UNFILLED}\{{?[@*1-9]")  # of the script itself
_UNSURE = re.compile(rf"{UNFILLED}(\$\w+ is set [^{UNFILLED}]+){UNFILLED}")
_VARIABLE = re.compile(r"\$\((\w+)\)|\$\{(\w+)(?::?-([^}]*))?\}", re.ASCII)


@dataclass
class Parts:
    """What was found of a server's command so far.

    Attributes:
        kept: Beginnings of the names of variables that say something of a server's speed.
        program: What starts the server.
        model: The model, as the command names it.
        settings: Arguments of the engine, one or more words each.
        server: Arguments of the server about it.
        environment: Variables that are set before it starts.
        secrets: Names of flags and variables that were left out, for what they hold or for not being known.
        known: What variables stand for in a shell that is started, without secrets.
        hidden: Values of secrets → the variables that hold them: they may stand in other words too.
    """

    kept: tuple[str, ...]
    program: list[str] = field(default_factory=list)
    model: str | None = None
    settings: list[str] = field(default_factory=list)
    server: list[str] = field(default_factory=list)
    environment: list[tuple[str, str]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)

    def variable(self, name: str, value: str) -> None:
        """A variable that is set before the program starts."""
        if holds_secret(name):
            self.secrets.append(name)
            self.hide({name: value})
            return
        if UNFILLED not in value:
            self.known[name] = value
        if names_secret(value):
            self.secrets.append(name)
        elif name.startswith(self.kept):
            self.environment.append((name, filled(value, name)))

    def hide(self, variables: Mapping[str, str]) -> None:
        """Leave the values of those variables that hold secrets out of every word; a file's name is none."""
        for name, value in variables.items():
            is_path = value.startswith(("/", "./", "../", "~"))
            if holds_secret(name) and len(value) >= _SHORTEST_SECRET and UNFILLED not in value and not is_path:
                self.hidden[value] = name

    def script_variable(self, name: str, value: str) -> None:
        """A variable that a line of its own sets; one that it may not set is left out and named."""
        if unsure(value) and name.startswith(self.kept):
            self.secrets.append(name)
        else:
            self.variable(name, value)

    def take_variables(self, words: Sequence[str]) -> list[str]:
        """The words behind those of the form `NAME=VALUE`, which are taken."""
        left = list(words)
        while left and (match := ASSIGNMENT.fullmatch(left[0])):
            self.variable(match[1], match[2])
            left.pop(0)
        return left

    def take_wrapper(self, words: Sequence[str], name: str) -> None:
        """Words of a program that starts the server, without secrets; variables among them are taken.

        Args:
            words: Its name and options, or a part of them.
            name: What the messages call it.

        Raises:
            UsageError: Only a shell could complete one.
        """
        option = secret = False  # the word before is an option, whose value may stand here; it is a secret
        for word in words:
            flag, equals, value = word.partition("=")
            if word.startswith("-"):
                option, secret = not equals, not equals and holds_secret(flag)
                if holds_secret(flag):
                    self.secrets.append(flag)
                else:
                    self.program.append(filled(flag + equals + self._assigned(value), name))
                continue
            if option:
                if not secret:
                    self.program.append(filled(self._assigned(word), name))
            elif match := ASSIGNMENT.fullmatch(word):
                self.variable(match[1], match[2])
            else:
                self.program.append(filled(word, name))
            option = secret = False

    def _assigned(self, value: str) -> str:
        """An option's value; in a list of variables such as `ALL,NAME=VALUE`, those with secrets keep their names."""
        kept = []
        for word in value.split(","):
            match = ASSIGNMENT.fullmatch(word)
            if match:
                self.variable(match[1], match[2])
            kept.append(match[1] if match and (holds_secret(match[1]) or names_secret(match[2])) else word)
        return ",".join(kept)

    def command(self, **more: object) -> Command:
        """What was found, without the credentials of addresses; `more` are further fields.

        Raises:
            UsageError: A variable that is a secret by its name holds the model's.
        """
        if name := next((name for value, name in self.hidden.items() if value in (self.model or "")), ""):
            raise UsageError(f"--current: {name} holds the model's name, and is a secret by its own: give it another")
        found = {
            "model": self._open(self.model) if self.model else None,
            "program": [self._open(word) for word in self.program],
            "settings": [self._open(word) for word in self.settings],
            "server": [self._open(word) for word in self.server],
            "environment": [(name, self._open(value)) for name, value in self.environment],
        }
        return Command.model_validate({**found, "secrets": list(dict.fromkeys(self.secrets)), **more})

    def _open(self, word: str) -> str:
        """A word without the credentials in it: of an address, or of a variable that holds a secret."""
        word = _on_one_line(word)
        for value, name in self.hidden.items():
            if value in word:
                self.secrets.append(f"the value of {name} elsewhere")
                word = word.replace(value, "")
        if _CREDENTIALS.search(word):
            self.secrets.append("the credentials of an address" if "://" in word else "a token")
        return without_credentials(word)


def _on_one_line(word: str) -> str:
    """A word as it can be shown and written: the lines of a JSON value joined.

    Raises:
        UsageError: It has other control characters.
    """
    flag, equals, value = filled(word, "an argument").partition("=") if word.startswith("--") else ("", "", word)
    joined = re.sub(r"[\t\r\n]\s*", " ", value)
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(joined)
        value = joined
    if not value.isprintable():
        shown = f"the value of {flag}" if flag else "a value"
        raise UsageError(f"--current: {shown} goes over several lines, or has other control characters")
    return flag + equals + value


def split(text: str, variables: Mapping[str, str] | None = None) -> list[str]:
    """The words of a command line, without where its output goes.

    Args:
        text: The line.
        variables: What names stand for in it, as far as the file says that it stands in; None where it was typed.

    Raises:
        UsageError: It has a shell's operators or substitutions, unbalanced quotes, or is none at all.
    """
    if len(text) > _MOST_LETTERS:
        raise UsageError(f"--current: a command of more than {_MOST_LETTERS:,} letters")
    lines = re.sub(r"\\\r?\n", " ", text).strip().splitlines()
    whole = "\n".join(line for line in lines if not line.lstrip().startswith("#")).strip().removeprefix("$ ")
    if any(not letter.isprintable() and letter not in f"\n\t{UNFILLED}" for letter in whole):
        raise UsageError("--current: the command has control characters")
    marked = _without_substitutions(whole, variables)
    lexer = shlex.shlex(marked, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.whitespace = " \t\r"  # a line break that is not continued ends a command, as `;` does
    try:
        words = _without_output(list(lexer))
    except ValueError:
        raise UsageError("--current: the command's quotes are not balanced") from None
    for word in words:
        if _OPERATOR.fullmatch(word):
            raise UsageError(f"--current: {word!r} is for a shell; give one command without it")
    if any("\n" in word and not _LONG.search(word) for word in words):
        raise UsageError("--current: more than one line; continue a line with \\")
    if not words:
        raise UsageError("--current: no command")
    return words


def _without_output(words: list[str]) -> list[str]:
    """The words without what sends output elsewhere, and the command to the background: no matter of the server."""
    at = next((i for i, word in enumerate(words) if _OPERATOR.fullmatch(word)), len(words))
    left = words[at:]
    if left[-1:] == ["&"]:
        left.pop()
    while left:
        if left[0] in ("|", "|&") and left[1:2] == ["tee"]:
            left = left[3:] if left[2:3] == ["-a"] else left[2:]
        elif left[0] in (">", ">>", ">&", "&>", "&>>") or left[:2] == ["<", "/dev/null"]:
            left = left[1:]
        else:
            return words
        if not left or _OPERATOR.fullmatch(left[0]):
            return words  # no file is named
        left = left[1:]
    return words[:at]


def _without_substitutions(text: str, variables: Mapping[str, str] | None) -> str:
    """The text without comments and numbers of outputs, `$NAME` marked outside of single quotes.

    `$HOME`, `$PWD` and what is known are filled in.

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
        if not (single or escaped) and variables is not None and (match := _NAMED.match(text, at)):
            known = variables.get(match[1] or match[2], match[3])
            if known is not None:  # unquoted, it may be several words
                whole = double or unsure(known)
                kept = r"([\"\\])" if double else r"([^\w/.-])" if whole else r"([^\w/.\s-])"
                found.append(re.sub(kept, r"\\\1", known))
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
        elif not single and letter == "$" and _FILLED_IN.match(text, at):
            letter = UNFILLED
        elif letter in "12" and not (single or double) and text[at - 1 : at].isspace() and text[at + 1 : at + 2] == ">":
            continue  # which output is meant, as in `2> log`
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
    if why := unsure(value):
        raise UsageError(f"--current: {why}; write its value in the command")
    if _ARGUMENT.search(value):
        raise UsageError(
            f"--current: {flag}: a script passes its own arguments on here; write what they are, or leave this out"
        )
    if UNFILLED in value:
        raise UsageError(f"--current: {flag} takes a variable that only a shell fills in: write its value")
    return value


def not_sure(name: str, where: str) -> str:
    """What a variable stands for whose value is not known; `where` says how or where it is set: "in a loop"."""
    return f"{UNFILLED}${name} is set {where}{UNFILLED}"


def unsure(value: str) -> str:
    """Why a value is not known, where a script sets it but may not; empty otherwise."""
    match = _UNSURE.search(value)
    return match[1] if match else ""


def shown_plainly(message: str) -> str:
    """A message with a `$` where only a shell would fill something in, without credentials."""
    return without_credentials(message).replace(UNFILLED, "$").replace(ascii(UNFILLED)[1:-1], "$")


def holds_secret(name: str) -> bool:
    """Whether the value of a flag or a variable must not be written anywhere, by its name.

    Abbreviations of two usual flags count too: vLLM's parser takes them.
    """
    plain = re.sub(r"\W+", "_", name.lower()).strip("_")
    if any(len(plain) > 2 and whole.startswith(plain) for whole in ("api_key", "hf_token")):
        return True
    last = next((part for part in reversed(plain.split("_")) if not part.isdigit()), "")  # of KEY_2 too
    return last in _SECRET_ENDS or _SECRET_WORDS.search(plain) is not None


def without_credentials(text: str) -> str:
    """A text without the credentials of addresses and requests, and without tokens that show by their form."""
    return _CREDENTIALS.sub(lambda match: match["of_address"] or "", text)


def names_secret(value: str) -> bool:
    """Whether a value has arguments of its own, `--api-key …` or `NAME=VALUE`, of which one is a secret."""
    names = (word.partition("=")[0] for word in value.split() if word.startswith("--") or ASSIGNMENT.match(word))
    return any(map(holds_secret, names))


def without_secrets(value: str) -> tuple[str, list[str]]:
    """A JSON object without its entries that hold secrets, and their names; any other value as it is.

    An object that is cut short or misspelled, and has such an entry, is left out whole.
    """
    if not value.lstrip().startswith("{"):
        return value, []
    left_out: list[str] = []

    def kept(found: object) -> object:
        if isinstance(found, dict):
            left_out.extend(name for name in found if holds_secret(name))
            return {name: kept(inner) for name, inner in found.items() if not holds_secret(name)}
        return [kept(inner) for inner in found] if isinstance(found, list) else found

    try:
        without = kept(json.loads(value))
    except (ValueError, RecursionError):
        left_out = [name for name in _BROKEN_NAME.findall(value) if holds_secret(name)]
        return ("{}", left_out) if left_out and re.match(r"\s*\{\s*['\"]", value) else (value, [])
    return (json.dumps(without), left_out) if left_out else (value, [])
