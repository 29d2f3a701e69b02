"""What a gate compares: the candidate (the profile's configuration) with a base. Checked before anything runs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from infertune.domain.device import survey_to_measure
from infertune.domain.figures import FIGURES
from infertune.domain.knobs import Config, Scalar, SearchSpace, format_scalar
from infertune.domain.objective import GOODPUTS
from infertune.domain.request import GateRequest
from infertune.domain.workload import workload_file
from infertune.engines import TARGET_ENGINE
from infertune.engines.asking import canonical
from infertune.engines.base import first_line
from infertune.errors import MismatchError, UsageError
from infertune.gating.loads import GOODPUT, loaded
from infertune.profiles.fingerprint import HELD, check_device, check_fingerprint, fingerprint_of
from infertune.profiles.profile import Profile, changed_settings, load_profile
from infertune.runs.asked import Fixed, restrict
from infertune.runs.job import Job, check_programs, prepare

DEFAULT = "default"
QUALITY = "quality"
RATE = "output_tokens_per_s"
ENERGY = "j_per_output_token"
ENERGY_OBJECTIVES = ("energy", "tokens-per-joule")
_WINDOWS_S = {"cpu": 5.0, "gpu": 30.0}


@dataclass(frozen=True)
class Arm:
    """One arm of the comparison: the candidate or the base.

    Attributes:
        label: For people.
        job: The engine, model, device and workload of this arm.
        config: The configuration that is launched.
    """

    label: str
    job: Job
    config: Config


@dataclass(frozen=True)
class Comparison:
    """What a gate compares.

    Attributes:
        profile: What the candidate comes from.
        candidate: The profile's configuration.
        base: What it is compared with; the same as `candidate` where a gate needs no base.
        question: What the gate asks, in one sentence.
        metrics: What is gated on, names of `infertune.domain.figures.FIGURES`.
        against_default: Whether the base is the engine's default: then the profile's stored gain can be checked too.
        notes: Settings that were left out or changed, in sentences.
    """

    profile: Profile
    candidate: Arm
    base: Arm
    question: str
    metrics: tuple[str, ...]
    against_default: bool
    notes: tuple[str, ...]

    @property
    def one_engine(self) -> bool:
        """Whether base and candidate run the same model under the same interpreter."""
        return self.base.job.options == self.candidate.job.options and self.base.job.model == self.candidate.job.model


def compared(request: GateRequest) -> Comparison:
    """Resolve and check what a request compares.

    Raises:
        UsageError: A flag does not fit, a file is missing, or the profile holds an impossible value.
        MismatchError: The profile does not hold here.
    """
    _check_flags(request)
    profile = load_profile(request.profile)
    candidate, base, notes = _running(request, profile) if request.target else _launched(request, profile)
    if request.calibrate or request.mode == "stored":
        base = candidate
    against_default = base.label == DEFAULT
    metrics, metric_notes = _metrics(request, profile, against_default)
    same = base is candidate
    candidate = replace(candidate, job=loaded(candidate.job, profile, metrics, request))
    base = candidate if same else replace(base, job=loaded(base.job, profile, metrics, request))
    if against_default and base.config == candidate.config:
        notes = [*notes, "the profile's configuration is the default: base and candidate are the same"]
    return Comparison(
        profile=profile,
        candidate=candidate,
        base=base,
        question=_question(request, candidate, base),
        metrics=metrics,
        against_default=against_default,
        notes=tuple(dict.fromkeys((*candidate.job.notes, *notes, *metric_notes))),
    )


def _launched(request: GateRequest, profile: Profile) -> tuple[Arm, Arm, list[str]]:
    """Candidate and base as engines that infertune launches, with notes.

    Raises:
        UsageError: A flag does not fit, a file is missing, or the profile holds an impossible value.
        MismatchError: The profile does not hold here.
    """
    _check_repeated(request, profile)
    check_device(profile.fingerprint.device, survey_to_measure(request.device).device, str(request.profile))
    fixed = _fixed(request, profile)
    job = _job_of(request, profile, fixed)
    check_fingerprint(profile.fingerprint, fingerprint_of(job), str(request.profile), _free_versions(request))
    config, notes = _applied(job, profile.config, profile.changed, str(request.profile))
    unnamed = [name for name in changed_settings(config, job.engine_defaults).root if name not in profile.changed]
    unlike = "measured as config has it, but changed does not name it: exports leave it out"
    notes += [f"{name}: {unlike}" for name in unnamed]
    base, more_notes = _base(request, profile, Arm("profile", job, config), fixed)
    job = replace(job, space=_spanning(job, base.config, config))
    return Arm("profile", job, config), base, [*notes, *more_notes]


def _running(request: GateRequest, profile: Profile) -> tuple[Arm, Arm, list[str]]:
    """Candidate and base as servers that run already, with notes; of the profile they get the workload and the load.

    Raises:
        UsageError: There is no server, or nothing that it is compared with.
    """
    _check_flags_of_target(request)

    def arm(url: str, settings: Mapping[str, Scalar]) -> Arm:
        known = profile.fingerprint.workload
        changes: dict[str, object] = {
            "engine": f"{TARGET_ENGINE}:{url}",
            "workload": _workload(request, profile),
            "requests": request.requests or (None if request.window else known.n_requests),
            "seed": known.seed,
            "set": settings,
        }
        job = _prepared(request, changes, fixed=None)
        one_server = Config({"url": url, **job.held.root})  # earlier runs compare only if they are of it
        label = f"{url} with {job.held}" if job.held.root else url
        return Arm(label, replace(job, held=one_server), job.space.default)

    url = request.target or ""
    candidate = base = arm(url, request.set)
    if request.baseline_target or request.baseline_set:
        base = arm(request.baseline_target or url, {**request.set, **request.baseline_set})
    settings = "the profile's settings are not looked for: the workload, the limits and the rate are the profile's"
    return candidate, base, [settings]


def _check_flags_of_target(request: GateRequest) -> None:
    launching = {
        **{flag: value for flag, value in _of_a_launched_base(request).items() if flag != "--baseline-set"},
        "--engine": request.engine,
        "--engine-python": request.engine_python,
        "--engine-binary": request.engine_binary,
    }
    if given := [flag for flag, value in launching.items() if value]:
        raise UsageError(f"--target is a server that runs already: leave out {given[0]}; nothing is changed on it")
    if QUALITY in request.metric:
        raise UsageError(f"--metric {QUALITY} needs an engine that infertune launches; leave out --target")
    if not (request.baseline_target or request.baseline_set or request.calibrate or request.mode == "stored"):
        raise UsageError(
            "--target needs something to be compared with: another server with --baseline-target URL, or its own "
            "earlier runs with --mode stored"
        )


def _free_versions(request: GateRequest) -> frozenset[str]:
    """What of the fingerprint need not agree: versions, where two builds of the engine are compared."""
    two_builds = request.baseline_python or request.baseline_binary
    return frozenset({"engine version"}) if two_builds else frozenset()


def _of_a_launched_base(request: GateRequest) -> dict[str, object]:
    """The flags that say what base infertune launches, with what was given."""
    return {
        "--against": request.against,
        "--baseline-python": request.baseline_python,
        "--baseline-binary": request.baseline_binary,
        "--baseline-model": request.baseline_model,
        "--baseline-set": request.baseline_set,
    }


def _check_flags(request: GateRequest) -> None:
    pairs_only = {**_of_a_launched_base(request), "--baseline-target": request.baseline_target}
    given = [flag for flag, value in pairs_only.items() if value]
    if given and (request.mode == "stored" or request.calibrate):
        what = "--calibrate" if request.calibrate else "--mode stored"
        raise UsageError(f"{given[0]} names a base, and {what} has none; leave one of them out")
    if request.calibrate and request.mode == "stored":
        raise UsageError("--calibrate measures pairs; leave out --mode stored")
    if request.mode == "stored" and "margin" in request.model_fields_set:
        raise UsageError("--margin is for pairs; --mode stored fails below what earlier runs predict")
    if request.mode != "stored" and request.history:
        raise UsageError("--history is for --mode stored")
    if request.baseline_target and not request.target:
        raise UsageError("--baseline-target is what a server is compared with: name that one with --target URL")
    check_programs(request.baseline_python, request.baseline_binary, "baseline")
    if unknown := [name for name in request.metric if name not in (*FIGURES, QUALITY)]:
        known = ", ".join((*FIGURES, QUALITY))
        raise UsageError(f"--metric {unknown[0]}: there is no such figure; there are {known}")


def _check_repeated(request: GateRequest, profile: Profile) -> None:
    """Refuse a setting that is not the profile's: `--set` may only repeat one, to allow it."""
    for name, value in request.set.items():
        name = canonical(name)
        known = profile.config.root.get(name)
        if name not in profile.config or (value, type(value)) != (known, type(known)):
            raise UsageError(
                f"--set {name}={format_scalar(value)} is not of {request.profile}: a gate takes its settings from the "
                "profile; change the base's with --baseline-set"
            )


