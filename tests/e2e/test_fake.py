"""Whole tunes on the engine that is simulated: are the answers right, and does a run survive being cut anywhere."""

import doctest
import statistics
import sys
import time
from pathlib import Path

import pytest

import infertune
from infertune.domain.device import cpu
from infertune.domain.measurement import Infeasible
from infertune.domain.request import make_request
from infertune.domain.trial import Trial
from infertune.domain.workload import parse_workload
from infertune.engines.base import EngineOptions
from infertune.engines.fake.engine import FakeEngine
from infertune.errors import BenchmarkError, UsageError
from infertune.runs.ledger import Ledger
from infertune.runs.observer import Observer
from infertune.tuning.tune import Study, TuneRequest, resumed_request, tune_request

SEEDS = range(10)
CLOSE = 0.95  # of the best configuration's true rate


def engine(variant: str) -> FakeEngine:
    return FakeEngine(EngineOptions(variant=variant))


def share_of_optimum(study: Study, variant: str) -> float:
    """The recommended configuration's rate without noise, against that of the best there is."""
    fake = engine(variant)
    space = fake.space(None, cpu(), parse_workload("synthetic:in=8,out=8"))
    return fake.true_rate(study.summary.best_config) / fake.optimum(space)[1]


def tuned(folder: Path, name: str, **options: object) -> Study:
    places = {"out": folder / name, "profiles": folder / "profiles"}
    return infertune.tune(engine=name.split("-")[0], requests=64, **places, **options)


@pytest.mark.slow
def test_thirty_trials_come_within_five_percent_of_the_optimum_with_nearly_every_seed(tmp_path: Path) -> None:
    shares = []
    for seed in SEEDS:
        study = tuned(tmp_path, f"fake-{seed}", trials=30, seed=seed)
        assert study.summary.answer == "better"
        shares.append(share_of_optimum(study, "plateau"))
    print("share of the optimum over the seeds:", " ".join(f"{share:.3f}" for share in sorted(shares)))
    assert sum(share >= CLOSE for share in shares) >= len(SEEDS) - 1


@pytest.mark.slow
def test_where_nothing_is_better_that_is_the_answer_with_nearly_every_seed(tmp_path: Path) -> None:
    """Of a two-sided 95% interval a true 0 lies below in one of forty."""
    studies = [tuned(tmp_path, f"fake:flat-{seed}", trials=30, seed=seed) for seed in range(20)]
    honest = [study for study in studies if study.summary.answer == "no better than the default"]
    print(f"no better than the default: {len(honest)} of {len(studies)}")
    assert len(honest) >= 19
    for study in honest:
        assert study.summary.best_config == study.summary.default_config == study.profile.config
        assert not study.profile.changed.root


def test_a_tune_finds_most_of_the_gain_and_its_figures_agree_with_the_truth(tmp_path: Path) -> None:
    study = tuned(tmp_path, "fake-run", trials=30, seed=0)
    summary = study.summary
    assert summary.answer == "better" and summary.gain and summary.gain.low
    assert share_of_optimum(study, "plateau") >= CLOSE
    truth = engine("plateau").true_rate(summary.best_config) / engine("plateau").true_rate(summary.default_config)
    assert summary.gain.mean == pytest.approx(truth, rel=0.05)
    first = study.ledger.trials[0]
    assert first.config == summary.default_config and first.phase == "search"
    searched = [trial.config for trial in study.ledger.trials if trial.phase == "search"]
    assert len(searched) == len(set(searched)) == 30
    assert not {t.live for t in study.ledger.trials if t.phase in ("confirm", "final")} & {True}


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    options = {"trials": 12, "finalists": 1, "final_launches": (2, 2)}
    runs = [tuned(tmp_path, f"fake-{n}", seed=seed, **options) for n, seed in enumerate((3, 3, 4))]
    told = [[(t.config, t.launch_number, t.cost_s) for t in run.ledger.trials] for run in runs]
    assert told[0] == told[1] != told[2]
    assert runs[0].summary == runs[1].summary


