"""A run as an Optuna study: shown live, continued on a resume, and never what the run depends on."""

import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from infertune.domain.knobs import Config
from infertune.domain.request import TuneRequest, make_request
from infertune.domain.trial import Trial
from infertune.errors import InterruptedRunError, UsageError
from infertune.runs.observer import Observer
from infertune.tuning.tune import Study, resumed_request, tune_request

_QUICK = {"engine": "fake", "device": "cpu", "trials": 3, "finalists": 1, "final_launches": (2, 2)}
_PASSWORD = "s3cr3t-w0rd"


class Watcher(Observer):
    """Keeps notes, and does something after so many trials."""

    def __init__(self, after: int = 0, act: Any = None) -> None:
        self.notes: list[str] = []
        self._after, self._act, self._ended = after, act, 0

    def trial_starts(self, config: Config, *, live: bool) -> None:
        self._do(started=True)

    def trial_ends(self, trial: Trial, *, figure: float | None, best: float | None, default: float | None) -> None:
        self._ended += 1

    def note(self, text: str) -> None:
        self.notes.append(text)

    def _do(self, *, started: bool) -> None:
        if self._act and self._ended == self._after:
            act, self._act = self._act, None
            act()

    @property
    def of_storage(self) -> list[str]:
        return [note for note in self.notes if "no longer kept up to date" in note]


def tuned(tmp_path: Path, storage: str, watcher: Watcher | None = None, **options: Any) -> Study:
    given = {**_QUICK, "out": tmp_path / "run", "profiles": tmp_path / "profiles", "storage": storage, **options}
    return tune_request(make_request(TuneRequest, given), watcher)


def loaded(storage: Any, name: str = "run") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=storage)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"


def test_a_run_is_shown_with_its_costs_figures_windows_limits_and_answer(tmp_path: Path, url: str) -> None:
    found = tuned(tmp_path, url, slo=["latency_p99_s<2.1"], trials=6)
    study, trials = loaded(url), found.ledger.trials
    assert [trial.user_attrs["trial"] for trial in study.trials] == [trial.number for trial in trials]
    assert [trial.user_attrs["phase"] for trial in study.trials] == [trial.phase for trial in trials]
    for shown, trial in zip(study.trials, trials, strict=True):
        assert {name: trial.config[name] for name in shown.params} == shown.params
        assert shown.user_attrs["launch_s"] == trial.launch_s
        if trial.measurement:
            assert shown.state == TrialState.COMPLETE
            assert shown.value == pytest.approx(trial.measurement.output_tokens_per_s)
            assert len(shown.intermediate_values) == len(trial.measurement.windows)
            assert shown.user_attrs["j_per_output_token"] > 0
            broken = shown.user_attrs["latency_p99_s"] > 2.1
            assert (shown.constraints["latency_p99_s<2.1"] > 0) == broken
            assert shown.user_attrs["limits"] == ("broken: latency_p99_s<2.1" if broken else "kept")
        else:
            assert shown.state == TrialState.FAIL
    assert study.direction.name == "MAXIMIZE" and study.metric_names == ["tok/s"]
    assert study.user_attrs["objective"] == "throughput" and study.user_attrs["engine"].startswith("fake")
    note = study._storage.get_study_system_attrs(study._study_id)["dashboard:note_str:0"]
    assert study.user_attrs["answer"] in note


@pytest.mark.parametrize("journal", [False, True])
def test_a_trial_is_running_in_the_study_while_it_is_measured(tmp_path: Path, url: str, journal: bool) -> None:
    url = f"{tmp_path}/s.log" if journal else url
    states: list[list[str]] = []

    def look() -> None:
        backend = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(url)) if journal else url
        states.append([trial.state.name for trial in loaded(backend).trials])

    class Looking(Watcher):
        def trial_ends(self, trial: Trial, **figures: Any) -> None:
            look()

    tuned(tmp_path, url, Looking())
    assert states[:3] == [["RUNNING"], ["COMPLETE", "RUNNING"], ["COMPLETE", "COMPLETE", "RUNNING"]]


