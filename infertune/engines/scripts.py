"""The one line that starts a server: of a shell script, a systemd unit, or what a container gives `sh -c`."""

import re

from infertune.engines.shell import ASSIGNMENT
from infertune.errors import UsageError

_SETS = re.compile(r"(?:export\s+|Environment=)(.+)")


def command_line(text: str, starts: re.Pattern[str]) -> tuple[str, list[tuple[str, str]]] | None:
    """The line that starts a server, and the variables that lines of their own set before it.

    Args:
        text: The whole script; a line that ends in a backslash goes on with the next one.
        starts: What a line that starts the server has in it.

    Returns:
        None where the text is a single line, or no line of it starts the server.

    Raises:
        UsageError: More than one line starts it.
    """
    whole = re.sub(r"\\\r?\n", " ", text)
    lines = [line.strip() for line in whole.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    found = [n for n, line in enumerate(lines) if starts.search(line)]
    if len(lines) < 2 or not found:
        return None
    if len(found) > 1:
        raise UsageError("--current: more than one line starts a server; give the one that is meant")
    environment = []
    for line in lines[: found[0]]:
        if (sets := _SETS.fullmatch(line)) and (match := ASSIGNMENT.fullmatch(_unquoted(sets[1]))):
            environment.append((match[1], _unquoted(match[2])))
    return lines[found[0]].removeprefix("ExecStart="), environment


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
