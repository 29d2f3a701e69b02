"""The quality guard of a tune: lossy values are searched only where answers can be checked; finalists are checked."""

from dataclasses import replace

from infertune.domain.knobs import Config
from infertune.domain.quality import Check, NotScored
from infertune.domain.trial import Trial
from infertune.runs.guard import Guard
from infertune.runs.job import Job
from infertune.runs.rejection import lossy_settings, rejected_by
from infertune.tuning.trials import Trials


def without_unchecked(job: Job, *, allow_lossy: bool) -> Job:
    """The job without lossy values, where nothing can tell whether they spoil the answers.

    An engine that answers from a table keeps them, because nobody is served by it.
    """
    if not job.unchecked:
        return job
    lossy = [knob for knob in job.space.knobs if knob.effect == "lossy" and len(knob.values) > 1]
    if not lossy or (job.engine.simulated and not getattr(job.engine, "scores", False)):
        return job
    names = ", ".join(knob.name for knob in lossy)
    if allow_lossy:
        return replace(
            job, notes=(*job.notes, f"answers are not checked ({job.unchecked}), but {names} may spoil them")
        )
    space = job.space
    for knob in lossy:
        space = space.with_knob(knob.restricted((knob.default,)))
    note = f"{names}: left at the default, for answers cannot be checked: {job.unchecked}; --allow-lossy searches all"
    return replace(job, space=space, notes=(*job.notes, note))


class Answers:
    """Checks configurations of a tune; one whose answers are worse than the base's is rejected."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self._guard: Guard | None = None
        if not trials.job.unchecked:
            self._guard = trials.job.guard(trials.crew.answering, trials.base, trials.request.limits)

    def refer(self) -> None:
        """Let the base answer, while it is loaded."""
        if self._guard and (failure := self._guard.refer()):
            self._unjudged(failure)

    def spoils(self, trial: Trial) -> bool:
        """Whether the best trial of the search so far is now found to answer worse: the search then looks elsewhere.

        It is checked on the engine that is loaded, and only if no other one with its lossy settings was; while other
        workers measure, it is left to the confirmation.
        """
        trials, best = self._trials, self._trials.best()
        if self._guard is None or trials.crew.busy or best is None or best[0] != trial.config:
            return False
        lossy = lossy_settings(trials.ledger, trial.config)
        known = [lossy_settings(trials.ledger, check.checked) for check in trials.ledger.checks]
        return bool(lossy.root) and lossy not in known and not self.keeps(trial.config)

    def look(self, config: Config) -> None:
        """Check a configuration that is loaded now, if it was not checked before."""
        if self._trials.crew.answering.launched == config and config != self._trials.base:
            self.keeps(config)

    def keeps(self, config: Config) -> bool:
        """Whether a configuration answers well enough to be recommended; it is launched for that if it must be."""
        trials = self._trials
        if self._guard is None or config == trials.base:
            return True
        if self.rejects(config):
            return False
        if any(check.checked == config for check in trials.ledger.checks):
            return True
        check = self._guard.check(config)
        if check.verdict == "not checked" and not lossy_settings(trials.ledger, config).root:
            self._unjudged(check.failure)
            return True
        trials.ledger.note_check(check)
        self._tell(check)
        return not self.rejects(config)

    def rejects(self, config: Config) -> bool:
        """Whether its check failed, or that of a configuration with the same lossy settings."""
        return rejected_by(self._trials.ledger, config)

    def _unjudged(self, failure: NotScored | None) -> None:
        self._trials.observer.note(f"answers could not be checked: {failure.detail if failure else 'unknown'}")

    def _tell(self, check: Check) -> None:
        base = self._trials.base
        changed = " ".join(f"{n}={v}" for n, v in check.checked.root.items() if v != base.root.get(n, "unset"))
        word = {"pass": "answers as the base does", "fail": "answers worse", "open": "is not shown to answer as well"}
        self._trials.observer.note(f"{changed} {word.get(check.verdict, 'could not be checked')}: {check.why}")
