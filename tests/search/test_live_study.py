"""The study of a run that goes on: what the end-to-end tests of `--storage` do not reach."""

from pathlib import Path

import optuna

from infertune.domain.knobs import Choice, Float, Int
from infertune.search.live_study import LiveStudy
from infertune.search.study_trials import Shown
from tests.builders import config, measured, trial


def live(url: str, notes: list[str]) -> LiveStudy:
    return LiveStudy(url, "run", "1", {}, minimize=False, unit="tok/s", on_warning=notes.append)


def test_a_ladder_that_grew_in_the_search_is_shown(tmp_path: Path) -> None:
    url, notes = f"sqlite:///{tmp_path}/s.db", list[str]()
    study = live(url, notes)
    short = (Int("slots", (1, 2, 4), 1, most=64), Int("held", (3,), 3), Float("share", (0.7, 0.8), 0.7))
    for number, slots in enumerate((1, 4, 8, 16)):
        chosen = config(slots=slots, held=3, share=0.8)
        study.starts(chosen, short)
        study.ends(Shown(trial(number, chosen, measured(100.0)), 100.0), short)
    assert notes == []
    found = optuna.load_study(study_name="run", storage=url).trials
    assert [one.params for one in found] == [{"slots": n, "share": 0.8} for n in (1, 4, 8, 16)]


def test_workers_end_in_any_order_and_twice_the_same_configuration(tmp_path: Path) -> None:
    url, notes = f"sqlite:///{tmp_path}/s.db", list[str]()
    study, knobs = live(url, notes), (Choice("mode", ("a", None, True), "a"), Int("n", (1, 2), 1))
    chosen = [config(mode=None, n=1), config(mode=True, n=2), config(mode=None, n=1)]
    for one in chosen:
        study.starts(one, knobs)
    for number in (1, 0, 2):
        study.ends(Shown(trial(number, chosen[number], measured(100.0 + number)), 100.0 + number), knobs)
    found = optuna.load_study(study_name="run", storage=url).trials
    assert notes == [] and [one.state.name for one in found] == ["COMPLETE"] * 3
    assert [(one.params, one.value) for one in found] == [(dict(c.root), 100.0 + n) for n, c in enumerate(chosen)]


def test_a_long_note_is_written_in_parts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    live(url, []).answer("a" * 3000, {})
    study = optuna.load_study(study_name="run", storage=url)
    found = study._storage.get_study_system_attrs(study._study_id)
    assert found["dashboard:note_str:0"] + found["dashboard:note_str:1"] == "a" * 3000
