"""The earlier runs that a stored gate compares with: read, checked, and added to."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from infertune.documents import check_schema, parse_json, read_text
from infertune.domain.figures import ENERGY_FIGURES, FIGURES
from infertune.domain.knobs import Config
from infertune.domain.measurement import Frozen, IsoTime
from infertune.domain.request import GateRequest
from infertune.domain.workload import MOST_REQUESTS
from infertune.engines.base import first_line
from infertune.errors import UsageError
from infertune.gating.comparison import Comparison
from infertune.gating.loads import length_of
from infertune.gating.metrics import is_judged
from infertune.gating.result import save_json
from infertune.gating.verdict import FEWEST_RUNS, Answer, Share
from infertune.profiles.fingerprint import differences, fingerprint_of
from infertune.profiles.profile import Fingerprint

_MOST_RUN_BYTES = 1024**2
_SCHEMA_VERSION = 1
_SHARES = ("attainment",)  # figures that are shares of requests
_SMALLEST = 1e-12  # a stored figure, as in a profile


class StoredRun(Frozen):
    """One run of the stored mode, in its history folder.

    Attributes:
        schema_version: Of this file.
        fingerprint: What it holds for.
        config: What was launched.
        n_requests: Requests in every job, or in a launch's first load.
        window_s: The `--window` that the job's size comes from, in seconds; None where none was given.
        load: How long a server's loads are and at which rates they come; empty for jobs, and for runs of servers before
            it was kept, which are not compared.
        launches: Launches that its samples are means of.
        samples: Metric → mean over its launches, of every figure that is known; geometric where none is 0.
        energy: Where its energy figures come from; empty if unknown or if its launches differ.
        n_worth: As many independent requests as its attainment is worth; None for jobs, and where it was not kept.
        answer: The gate's verdict on it; later gates leave a regression out.
        run: The run's folder.
        created_at: ISO 8601 time in UTC.
    """

    schema_version: Literal[1] = 1
    fingerprint: Fingerprint
    config: Config
    n_requests: int = Field(ge=1, le=MOST_REQUESTS)
    window_s: float | None = Field(default=None, gt=0, le=1e9)
    load: Annotated[str, Field(max_length=200)] = ""
    launches: int = Field(ge=1, le=10_000)
    samples: dict[str, Annotated[float, Field(ge=0, le=1e12)]]
    energy: str = ""
    n_worth: Annotated[float, Field(gt=0, le=1e12)] | None = None
    answer: Answer
    run: str
    created_at: IsoTime

    @field_validator("samples")
    @classmethod
    def _each_has_a_logarithm(cls, samples: dict[str, float]) -> dict[str, float]:
        if tiny := [name for name, value in samples.items() if value < _SMALLEST and not is_judged(name, 0.0)]:
            raise ValueError(f"{tiny[0]} is not above 0")
        return samples

    def compares(self, metric: str, energy: str) -> bool:
        """Whether its figure compares with today's: energy needs the same source, other metrics always compare."""
        return metric in self.samples and (metric not in ENERGY_FIGURES or (self.energy == energy != ""))


class History:
    """The earlier runs that a stored gate compares with; the other modes have none."""

    def __init__(self, request: GateRequest, comparison: Comparison) -> None:
        self.folder = request.history or request.profile.with_suffix(".gate")
        self._named = request.history is not None
        self.runs: list[StoredRun] = []
        self.notes: list[str] = []
        self.n_runs = 0
        if request.mode == "stored":
            self._check_can_keep()
            candidate = comparison.candidate
            every = read_history(self.folder)
            self.n_runs = len(every)
            today = fingerprint_of(candidate.job)
            load = length_of(candidate.job.serving)
            self.runs, self.notes = comparable(
                every,
                today,
                candidate.config,
                request.launches,
                comparison.metrics,
                request.requests,
                request.window,
                load,
            )
            if len({run.created_at[:10] for run in self.runs}) == 1 and len(self.runs) >= FEWEST_RUNS:
                self.notes.append("all earlier runs are of one day: how much days differ is not in them")

    @property
    def n_requests(self) -> int | None:
        """Requests in a job of the earlier runs: today's job must have as many."""
        return self.runs[-1].n_requests if self.runs else None

    def figures(self, energy: str) -> dict[str, list[float]]:
        """Metric → one figure an earlier run that compares in it.

        Args:
            energy: The source of today's energy figures; empty if the launches differ.
        """
        return {name: [run.samples[name] for run in self.runs if run.compares(name, energy)] for name in FIGURES}

    def shares(self, today: Mapping[str, float], n_worth: float | None) -> dict[str, tuple[Share, Share]]:
        """Metric that is a share of requests → that of today, and that of all earlier runs together.

        Args:
            today: Metric → today's figure.
            n_worth: As many independent requests as today's are worth; None for jobs. An earlier run that does not know
                how many are behind it is taken to have as many.
        """
        found: dict[str, tuple[Share, Share]] = {}
        if n_worth is None:
            return found
        for name in _SHARES:
            earlier = [(run.samples[name], run.n_worth or n_worth) for run in self.runs if name in run.samples]
            if name in today and earlier:
                kept, n = math.fsum(share * n for share, n in earlier), math.fsum(n for _, n in earlier)
                found[name] = Share(today[name] * n_worth, n_worth), Share(kept, n)
        return found

    def _check_can_keep(self) -> None:
        """Refuse before the run if it could not be kept for later ones."""
        if not self._named and self.folder.is_symlink():
            raise UsageError(f"{self.folder} is a link: name the folder that is meant with --history")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise UsageError(f"cannot write {self.folder}: {error.strerror}; choose another --history") from None

    def add(self, run: StoredRun) -> None:
        """Keep a run for later ones."""
        stamp = run.created_at.replace(":", "").replace("+0000", "Z")
        save_json(self.folder, f"{stamp}-{self.n_runs:04d}.json", run)


