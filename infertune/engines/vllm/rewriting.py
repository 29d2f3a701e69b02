"""The user's own command with other settings: what to change in it, and the whole of it again."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infertune.domain.command import Command
from infertune.domain.knobs import Config, Scalar, format_scalar, parse_scalar
from infertune.engines.asking import only_by_the_user
from infertune.engines.base import first_line
from infertune.engines.shell import PYTHON, names_in
from infertune.engines.vllm.flags import SERVER, arity, is_switch
from infertune.engines.vllm.opening import opens
from infertune.engines.vllm.table import LIVE
from infertune.errors import UsageError

# Of the server's flags, those whose value names code, or sends something elsewhere.
_REACHING = re.compile(r"middleware|plugin|trust|tool_server|log_config|otlp|config$|uds|fingerprint")
_IMAGES = re.compile(
    r"(docker\.io/)?(vllm/vllm-openai|rocm/vllm|vllm/vllm-openai-rocm)(:[\w.-]+|@sha256:[0-9a-f]{64})?"
)
_VARIABLES = re.compile(
    r"CUDA_VISIBLE_DEVICES|OMP_NUM_THREADS|NCCL_\w+|VLLM_(CPU_\w+|USE_\w+|ATTENTION_BACKEND|LOGGING_LEVEL)"
)
_PLAIN_OPTIONS = names_in("""
    --gpus --ipc --shm-size -p --publish --name --rm -d --detach -i --interactive -t --tty -it -ti --runtime -e --env
    --restart --network --net -v --volume --mount --ulimit --init --memory -m --cpus --label -l --env-file --platform
