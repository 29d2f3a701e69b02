"""Tune an engine on this machine: search, confirm, compare, save, report, in this order."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from infertune.bench.locks import device_lock
from infertune.bench.remote.crew import RemoteCrew
from infertune.domain.objective import GOODPUTS, objective_of
from infertune.domain.record import Header
from infertune.domain.request import TuneRequest, make_request
from infertune.errors import BenchmarkError, InterruptedRunError, UsageError
from infertune.profiles.profile import Profile, fingerprint, profile_of
from infertune.profiles.promised import Promised
from infertune.profiles.store import Kept, earlier_answer, place_of
from infertune.report import check_place, find, to_dataframe, write_found
from infertune.report.words import device_sentences, edge_sentences
from infertune.runs.asked import Current
from infertune.runs.continuing import continued
from infertune.runs.job import Job, prepare
from infertune.runs.ledger import Ledger
from infertune.runs.observer import Observer
from infertune.runs.staff import crew_of, workers_of
from infertune.runs.summary import Summary, default_config
from infertune.search import Predictor, Transferred, make_searcher
from infertune.search.storage import check_storage
from infertune.tuning.answers import Answers, without_unchecked
from infertune.tuning.budget import Budget
from infertune.tuning.current import read_current
from infertune.tuning.in_storage import InStorage
from infertune.tuning.origin import Origin, read_origin
from infertune.tuning.proof_phase import ProofPhase
from infertune.tuning.search_phase import SearchPhase
from infertune.tuning.trials import Trials
from infertune.writing import check_inside

_PROFILE = "profile.yaml"
_OF_SEARCH = {"trials", "patience"}
_LIMITS = {"trials", "budget", "patience", "wait", "load_timeout", "run_timeout"}
_MAY_CHANGE = _LIMITS | {"profiles", "storage", "workers"}


@dataclass(frozen=True)
class Study:
    """A tune and what it found.

    Attributes:
        ledger: Every trial.
        summary: The answer.
        profile: The configuration that it recommends, with its fingerprint.
        profile_file: Where the profile was saved.
        kept: The proven profile of the same case that stays in the folder of profiles, as this run's is not proven;
            `profile_file` is then in the run's folder.
        edges: Where the best lies at the end of a ladder and why the search went no further, a sentence each.
        devices: How its devices differ, a sentence each; empty where it had one only.
        report_file: The report's page; `report.md` and `landscape.csv` lie beside it.
    """

    ledger: Ledger
    summary: Summary
    profile: Profile
    profile_file: Path
    report_file: Path
    kept: Kept | None = None
    edges: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    def to_dataframe(self) -> pd.DataFrame:
        """One row a trial: the columns of `landscape.csv`."""
        return to_dataframe(self.ledger)


def tune_request(request: TuneRequest, observer: Observer | None = None, resume: Path | None = None) -> Study:
    """Find a better configuration, prove it on unseen prompts, save it and report it.

    Args:
        request: What to tune.
        observer: Is told of every step.
        resume: A run's folder, to continue it; the request must be the one it was started with.

    Returns:
        The finished study.

    Raises:
        UsageError: The request cannot be; nothing was touched.
        BenchmarkError: The default or everything could not be measured, the device is busy, or the disk is full.
        MismatchError: The run to resume was made on another device, engine version, model or workload.
        InterruptedRunError: Ctrl-C. The engine is gone; profile and report of what there is so far are in the folder.
    """
    observer = observer or Observer()
    current = read_current(request)
    with workers_of(request, observer.note, current) as workers:
        return _tune(request, observer, resume, workers, current)


def _tune(
    request: TuneRequest,
    observer: Observer,
    resume: Path | None,
    workers: RemoteCrew | None,
    current: Current | None,
) -> Study:
    """See `tune_request`; `workers` measure if there are any, `current` is what runs today."""
    objective = objective_of(request)
    device = workers.device() if workers else None
    job = without_unchecked(prepare(request, current, device=device), allow_lossy=request.allow_lossy)
    if broken := job.space.violations(job.space.repair(job.space.default)):
        raise UsageError(f"these settings cannot be together: {'; '.join(broken)}")
    origins = [read_origin(path, job, objective) for path in request.from_]
    predictor = _predictor(job, origins)
    searcher_of = partial(
        make_searcher,
        sampler=request.sampler,
        trials=request.most_trials,
        seed=request.seed,
        seeds=[*([job.stock] if job.stock else []), *(origin.config for origin in origins)],
        predictor=predictor,
    )
    searcher_of(job.space)  # refuses a sampler that there is not before anything starts
    header = job.header("tune", ported=origins[0].config if origins else None)
    load = Promised(arrivals=request.arrivals or "poisson", attain=request.attain)
    asked = (*request.slo, *(load.asked if request.objective in GOODPUTS else ()))
    place, _ = place_of(request.profiles, fingerprint(header), request.objective, asked)
    _check_can_save(request.profiles, place)
    if request.storage is not None:
        check_storage(request.storage)
    with (
        device_lock(() if workers else job.lock_names, wait=request.wait, on_note=observer.note),
        _opened(job, resume, header) as ledger,
    ):
        if request.storage is not None:
            observer = InStorage(observer, request.storage, ledger, objective)
        observer.run_starts(ledger.folder, default_config(ledger), "current" if job.stock else "default")
        for note in (*job.notes, *(origin.note for origin in origins), *ledger.warnings, *_idle(ledger, header)):
            observer.note(note)
        question = (fingerprint(ledger.header), request.objective, asked)
        if ledger.ending is None and (answer := earlier_answer(request.profiles, *question)):
            observer.note(answer)
        launches = [trial.launch_number for trial in ledger.trials]
        launches += [check.launch_number for check in ledger.checks]
        first_launch = 1 + max(launches, default=-1)
        try:
            with crew_of(job, ledger.folder, first_launch, observer.note, workers) as crew:
                if ledger.ending is None:
                    trials = Trials(request, job, ledger, crew, objective, observer)
                    budget = Budget(request, ledger)
                    answers = Answers(trials)
                    ended = SearchPhase(trials, budget, answers).run(searcher_of)
                    proof = ProofPhase(trials, budget, answers, predictor)
                    winner = proof.confirm()
                    ledger.finish(ended, proof.compare(winner))
        except KeyboardInterrupt:
            raise _interrupted(ledger, request, observer) from None
        try:
            study = _finished(ledger, request)
            observer.run_ends(study.summary)
            return study
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted at the end: all {len(ledger.trials)} trials were made; write profile and report: "
                f"infertune tune --resume {ledger.folder}"
            ) from None


def resumed_request(folder: Path, flags: Mapping[str, Any]) -> TuneRequest:
    """The request that a run was started with; only its limits may be given anew.

    Args:
        folder: The run's folder.
        flags: Flags given beside `--resume`; None for those that were not.

    Raises:
        UsageError: The folder is not a run of `tune`, or a flag would change what is measured.
    """
    header = Ledger.open(folder).header
    if header.command != "tune":
        raise UsageError(f"{folder} is a run of `infertune {header.command}`; only a tune can be resumed")
    return continued(TuneRequest, header, folder, flags, _MAY_CHANGE)


def _opened(job: Job, resume: Path | None, header: Header) -> Ledger:
    """The ledger of a run to continue, or of a new one, in a folder that its files can be written into."""
    ledger = job.resume(resume) if resume else None
    folder = ledger.folder if ledger else job.new_folder()
    if ledger is None or ledger.ending is None:  # before anything is measured
        check_place(folder)
        check_inside(folder, (_PROFILE,), "profile")
    return ledger or Ledger.create(folder, header)


def _predictor(job: Job, origins: Sequence[Origin]) -> Predictor | None:
    """The roofline, combined with the landscape of an earlier run if `--from` gave one with enough trials."""
    roofline = job.roofline()
    results = next((origin.results for origin in origins if origin.results), ())
    transferred = Transferred(job.space, results, job.request.seed, roofline)
    return transferred if transferred.has_shape else roofline


def _idle(ledger: Ledger, header: Header) -> tuple[str, ...]:
    """A note on limits that are given anew to a run or a search that has ended: nothing is measured for them."""
    then, today = ledger.header.request, header.request
    proving = any(trial.phase in ("confirm", "final") for trial in ledger.trials)
    idle = _LIMITS - {"wait"} if ledger.ending is not None else _OF_SEARCH if proving else set()
    changed = [f"--{name.replace('_', '-')}" for name in sorted(idle) if then.get(name) != today.get(name)]
    if not changed:
        return ()
    what = "this run has ended" if ledger.ending is not None else "the proof of this run has begun"
    names = " and ".join(changed)
    return (f"{what}: {names} changes nothing; to search on, start a new run --from {ledger.folder}",)


def _check_can_save(profiles: Path, file: Path) -> None:
    """Refuse before the run if its profile could not be saved as this file of the folder of profiles.

    Raises:
        UsageError: A folder cannot be made or written, or the file's name is taken by something else.
    """
    check_inside(profiles, (str(file.relative_to(profiles)),), "profile")
    nearest = next(path for path in file.absolute().parents if os.path.lexists(path))
    try:
        with tempfile.TemporaryDirectory(dir=nearest, prefix=".infertune-"):
            pass
    except OSError as error:
        what = f"cannot be written ({error.strerror})" if nearest.is_dir() else "is no folder"
        raise UsageError(
            f"cannot save a profile under {profiles}: {nearest} {what}; choose another --profiles"
        ) from None


def _finished(ledger: Ledger, request: TuneRequest) -> Study:
    """Save the profile and write the report.

    Raises:
        BenchmarkError: A file cannot be written; the ledger has every trial. Or nothing ran: there is a report only.
    """
    go_on = f"--resume {ledger.folder}"
    found = find(ledger, objective_of(request))
    summary = found.summary
    profile = profile_of(ledger, summary, request.objective)
    profile_file, proven = ledger.folder / _PROFILE, None
    try:
        report_file = write_found(found)
        if ledger.ending is not None and summary.answer == "nothing ran":
            first = next((f": {failure.what}" for failure in summary.failures), "")
            raise BenchmarkError(f"nothing ran, no configuration could be measured{first}; see {report_file}")
        profile.save(profile_file, ledger.folder)
        if ledger.ending is not None:
            go_on += " --profiles OTHER"
            place, earlier = place_of(request.profiles, profile.fingerprint, profile.objective, profile.asked)
            if earlier and earlier.proven and not profile.proven:
                proven = Kept(place, earlier)
            else:
                profile_file = profile.save(place, request.profiles)
    except UsageError as error:
        raise BenchmarkError(
            f"{error}; the {len(ledger.trials)} trials are safe: make room or a way, then write profile and report "
            f"with {go_on}"
        ) from None
    return Study(
        ledger,
        summary,
        profile,
        profile_file,
        report_file,
        proven,
        tuple(edge_sentences(found)),
        tuple(device_sentences(found)),
    )


def _interrupted(ledger: Ledger, request: TuneRequest, observer: Observer) -> InterruptedRunError:
    """Write what can be said of a run that was interrupted; a further Ctrl-C leaves that out."""
    done, go_on = len(ledger.trials), f"continue: infertune tune --resume {ledger.folder}"
    try:
        observer.interrupted()
        observer.run_ends(_finished(ledger, request).summary)
    except KeyboardInterrupt:
        return InterruptedRunError(
            f"interrupted twice after {done} trials: they are kept, profile and report are not written; {go_on}"
        )
    except BenchmarkError as error:
        return InterruptedRunError(f"interrupted after {done} trials; {go_on}; {error}")
    return InterruptedRunError(
        f"interrupted after {done} trials; {go_on}; best so far, unconfirmed: {ledger.folder / _PROFILE}"
    )


def tune(model: str | None = None, **options: Any) -> Study:
    """Tune an engine on this machine: `infertune tune MODEL`, from Python, as `infertune.tune(...)`.

    Args:
        model: Hub id, local folder or `builtin:NAME`.
        **options: The fields of `infertune.domain.request.TuneRequest`, which are the command's flags.

    Returns:
        The study: the answer with its interval, the profile and every trial.

    Raises:
        UsageError: The request cannot be; nothing was touched.
        BenchmarkError: The default, or everything, could not be measured.
    """
    return tune_request(make_request(TuneRequest, {"model": model, **options}))
