"""The installed vLLM's own parser, asked about arguments: runs where vLLM is imported, in the probe and in the worker.

An argument is named as on the command line, with dashes or underscores, or by its short flag; `NAME.KEY` names a part
of one that is nested. Its value becomes a scalar: what is nested is JSON text.
"""

import argparse
import difflib
import enum
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NoReturn

from infertune.domain.knobs import Scalar, format_scalar
from infertune.domain.measurement import Frozen
from infertune.engines.asking import canonical
from infertune.engines.base import first_line
from infertune.engines.vllm.flags import SERVER

_PARSER_MODULES = ("vllm.utils.argparse_utils", "vllm.utils")
_NEAREST = 3
_DETAILS = re.compile(r"\s*\[type=.*$|\s*For further information visit .*$")  # of pydantic
# An argument that is gone, and one of which others begin with the same letters.
_UNKNOWN = re.compile(r"(?:unrecognized arguments|ambiguous option): (.*?)(?: could match .*)?", re.DOTALL)
_FUNCTION = re.compile(r"<function \w+ at 0x[0-9a-f]+>")  # argparse names the converter: json.loads
# Parts of nested arguments that have a name of their own.
_ALIASES = {
    "compilation_config.max_cudagraph_capture_size": "max_cudagraph_capture_size",
    "compilation_config.cudagraph_capture_sizes": "cudagraph_capture_sizes",
    "attention_config.backend": "attention_backend",
}
_WHOLE = ("speculative_config",)  # a knob's value is the whole of it
_NOT_HERE = {"model": "give the model as MODEL"}


class RefusedError(Exception):
    """An argument that cannot be, in one line for the user."""


class Argument(Frozen):
    """An argument as the installed version understands it.

    Attributes:
        asked: Its name as it was asked for.
        name: Its canonical name.
        values: The values that it was given.
        default: Its value where it is not given; None where the engine then chooses.
    """

    asked: str
    name: str
    values: tuple[Scalar, ...]
    default: Scalar = None


def arguments_of(asked: Mapping[str, Iterable[Scalar]], lenient: Sequence[str] = ()) -> list[Argument]:
    """Every argument that was asked for, with each of its values parsed.

    Args:
        asked: Name → values.
        lenient: Names that are left out where there is no such argument.

    Raises:
        RefusedError: There is no such argument, or it does not take a value.
    """
    found = []
    for given, values in asked.items():
        try:
            action, rest = _action(given)
        except RefusedError:
            if given in lenient:
                continue
            raise
        name = _ALIASES.get(action.dest + rest, action.dest + rest)
        parsed = tuple(_parsed(action, rest, value) for value in values)
        default = _plain(action.default) if not rest else None
        found.append(Argument(asked=given, name=name, values=parsed, default=default))
    return found


def typed(settings: Mapping[str, Scalar]) -> dict[str, Any]:
    """Settings as `EngineArgs` takes them: nested ones put together and of the engine's own types.

    Raises:
        RefusedError: There is no such argument, or it does not take a value.
    """
    words, names = [], set()
    for name, value in settings.items():
        action, rest = _action(name)
        if value is not None:
            words += _words(action, rest, value)
            names.add(action.dest)
    parsed = _parse(words)
    return {name: getattr(parsed, name) for name in sorted(names)}


def given_in(words: Sequence[str]) -> dict[str, tuple[Scalar, ...]]:
    """The arguments that a command line sets, by canonical name, the last one counting.

    Raises:
        RefusedError: The parser does not take it.
    """
    try:
        parsed = _parse(words)
    except RefusedError as error:
        raise RefusedError(f"--current: {_with_cure(str(error))}") from None
    found: dict[str, Scalar] = {}
    for word in words:
        if not word.startswith("-"):
            continue
        flag, equals, text = word.partition("=")
        switched_off = flag.startswith("--no-") and flag not in _options()
        try:
            action, rest = _action(flag)
        except RefusedError:
            if not switched_off:
                raise
            action, rest = _action(flag.replace("--no-", "--", 1))
        if rest:
            found[action.dest + rest] = _json_or_text(text)
            continue
        value = getattr(parsed, action.dest)
        nested = _nested(text) if equals and action.dest not in _WHOLE else None
        if nested is not None:
            found.update({f"{action.dest}.{key}": value for key, value in nested.items()})
        else:
            found[action.dest] = _canonical(value, text if equals else value)
    return {_ALIASES.get(name, name): (value,) for name, value in found.items()}


def _with_cure(refusal: str) -> str:
    """A refusal of a command's words; those of another version of vLLM are named with what to do."""
    unknown = _UNKNOWN.fullmatch(refusal)
    if unknown is None:
        return refusal
    return (
        f"vLLM {_version()} has no argument {first_line(unknown[1], 80)}: leave it out of the command, or name the "
        "interpreter of a version that has it with --engine-python"
    )


