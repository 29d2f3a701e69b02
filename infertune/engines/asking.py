"""What a user asks an engine's arguments to be, and how an engine understands it.

An engine that takes more arguments than its knobs has a method `understand(asked, model, device, workload)`, which
answers an `Understood`; for every other one, what is asked for must be among its knobs (`within_knobs`).
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from infertune.domain.command import Command
from infertune.domain.device import Device
from infertune.domain.knobs import Config, Knob, Scalar, SearchSpace, format_scalar
from infertune.domain.models import Model
from infertune.domain.workload import Workload
from infertune.engines.base import Engine, first_line
from infertune.engines.shell import holds_secret
from infertune.errors import UsageError

_NEAREST = 3


@dataclass(frozen=True)
class Asked:
    """Arguments as somebody spells them.

    Attributes:
        held: Name → the value that it has for the whole run.
        searched: Name → the values to search over.
        known: Name → values that the space should have besides: of a profile, or of what runs today. What the engine
            does not know is left out.
        command: The command that runs today, whose settings become `Understood.current`.
        typed: Names that the user typed himself: only those may have values that load code or reach out.
        source: Where `known` comes from, for people.
    """

    held: Mapping[str, Scalar] = field(default_factory=dict)
    searched: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    known: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    command: Command | None = None
    typed: frozenset[str] = frozenset()
    source: str = "the profile"

    def __bool__(self) -> bool:
        return bool(self.held or self.searched or self.known or self.command)

    def values(self) -> dict[str, tuple[Scalar, ...]]:
        """Every name with the values that the space must have."""
        found: dict[str, tuple[Scalar, ...]] = dict(self.known)
        for name, values in (*self.searched.items(), *((name, (value,)) for name, value in self.held.items())):
            found[name] = (*found.get(name, ()), *values)
        return found


@dataclass(frozen=True)
class Understood:
    """What was asked for, as the engine spells it.

    Attributes:
        space: The engine's whole space, with every value that was asked for.
        held: Arguments that are held.
        for_all: Those of them that are no knob to be tuned: the engine's default is meant with them too.
        searched: Arguments that are searched, with their values.
        known: The values that were to be known, the first of each.
        current: What the command of today sets; None without one.
        notes: What the user should know of it, in sentences.
    """

    space: SearchSpace
    held: Config = Config({})
    for_all: Config = Config({})
    searched: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    known: Config = Config({})
    current: Config | None = None
    notes: tuple[str, ...] = ()


@runtime_checkable
class TakesArguments(Protocol):
    """An engine that takes more arguments than those it has knobs for."""

    def understand(self, asked: Asked, model: Model | None, device: Device, workload: Workload) -> Understood:
        """The space with what was asked for in it.

        Raises:
            UsageError: There is no such argument, a value is refused, or only the user himself may set it.
        """


def understood(engine: Engine, asked: Asked, model: Model | None, device: Device, workload: Workload) -> Understood:
    """What was asked for, as an engine understands it.

    Raises:
        UsageError: It is not to be had.
    """
    if not asked:
        return Understood(engine.space(model, device, workload))
    if isinstance(engine, TakesArguments):
        for name, values in asked.values().items():
            if holds_secret(name) and any(isinstance(value, str) for value in values):
                raise UsageError(
                    f"--set {name}: a secret would be written into the run's files; give it in the environment, as in "
                    "HF_TOKEN=… infertune …"
                )
        return engine.understand(asked, model, device, workload)
    if asked.command:
        raise UsageError(f"--current: engine {engine.name} is not started by a command; give a saved profile")
    return within_knobs(engine.space(model, device, workload), asked)


def within_knobs(space: SearchSpace, asked: Asked) -> Understood:
    """What was asked for, where it must be among the knobs of a space or further along their ladders.

    Raises:
        UsageError: There is no such knob, or it does not take a value.
    """
    names = {name: canonical(name) for name in asked.values()}
    taken = {n: tuple(v for v in values if _has(space, names[n], v)) for n, values in asked.known.items()}
    known = {name: values for name, values in taken.items() if values}
    asked = replace(asked, known=known)
    for name, values in asked.values().items():
        if names[name] not in space:
            raise unknown_argument(name, space.names, "knob")
        knob = space[names[name]]
        for value in values:
            check_taken(knob, value)
        space = space.with_knob(knob.with_values(values))
    return Understood(
        space=space,
        held=Config({names[name]: value for name, value in asked.held.items()}),
        searched={names[name]: values for name, values in asked.searched.items()},
        known=Config({names[name]: values[0] for name, values in asked.known.items()}),
    )


def _has(space: SearchSpace, name: str, value: Scalar) -> bool:
    return name in space and space[name].takes(value)


def canonical(name: str) -> str:
    """`--max-model-len`, `max-model-len` and `max_model_len` as the last; what follows a dot stays as it is."""
    head, dot, rest = name.strip().lstrip("-").partition(".")
    return head.replace("-", "_") + dot + rest


def check_taken(knob: Knob, value: Scalar) -> None:
    """Refuse a value that a knob does not take.

    Raises:
        UsageError: The message has the values that it takes.
    """
    if knob.takes(value):
        return
    given = f"{knob.name}={first_line(format_scalar(value), 60)}"
    shown = ", ".join(map(format_scalar, knob.values))
    if not knob.ordinal:
        raise UsageError(f"{given} is not one of {shown}")
    if isinstance(value, bool) or not isinstance(value, int if knob.kind == "int" else int | float):
        raise UsageError(f"{given} is not a number of the kind {shown}")
    raise UsageError(f"{given} is out of range {knob.numbers[0]:g} to {max(knob.numbers[-1], knob.most or 0):g}")


def only_by_the_user(source: str, setting: str, again: str) -> UsageError:
    """That a setting which can load code or reach out did not come from the user himself.

    Args:
        source: Where it comes from, such as "the profile".
        setting: What is set, as people read it.
        again: The setting as he would type it, `NAME=VALUE`.
    """
    return UsageError(
        f"{source} sets {setting}, which can load code or reach files and the network: "
        f"if you want that, say so yourself with --set {again}"
    )


def unknown_argument(name: str, names: Iterable[str], what: str) -> UsageError:
    """That there is no such argument, with the nearest there are."""
    known = list(names)
    near = difflib.get_close_matches(canonical(name), known, n=_NEAREST, cutoff=0.5)
    shown = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known[:20])}"
    return UsageError(f"unknown {what} {first_line(name, 60)!r}; {shown}")
