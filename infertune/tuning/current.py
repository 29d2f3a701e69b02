"""What runs today (`--current`): a server's command, a file that holds one, or a profile."""

import os
from pathlib import Path

from infertune.documents import read_text
from infertune.domain.request import TuneRequest
from infertune.engines import default_engine_name, read_command
from infertune.engines.base import EngineOptions
from infertune.errors import UsageError
from infertune.profiles.profile import load_profile
from infertune.runs.asked import Current

_MOST_BYTES = 1_000_000


def read_current(request: TuneRequest) -> Current | None:
    """What `--current` names, None where it was not given.

    Raises:
        UsageError: It is no command of the engine, and no file that holds one.
    """
    given = request.current
    if given is None:
        return None
    engine = (request.engine or default_engine_name()).partition(":")[0]
    path, service = _file_and_service(given)
    if path is None:
        return _of_command(engine, request, given)
    text = read_text(path, "--current", _MOST_BYTES).removeprefix("\ufeff")
    if _is_profile(text):
        profile = load_profile(path)
        if profile.fingerprint.engine != engine:
            raise UsageError(f"--current {path} is of engine {profile.fingerprint.engine}, not of {engine}")
        return Current(settings=profile.changed, notes=(f"what runs today: {path}, {profile.sentence()}",))
    return _of_command(engine, request, text, str(path), service)


def _of_command(engine: str, request: TuneRequest, text: str, file: str = "", service: str = "") -> Current:
    options = EngineOptions(python=request.engine_python, binary=request.engine_binary)
    command = read_command(engine, text, file=file, service=service, options=options)
    notes = []
    if request.model is None and command.model is None:
        raise UsageError(
            f"--current{' ' + file if file else ''}: the command names no model, or a flag with several values stands "
            "before it; put the model first, or name it: infertune tune MODEL --current …"
        )
    if command.model_here is not None:
        notes.append(f"{command.model} in the container is {command.model_here} here")
    elif request.model is None and command.contained and _is_missing_path(command.model):
        raise UsageError(
            f"--current: the model {command.model} lies in the container, and what is mounted there is not said; "
            "name the model on this machine: infertune tune MODEL --current …"
        )
    if command.secrets:
        notes.append(f"left out of everything that is written: {', '.join(command.secrets)}")
    if command.environment:
        names = ", ".join(name for name, _ in command.environment)
        notes.append(f"the command sets {names}: infertune's own launches take them from its environment only")
    return Current(command=command, notes=tuple(notes))


def _file_and_service(given: str) -> tuple[Path | None, str]:
    """`compose.yaml:SERVICE` or `compose.yaml` as file and service; no file where it is a command."""
    whole = Path(given)
    if os.path.exists(whole):
        return whole, ""
    name, colon, service = given.rpartition(":")
    if colon and os.path.exists(name):
        return Path(name), service
    if len(given.split()) == 1 and (whole.suffix in (".yaml", ".yml", ".json") or "/" in given or Path(name).suffix):
        raise UsageError(f"--current {given}: there is no such file")
    return None, ""


def _is_missing_path(model: str | None) -> bool:
    return model is not None and model.startswith("/") and not os.path.exists(model)


def _is_profile(text: str) -> bool:
    """A profile is the only one of the files that has a fingerprint at its top."""
    return any(line.startswith("fingerprint:") for line in text.splitlines())
