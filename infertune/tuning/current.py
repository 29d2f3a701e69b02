"""What runs today (`--current`): a server's command, a file that holds one, or a profile."""

import os
from pathlib import Path

from infertune.documents import read_text
from infertune.domain.request import TuneRequest
from infertune.engines import default_engine_name, read_command
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
        return _of_command(engine, given)
    text = read_text(path, "--current", _MOST_BYTES)
    if _is_profile(text):
        profile = load_profile(path)
        if profile.fingerprint.engine != engine:
            raise UsageError(f"--current {path} is of engine {profile.fingerprint.engine}, not of {engine}")
        return Current(settings=profile.changed, notes=(f"what runs today: {path}, {profile.sentence()}",))
    return _of_command(engine, text, str(path), service)


def _of_command(engine: str, text: str, file: str = "", service: str = "") -> Current:
    command = read_command(engine, text, file=file, service=service)
    notes = []
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


def _is_profile(text: str) -> bool:
    """A profile is the only one of the files that has a fingerprint at its top."""
    return any(line.startswith("fingerprint:") for line in text.splitlines())
