"""The request of a run that is continued by `--resume`, from its ledger and what the user says anew."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from infertune.domain.assigning import assignments
from infertune.domain.record import Header
from infertune.domain.request import R, is_code, make_request
from infertune.errors import UsageError

_NEVER_RECORDED = {"storage", "workers"}  # addresses: a stranger's ledger must not name one


def continued(kind: type[R], header: Header, folder: Path, flags: Mapping[str, Any], may_change: Set[str]) -> R:
    """The request that a run was started with, for `--resume`; only its limits may be given anew.

    Args:
        kind: The request's class.
        header: The run's.
        folder: The run's.
        flags: Flags given beside `--resume`; None for those that were not.
        may_change: Flags that do not change what is measured.

    Raises:
        UsageError: A flag would change what is measured, or the run was started with a program that the user has not
            named again: a ledger may be a stranger's.
    """
    given = {name: value for name, value in flags.items() if value not in (None, [], ())}
    programs = {name: header.request[name] for name in ("engine_python", "engine_binary") if header.request.get(name)}
    if is_code(header.request.get("sampler")):
        programs["sampler"] = header.request["sampler"]
    for name, program in programs.items():
        if str(given.get(name, "")) != str(program):
            raise UsageError(
                f"{folder} was started with --{name.replace('_', '-')} {program}, a program that --resume would run: "
                "give the flag again to allow it"
            )
    may_change = {*may_change, *programs}
    if "set" in given and assignments(given["set"]).items() <= assignments(header.request.get("set", {})).items():
        allowed = given.pop("set")  # names again what the run was started with, which may need the user's own word
        return continued(kind, header, folder, given, may_change).typed_by_user(allowed)
    if others := sorted(given.keys() - may_change):
        names = ", ".join("MODEL" if name == "model" else f"--{name.replace('_', '-')}" for name in others)
        raise UsageError(f"--resume continues a run as it was started; leave out {names}, or start a new run")
    earlier = {name: value for name, value in header.request.items() if name not in _NEVER_RECORDED}
    return make_request(kind, {**given, "out": folder}, earlier=earlier)
