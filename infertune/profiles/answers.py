"""What a profile keeps of the check of its answers: figures and verdict, and no text of the workload."""

from typing import Literal

from infertune.domain.knobs import Config
from infertune.domain.measurement import Frozen
from infertune.domain.quality import Figures, Limits
from infertune.domain.record import Record
from infertune.runs.rejection import unchecked_lossy


class CheckedAnswers(Frozen):
    """What is known of the answers of a profile's configuration.

    Attributes:
        verdict: `pass`, or `not checked` where its settings may spoil answers and nobody has looked.
        why: In a sentence; empty where nothing was checked.
        limits: What it was held against; None where nothing was checked.
        figures: How far its scores are from those of what was to be beaten.
        floor: The same of what was to be beaten, against itself.
        n_prompts: How many prompts were scored.
    """

    verdict: Literal["pass", "not checked"]
    why: str = ""
    limits: Limits | None = None
    figures: Figures | None = None
    floor: Figures | None = None
    n_prompts: int = 0


def checked_answers(record: Record, config: Config) -> CheckedAnswers | None:
    """What a run knows of a configuration's answers; None where it was not checked and need not be.

    Args:
        record: The run.
        config: The configuration that a profile recommends.
    """
    for check in reversed(record.checks):
        if check.checked == config and check.verdict == "pass":
            return CheckedAnswers(
                verdict="pass",
                why=check.why,
                limits=check.limits,
                figures=check.figures,
                floor=check.floor,
                n_prompts=check.n_prompts,
            )
    return CheckedAnswers(verdict="not checked") if unchecked_lossy(record, config) else None
