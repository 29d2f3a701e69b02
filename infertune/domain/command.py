"""The command that somebody runs an engine with today, sorted into what each part means; it holds no secret."""

import shlex
from collections.abc import Sequence
from typing import Any

from pydantic import field_validator

from infertune.domain.measurement import Frozen


def _parts(word: str | tuple[str, str]) -> tuple[str, ...]:
    return (word,) if isinstance(word, str) else word


class Command(Frozen):
    """A server's command line, taken apart.

    Attributes:
        file: The file that it comes from; empty where it was typed.
        program: The words that start the server, such as `vllm serve`.
        model: The model that it serves; None where it names none.
        model_flag: The model is given by `--model`, not by its position.
        contained: It runs in a container, which has paths of its own.
        model_here: Where a model that is a folder in the container lies on this machine, as far as its mounts say.
        settings: Words of the engine's arguments, as they stand there.
        server: Words of the arguments that concern the server only: they are kept for the export.
        environment: Variables that stand before the program; those with secrets are left out.
        secrets: Names of the flags and variables that were left out: they hold secrets, or a script may not set them.
    """

    file: str = ""
    program: tuple[str, ...] = ()
    model: str | None = None
    model_flag: bool = False
    contained: bool = False
    model_here: str | None = None
    settings: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()

    @field_validator("program", "settings", "server", "environment", "model", "model_here")
    @classmethod
    def _printable(cls, given: Any) -> Any:
        """It may stand in a stranger's profile: no word of it may steer a terminal."""
        words = [given or ""] if isinstance(given, str | None) else [part for word in given for part in _parts(word)]
        if not all(word.isprintable() for word in words):
            raise ValueError("has control characters")
        return given

    @property
    def served(self) -> str | None:
        """The model as it is named or lies on this machine; None where the command names none."""
        return self.model_here or self.model

    @property
    def text(self) -> str:
        """The whole command on one line, as a shell reads it, without its secrets; empty where it stands in a file."""
        return "" if self.file else self.with_settings(self.settings)

    def with_settings(self, settings: Sequence[str]) -> str:
        """The same command with other engine arguments, on one line as a shell reads it."""
        model = ["--model", self.model] if self.model_flag else [self.model]
        words = [*self.program, *(word for word in model if word is not None and self.model), *settings, *self.server]
        return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in self.environment), shlex.join(words)])
