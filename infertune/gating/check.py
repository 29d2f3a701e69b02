"""The quality guard alone: does a configuration answer as the engine's default does?"""

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from infertune.bench.locks import device_lock
from infertune.domain.knobs import Config
from infertune.domain.measurement import Frozen
from infertune.domain.quality import Check, LimitOptions, Verdict
from infertune.domain.request import GateRequest, JobRequest
from infertune.errors import (
    EXIT_INCONCLUSIVE,
    EXIT_OK,
    EXIT_REGRESSION,
    BenchmarkError,
    InterruptedRunError,
    MismatchError,
    UsageError,
)
from infertune.gating.comparison import Arm, compared
from infertune.gating.result import save_json
from infertune.profiles.fingerprint import fingerprint_of
from infertune.profiles.profile import Fingerprint, changed_settings
from infertune.runs.folders import CHECK_NAME, check_unused
from infertune.runs.job import Job, prepare
from infertune.runs.ledger import now
from infertune.runs.observer import Observer
from infertune.version import __version__
from infertune.writing import check_inside

_PROFILE_ENDINGS = (".yaml", ".yml", ".json")
EXIT_CODES: dict[Verdict, int] = {"pass": EXIT_OK, "fail": EXIT_REGRESSION, "open": EXIT_INCONCLUSIVE}


class CheckRequest(LimitOptions, JobRequest):
    """What `infertune check` takes: `model` may be the file of a profile."""


class CheckResult(Frozen):
    """What a check found: `check.json` in its folder, and what `--json` prints.

    Attributes:
        schema_version: Of this document.
        answer: The verdict.
        exit_code: What the program ends with.
        question: What was asked, in one sentence.
        reference: The configuration whose answers are the reference.
        changed: In what the checked configuration differs from it.
        check: The figures.
        fingerprint: Of what was checked, and on what.
        notes: What the user should know, in sentences.
        run: The folder with the engines' logs.
        created_at: ISO 8601 time in UTC.
    """

    schema_version: Literal[1] = 1
    infertune_version: str
    answer: Verdict
    exit_code: int
    question: str
    reference: Config
    changed: Config
    check: Check
    fingerprint: Fingerprint
    notes: tuple[str, ...]
    run: str
    created_at: str


def check_request(request: CheckRequest, observer: Observer | None = None) -> CheckResult:
    """Let the engine's default answer, and score its answers with a configuration.

    Raises:
        UsageError: The request cannot be, or answers cannot be judged here.
        MismatchError: The profile does not hold here, or the two sides have other vocabularies.
        BenchmarkError: One of them could not be launched or scored.
        InterruptedRunError: Ctrl-C. The engines are gone.
    """
    observer = observer or Observer()
    base, candidate, notes = _arms(request)
    job = candidate.job
    check_can_judge(job)
    with device_lock(job.lock_names, wait=request.wait, on_note=observer.note):
        folder = job.new_folder()
        check_unused(folder, "check")
        check_inside(folder, (CHECK_NAME,), "result")
        observer.run_starts(folder, base.config)
        for note in notes:
            observer.note(note)
        try:
            check = run_check(request, base, candidate, folder, observer)
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted without a verdict") from None
        result = CheckResult(
            infertune_version=__version__,
            answer=check.verdict,
            exit_code=EXIT_CODES[check.verdict],
            question=f"does {candidate.label} answer as {base.label} does?",
            reference=base.config,
            changed=changed_settings(candidate.config, base.config),
            check=check,
            fingerprint=fingerprint_of(job),
            notes=notes,
            run=str(folder),
            created_at=now(),
        )
        save_json(folder, CHECK_NAME, result)
    return result


def run_check(
    request: LimitOptions, base: Arm, candidate: Arm, folder: Path, observer: Observer, first_launch: int = 0
) -> Check:
    """The check of a candidate against a base, each on an engine of its own where they need one.

    Raises:
        MismatchError: They have other vocabularies.
        BenchmarkError: One of them could not be launched or scored.
    """
    observer.phase("quality: does it answer as the reference does", None)
    one_engine = base.job.options == candidate.job.options and base.job.model == candidate.job.model
    with ExitStack() as benches:
        bench = benches.enter_context(candidate.job.bench(folder, first_launch, observer.note))
        base_bench = (
            bench if one_engine else benches.enter_context(base.job.bench(folder, first_launch + 500, observer.note))
        )
        guard = base.job.guard(base_bench, base.config, request.limits)
        check = guard.check(candidate.config, bench)
    if check.failure is not None and check.failure.kind == "other vocabulary":
        raise MismatchError(f"the two sides cannot be compared: {check.why}")
    if check.verdict == "not checked":
        raise BenchmarkError(f"answers could not be checked: {check.why}; logs are in {folder / 'logs'}")
    return check


def check_can_judge(job: Job) -> None:
    """Refuse what has no answers to be judged.

    Raises:
        UsageError: The weights are random, or the engine gives no log probabilities.
    """
    if job.unchecked:
        cure = "give a model with its trained weights" if job.engine.needs_model else "take another engine"
        raise UsageError(f"answers cannot be checked: {job.unchecked}; {cure}")


def _arms(request: CheckRequest) -> tuple[Arm, Arm, tuple[str, ...]]:
    """The default and what is checked: a profile's configuration, or the settings of `--set`.

    Raises:
        UsageError: Nothing is changed, or a setting cannot be.
        MismatchError: The profile does not hold here.
    """
    if request.knob:
        raise UsageError("knob is of a search, and a check is of one configuration: leave it out, or use set")
    name = request.model or ""
    if name.endswith(_PROFILE_ENDINGS):
        known = {field: getattr(request, field) for field in request.model_fields_set if field != "model"}
        gate = GateRequest.model_validate({**known, "profile": Path(name)}).typed_by_user(request.set)
        found = compared(gate)
        return found.base, found.candidate, found.notes
    job = prepare(request)
    config = job.space.repair(job.space.default)
    if broken := job.space.violations(config):
        raise UsageError(f"these settings cannot be together: {'; '.join(broken)}")
    settings = changed_settings(config, job.engine_defaults)
    if not settings.root:
        raise UsageError("nothing to check: give a profile, or a setting that differs from the default with --set")
    return Arm("the default", job, job.engine_defaults), Arm(str(settings), job, config), job.notes
