"""A command that runs `vllm serve` today, taken apart: program, model, the engine's arguments, the server's, secrets.

Words are split as a POSIX shell would, and no shell is ever run: what only a shell could fill in is refused. Secrets
are left out here, before anything else sees them, and no message repeats a value.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from infertune.domain.command import Command
from infertune.engines.base import first_line
from infertune.engines.scripts import Line, command_line
from infertune.engines.shell import (
    PYTHON,
    WRAPPERS,
    Parts,
    filled,
    holds_secret,
    shown_plainly,
    split,
    without_secrets,
)
from infertune.engines.vllm.container import DockerRun, docker_run
from infertune.engines.vllm.files import command_in_file, config_words
from infertune.engines.vllm.flags import SERVER, SHORT, arity, is_switch
from infertune.engines.vllm.mounts import Mount, lies_here
from infertune.errors import UsageError

FORMS = (
    "a `vllm serve …` command, `python -m vllm.entrypoints.openai.api_server …` or `docker run … vllm/vllm-openai …`"
)
_SERVERS = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server")
_STARTS = re.compile(r"(^|[\s/'\"=])vllm(@\S+)?\s+serve\b|vllm\.entrypoints\.|\bvllm/vllm-openai\b")
_NUMBER = re.compile(r"-\d+(\.\d+)?")
_CONTAINERS = ("docker", "podman", "nerdctl")
_SHELLS = ("sh", "bash")
_KEPT_VARIABLES = ("VLLM_", "CUDA_", "NCCL_", "OMP_", "TORCH", "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def read_command(text: str, *, file: str = "", service: str = "") -> Command:
    """The parts of a command, or of the one in a file.

    Args:
        text: The command, or the file's text.
        file: The file's name; empty where the command itself is given.
        service: Which of the file's services or containers; empty where it has one only.

    Raises:
        UsageError: It is no such command, or one that only a shell could complete.
    """
    try:
        parts = _parts_of(text, file, service)
    except UsageError as error:
        message = shown_plainly(str(error))
        raise UsageError(message.replace("--current:", f"--current {file}:", 1) if file else message) from None
    folder = os.path.dirname(file)
    return parts.command(
        file=file,
        model_flag=parts.model_flag,
        contained=parts.contained,
        model_here=lies_here(parts.model or "", parts.mounts, folder) if parts.contained else None,
    )


def _parts_of(text: str, file: str, service: str) -> "_Parts":
    found = command_in_file(text, file, service) if file else None
    parts = _Parts()
    if found is not None:
        for name, value in found.environment:
            parts.variable(name, value)
        parts.contained, parts.mounts = found.contained, list(found.mounts)
        _take_program(found.words, parts)
    elif file and (line := command_line(text, _STARTS)):
        _take_line(line, parts)
    else:
        _take_program(split(text), parts)
    if not parts.server_found:
        raise UsageError(f"--current: this starts no vLLM server; give {FORMS}")
    return parts


@dataclass
class _Parts(Parts):
    """What was found of a command of vLLM so far."""

    kept: tuple[str, ...] = _KEPT_VARIABLES
    model_flag: bool = False
    contained: bool = False
    mounts: list[Mount] = field(default_factory=list)
    server_found: bool = False


def _take_program(words: Sequence[str], parts: _Parts) -> None:
    """What stands before the server's own arguments, then those.

    Raises:
        UsageError: It is another program.
    """
    words = parts.take_variables(words)
    if not words:
        raise UsageError(f"--current: no command; give {FORMS}")
    name = filled(words[0], "the program").rpartition("/")[2]
    if name in WRAPPERS:
        return _take_wrapped(words, parts)
    if name in _SHELLS and len(words) == 3 and words[1] in ("-c", "-lc", "-ec"):
        if line := command_line(words[2], _STARTS):
            return _take_line(line, parts)
        return _take_program(split(words[2], parts.known or None), parts)
    if name.partition("@")[0] == "vllm":
        if words[1:2] != ["serve"]:
            raise UsageError(f"--current: `vllm {first_line(' '.join(words[1:2]), 20)}` is no server; give {FORMS}")
        parts.program += words[:2]
        return _take_arguments(words[2:], parts)
    if PYTHON.fullmatch(name):
        return _take_python(words, parts)
    if name in _CONTAINERS:
        return _take_container(docker_run(words), parts)
    if words[0].startswith("-"):  # of a container whose image starts the server
        return _take_arguments(words, parts)
    raise UsageError(f"--current: {first_line(name, 40)!r} is no vLLM server; give {FORMS}")


def _take_line(line: Line, parts: _Parts) -> None:
    """A script's line that starts the server, and the variables that are set before it."""
    parts.hide(line.variables)
    for name, value in line.environment:
        parts.script_variable(name, value)
    _take_program(split(line.text, {**parts.known, **line.variables}), parts)


