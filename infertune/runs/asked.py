"""What a request, a profile or what runs today asks of an engine's arguments, and the space that comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from infertune.domain.command import Command
from infertune.domain.knobs import Config, Scalar, SearchSpace, format_scalar
from infertune.domain.request import JobRequest
from infertune.engines.asking import Asked, Understood, check_taken, unknown_argument
from infertune.errors import UsageError


@dataclass(frozen=True)
class Current:
    """What runs today: the settings of a profile, or a command.

    Attributes:
        settings: Of a profile: what it changes.
        command: The command, None for a profile.
        notes: What the user should know of it, in sentences.
    """

    settings: Config = Config({})
    command: Command | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fixed:
    """Settings of a profile that are measured again as they are.

    Attributes:
        held: What its tune held.
        changed: What it changes from the engine's defaults.
        more: Further values that settings may have, of another profile or of flags.
        source: The profile, for people.
    """

    held: Config
    changed: Config
    more: Mapping[str, tuple[Scalar, ...]]
    source: str


def asked_of(request: JobRequest, current: Current | None, fixed: Fixed | None) -> Asked:
    """What is asked of the engine's arguments, by the request or by a profile."""
    if fixed is not None:
        return Asked(
            held=fixed.held.root,
            known=_merged(fixed.changed, fixed.more, fixed.held),
            typed=request.typed_names,
            source=fixed.source,
        )
    return Asked(
        held=request.set,
        searched=request.knob,
        known={name: (value,) for name, value in current.settings.root.items()} if current else {},
        command=current.command if current else None,
        typed=request.typed_names,
        source="--current" if current else "the configuration file or run",
    )


def _merged(changed: Config, more: Mapping[str, tuple[Scalar, ...]], held: Config) -> dict[str, tuple[Scalar, ...]]:
    """The values that settings have in a profile and elsewhere, each once; what is held is asked for as such."""
    found: dict[str, tuple[Scalar, ...]] = {n: (value,) for n, value in changed.root.items() if n not in held}
    for name, values in more.items():
        found[name] = tuple(dict.fromkeys((*found.get(name, ()), *values)))
    return found


def resting_at_current(space: SearchSpace, found: Understood) -> tuple[SearchSpace, Config, tuple[str, ...]]:
    """A space that rests at what runs today, the engine's default in it, and what was changed on the way.

    Raises:
        UsageError: What runs today breaks a rule of the space.
    """
    stock = space.repair(space.default)
    current = found.current or found.known
    notes = []
    for name, value in current.root.items():
        if name not in space or space[name].default == value:
            continue
        if name in found.held:
            notes.append(f"{name}={found.held[name]} is held; what runs today has {name}={value}")
            continue
        space = space.with_knob(space[name].with_default(value))
    if broken := space.violations(space.default):
        raise UsageError(f"--current: these settings cannot be together: {'; '.join(broken)}")
    if space.repair(space.default) != space.default:
        raise UsageError(f"--current: {space.default} is no setting of {', '.join(space.names)}")
    return space, stock, tuple(notes)


def restrict(space: SearchSpace, held: Mapping[str, Scalar], ranges: Mapping[str, tuple[Scalar, ...]]) -> SearchSpace:
    """A space with some knobs held at one value and some restricted to a few.

    Raises:
        UsageError: A knob is unknown or both held and searched, a value is not of its kind or out of its range, or
            stands twice.
    """
    for name, value in held.items():
        if name in ranges and ranges[name] != (value,):
            texts = ",".join(map(format_scalar, ranges[name]))
            raise UsageError(
                f"--set {name}={format_scalar(value)} and --knob {name}={texts} exclude each other: an argument is "
                "held or searched; leave one out"
            )
    for name, values in [*ranges.items(), *((name, (value,)) for name, value in held.items())]:
        if name not in space:
            raise unknown_argument(name, space.names, "knob")
        knob = space[name]
        if len(set(map(format_scalar, values))) != len(values):
            raise UsageError(f"{name}: a value is given twice")
        for value in values:
            check_taken(knob, value)
        space = space.with_knob(knob.restricted(values))
    return space
