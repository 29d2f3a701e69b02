"""A run as an Optuna study."""

from pathlib import Path

import optuna
import pytest

from infertune.errors import UsageError
from infertune.runs.ledger import Ledger
from infertune.tuning.afterwards import to_optuna
from tests.builders import config, header, one_knob, oom, trial


@pytest.fixture
def run(tmp_path: Path) -> Path:
    ledger = Ledger.create(tmp_path / "my-run", header(one_knob(1, 2, 4)))
    ledger.append(trial(0, config(slots=1), 100.0))
    ledger.append(trial(1, config(slots=4), oom()))
    ledger.append(trial(2, config(slots=2), 150.0))
    ledger.append(trial(3, config(slots=2), 140.0, "final"))
    return ledger.folder


def test_a_search_becomes_a_study_with_its_failures(run: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'o.db'}"
    assert to_optuna(run, storage) == ("my-run", 3)
    study = optuna.load_study(study_name="my-run", storage=storage)
    assert [t.value for t in study.trials] == [pytest.approx(100), None, pytest.approx(150)]
    assert study.best_params == {"slots": 2}
    assert study.trials[1].state.name == "FAIL" and "out of memory" in study.trials[1].user_attrs["what"]
    assert (study.trials[0].duration.total_seconds(), study.direction.name) == (5.0, "MAXIMIZE")  # type: ignore[union-attr]


def test_a_second_time_is_refused_and_so_is_what_is_no_database(run: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'o.db'}"
    to_optuna(run, storage)
    with pytest.raises(UsageError, match="has a study 'my-run' already"):
        to_optuna(run, storage)
    for nonsense in ("foo", f"sqlite:///{tmp_path}/no/folder.db"):
        with pytest.raises(UsageError, match="it is like sqlite:///runs.db"):
            to_optuna(run, nonsense)