def _fixed(request: GateRequest, profile: Profile) -> Fixed:
    """The settings of the profile, with the further values that the base has."""
    more: dict[str, tuple[Scalar, ...]] = {name: (value,) for name, value in request.baseline_set.items()}
    if request.against not in (None, DEFAULT):
        for name, value in load_profile(Path(str(request.against))).changed.root.items():
            more[name] = (*more.get(name, ()), value) if value not in more.get(name, ()) else more[name]
    return Fixed(profile.fingerprint.held, profile.changed, more, str(request.profile))


def _job_of(request: GateRequest, profile: Profile, fixed: Fixed) -> Job:
    """The job that a profile was made with, on what is here today."""
    found = profile.fingerprint
    spec = request.engine or found.engine
    if spec.partition(":")[0] != found.engine:
        raise MismatchError(f"{request.profile} is of engine {found.engine}, not of {spec}; leave out --engine")
    changes: dict[str, object] = {
        "engine": spec,
        "model": request.model or (found.model and found.model.spec),
        "weights": found.model and found.model.weights,
        "workload": _workload(request, profile),
        "requests": request.requests or (None if request.window else found.workload.n_requests),
        "seed": found.workload.seed,
    }
    return _prepared(request, changes, fixed)


def _workload(request: GateRequest, profile: Profile) -> str:
    """The profile's workload, or where the user says that its file is."""
    workload = request.workload or profile.fingerprint.workload.spec
    file = workload_file(workload)
    if file is not None and not os.path.isfile(file):
        kind = workload.partition(":")[0]
        raise UsageError(
            f"the workload's file {first_line(str(file), 80)} is not here; "
            f"say where with --workload {first_line(kind, 20)}:FILE"
        )
    return workload


