"""What every engine's export shares: which weights are meant, and that nothing in a profile can be more than data."""

import os
import re
import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from infertune.domain.architectures import BUILTINS
from infertune.domain.command import Command
from infertune.domain.knobs import Config, Scalar
from infertune.domain.models import Model
from infertune.engines.base import Served, first_line
from infertune.errors import UsageError
from infertune.units import COMMAND_MARK, printable

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+", re.ASCII)
_REVISION = re.compile(r"\w[\w./+-]{0,254}", re.ASCII)  # of a branch, a tag or a commit
_PLAIN_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*")


@dataclass(frozen=True)
class Source:
    """What to load.

    Attributes:
        name: A hub id, an absolute folder, or `builtin:NAME`.
        kind: Which of them.
        revision: The hub revision; None for the newest.
        remarks: Sentences for the user, one line each, plain text.
    """

    name: str
    kind: str
    revision: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def dummy(self) -> bool:
        """Whether there are no trained weights to name: only then an export runs on random ones."""
        return self.kind == "builtin"


def source_of(model: Model) -> Source:
    """The weights that a user of a profile wants: trained ones wherever there are any to name.

    A profile tuned on dummy weights is exported for the model whose shape they have.

    Raises:
        UsageError: The profile names nothing that can be loaded.
    """
    if model.spec.startswith("builtin:"):
        return _of_builtin(model.spec)
    remarks: tuple[str, ...] = ()
    if model.weights == "dummy":
        remarks = ("Tuned on dummy weights: speeds hold for the trained ones, which this loads.",)
        folder = os.path.expanduser(model.spec)  # leaves `~nobody` as it is, which is then refused below
        name = folder if _is_hub_id(model.spec) or folder.startswith("~") else str(Path(folder).absolute())
    else:
        name = model.path
    if _is_hub_id(name):
        if model.revision and not _REVISION.fullmatch(model.revision):
            shown = repr(model.revision[:80])
            raise UsageError(
                f"the profile's model has the revision {shown}, which is no name of a branch, tag or commit"
            )
        return Source(name, "hub", model.revision, remarks)
    if not name.startswith("/") or not name.isprintable() or COMMAND_MARK in name:
        raise UsageError(f"the profile's model {name!r} is no hub id and no absolute folder")
    return Source(name, "folder", None, remarks)


def _is_hub_id(name: str) -> bool:
    return _HUB_ID.fullmatch(name) is not None and not os.path.isdir(name)


def _of_builtin(spec: str) -> Source:
    shape = BUILTINS.get(spec.removeprefix("builtin:"))
    if shape is None:
        raise UsageError(f"the profile's model {spec!r} is no built-in of this infertune")
    if not shape.hub_ids:
        return Source(spec, "builtin", None, (f"{spec} has no trained weights: this runs on random ones.",))
    trained = shape.hub_ids[-1]
    others = f" (or {', '.join(shape.hub_ids[:-1])}, of the same shape)" if shape.hub_ids[:-1] else ""
    return Source(trained, "hub", None, (f"Tuned as {spec} on dummy weights; this loads {trained}{others}.",))


def known_settings(
    settings: Config, knobs: Collection[str], harmless: Callable[[str, Scalar], bool] = lambda name, value: False
) -> dict[str, Scalar]:
    """Settings that may be written out: knobs of this engine with plain values, without those left to the engine.

    A profile is no way to pass an engine any other argument, such as one that runs a model's own code.

    Args:
        settings: What a profile sets.
        knobs: Names of the engine's knobs.
        harmless: Whether another argument may be written out too, with its value.

    Raises:
        UsageError: A name is no knob of the engine, or a text is not a plain word.
    """
    for name, value in settings.root.items():
        if harmless(name, value):
            continue
        if name not in knobs:
            raise UsageError(f"the profile sets {name!r}, which is no knob of its engine: it is not exported")
        if isinstance(value, str) and not _PLAIN_WORD.fullmatch(value):
            raise UsageError(f"the profile sets {name} to {value!r}, which is no value of a knob: it is not exported")
    return {name: value for name, value in settings.root.items() if value is not None}


def left_out(today: Command, written: Command) -> tuple[str, ...]:
    """What of a command of today its export leaves out, in sentences.

    Args:
        today: The command as the profile has it.
        written: The same, fit to be written out.
    """
    found = []
    if written.program != today.program:
        program, before = shlex.join(written.program), first_line(shlex.join(today.program), 120)
        found.append(f"`{program}` stands in the place of: {before}")
    if written.secrets:
        found.append(
            f"Left out, being secrets or not known from the script; add them again: {', '.join(written.secrets)}"
        )
    return tuple(found)


def comment(served: Served, source: Source) -> str:
    """What to say at the top of an export: lines that begin with `#` and cannot end early."""
    version = f"version {served.engine_version or 'unknown'}"
    measured = f"Exported by infertune. The tune said: {served.answer}; {version} on {served.device}."
    lines = (printable(text).replace(COMMAND_MARK, "## [") for text in (measured, *source.remarks))
    return "\n".join(f"# {line}" for line in lines)
