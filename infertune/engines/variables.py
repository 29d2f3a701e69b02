"""Files of variables: a compose file's `.env` and `env_file`, a unit's `EnvironmentFile=`."""

import re
import shlex
from pathlib import Path

from infertune.documents import read_text
from infertune.errors import UsageError

_MOST_BYTES = 100_000
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)\s*=(.*)", re.ASCII)


def read_variables(path: Path) -> dict[str, str]:
    """The variables of a file of lines `NAME=VALUE`, as compose files and systemd units name them.

    Args:
        path: The file.

    Raises:
        UsageError: It cannot be read, or holds something else.
    """
    found = {}
    for number, line in enumerate(read_text(path, "--current", _MOST_BYTES).splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith(("#", ";")):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UsageError(f"--current: {path}, line {number} is not NAME=VALUE")
        try:
            found[match[1]] = " ".join(shlex.split(match[2], comments=True))
        except ValueError:
            raise UsageError(f"--current: {path}, line {number}: the quotes are not balanced") from None
    return found
