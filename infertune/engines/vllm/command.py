"""A command that runs `vllm serve` today, taken apart: program, model, the engine's arguments, the server's, secrets.

Words are split as a POSIX shell would, and no shell is ever run: what only a shell could fill in is refused. Secrets
are left out here, before anything else sees them, and no message repeats a value.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from infertune.domain.command import Command
from infertune.engines.base import first_line
from infertune.engines.vllm.container import docker_run
from infertune.engines.vllm.files import command_in_file, config_words
from infertune.engines.vllm.flags import SERVER, SHORT, arity, holds_secret, is_switch
from infertune.engines.vllm.shell import FORMS, filled, split
from infertune.errors import UsageError

_SERVERS = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server")
_PYTHON = re.compile(r"python(\d(\.\d+)?)?", re.ASCII)
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.ASCII | re.DOTALL)
_NUMBER = re.compile(r"-\d+(\.\d+)?")
_RUNNERS = ("uv", "poetry", "pipenv", "pixi")
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
    found = command_in_file(text, file, service) if file else None
    parts = _Parts()
    if found is None:
        _take_program(split(text), parts)
    else:
        for name, value in found.environment:
            parts.variable(name, value)
        _take_program(found.words, parts)
    if not parts.server_found:
        raise UsageError(f"--current: this starts no vLLM server; give {FORMS}")
    return Command(
        file=file,
        program=tuple(parts.program),
        model=parts.model,
        model_flag=parts.model_flag,
        settings=tuple(parts.settings),
        server=tuple(parts.server),
        environment=tuple(parts.environment),
        secrets=tuple(dict.fromkeys(parts.secrets)),
    )


@dataclass
class _Parts:
    """What was found of a command so far."""

    program: list[str] = field(default_factory=list)
    model: str | None = None
    model_flag: bool = False
    settings: list[str] = field(default_factory=list)
    server: list[str] = field(default_factory=list)
    environment: list[tuple[str, str]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    server_found: bool = False

    def variable(self, name: str, value: str) -> None:
        """A variable that is set before the program starts."""
        if holds_secret(name):
            self.secrets.append(name)
        elif name.startswith(_KEPT_VARIABLES):
            self.environment.append((name, filled(value, name)))


def _take_program(words: Sequence[str], parts: _Parts) -> None:
    """What stands before the server's own arguments, then those.

    Raises:
        UsageError: It is another program.
    """
    words = list(words)
    while words and (match := _ASSIGNMENT.fullmatch(words[0])):
        parts.variable(match[1], match[2])
        words.pop(0)
    if not words:
        raise UsageError(f"--current: no command; give {FORMS}")
    name = words[0].rpartition("/")[2]
    if name in ("env", "exec", "nohup", "sudo") and len(words) > 1 and not words[1].startswith("-"):
        parts.program.append(words[0])
        return _take_program(words[1:], parts)
    if name in _RUNNERS and words[1:2] == ["run"] and len(words) > 2 and not words[2].startswith("-"):
        parts.program += words[:2]
        return _take_program(words[2:], parts)
    if name in ("sh", "bash") and len(words) == 3 and words[1] in ("-c", "-lc", "-ec"):
        return _take_program(split(words[2]), parts)
    if name == "vllm":
        if words[1:2] != ["serve"]:
            raise UsageError(f"--current: `vllm {first_line(' '.join(words[1:2]), 20)}` is no server; give {FORMS}")
        parts.program += words[:2]
        return _take_arguments(words[2:], parts)
    if _PYTHON.fullmatch(name):
        return _take_python(words, parts)
    if name in ("docker", "podman", "nerdctl"):
        run = docker_run(words)
        for variable, value in run.environment:
            parts.variable(variable, value)
        parts.program += [filled(word, "docker") for word in run.program]
        if run.entrypoint:
            stands = len(parts.program)
            _take_program([*run.entrypoint, *run.arguments], parts)
            del parts.program[stands : stands + len(run.entrypoint)]  # it stands among docker's own words
            return None
        arguments = list(run.arguments)
        if arguments[:1] and arguments[0].rpartition("/")[2] in ("vllm", "python", "python3", "sh", "bash"):
            return _take_program(arguments, parts)
        return _take_arguments(arguments[1:] if arguments[:1] == ["serve"] else arguments, parts)
    if words[0].startswith("-"):  # of a container whose image starts the server
        return _take_arguments(words, parts)
    raise UsageError(f"--current: {first_line(name, 40)!r} is no vLLM server; give {FORMS}")


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
    for name, flag, values in _flags(words):
        if not name:
            if parts.model is not None:
                raise UsageError(f"--current: what is {first_line(values[0], 40)!r}? the model is {parts.model!r}")
            parts.model = filled(values[0], "the model")
        elif name in ("model", "model_tag"):
            parts.model, parts.model_flag = filled(_only(flag, values), flag), True
        elif holds_secret(name):
            parts.secrets.append(flag)
        elif name == "config":
            _take_arguments(config_words(filled(_only(flag, values), flag)), parts)
        else:
            kept = _spelled(flag, [filled(value, flag) for value in values])
            (parts.server if name.partition(".")[0].removeprefix("no_") in SERVER else parts.settings).extend(kept)


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
        if equals:
            yield name, flag, [value]
            continue
        if not dot and is_switch(name):
            yield name, flag, []
            continue
        values: list[str] = []
        many = not dot and arity(name) == "many"
        while left and (many or not values) and (not left[0].startswith("-") or _NUMBER.fullmatch(left[0])):
            values.append(left.pop(0))
        if not values and not many:
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
    long = SHORT.get(flag)
    return f"--{long.replace('_', '-')}{equals}{value}" if long else word


def _spelled(flag: str, values: list[str]) -> list[str]:
    """A flag and its values as words, in one where there is one value: no value can then be taken for a flag."""
    flag = f"--{flag.lstrip('-').partition('.')[0].replace('_', '-')}{''.join(flag.lstrip('-').partition('.')[1:])}"
    return [flag, *values] if len(values) != 1 else [f"{flag}={values[0]}"]


def _only(flag: str, values: list[str]) -> str:
    if len(values) != 1:
        raise UsageError(f"--current: {flag} takes one value")
    return values[0]
