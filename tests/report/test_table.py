"""`landscape.csv`: one row a trial, failed ones too, and no figure that was not measured."""

import re
from pathlib import Path

import pandas as pd
import pytest

from infertune.domain.knobs import Choice, Config, Float, Int, SearchSpace
from infertune.domain.measurement import Crashed, Energy
from infertune.domain.objective import get_objective
from infertune.report import to_dataframe, write_report, write_table
from infertune.report.table import COLUMNS
from infertune.runs.ledger import Ledger
from tests.builders import config, header, ledger_of, measured, one_knob, oom, trial

SPACE = one_knob(1, 2)


def with_joules(*joules: float | None) -> object:
    base = measured(*([100.0] * len(joules)))
    windows = [w.model_copy(update={"energy": Energy(gpu_j=j)}) for w, j in zip(base.windows, joules, strict=True)]
    return base.model_copy(update={"windows": tuple(windows)})


def test_every_trial_is_a_row_and_every_knob_a_column() -> None:
    ledger = ledger_of(
        ("search", 0, config(slots=1), 100.0),
        ("search", 0, config(slots=2), oom()),
        ("final", 3, config(slots=2), 50.0),
        of=SPACE,
    )
    table = to_dataframe(ledger)
    assert list(table["number"]) == [0, 1, 2]
    assert list(table["phase"]) == ["search", "search", "final"]
    assert list(table["round"]) == [0, 0, 3]
    assert list(table["status"]) == ["measured", "oom", "measured"]
    assert list(table["knob.slots"]) == [1, 2, 2]


def test_columns_are_the_documented_ones_in_their_order_even_for_an_empty_run() -> None:
    for ledger in (ledger_of(of=SPACE), ledger_of(("search", 0, config(slots=1), 1.0), of=SPACE)):
        names = list(to_dataframe(ledger).columns)
        assert [name for name in names if not name.startswith("knob.")] == list(COLUMNS)
        assert names[len(COLUMNS) :] == ["knob.slots"]


def test_a_row_has_the_geometric_mean_of_its_windows() -> None:
    ledger = ledger_of(("search", 0, config(slots=1), measured(100.0, 400.0)), of=SPACE)
    row = to_dataframe(ledger).iloc[0]
    assert (row["output_tokens_per_s"], row["windows"], row["what"]) == (200.0, 2, "200.0 tok/s")


def test_a_failed_trial_has_its_cost_and_its_reason_but_no_rate() -> None:
    row = to_dataframe(ledger_of(("search", 0, config(slots=1), oom()), of=SPACE)).iloc[0]
    assert pd.isna(row["output_tokens_per_s"])
    assert (row["launch_s"], row["what"]) == (2.0, "out of memory in load: no memory left")


def test_joules_per_token_are_given_only_where_every_window_has_them() -> None:
    rows = [with_joules(20.0, 40.0), with_joules(20.0, None), with_joules(None)]  # 1,000 tokens a window
    ledger = ledger_of(*(("search", 0, config(slots=1), row) for row in rows), of=SPACE)  # type: ignore[arg-type]
    joules = to_dataframe(ledger)["j_per_output_token"]
    assert joules[0] == pytest.approx(0.03)
    assert joules[1:].isna().all()


def test_the_csv_holds_what_the_dataframe_does(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "run", header(SPACE))
    for n, outcome in enumerate((measured(100.0), oom())):
        ledger.append(trial(n, config(slots=n + 1), outcome))
    path = write_table(ledger)
    assert path == tmp_path / "run" / "landscape.csv"
    again = pd.read_csv(path)
    assert list(again.columns) == list(to_dataframe(ledger).columns)
    assert list(again["status"]) == ["measured", "oom"]


def test_texts_in_the_csv_are_no_formulas_and_numbers_stay_numbers(tmp_path: Path) -> None:
    of = SearchSpace(
        (Choice("mode", ("=1+1", "@x", "plain"), "plain"), Int("low", (-2, -1), -1), Float("=f", (-0.5,), -0.5))
    )
    ledger = Ledger.create(tmp_path / "run", header(of))
    for n, mode in enumerate(("=1+1", "@x", "plain")):
        outcome = measured(100.0) if n else Crashed(stage="run", detail="-2+3\x1b[31m\u202e")
        ledger.append(trial(n, Config({"mode": mode, "low": -2, "=f": -0.5}), outcome))
    text = write_table(ledger).read_text()
    assert not re.search("[^\n\\x20-\\x7e\ufffd]", text)
    again = pd.read_csv(tmp_path / "run" / "landscape.csv")
    assert list(again["knob.mode"]) == ["'=1+1", "'@x", "plain"]
    assert list(again["knob.low"]) == [-2, -2, -2] and list(again["knob.=f"]) == [-0.5, -0.5, -0.5]
    assert list(to_dataframe(ledger)["knob.mode"]) == ["=1+1", "@x", "plain"], "Python gets the values themselves"


def test_a_report_is_a_function_of_the_ledger_alone(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "run", header(SPACE))
    ledger.append(trial(0, config(slots=1), 100.0))
    first = write_report(ledger, get_objective("throughput")).read_bytes()
    again = Ledger.open(tmp_path / "run")
    assert write_report(again, get_objective("throughput")).read_bytes() == first
