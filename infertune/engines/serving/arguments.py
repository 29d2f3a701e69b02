"""The command-line arguments of an installed server, held or searched: for engines that are a command of their own.

How an engine learns them (a help text, a parser) is its own matter; what they are, how they are written, and what a
user may ask of them is here.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from infertune.domain.knobs import Config, Effect, Knob, Scalar, SearchSpace, format_scalar
from infertune.engines.asking import Asked, Understood, canonical, check_taken, only_by_the_user, unknown_argument
from infertune.engines.base import first_line
from infertune.errors import UsageError

Kind = Literal["switch", "pair", "value"]
_SHOWN_LETTERS = 60


@dataclass(frozen=True)
class Flag:
    """An argument of a server.

    Attributes:
        name: Canonical: its long spelling with underscores.
        on: The spelling that is written: of a switch, the one that turns it on.
        off: The spelling that turns a pair off; empty for others.
        kind: A switch only turns on, a pair turns on and off, a value is followed by one.
        aliases: Its other spellings, canonical.
        hint: How the help names the value.
        words: The values that it takes; empty where nobody says.
        default: What it rests at, as text; None where that is not known.
        help: What the help says.
    """

    name: str
    on: str
    off: str = ""
    kind: Kind = "value"
    aliases: frozenset[str] = frozenset()
    hint: str = ""
    words: tuple[str, ...] = ()
    default: str | None = None
    help: str = ""


@dataclass(frozen=True)
class Policy:
    """What an engine says of its arguments.

    Attributes:
        program: The server's name, for messages.
        curated: Names with a knob of the engine's own.
        effect: What other values of an argument without one do to answers.
        plain: Whether a setting can do no more than say how the model is computed: such a one may come from anybody.
        refused: Why an argument cannot be set; empty where it can.
        check: Refuses a value that the server would refuse.
    """

    program: str
    curated: Collection[str]
    effect: Callable[[str], Effect]
    plain: Callable[[str, Scalar], bool]
    refused: Callable[[str], str]
    check: Callable[[Flag, Scalar], None]


def flag_for(flags: Mapping[str, Flag], name: str, program: str) -> Flag:
    """The argument that somebody spells in any of its ways: `-np`, `--parallel`, `parallel`, `np`.

    Raises:
        UsageError: There is none.
    """
    wanted = canonical(name)
    if wanted in flags:
        return flags[wanted]
    named = [flag for flag in flags.values() if wanted in flag.aliases]
    if not named:
        raise unknown_argument(name, flags, f"argument of {program}")
    return named[0]


def words_of(flag: Flag, value: Scalar) -> list[str]:
    """An argument as words of a command; none where the value is its absence.

    Raises:
        UsageError: It takes no such value.
    """
    if value is None or (flag.kind == "switch" and value is False):
        return []
    if flag.kind == "value":
        return [flag.on, format_scalar(value)]
    if not isinstance(value, bool):
        raise UsageError(f"{flag.name}={shown(value)}: it is a switch, true or false")
    return [flag.on if value else flag.off]


def check_word(flag: Flag, value: Scalar) -> None:
    """Refuse a value that is not among those that an argument takes.

    Raises:
        UsageError: The message lists them.
    """
    words_of(flag, value)
    if value is not None and flag.words and format_scalar(value) not in flag.words:
        raise UsageError(f"{flag.name}={shown(value)} is not one of {', '.join(flag.words)}")


def understand(asked: Asked, space: SearchSpace, flags: Mapping[str, Flag], policy: Policy) -> Understood:
    """A server's space with everything in it that was asked for.

    Raises:
        UsageError: There is no such argument, a value is refused, or only the user himself may set it.
    """
    lenient = set(asked.known) - {*asked.held, *asked.searched}
    names: dict[str, str] = {}
    for given in asked.values():
        try:
            names[given] = _name(given, flags, policy)
        except UsageError:
            if given not in lenient:
                raise
    spelled = list(names.values())
    if twice := next((name for name in spelled if spelled.count(name) > 1), None):
        raise UsageError(f"{twice} is given twice, in two spellings")
    typed = {names.get(name, name) for name in asked.typed}
    for given, values in asked.values().items():
        if given not in names:
            continue
        for value in values:
            if not (policy.plain(names[given], value) or value in (None, False) or names[given] in typed):
                setting = f"{names[given]}={shown(value)}"
                raise only_by_the_user(asked.source, setting, again=setting)
        space = _extended(space, flags[names[given]], values, policy)
    held = {names[given]: value for given, value in asked.held.items()}
    return Understood(
        space=space,
        held=Config(held),
        for_all=Config({name: value for name, value in held.items() if name not in policy.curated}),
        searched={names[given]: values for given, values in asked.searched.items()},
        known=Config({names[given]: values[0] for given, values in asked.known.items() if given in names}),
    )


def shown(value: Scalar) -> str:
    """A value in a message: one line, not long."""
    return first_line(format_scalar(value), _SHOWN_LETTERS)


def _name(given: str, flags: Mapping[str, Flag], policy: Policy) -> str:
    name = flag_for(flags, given, policy.program).name
    if why := policy.refused(name):
        raise UsageError(f"{name}: {why}")
    return name


def _extended(space: SearchSpace, flag: Flag, values: tuple[Scalar, ...], policy: Policy) -> SearchSpace:
    """The space with an argument's values: on its knob's ladder, or as a knob of their own."""
    if flag.name not in space:
        for value in values:
            policy.check(flag, value)
        return space.with_new(_knob(flag, values, policy))
    knob = space[flag.name]
    for value in values:
        if knob.ordinal:
            check_taken(knob, value)
        elif not knob.takes(value):
            policy.check(flag, value)
    return space.with_knob(knob.with_values(values))


def _knob(flag: Flag, given: tuple[Scalar, ...], policy: Policy) -> Knob:
    """A knob of an argument without a curated one; at rest nothing is passed."""
    return Knob.model_validate(
        {
            "name": flag.name,
            "kind": "choice",
            "values": tuple(dict.fromkeys((None, *given))),
            "default": None,
            "effect": policy.effect(flag.name),
            "why": first_line(flag.help, 100) or f"an argument of {policy.program} that was asked for",
        }
    )