def cut(ledger: Path, n_trials: int, folder: Path) -> Path:
    """A run folder with the first trials of another's ledger, as a crash would have left it."""
    folder.mkdir()
    header, *lines = ledger.read_bytes().splitlines(keepends=True)
    kept, seen = [header], 0
    for line in lines:  # checks of answers stand between the trials
        seen += b'"number":' in line
        if seen > n_trials or line.startswith(b'{"ended"'):
            break
        kept.append(line)
    (folder / "trials.jsonl").write_bytes(b"".join(kept))
    return folder


@pytest.mark.slow
def test_a_run_cut_anywhere_keeps_its_trials_and_comes_to_a_complete_end(tmp_path: Path) -> None:
    whole = tuned(tmp_path, "fake-whole", trials=10, seed=2, finalists=3, confirm_launches=2, final_launches=(2, 3))
    file = tmp_path / "fake-whole" / "trials.jsonl"
    trials = whole.ledger.trials
    phases = [trial.phase for trial in trials]
    assert {"search", "confirm", "final"} == set(phases)
    second = phases.index("confirm") + sum(t.phase == "confirm" and t.round_number == 0 for t in trials)
    for n in sorted({0, 1, 2, 5, 9, 10, 11, second, second + 1, phases.index("final") + 1, len(trials)}):
        folder = cut(file, n, tmp_path / f"cut-{n}")
        study = tune_request(resumed_request(folder, {"profiles": tmp_path / "profiles"}), resume=folder)
        again = Ledger.open(folder)
        assert again.trials == study.ledger.trials and again.trials[:n] == trials[:n], n
        assert again.ending is not None and not again.warnings
        assert [trial.number for trial in again.trials] == list(range(len(again.trials)))
        assert sum(trial.phase == "search" for trial in again.trials) == 10
        searched = [trial.config for trial in again.trials if trial.phase == "search"]
        assert len(set(searched)) == 10, "nothing is searched twice"
        points = [(t.phase, t.round_number, t.config) for t in again.trials if t.phase in ("confirm", "final")]
        assert len(points) == len(set(points)), "nothing is measured twice in a round"
        assert study.summary.answer == "better" and study.summary.gain
        launches = [trial.launch_number for trial in again.trials]
        assert launches == sorted(launches)
        assert (folder / "report.md").is_file() and study.profile_file.is_file()


def test_a_run_that_is_resumed_in_its_proof_searches_no_more_and_says_so(tmp_path: Path) -> None:
    whole = tuned(tmp_path, "fake-whole", trials=4, final_launches=(3, 3))
    phases = [trial.phase for trial in whole.ledger.trials]
    folder = cut(tmp_path / "fake-whole" / "trials.jsonl", phases.index("final") + 2, tmp_path / "cut")
    watch = _Stopwatch()
    again = tune_request(resumed_request(folder, {"trials": 40, "profiles": tmp_path / "profiles"}), watch, folder)
    assert [trial.config for trial in again.ledger.trials] == [trial.config for trial in whole.ledger.trials]
    assert (again.summary.answer, again.summary.gain) == (whole.summary.answer, whole.summary.gain)
    assert any(note.startswith("the proof of this run has begun: --trials changes nothing") for note in watch.notes)


def test_a_run_that_is_resumed_keeps_the_winner_that_its_confirmation_found(tmp_path: Path) -> None:
    """The budget has no room for that confirmation any more: it was made before."""
    places = {"out": tmp_path / "whole", "profiles": tmp_path / "profiles"}
    whole = infertune.tune(engine="fake:ragged,noise=8%,launch=30s", budget="10m", seed=7, **places)
    phases = [trial.phase for trial in whole.ledger.trials]
    assert "confirm" in phases
    folder = cut(tmp_path / "whole" / "trials.jsonl", phases.index("final") + 1, tmp_path / "cut")
    again = tune_request(resumed_request(folder, {"profiles": tmp_path / "profiles"}), resume=folder)
    assert again.summary.candidate_config == whole.summary.candidate_config


