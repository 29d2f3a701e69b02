"""Where a tune starts from: what is read of a profile or a run, and what is refused."""

import math
from pathlib import Path

import pytest

import infertune
from infertune.domain.knobs import Scalar
from infertune.domain.objective import get_objective
from infertune.domain.request import TuneRequest
from infertune.errors import UsageError
from infertune.runs.job import Job, prepare
from infertune.runs.ledger import Ledger
from infertune.tuning.origin import read_origin
from infertune.tuning.tune import Study
from tests.builders import config, header, measured, oom, trial

THROUGHPUT = get_objective("throughput")


def job(**options: object) -> Job:
    return prepare(TuneRequest.model_validate({"engine": "fake", "requests": 8, **options}))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("origin")
    return infertune.tune(
        engine="fake", requests=8, trials=6, seed=3, finalists=1, final_launches=(2, 2),
        out=folder / "run", profiles=folder / "profiles",
    )  # fmt: skip


def settings(**changes: Scalar) -> dict[str, Scalar]:
    return {**job().space.default.root, **changes}


def run_of(folder: Path, *rows: tuple[dict[str, Scalar], float | None]) -> Path:
    """A run's folder with a search of these settings and rates; None is a failure."""
    ledger = Ledger.create(folder, header(job().space, engine_defaults=job().engine_defaults))
    for number, (values, rate) in enumerate(rows):
        ledger.append(trial(number, config(**values), oom() if rate is None else measured(rate)))
    return folder


def test_a_run_gives_its_best_settings_and_what_it_measured(study: Study) -> None:
    assert study.summary.answer == "better"
    origin = read_origin(study.ledger.folder, job(), THROUGHPUT)
    assert origin.config == study.summary.best_config
    searched = {t.config for t in study.ledger.trials if t.phase == "search" and t.measurement}
    assert {result.config for result in origin.results} == searched
    for result in origin.results:
        [only] = [t for t in study.ledger.trials if t.phase == "search" and t.config == result.config]
        assert only.measurement
        assert result.score == pytest.approx(math.log(only.measurement.output_tokens_per_s))
        assert result.n_requests == only.measurement.n_requests > 0
    for part in (str(study.ledger.folder), f"{len(searched)} configurations", str(study.ledger.header.device)):
        assert part in origin.note


def test_a_profile_gives_its_settings_and_no_results(study: Study) -> None:
    origin = read_origin(study.profile_file, job(), THROUGHPUT)
    assert origin.config == study.summary.best_config
    assert origin.results == ()
    assert "configurations" not in origin.note
    assert str(study.profile.changed) in origin.note


def test_failures_of_the_other_run_are_no_results(tmp_path: Path) -> None:
    rows = [(settings(), 100.0), (settings(max_num_seqs=256), 300.0), (settings(memory_share=0.95), None)]
    origin = read_origin(run_of(tmp_path / "run", *rows), job(), THROUGHPUT)
    assert len(origin.results) == 2
    assert origin.config == config(**settings(max_num_seqs=256))


def test_settings_left_at_their_default_elsewhere_take_the_default_here(tmp_path: Path) -> None:
    """The other engine's default is a number that means nothing here."""
    folder = run_of(tmp_path / "run", (settings(), 100.0), (settings(compiled=True), 200.0))
    here = job(set={"max_num_seqs": 16})
    origin = read_origin(folder, here, THROUGHPUT)
    assert origin.config == here.space.default.updated({"compiled": True})
    assert origin.config["max_num_seqs"] == 16


def test_values_that_this_space_lacks_become_the_nearest_it_has(tmp_path: Path) -> None:
    best = settings(max_num_seqs=512, max_num_batched_tokens=8192, compiled=True)
    folder = run_of(tmp_path / "run", (settings(), 100.0), (best, 300.0))
    here = job(knob={"max_num_seqs": (32, 64, 128), "compiled": (False,)})
    origin = read_origin(folder, here, THROUGHPUT)
    assert origin.config["max_num_seqs"] == 128
    assert origin.config["compiled"] is False
    assert here.space.violations(origin.config) == []


def test_what_comes_out_of_the_rules_is_repaired(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", (settings(), 100.0), (settings(max_num_seqs=512), 300.0))
    here = job(knob={"max_num_batched_tokens": (256, 512, 1024)}, set={})
    origin = read_origin(folder, here, THROUGHPUT)
    assert here.space.violations(origin.config) == []


def test_an_origin_that_kept_the_default_says_so(tmp_path: Path) -> None:
    origin = read_origin(run_of(tmp_path / "run", (settings(), 100.0)), job(), THROUGHPUT)
    assert origin.config == job().space.default
    assert ", 1 configuration, " in origin.note
    assert origin.note.endswith(": the default")


def test_an_interrupted_run_is_an_origin_too(study: Study, tmp_path: Path) -> None:
    lines = (study.ledger.folder / "trials.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "trials.jsonl").write_bytes(b"".join(lines[:4]))
    origin = read_origin(tmp_path / "cut", job(), THROUGHPUT)
    assert 1 <= len(origin.results) <= 3


def test_an_engine_that_shares_no_knob_is_refused(study: Study) -> None:
    other = prepare(TuneRequest(engine="fake:faults"))
    for path in (study.ledger.folder, study.profile_file):
        with pytest.raises(UsageError, match="shares no knob"):
            read_origin(path, other, THROUGHPUT)


def test_what_is_neither_run_nor_profile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text("hello\n")
    (tmp_path / "empty").mkdir()
    for name in ("words.yaml", "empty", "absent.yaml", "absent"):
        with pytest.raises(UsageError) as refused:
            read_origin(tmp_path / name, job(), THROUGHPUT)
        assert name in str(refused.value)
        assert "\n" not in str(refused.value)