def _nested(text: str) -> dict[str, Scalar] | None:
    """The parts of a JSON object, each a scalar or JSON text; None for anything else."""
    try:
        content = json.loads(text)
    except ValueError:
        return None
    if not isinstance(content, dict) or not content:
        return None
    return {str(key): _scalar(value) for key, value in content.items()}


def _parsed(action: argparse.Action, rest: str, value: Scalar) -> Scalar:
    if value is None:
        return None
    parsed = getattr(_parse(_words(action, rest, value)), action.dest)
    text = format_scalar(value)
    return _json_or_text(text) if rest else _canonical(parsed, value if isinstance(value, bool) else text)


def _words(action: argparse.Action, rest: str, value: Scalar) -> list[str]:
    """An argument's words on a command line.

    Raises:
        RefusedError: A switch is given something else than true or false.
    """
    option = next(option for option in action.option_strings if option.startswith("--"))
    text = format_scalar(value)
    if rest:
        return [f"{option}{rest}={text}"]
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise RefusedError(f"{action.dest}={first_line(text, 60)}: it is true or false")
        off = f"--no-{option.removeprefix('--')}"
        return [option] if value else [off] if off in action.option_strings else []
    if action.nargs in ("+", "*"):
        items = _json_or_text(text)
        content = json.loads(text) if isinstance(items, str) and text.startswith("[") else [text]
        return [option, *map(str, content)]
    return [f"{option}={text}"]


def _canonical(parsed: Any, given: Any) -> Scalar:
    """A parsed value as a scalar: plain ones as they were parsed, nested ones as JSON text."""
    if isinstance(parsed, bool | int | float | str | None) and not isinstance(parsed, enum.Enum):
        return parsed
    if isinstance(parsed, list) and not isinstance(given, str):
        return _scalar(parsed)
    return _json_or_text(given) if isinstance(given, str) else _plain(parsed)


def _json_or_text(text: str) -> Scalar:
    try:
        return _scalar(json.loads(text))
    except ValueError:
        return text


def _scalar(value: Any) -> Scalar:
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _plain(value: Any) -> Scalar:
    """A default as a scalar; None for what has no short text."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool | int | float | str | None):
        return value
    return None


def _action(given: str) -> tuple[argparse.Action, str]:
    """The parser's action of a name, and what follows its first dot.

    Raises:
        RefusedError: There is none; the nearest are named.
    """
    head, dot, rest = canonical(given).partition(".")
    options = _options()
    short = f"-{given.strip().lstrip('-').partition('.')[0]}"
    for option in (f"--{head.replace('_', '-')}", *([short] if len(head) <= 3 else [])):
        if action := options.get(option):
            if action.dest in _NOT_HERE:
                raise RefusedError(f"{action.dest}: {_NOT_HERE[action.dest]}")
            return action, dot + rest
    if head == "O":
        return _action(f"optimization_level{dot}{rest}")
    if head in SERVER:
        raise RefusedError(f"{head} is an argument of `vllm serve`, not of the engine: nothing is measured by it")
    near = difflib.get_close_matches(head, [action.dest for action in options.values()], n=_NEAREST, cutoff=0.5)
    shown = f"; did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
    raise RefusedError(f"vLLM {_version()} has no argument {first_line(given, 60)!r}{shown}")


def _parse(words: Sequence[str]) -> argparse.Namespace:
    try:
        parsed: argparse.Namespace = _parser().parse_args(list(words))
    except SystemExit:
        raise RefusedError("vLLM's parser gave up on the arguments") from None
    return parsed


@cache
def _parser() -> Any:
    from vllm.engine.arg_utils import EngineArgs

    for module in _PARSER_MODULES:
        try:
            parser = import_module(module).FlexibleArgumentParser()
            break
        except (ImportError, AttributeError):
            continue
    EngineArgs.add_cli_args(parser)
    parser.error = _refuse
    return parser


def _options() -> Mapping[str, argparse.Action]:
    from vllm.engine.arg_utils import EngineArgs

    fields = EngineArgs.__dataclass_fields__
    return {option: action for option, action in _parser()._option_string_actions.items() if action.dest in fields}


def _refuse(message: str) -> NoReturn:
    """What the parser says of a wrong value, in one line, without what is for programmers only."""
    text = _FUNCTION.sub("JSON", _DETAILS.sub("", " ".join(message.split())))
    raise RefusedError(text[:300])


def _version() -> str:
    import vllm

    return str(vllm.__version__)
