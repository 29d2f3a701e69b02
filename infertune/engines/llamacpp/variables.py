"""Variables that are arguments of `llama-server` by another name: `LLAMA_ARG_N_PARALLEL=4` is `--parallel 4`."""

import re
from collections.abc import Mapping, Sequence

from infertune.engines.asking import canonical
from infertune.engines.base import EngineOptions
from infertune.engines.llamacpp.binary import PROGRAM, find_binary
from infertune.engines.llamacpp.flags import flags_of
from infertune.engines.serving.arguments import Flag
from infertune.errors import UsageError

PREFIX = "LLAMA_ARG_"
_NAMED = re.compile(r"\(env: (\w+)\)", re.ASCII)
# What the server takes for yes and for no (llama.cpp, common/arg.cpp: is_truthy, is_falsey).
_YES = ("on", "enabled", "true", "1")
_NO = ("off", "disabled", "false", "0")


def installed_flags(options: EngineOptions, name: str) -> Mapping[str, Flag]:
    """The arguments of the installed server, which say what a variable stands for.

    Raises:
        UsageError: There is none, or it does not say them.
    """
    binary = find_binary(options)
    if binary is None:
        raise UsageError(f"--current: no {PROGRAM} here says which argument {name} is; give it as a flag")
    return flags_of(binary)


def words_of_variables(variables: Mapping[str, str], words: Sequence[str], flags: Mapping[str, Flag]) -> list[str]:
    """Variables as the arguments that they stand for; those that the command gives too are left out, as it wins.

    Args:
        variables: Name → value.
        words: The arguments of the command.
        flags: The server's arguments.

    Raises:
        UsageError: The server has no such variable, or does not take its value.
    """
    given = {canonical(word) for word in words if word.startswith("-")}
    by_variable = {match[1]: flag for flag in flags.values() for match in _NAMED.finditer(flag.help)}
    found: list[str] = []
    for name, value in variables.items():
        flag = by_variable.get(name)
        if flag is None and name.startswith(f"{PREFIX}NO_"):  # whatever its value, it turns a pair off
            flag = by_variable.get(PREFIX + name.removeprefix(f"{PREFIX}NO_"))
            flag, value = (flag if flag and flag.kind == "pair" else None), _NO[0]
        if flag is None:
            raise UsageError(f"--current: the installed {PROGRAM} has no variable {name}; give it as a flag")
        if given.isdisjoint({flag.name, *flag.aliases, canonical(flag.off), f"no_{flag.name}"}):
            found += _words(flag, name, value)
    return found


def _words(flag: Flag, name: str, value: str) -> list[str]:
    if flag.kind == "value":
        if {"on", "off"} <= set(flag.words) and value in _YES + _NO:
            value = "on" if value in _YES else "off"
        return [flag.on, value]
    if value in _YES:
        return [flag.on]
    if value in _NO or flag.kind == "switch":
        return [flag.off] if flag.kind == "pair" else []
    raise UsageError(f"--current: {name} takes on or off; give it as a flag")
