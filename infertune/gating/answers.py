"""`gate --metric quality`: the answers of base and candidate, beside speed or instead of it."""

from infertune.domain.quality import Check, Verdict
from infertune.domain.request import GateRequest
from infertune.errors import UsageError
from infertune.gating.comparison import QUALITY, Comparison
from infertune.gating.result import GateResult, exit_code, record_of
from infertune.gating.verdict import Answer
from infertune.profiles.fingerprint import fingerprint_of
from infertune.runs.ledger import Ledger
from infertune.version import __version__

_ANSWERS: dict[Verdict, Answer] = {"pass": "pass", "fail": "regression", "open": "inconclusive"}
_WORST_FIRST: tuple[Answer, ...] = ("regression", "inconclusive", "pass")


def check_flags(request: GateRequest) -> None:
    """Refuse quality where there is no base whose answers could be the reference.

    Raises:
        UsageError: The gate has no base.
    """
    if QUALITY in request.metric and (request.calibrate or request.mode == "stored"):
        what = "--calibrate" if request.calibrate else "--mode stored"
        raise UsageError(
            f"--metric {QUALITY} compares answers with a base's, and {what} has none; leave one of them out"
        )


def with_answers(result: GateResult, check: Check, request: GateRequest) -> GateResult:
    """A result with the verdict on answers: the worse of the two decides."""
    found = {_ANSWERS[check.verdict], result.answer}
    answer = next(answer for answer in _WORST_FIRST if answer in found)
    code = exit_code(answer, request.on_inconclusive)
    return result.model_copy(update={"answer": answer, "exit_code": code, "quality": check})


def answers_alone(comparison: Comparison, request: GateRequest, ledger: Ledger) -> GateResult:
    """The result of a gate that measures no speed, before its verdict."""
    return GateResult(
        infertune_version=__version__,
        answer="pass",
        exit_code=0,
        mode="paired",
        question=f"does the profile's configuration answer as {comparison.base.label} does?",
        profile=str(request.profile),
        margin=None,
        pairs=0,
        base=record_of(comparison.base),
        new=record_of(comparison.candidate),
        metrics=(),
        fingerprint=fingerprint_of(comparison.candidate.job),
        n_requests=0,
        notes=comparison.notes,
        run=str(ledger.folder),
        created_at=ledger.header.created_at,
    )