def _prepared(request: GateRequest, changes: dict[str, object], fixed: Fixed | None) -> Job:
    """The job of one arm: the request's seed varies the launches, the profile's seed draws the workload."""
    job = prepare(request.model_copy(update=changes), fixed=fixed)
    request = request.model_copy(update={**changes, "seed": request.seed})
    return replace(job, request=request, window_s=request.window or _WINDOWS_S[job.device.kind])


def _base(request: GateRequest, profile: Profile, candidate: Arm, fixed: Fixed) -> tuple[Arm, list[str]]:
    """What the profile's configuration is compared with."""
    job, labels = candidate.job, []
    if request.baseline_python or request.baseline_binary or request.baseline_model:
        model = candidate.job.model
        changes = {
            **{name: getattr(candidate.job.request, name) for name in ("engine", "workload", "requests")},
            "seed": profile.fingerprint.workload.seed,
            "model": request.baseline_model or candidate.job.request.model,
            "weights": "dummy" if model and model.weights == "dummy" else None,
            "engine_python": request.baseline_python or request.engine_python,
            "engine_binary": request.baseline_binary or request.engine_binary,
        }
        try:
            job = _prepared(request, changes, fixed)
        except UsageError as error:  # its message may name a flag of the candidate
            given = [flag for flag, value in _of_a_launched_base(request).items() if value]
            raise UsageError(f"the base, as {' '.join(given)} has it: {error}") from None
        if request.baseline_python or request.baseline_binary:
            labels.append(f"{job.engine.name} {job.availability.version}")
        if request.baseline_model and job.model:
            labels.append(job.model.spec)
    config, notes = _base_config(request, profile, job, labels)
    if request.baseline_set:
        if unknown := [name for name in request.baseline_set if name not in job.space]:
            raise UsageError(f"--baseline-set: unknown knob {unknown[0]!r}; there are {', '.join(job.space.names)}")
        config, _ = _applied(job, config.updated(request.baseline_set), Config({}), "--baseline-set")
        labels.append(" ".join(("with", str(Config(request.baseline_set)))))
    return Arm(" ".join(labels), job, config), notes


