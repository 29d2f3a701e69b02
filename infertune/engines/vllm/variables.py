"""Variables of a compose file: its `.env`, a service's `env_file`, and the places where their values are put in.

The rules are those of Docker Compose: https://docs.docker.com/reference/compose-file/interpolation/. The environment
of the shell, which Compose looks at first, is left out: nobody knows whether it is the one that the server runs with.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infertune.engines.variables import read_variables

_VARIABLE = re.compile(r"\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-?+])([^{}]*))?\})", re.ASCII)


def beside(file: str) -> dict[str, str]:
    """The variables of the `.env` in the folder of a compose file; none where there is none.

    Raises:
        UsageError: It cannot be read.
    """
    path = Path(file).with_name(".env")
    return read_variables(path) if path.is_file() else {}


def of_env_files(value: Any, file: str) -> dict[str, str]:
    """The variables of what `env_file` names, of which later ones win; files that are not there have none.

    Args:
        value: A path, or a list of paths or of tables with a `path`.
        file: The compose file, in whose folder relative paths begin.

    Raises:
        UsageError: One cannot be read.
    """
    found: dict[str, str] = {}
    for item in value if isinstance(value, list) else [value]:
        name = item.get("path") if isinstance(item, Mapping) else item
        if isinstance(name, str) and (path := Path(file).parent / name).is_file():
            found |= read_variables(path)
    return found


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """A text, or the texts in a list or table, with `$NAME`, `${NAME}` and `${NAME:-default}` filled in.

    `$$` is a dollar sign. A variable that is not known stays as it stands.
    """
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _value(match, variables), value)
    if isinstance(value, list):
        return [interpolated(item, variables) if not isinstance(item, list) else item for item in value]
    if isinstance(value, Mapping):
        return {key: interpolated(item, variables) if isinstance(item, str) else item for key, item in value.items()}
    return value


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    dollar, bare, name, operator, more = match.groups()
    if dollar:
        return "$$"  # the next reader's own sign for a dollar
    known = variables.get(bare or name)
    given = known is not None and not ((operator or "").startswith(":") and known == "")
    if operator and operator.endswith("+"):
        return more if given else ""
    if given:
        return str(known)
    return more if operator and operator.endswith("-") else match[0]
