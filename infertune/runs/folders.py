"""What a folder holds: a run, a check or a study, and whether a new one may be made in it."""

import os
from pathlib import Path

from infertune.domain.record import FILE_NAME, read_record
from infertune.errors import UsageError

CHECK_NAME = "check.json"
STUDY_NAME = "study.json"
RESUMABLE = ("tune", "landscape")  # commands whose runs can be continued


def check_unused(folder: Path, command: str) -> None:
    """Refuse a folder that holds another run, check or study.

    Args:
        folder: Where a new run is to be.
        command: Which command makes it; a run of its own kind can be continued, if it is one that can be.

    Raises:
        UsageError: It does; a study may go on in a study's folder.
    """
    kinds = {"run": FILE_NAME, "check": CHECK_NAME, "study": STUDY_NAME}
    found = [kind for kind, name in kinds.items() if os.path.lexists(folder / name)]
    if not found or (command == "study" and found == ["study"]):
        return
    can_go_on = command in RESUMABLE and found[0] == "run" and _command_of(folder) in (command, None)
    cure = f"continue it with --resume {folder}, or choose" if can_go_on else "choose"
    raise UsageError(f"{folder} holds a {found[0]} already; {cure} another --out")


def _command_of(folder: Path) -> str | None:
    """Which command made a run; None where its ledger cannot be read, as --resume will say."""
    try:
        return read_record(folder).header.command
    except UsageError:
        return None