""")
_RUNNERS = (("uv", "run"), ("poetry", "run"), ("pipenv", "run"), ("pixi", "run"))
_BINDING = re.compile(r"--(cpunodebind|membind|physcpubind|interleave|localalloc)(=[\d,+-]+)?|-[NmCil]|[\d,+-]+")


@dataclass(frozen=True)
class Rewritten:
    """A command with the tuned settings.

    Attributes:
        text: The whole of it, on one line as a shell reads it.
        changes: What is different, one phrase each: `--max-num-seqs 256 → 64`, `add --enforce-eager`.
    """

    text: str
    changes: tuple[str, ...]


def rewritten(command: Command, current: Config, tuned: Config, held: Mapping[str, Scalar]) -> Rewritten:
    """A command of today with tuned settings.

    Args:
        command: As it was given, without its secrets.
        current: Every knob's value under it.
        tuned: Every knob's value to use.
        held: Arguments that are held for the whole run: those that the command lacks are added.
    """
    stands = {_name(word): word for word in command.settings if word.startswith("--")}
    wanted = {name: value for name, value in tuned.root.items() if value != current.root.get(name)}
    wanted |= {name: value for name, value in held.items() if not _says(stands, name)}
    added_limits = [n for n in LIVE if wanted and n in tuned and n not in wanted and not _says(stands, n)]
    words, changes = list(command.settings), []
    for name, value in wanted.items():
        words, change = _with(words, name, value, current.root.get(name))
        changes.append(change)
    for name in added_limits:  # vLLM derives them from other settings where nobody says
        words, change = _with(words, name, tuned[name], None)
        changes.append(change)
    return Rewritten(command.with_settings(words), tuple(change for change in changes if change))


def _says(stands: Mapping[str, str], name: str) -> bool:
    """Whether a command sets an argument, itself or as a part of a nested one."""
    return name in stands or name.partition(".")[0] in stands


def _with(words: list[str], name: str, value: Scalar, before: Scalar) -> tuple[list[str], str]:
    """The words with one argument set, and what changed; a nested one is set behind the table that it is a part of."""
    at = [i for i, word in enumerate(words) if word.startswith("--") and _name(word) == name]
    kept = [word for i, word in enumerate(words) if i not in at and (i - 1 not in at or word.startswith("--"))]
    new = flag_of(name, value)
    old = words[at[-1]] if at else None
    place = at[0] if at else len(kept)
    flag = f"--{name.partition('.')[0].replace('_', '-')}{''.join(name.partition('.')[1:])}"
    if new is None:
        return kept, f"leave out {_shown(old)}" if old else ""
    changed = [*kept[:place], new, *kept[place:]]
    if old is None:
        return changed, f"add {_shown(new)}"
    if isinstance(value, bool):
        return changed, f"{_shown(old)} → {_shown(new)}"
    return changed, f"{flag} {format_scalar(before)} → {format_scalar(value)}"


def flag_of(name: str, value: Scalar) -> str | None:
    """An argument as one word, so that no value can be taken for a flag; None leaves it to vLLM."""
    head, dot, rest = name.partition(".")
    flag = f"{head.replace('_', '-')}{dot}{rest}"
    if value is None:
        return None
    if isinstance(value, bool) and not dot:
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={format_scalar(value)}"


def _name(word: str) -> str:
    head, dot, rest = word.partition("=")[0].lstrip("-").partition(".")
    name = head.replace("-", "_")
    if name.startswith("no_") and is_switch(name) and arity(name.removeprefix("no_")) == "switch":
        name = name.removeprefix("no_")
    return name + dot + rest


def _shown(word: str) -> str:
    return word.replace("=", " ", 1)


def checked(command: Command, allowed: Iterable[str]) -> Command:
    """A command that came with a profile, fit to be written out: its author may be a stranger.

    A container is kept where it is an image of vLLM's own, started with plain options; else `vllm serve` stands in
    its place.

    Args:
        command: As the profile has it.
        allowed: Names that the user has allowed himself.

    Raises:
        UsageError: An argument can do more than say how the model is served, and the user has not allowed it.
    """
    names = set(allowed)
    for word in command.server:
        if not word.startswith("--"):
            continue
        name = _name(word)
        if name not in names and (name not in SERVER or _REACHING.search(name)):
            raise _unasked(name, word)
    for name, value in _settings(command.settings):
        if name.partition(".")[0] not in names and opens(name, value):
            raise _unasked(name, format_scalar(value))
    environment = tuple((name, value) for name, value in command.environment if _VARIABLES.fullmatch(name))
    if _is_plain_program(command.program):
        return command.model_copy(update={"environment": environment})
    return command.model_copy(update={"program": ("vllm", "serve"), "model_flag": False, "environment": environment})


def _settings(words: Iterable[str]) -> Iterator[tuple[str, Scalar]]:
    """What words set, the parts of a table one by one."""
    name = ""
    for word in words:
        if not word.startswith("--"):
            yield name, parse_scalar(word)  # one of several values
            continue
        name, (_, equals, text) = _name(word), word.partition("=")
        if not equals:
            yield name, not word.startswith("--no-")
            continue
        content = _table(text) if name != "speculative_config" else None
        if content is None:
            yield name, parse_scalar(text)
        for key, value in (content or {}).items():
            yield f"{name}.{key}", json.dumps(value) if isinstance(value, dict | list) else value


def _table(text: str) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _unasked(name: str, value: str) -> UsageError:
    return only_by_the_user("the profile's command", f"{name} ({first_line(value, 60)})", again=f"{name}=…")


def _is_plain_program(program: tuple[str, ...]) -> bool:
    if program[:2] in _RUNNERS:
        program = program[2:]
    elif program[:1] == ("sudo",) and program[1:2] == ("docker",):
        program = program[1:]
    elif program[:1] == ("numactl",):
        at = next((i for i, word in enumerate(program[1:], 1) if not _BINDING.fullmatch(word)), 0)
        program = program[at:]
    if program in (("vllm", "serve"), ()):
        return program != ()
    if program[:1] and PYTHON.fullmatch(program[0]):
        return program[1:] in (
            ("-m", "vllm.entrypoints.openai.api_server"),
            ("-m", "vllm.entrypoints.cli.main", "serve"),
        )
    if program[:2] not in (("docker", "run"), ("podman", "run"), ("nerdctl", "run")):
        return False
    images = [i for i, word in enumerate(program) if _IMAGES.fullmatch(word)]
    if not images or program[images[0] + 1 :] not in ((), ("vllm", "serve")):
        return False
    flags = [word.partition("=")[0] for word in program[2 : images[0]] if word.startswith("-")]
    return all(flag in _PLAIN_OPTIONS for flag in flags)
