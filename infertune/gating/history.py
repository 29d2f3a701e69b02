"""The earlier runs that a stored gate compares with: read, checked, and added to."""

import tempfile
from pathlib import Path

from pydantic import ValidationError

from infertune.documents import check_schema, parse_json, read_text
from infertune.domain.request import GateRequest
from infertune.engines.base import first_line
from infertune.errors import UsageError
from infertune.gating.comparison import Comparison
from infertune.gating.loads import length_of
from infertune.gating.result import StoredRun, comparable, save_json
from infertune.gating.verdict import FEWEST_RUNS
from infertune.profiles.fingerprint import fingerprint_of

_MOST_RUN_BYTES = 1024**2
_SCHEMA_VERSION = 1


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