def _base_config(request: GateRequest, profile: Profile, job: Job, labels: list[str]) -> tuple[Config, list[str]]:
    """The base's configuration, its name added to the labels."""
    against = request.against or (None if labels else DEFAULT)
    if against == DEFAULT:
        labels.append(DEFAULT)
        return job.engine_defaults.updated(job.for_all.root), []
    if against is None:
        return _applied(job, profile.config, profile.changed, str(request.profile))
    other = load_profile(Path(against))
    free = {HELD, *_free_versions(request)}
    free |= {"model", "weights", "dtype", "revision"} if request.baseline_model else set()
    check_fingerprint(other.fingerprint, fingerprint_of(job), against, free)
    labels.append(against)
    return _applied(job, other.config, other.changed, against)


def _applied(job: Job, config: Config, changed: Config, source: str) -> tuple[Config, list[str]]:
    """A configuration in the terms of this job's engine, and a note for every setting that had to be left out.

    Raises:
        UsageError: A value is impossible.
        MismatchError: A setting that matters does not exist here.
    """
    unknown = [name for name in config.root if name not in job.space]
    if needed := [name for name in unknown if name in changed]:
        raise MismatchError(
            f"{source} sets {needed[0]}, which {job.engine.name} {job.availability.version} does not have; "
            f"there are {', '.join(job.space.names)}"
        )
    notes = [f"{name}: left out, {job.engine.name} {job.availability.version} does not have it" for name in unknown]
    known = config.subset(frozenset(job.space.names))
    try:
        space = restrict(job.space, known.root, {})
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
    whole = job.engine_defaults.updated(known.root)
    if broken := space.violations(whole):
        raise UsageError(f"{source}: these settings cannot be together: {'; '.join(broken)}")
    return whole, notes


def _spanning(job: Job, base: Config, candidate: Config) -> SearchSpace:
    """The space with the concurrency of base and candidate only: a job need not fill more slots than theirs."""
    space = job.space
    for knob in space.knobs:
        if knob.is_concurrency:
            values = dict.fromkeys(config[knob.name] for config in (base, candidate) if knob.name in config)
            space = restrict(space, {}, {knob.name: tuple(values)})
    return space


def _metrics(request: GateRequest, profile: Profile, against_default: bool) -> tuple[tuple[str, ...], list[str]]:
    """The gated metrics: throughput, unless the profile was tuned for energy at the expense of throughput."""
    if request.metric:
        return tuple(name for name in request.metric if name != QUALITY), []
    if profile.objective in GOODPUTS:
        told = against_default and profile.objective != "goodput"
        return (GOODPUT,), [_other_metric(GOODPUT, profile)] if told else []
    if not against_default or profile.objective == "throughput":
        return (RATE,), []
    if profile.objective in ENERGY_OBJECTIVES:
        return (ENERGY,), [f"gated on {ENERGY}: the profile was tuned for {profile.objective}; --metric chooses"]
    return (RATE,), [_other_metric(RATE, profile)]


def _other_metric(metric: str, profile: Profile) -> str:
    return f"gated on {metric}, but the profile was tuned for {profile.objective}; --metric chooses"


def _question(request: GateRequest, candidate: Arm, base: Arm) -> str:
    """What is asked, in one sentence."""
    what = candidate.label if request.target else "the profile's configuration"
    if request.calibrate:
        return f"how much do {'loads' if request.target else 'launches'} of {what} differ here?"
    if request.mode == "stored":
        return f"is {what} worse than its earlier runs predict?"
    return f"is {what} worse than {base.label} by {100 * request.margin:g}% or more?"