def _take_wrapped(words: list[str], parts: _Parts) -> None:
    """What a program such as `numactl` or `uv run` starts: the first word behind it that may start vLLM.

    Raises:
        UsageError: There is none.
    """
    for at in range(1, len(words)):
        name = words[at].rpartition("/")[2]
        starts = name.partition("@")[0] == "vllm" and words[at + 1 : at + 2] == ["serve"]
        runs = name in _CONTAINERS and words[at + 1 : at + 2] in (["run"], ["create"], ["container"])
        nested = name in _SHELLS and words[at + 1 : at + 2] in (["-c"], ["-lc"], ["-ec"])
        if starts or runs or nested or (PYTHON.fullmatch(name) and "-m" in words[at + 1 :]):
            break
    else:
        for word in words:
            filled(word, f"what {words[0]} starts")
        raise UsageError(f"--current: {first_line(words[0], 40)!r} starts no vLLM server here; give {FORMS}")
    parts.program.append(words[0])
    parts.take_wrapper(words[1:at], name)
    _take_program(words[at:], parts)


def _take_container(run: DockerRun, parts: _Parts) -> None:
    """What runs in a container."""
    parts.contained, parts.mounts = True, list(run.mounts)
    parts.secrets += run.secrets
    for variable, value in run.environment:
        parts.variable(variable, value)
    before = list(parts.program)
    if run.entrypoint:
        parts.program = []
        _take_program([*run.entrypoint, *run.arguments], parts)
        starts, *behind = parts.program  # of a shell's command, the program that the shell starts
        parts.program = [*before, *(filled(word, "docker") for word in run.starting(starts)), *behind]
        return
    parts.program += [filled(word, "docker") for word in run.program]
    arguments = list(run.arguments)
    if arguments[:1] and arguments[0].rpartition("/")[2] in ("vllm", "python", "python3", *_SHELLS):
        _take_program(arguments, parts)
    else:
        _take_arguments(arguments[1:] if arguments[:1] == ["serve"] else arguments, parts)


def _take_python(words: list[str], parts: _Parts) -> None:
    at = next((i for i, word in enumerate(words) if word == "-m"), 0)
    module = words[at + 1] if 0 < at < len(words) - 1 else ""
    if any(word not in ("-u", "-B", "-E", "-s", "-I") for word in words[1:at]):
        module = ""
    if module in _SERVERS:
        parts.program += words[: at + 2]
        return _take_arguments(words[at + 2 :], parts)
    if module in ("vllm", "vllm.entrypoints.cli.main") and words[at + 2 : at + 3] == ["serve"]:
        parts.program += words[: at + 3]
        return _take_arguments(words[at + 3 :], parts)
    raise UsageError(f"--current: this Python program is no vLLM server; give {FORMS}")


