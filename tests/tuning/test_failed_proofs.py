"""Launches of the proof that fail: once is an accident, twice is the configuration's, and no answer hangs on either."""

from collections.abc import Callable
from pathlib import Path

import pytest

from infertune import tune
from infertune.bench.bench import Bench
from infertune.bench.crew import Done, OneBench, Order
from infertune.domain.knobs import Config
from infertune.domain.measurement import Crashed, Infeasible, Outcome, TimedOut
from infertune.domain.trial import Attempt, Trial
from infertune.report.words import answer_sentence
from infertune.runs.observer import Observer
from infertune.tuning.tune import Study, resumed_request, tune_request
from tests.builders import measured
from tests.e2e.test_fake import cut
from tests.e2e.test_serving import LIMITS

CRASH = Crashed(stage="load", detail="RuntimeError: port is taken")
LATE = TimedOut(stage="run", after_s=30.0)
OOM = Infeasible(reason="oom", stage="load", detail="no memory left")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the first launches of a phase fail that some rule names."""

    def fail(phase: str, which: Callable[[Config, Config], bool], times: int, outcome: Outcome = CRASH) -> None:
        done, seen = OneBench.next_done, [0]
        base: list[Config] = []

        def next_done(self: OneBench) -> Done:
            order: Order | None = self._order
            assert order
            base.append(order.config)
            if order.phase != phase or not which(order.config, base[0]) or seen[0] == times:
                return done(self)
            seen[0] += 1
            bench: Bench = self._bench
            number, bench.next_launch, self._order = bench.next_launch, bench.next_launch + 1, None
            return Done(order, None, Attempt(outcome, 1.0, 0.0, number, live=False))

        monkeypatch.setattr(OneBench, "next_done", next_done)

    return fail


def tuned(tmp_path: Path, observer: Observer | None = None, **more: object) -> Study:
    options = {"engine": "fake:plateau", "device": "cpu", "requests": 64, "trials": 12, "seed": 0, **more}
    return tune(out=tmp_path / "run", profiles=tmp_path / "profiles", **options)


def is_base(config: Config, base: Config) -> bool:
    return config == base


def is_other(config: Config, base: Config) -> bool:
    return config != base


def finals(study: Study) -> list[Trial]:
    return [trial for trial in study.ledger.trials if trial.phase == "final"]


@pytest.mark.parametrize("outcome", [CRASH, LATE])
@pytest.mark.parametrize("which", [is_base, is_other])
def test_one_launch_of_the_final_comparison_that_fails_is_made_again(
    tmp_path: Path, failing: Callable[..., None], which: Callable[[Config, Config], bool], outcome: Outcome
) -> None:
    failing("final", which, 1, outcome)
    study = tuned(tmp_path)
    assert study.summary.answer == "better" and study.summary.gain and study.summary.gain.mean > 1.5
    failed = [trial for trial in finals(study) if trial.measurement is None]
    again = [t for t in finals(study) if t.round_number == 0 and t.config == failed[0].config]
    assert len(failed) == 1 and len(again) == 2
    assert len(study.summary.failures) == 1 + sum(
        t.measurement is None for t in study.ledger.trials if t.phase == "search"
    )


@pytest.mark.parametrize(("times", "outcome"), [(2, CRASH), (1, OOM)])
def test_where_the_winner_fails_the_next_best_is_compared_and_the_loser_is_not_recommended(
    tmp_path: Path, failing: Callable[..., None], times: int, outcome: Outcome
) -> None:
    failing("final", is_other, times, outcome)
    study = tuned(tmp_path)
    first = next(trial.config for trial in finals(study) if trial.measurement is None)
    assert study.summary.answer == "better" and study.summary.gain and study.summary.gain.mean > 1.3
    assert study.summary.best_config not in (first, study.summary.default_config)
    assert sum(trial.config == first for trial in finals(study)) == times
    pairs = {t.round_number for t in finals(study) if t.config == study.summary.best_config}
    lost = {t.round_number for t in finals(study) if t.config == first}
    assert not pairs & lost, "the next one is launched in turn with the base, in rounds of its own"
    begun = [trial.config for trial in study.ledger.trials].index(study.summary.best_config, finals(study)[0].number)
    folder = cut(tmp_path / "run" / "trials.jsonl", begun + 1, tmp_path / "cut")
    again = tune_request(resumed_request(folder, {"profiles": tmp_path / "others"}), resume=folder)
    assert again.summary.answer == "better" and again.summary.best_config == study.summary.best_config


def test_where_the_base_fails_in_the_final_comparison_nothing_is_confirmed(
    tmp_path: Path, failing: Callable[..., None]
) -> None:
    failing("final", is_base, 2)
    study = tuned(tmp_path)
    summary = study.summary
    assert (summary.answer, summary.gain) == ("unconfirmed", None)
    assert summary.best_config != summary.default_config
    assert answer_sentence(summary) == (
        f"Unconfirmed: a launch of the final comparison failed: {summary.default_config}."
    )


def test_where_every_winner_fails_nothing_is_confirmed_and_no_one_of_them_is_recommended(
    tmp_path: Path, failing: Callable[..., None]
) -> None:
    failing("final", is_other, 999)
    study = tuned(tmp_path, trials=6)
    assert study.summary.answer == "unconfirmed"
    assert study.summary.best_config not in {t.config for t in finals(study) if t.measurement is None}
    assert study.summary.proof.startswith("a launch of the final comparison failed: ")


@pytest.mark.parametrize("times", [1, 2])
def test_a_launch_without_a_figure_is_made_again_and_a_winner_that_stays_without_gives_way(
    tmp_path: Path, failing: Callable[..., None], times: int
) -> None:
    """A server that keeps no promise, or was loaded late, is measured and has no goodput."""
    failing("final", is_other, times, measured(100.0))
    more = {"engine": "fake-serve:launch=5s", "objective": "goodput", "slo": LIMITS, "attain": "90%", "window": "5s"}
    study = tuned(tmp_path, **more, workload="synthetic:in=128,out=16", requests=None, trials=8, trust="quick")
    summary, first = study.summary, next(t.config for t in finals(study) if t.config != study.summary.default_config)
    assert summary.answer == "better"
    assert (first == summary.best_config) is (times == 1)
    assert (summary.proof.startswith("a launch of the final comparison failed: ")) is (times == 2)


def test_one_launch_of_the_confirmation_that_fails_is_made_again(tmp_path: Path, failing: Callable[..., None]) -> None:
    failing("confirm", is_other, 1)
    study = tuned(tmp_path, confirm_launches=1)
    failed = next(t for t in study.ledger.trials if t.phase == "confirm" and t.measurement is None)
    again = [t for t in study.ledger.trials if t.phase == "confirm" and t.config == failed.config]
    assert len(again) == 2 and again[1].measurement and study.summary.answer == "better"
