"""The record of a run: header, trials and ending, as read from its `trials.jsonl`.

`runs.ledger` writes the file. It is read here, in a lower layer, because the landscape's statistics, the replay engine
and the report need it too.
"""

import io
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import JsonValue, ValidationError

from infertune.documents import check_schema, parse_json, read_bytes
from infertune.domain.command import Command
from infertune.domain.device import Device
from infertune.domain.knobs import Config, SpaceRecord
from infertune.domain.measurement import Frozen, IsoTime
from infertune.domain.models import Model
from infertune.domain.quality import Check
from infertune.domain.record_checks import CommandName, HeaderChecks, SenseError
from infertune.domain.trial import Trial
from infertune.domain.workload import WorkloadRecord
from infertune.errors import UsageError

FILE_NAME = "trials.jsonl"
_MOST_LEDGER_BYTES = 512 * 1024**2  # 2,000 trials of 1,000 requests have about 200 MiB (judgement)
_ENDING_START = b'{"ended":'
_CHECK_START = b'{"checked":'
_MARK = b"\xef\xbb\xbf"  # a byte order mark, which an editor may have put there
_SCHEMA_VERSION = 1


class Header(Frozen):
    """First line of a ledger: what was asked, of what, where, and by which version.

    Attributes:
        schema_version: Of this file; a newer one is refused, and so is a file without.
        command: The command that made the run.
        request: Its options, as `--config` takes them.
        space: The knobs, restricted as the user wished; a knob held at a value has it as its default.
        engine_defaults: What the engine does when it is told nothing.
        notes: What was changed on the way, in sentences.
        ported: The configuration that was best elsewhere, for a run that started from there.
        held: The arguments that the request holds for the whole run, as the engine spells them.
        stock: The engine's default with what is held, for a run whose knobs' defaults are the settings that run today
            (`--current`); None where the knobs' defaults are the engine's.
        running: The command that runs today, without its secrets; None where there is none.
    """

    schema_version: Literal[1] = 1
    infertune_version: str
    python_version: str = platform.python_version()
    created_at: IsoTime
    command: CommandName
    request: dict[str, JsonValue]
    engine: str
    engine_version: str | None
    model: Model | None
    device: Device
    workload: WorkloadRecord
    space: SpaceRecord
    engine_defaults: Config
    notes: tuple[str, ...] = ()
    ported: Config | None = None
    held: Config = Config({})
    stock: Config | None = None
    running: Command | None = None


class Ending(Frozen):
    """Last line of a run that came to its end.

    Attributes:
        ended: Why the search stopped, in words.
        proof: Why proving ended, in words; empty where nothing was proved.
    """

    ended: str
    proof: str = ""


class Record:
    """The content of a ledger.

    Attributes:
        folder: The run's folder.
        header: The first line; its ladders are as long as the trials went.
        trials: Every trial, in order.
        checks: What was found of the answers of configurations, in order.
        warnings: What was found amiss when it was read.
        ending: Why the search stopped; None while the run has not come to its end.
        proof_ending: Why proving ended; empty where nothing was proved.
        torn_bytes: The length of a last line that a crash cut short.
    """

    def __init__(
        self, folder: Path, header: Header, trials: Iterable[Trial] = (), warnings: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.header = header
        self.trials = list(trials)
        self.checks: list[Check] = []
        self.warnings = warnings
        self.ending: str | None = None
        self.proof_ending = ""
        self.torn_bytes = 0
        for trial in self.trials:
            self._widen(trial)

    def take(self, trial: Trial) -> None:
        """Add a trial, whose search may have gone beyond a ladder of the header's space; what had ended goes on."""
        self.trials.append(trial)
        self.ending, self.proof_ending = None, ""
        self._widen(trial)

    def _widen(self, trial: Trial) -> None:
        space = self.header.space.with_values_of(trial.config)
        if space is not self.header.space:
            self.header = self.header.model_copy(update={"space": space})


def read_record(folder: Path) -> Record:
    """The record of a run's folder, without its last line if that one is torn.

    Raises:
        UsageError: The folder is not a run, is of a newer version, or its ledger is damaged before its last line or
            contradicts itself; the message names file, line and field.
    """
    path = folder / FILE_NAME
    if os.path.isfile(folder):
        raise UsageError(f"{folder} is not a run but a file: name the run's folder, such as {folder.parent}")
    if not os.path.exists(path):
        raise UsageError(f"{folder} is not a run: it has no readable {FILE_NAME}")
    content = read_bytes(path, "ledger", _MOST_LEDGER_BYTES).removeprefix(_MARK)
    whole, _, torn = content.rpartition(b"\n")  # a whole ledger ends in a line break, so nothing follows the last one
    lines = io.BytesIO(whole)  # line by line: a file of line breaks alone would make a list of gigabytes
    first = lines.readline()
    _check_first(path, first, cut=bool(torn))
    try:
        header = Header.model_validate_json(first)
        checks = HeaderChecks(
            header.command,
            header.request,
            header.space,
            header.engine_defaults,
            header.held,
            {"ported": header.ported, "stock": header.stock},
        )
    except (ValidationError, SenseError) as error:
        what = _fault(error)
        raise UsageError(f"{path} is no ledger that this version of infertune reads: line 1: {what}") from None
    record = Record(folder, header)
    if torn:
        record.warnings = (f"{path}: the last line was torn ({len(torn)} bytes) and is dropped",)
        record.torn_bytes = len(torn)
    for number, line in enumerate(lines, start=2):
        try:
            if line.startswith(_ENDING_START):
                ending = Ending.model_validate_json(line)
                record.ending, record.proof_ending = ending.ended, ending.proof
            elif line.startswith(_CHECK_START):
                record.checks.append(Check.model_validate_json(line))
            else:
                trial = Trial.model_validate_json(line)
                checks.check(trial)
                record.take(trial)
        except (ValidationError, SenseError) as error:
            raise UsageError(f"{path}, line {number} is damaged: {_fault(error)}") from None
    return record


def _check_first(path: Path, line: bytes, *, cut: bool) -> None:
    """Refuse a first line that is no whole header, or one of a newer version or of none.

    Raises:
        UsageError: It is.
    """
    try:
        found = parse_json(line.decode())
    except ValueError:
        what = "its header in line 1 is cut off or damaged" if line.strip() or cut else "it has no header"
        raise UsageError(f"{path} is no ledger that this version of infertune reads: {what}; start a new run") from None
    check_schema(found, path, "ledger", _SCHEMA_VERSION)


def _fault(error: ValidationError | SenseError) -> str:
    if isinstance(error, SenseError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
