"""`study.json`: which cells of a study are done, which failed, and why."""

from pathlib import Path
from typing import Literal

from infertune.domain.measurement import Frozen
from infertune.runs.folders import STUDY_NAME
from infertune.version import __version__
from infertune.writing import write_inside

State = Literal["done", "recorded", "failed", "waiting"]


class CellRecord(Frozen):
    """One cell of a study.

    Attributes:
        device: Its labels in the plan; likewise `engine`, `model` and `workload`.
        state: done, recorded (read from a table), failed, or waiting (not measured yet, or not wholly).
        why: Why it failed; empty if it did not.
        run: The run's folder within the study's; empty for a table.
    """

    device: str
    engine: str
    model: str
    workload: str
    state: State
    why: str = ""
    run: str = ""


class StudyRecord(Frozen):
    """What a study's folder holds.

    Attributes:
        schema_version: Of this file.
        infertune_version: Which version wrote it.
        title: Of the plan.
        cells: In the order of the plan, recorded ones last.
    """

    schema_version: Literal[1] = 1
    infertune_version: str = __version__
    title: str
    cells: tuple[CellRecord, ...]

    def save(self, folder: Path) -> Path:
        """Write it into the study's folder.

        Raises:
            UsageError: It cannot be written.
        """
        return write_inside(folder, STUDY_NAME, self.model_dump_json(indent=2) + "\n", "study")