def test_a_resumed_run_goes_on_with_its_study(tmp_path: Path, url: str) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        tuned(tmp_path, url, Watcher(2, stop))
    assert [trial.state.name for trial in loaded(url).trials] == ["COMPLETE", "COMPLETE"]
    study = optuna.load_study(study_name="run", storage=url)
    study.ask()  # as a session leaves it that was killed
    request = resumed_request(tmp_path / "run", {"storage": url})
    found = tune_request(request, Watcher(), tmp_path / "run")
    assert optuna.get_all_study_names(url) == ["run"]
    trials = loaded(url).trials
    assert [trial.user_attrs.get("trial") for trial in trials] == [0, 1, None, *range(2, len(found.ledger.trials))]
    assert trials[2].state == TrialState.FAIL


def test_a_finished_run_is_written_into_a_new_storage_by_resuming_it(tmp_path: Path, url: str) -> None:
    n = len(tuned(tmp_path, url).ledger.trials)
    other = url.replace("s.db", "other.db")
    for _ in range(2):
        tune_request(resumed_request(tmp_path / "run", {"storage": other}), None, tmp_path / "run")
    assert [trial.user_attrs["trial"] for trial in loaded(other).trials] == list(range(n))
    assert loaded(other).user_attrs["answer"] == loaded(url).user_attrs["answer"]


def test_two_runs_of_one_name_are_two_studies(tmp_path: Path, url: str) -> None:
    for place in ("a", "b"):
        tuned(tmp_path, url, out=tmp_path / place / "run", seed=len(place + "b") if place == "a" else 5)
    assert optuna.get_all_study_names(url) == ["run", "run-2"]


FAULTS = {
    "no such folder": "sqlite:///{}/no/such/folder.db",
    "read-only": "sqlite:///file:{}/s.db?mode=ro&uri=true",
    "no driver": "oracle+oracledb://me:PASSWORD@127.0.0.1:1/runs",
    "no dialect": "nonsense://me:PASSWORD@127.0.0.1:1/runs",
    "nobody listens": "redis://:PASSWORD@127.0.0.1:1/0",
    "a folder": "{}/folder.log",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_storage_that_cannot_be_used_costs_one_warning_and_no_password(
    fault: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.log").mkdir()
    watcher = Watcher()
    found = tuned(tmp_path, FAULTS[fault].format(tmp_path).replace("PASSWORD", _PASSWORD), watcher)
    assert len(watcher.of_storage) == 1 and found.ledger.ending
    assert len(found.ledger.trials) >= 3
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    everything = str(watcher.notes) + "".join(capfd.readouterr()) + repr(found) + str([*map(bytes.decode, written)])
    assert _PASSWORD not in everything and "--storage" in watcher.of_storage[0]


@pytest.mark.parametrize("fault", ["locked", "gone"])
def test_a_storage_that_fails_in_mid_run_costs_one_warning(fault: str, tmp_path: Path, url: str) -> None:
    holds = sqlite3.connect(tmp_path / "s.db", isolation_level=None)

    def spoil() -> None:
        if fault == "locked":
            holds.execute("BEGIN EXCLUSIVE")
        else:
            holds.execute("DROP TABLE trials")

    watcher = Watcher(1, spoil)
    found = tuned(tmp_path, f"{url}?timeout=0.1", watcher)
    holds.close()
    assert found.ledger.ending and len(found.ledger.trials) >= 3
    assert len(watcher.of_storage) == 1
    assert ("locked" if fault == "locked" else "no such table") in watcher.of_storage[0]


@pytest.mark.parametrize("storage", ["foo", f"://me:{_PASSWORD}@x", f"postgresql://me:{_PASSWORD}@host:port/x"])
def test_what_is_no_url_is_refused_before_anything_is_measured(storage: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is like sqlite:///runs.db") as refused:
        tuned(tmp_path, storage)
    assert _PASSWORD not in str(refused.value) and not (tmp_path / "run").exists()


def test_an_impossible_text_is_refused_without_repeating_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        tuned(tmp_path, f"postgresql://me:{_PASSWORD}@host/x\0")
    assert _PASSWORD not in str(refused.value)