def comparable(
    runs: Sequence[StoredRun],
    today: Fingerprint,
    config: Config,
    launches: int,
    metrics: Sequence[str],
    n_requests: int | None = None,
    window_s: float | None = None,
    load: str = "",
) -> tuple[list[StoredRun], list[str]]:
    """The earlier runs that compare with a run of today, and notes on those that do not.

    A run that was a regression is left out too: it would widen what counts as normal.

    Args:
        runs: Every run of the history, oldest first.
        today: The environment of today.
        config: What will be launched.
        launches: How often.
        metrics: What the verdict needs.
        n_requests: The size of a job that was asked for; None takes that of the newest run that is left.
        window_s: The window that was asked for instead.
        load: The loads of a server, which have their size in it; empty for jobs.
    """
    kept: list[StoredRun] = []
    reasons: dict[str, int] = {}
    for run in runs:
        reason = _foreign(run, today, config, launches, metrics)
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            kept.append(run)
    if load:
        alike = [run for run in kept if run.load == load]
        if len(alike) < len(kept):
            reasons["other loads"] = len(kept) - len(alike)
        return alike, _left_out(reasons)
    if window_s and not n_requests:
        asked = [run for run in kept if run.window_s == window_s]
        if len(asked) < len(kept):
            reasons["another --window"] = len(kept) - len(asked)
        kept = asked
    sized = [run for run in kept if run.n_requests == (n_requests or kept[-1].n_requests)]
    if len(sized) < len(kept):
        reasons["another number of requests"] = len(kept) - len(sized)
    return sized, _left_out(reasons)


def _left_out(reasons: Mapping[str, int]) -> list[str]:
    return [f"{n} earlier run{'s' if n > 1 else ''} left out: {reason}" for reason, n in reasons.items()]


def _foreign(run: StoredRun, today: Fingerprint, config: Config, launches: int, metrics: Sequence[str]) -> str:
    found = differences(run.fingerprint, today)
    if found:
        return f"another {found[0].field}"
    if run.config != config:
        return "other settings"
    if run.launches != launches:
        return "another number of launches"
    if any(name not in run.samples for name in metrics):
        return "a metric is missing"
    return "it was a regression" if run.answer == "regression" else ""


def read_history(folder: Path) -> list[StoredRun]:
    """Every run of a history folder, oldest first; an absent folder has none.

    Raises:
        UsageError: A file in it is no stored run that this version reads, or no regular file.
    """
    runs = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        text = read_text(path, "stored run", _MOST_RUN_BYTES)
        _check_schema(path, text)
        try:
            runs.append(StoredRun.model_validate_json(text))
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = first_line(".".join(map(str, fault["loc"])), 80)
            what = f"{where}: {fault['msg']}" if where else fault["msg"]
            raise UsageError(f"{path} is no stored run that this version of infertune reads: {what}") from None
    return sorted(runs, key=lambda run: run.created_at)


def _check_schema(path: Path, text: str) -> None:
    """Refuse a stored run of a newer version, or of none, with a `UsageError`."""
    try:
        found = parse_json(text)
    except ValueError:  # reading it as a stored run says so
        return
    check_schema(found, path, "stored run", _SCHEMA_VERSION)