def _take_arguments(words: Sequence[str], parts: _Parts) -> None:
    """The server's own arguments.

    Raises:
        UsageError: One lacks its value, stands without a flag, or is for a shell to fill in.
    """
    parts.server_found = True
    behind = ""
    for name, flag, values in _flags(words):
        if not name:
            if parts.model is not None:
                raise UsageError(_not_understood(filled(values[0], "an argument"), behind, parts.model))
            parts.model = filled(values[0], "the model")
        elif name in ("model", "model_tag"):
            parts.model, parts.model_flag = filled(_only(flag, values), flag), True
        elif holds_secret(name) and not is_switch(name):
            parts.secrets.append(flag)
        elif name == "config":
            _take_arguments(config_words(filled(_only(flag, values), flag)), parts)
        else:
            known = [without_secrets(filled(value, flag)) for value in values]
            parts.secrets += [f"{inner} in {flag}" for _, left_out in known for inner in left_out]
            kept = _spelled(flag, [value for value, _ in known])
            (parts.server if name.partition(".")[0].removeprefix("no_") in SERVER else parts.settings).extend(kept)
        behind = flag


def _not_understood(word: str, behind: str, model: str) -> str:
    """What to say of a word that is neither a flag nor a value."""
    name, equals, _ = word.partition("=")
    shown = first_line(f"{name}=…" if equals else word, 40)
    if holds_secret(behind):
        return f"--current: {behind} takes one value, and another word stands behind it"
    if word.startswith(("\u2013", "\u2014")):
        return f"--current: {shown!r} begins with a long dash; a flag begins with two hyphens, --"
    if is_switch(behind.lstrip("-").replace("-", "_")):
        return f"--current: {behind} takes no value, and {shown!r} stands behind it; leave it out, or write --no-…"
    return f"--current: what is {shown!r}? the model is {model!r}"


def _flags(words: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Each flag with its canonical name, its spelling and its values; a word without a flag has an empty name."""
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-") or _NUMBER.fullmatch(word):
            yield "", "", [word]
            continue
        flag, equals, value = _expanded(word).partition("=")
        head, dot, rest = flag.lstrip("-").partition(".")
        name = head.replace("-", "_") + dot + rest
        if not head:
            raise UsageError(f"--current: {first_line(word, 20)!r} is no flag")
        if len(flag.split()) > 1:
            shown = f"{first_line(flag.split()[0], 40)} …"
            raise UsageError(f"--current: {shown!r} is one word with blanks; flag and value are two words")
        if equals:
            yield name, flag, [value]
            continue
        if not dot and is_switch(name):
            yield name, flag, []
            continue
        values: list[str] = []
        many, secret = not dot and arity(name) == "many", holds_secret(name)
        flags = "--" if secret else "-"  # a secret may begin with a hyphen
        while left and (many or not values) and (not left[0].startswith(flags) or _NUMBER.fullmatch(left[0])):
            values.append(left.pop(0))
        if not values and not many and not secret:  # or it comes from where the user has logged in
            raise UsageError(f"--current: {first_line(flag, 40)} lacks its value")
        if name == "optimization_level" and values[0].startswith("{"):  # `-O` took a table in earlier versions
            name, flag = "compilation_config", "--compilation-config"
        yield name, flag, values


def _expanded(word: str) -> str:
    """A short flag as its long one: `-tp`, `-O3`, `-O.level=3`, `-O{…}`."""
    if word.startswith("-O") and len(word) > 2:
        rest = word[2:].removeprefix("=")
        if rest.startswith("."):
            return f"--compilation-config{'.mode' if rest.startswith('.level') else rest.partition('=')[0]}" + (
                f"={rest.partition('=')[2]}" if "=" in rest else ""
            )
        if rest.startswith("{"):
            return f"--compilation-config={rest}"
        return f"--optimization-level={rest}"
    flag, equals, value = word.partition("=")
    head, dot, rest = flag.partition(".")
    long = SHORT.get(head)
    return f"--{long.replace('_', '-')}{dot}{rest}{equals}{value}" if long else word


def _spelled(flag: str, values: list[str]) -> list[str]:
    """A flag and its values as words, in one where there is one value: no value can then be taken for a flag."""
    flag = f"--{flag.lstrip('-').partition('.')[0].replace('_', '-')}{''.join(flag.lstrip('-').partition('.')[1:])}"
    return [flag, *values] if len(values) != 1 else [f"{flag}={values[0]}"]


def _only(flag: str, values: list[str]) -> str:
    if len(values) != 1:
        raise UsageError(f"--current: {flag} takes one value")
    return values[0]