def test_a_finished_run_that_is_resumed_measures_nothing_more(tmp_path: Path) -> None:
    study = tuned(tmp_path, "fake-run", trials=4, finalists=1, final_launches=(2, 2))
    before = (tmp_path / "fake-run" / "trials.jsonl").read_bytes()
    again = tune_request(resumed_request(tmp_path / "fake-run", {}), resume=tmp_path / "fake-run")
    assert (tmp_path / "fake-run" / "trials.jsonl").read_bytes() == before
    assert again.summary == study.summary


def test_a_run_in_which_nothing_ran_has_a_report_and_no_profile_and_is_an_error(tmp_path: Path) -> None:
    held = ["max_num_seqs=1024", "memory_share=0.95", "max_num_batched_tokens=16384"]
    told = "nothing ran, no configuration could be measured: out of memory in .*; see .*report.html"
    with pytest.raises(BenchmarkError, match=told) as refused:
        tuned(tmp_path, "fake-run", trials=3, device="cpu", set=held)
    assert refused.value.exit_code == 5
    assert (tmp_path / "fake-run" / "report.md").is_file() and not (tmp_path / "fake-run" / "profile.yaml").exists()
    assert not list(tmp_path.glob("profiles/**/*.yaml"))
    with pytest.raises(BenchmarkError, match=told):
        tune_request(resumed_request(tmp_path / "fake-run", {}), resume=tmp_path / "fake-run")


@pytest.mark.slow
def test_what_does_not_fit_is_a_trial_and_the_search_learns_to_avoid_it(tmp_path: Path) -> None:
    study = tuned(tmp_path, "fake-run", trials=60, seed=1, finalists=1, final_launches=(2, 2))
    failed = [trial for trial in study.ledger.trials if isinstance(trial.outcome, Infeasible)]
    assert failed and all(trial.outcome.reason == "oom" for trial in failed if isinstance(trial.outcome, Infeasible))
    assert len(failed) <= 15
    assert len(study.summary.failures) == len(failed)


def test_the_package_docstring_tells_the_truth(tmp_path: Path) -> None:
    found = doctest.testmod(infertune, extraglobs={"folder": tmp_path})
    assert found.attempted >= 5 and found.failed == 0


class _Stopwatch(Observer):
    """Notes when every trial ends, and what the user is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, Trial]] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_ends(self, trial: Trial, **_: object) -> None:
        self.ends.append((time.perf_counter(), trial))


@pytest.mark.slow
@pytest.mark.timed
def test_our_own_time_between_two_live_trials_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    watch = _Stopwatch()
    options = {"engine": "fake:faults", "requests": 64, "trials": 8, "sampler": "grid", "finalists": 1}
    options |= {"set": {"fault": "no fault"}, "final_launches": (2, 2)}
    places = {"out": tmp_path / "run", "profiles": tmp_path / "profiles"}
    tune_request(make_request(TuneRequest, {**options, **places}), watch)
    ours, with_worker = [], []
    for (before, _), (end, trial) in zip(watch.ends, watch.ends[1:], strict=False):
        if trial.live and trial.measurement:
            jobs_s = trial.measurement.warmup_s + sum(window.duration_s for window in trial.measurement.windows)
            ours.append(1000 * (end - before - trial.cost_s))  # search, ledger, summary of what there is
            with_worker.append(1000 * (end - before - jobs_s))  # and the channel, prompts, meters and checks
    assert len(ours) >= 4
    with capsys.disabled():
        print(
            f"\nown time between {len(ours)} live trials: median {statistics.median(ours):.1f} ms, "
            f"{statistics.median(with_worker):.1f} ms with the worker's part"
        )
    assert statistics.median(with_worker) < 500


def test_an_interpreter_that_a_ledger_names_is_run_only_where_the_user_names_it_again(tmp_path: Path) -> None:
    tuned(tmp_path, "fake-run", trials=2, finalists=1, final_launches=(2, 2), engine_python=Path(sys.executable))
    folder = tmp_path / "fake-run"
    with pytest.raises(UsageError, match="give the flag again to allow it"):
        resumed_request(folder, {})
    with pytest.raises(UsageError, match="give the flag again to allow it"):
        resumed_request(folder, {"engine_python": tmp_path / "other"})
    assert resumed_request(folder, {"engine_python": Path(sys.executable)}).engine_python == Path(sys.executable)
