"""The replay engine: recorded tables, and what they answer."""

from pathlib import Path

import pytest

from infertune.bench.bench import Bench
from infertune.bench.channel import Plan
from infertune.bench.isolation import Deadlines
from infertune.domain.knobs import Config, Knob
from infertune.domain.measurement import Crashed, Infeasible, Measurement, Outcome, TimedOut
from infertune.domain.trial import Attempt
from infertune.domain.workload import parse_workload
from infertune.engines.base import EngineOptions
from infertune.engines.replay.engine import ReplayEngine
from infertune.engines.replay.table import read_table
from infertune.errors import UsageError
from infertune.runs.ledger import Ledger
from tests.builders import CPU, config, header, one_knob, oom, trial

WORKLOAD = parse_workload("synthetic:in=8,out=10")
PLAN = Plan(warmup=WORKLOAD.draw("warmup", 4), requests=WORKLOAD.draw("search", 10), windows=2)


def table_of(folder: Path, *lines: str) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def bench_on(path: Path, seed: int = 0) -> Bench:
    engine = ReplayEngine(EngineOptions(table=path))
    options, of = EngineOptions(table=path), engine.space(None, CPU, WORKLOAD)
    return Bench(engine, options, None, CPU, of, path.parent / "logs", Deadlines(), seed=seed)


def attempt(path: Path, chosen: Config, seed: int = 0) -> Attempt:
    with bench_on(path, seed) as bench:
        return bench.measure(chosen, PLAN, fresh=True)


def rate(outcome: Outcome) -> float:
    assert isinstance(outcome, Measurement), outcome
    return outcome.output_tokens_per_s


def knobs(path: Path, *ignore: str) -> dict[str, Knob]:
    return {knob.name: knob for knob in read_table(path, ignore).knobs}


def test_a_knobs_kind_follows_from_its_values(tmp_path: Path) -> None:
    path = table_of(tmp_path, "i,f,w,b,m,output_tokens_per_s", "8,0.5,auto,true,1,10", "2,1,eager,false,auto,20")
    found = knobs(path)
    assert {name: (knob.kind, knob.values) for name, knob in found.items()} == {
        "i": ("int", (2, 8)),
        "f": ("float", (0.5, 1.0)),
        "w": ("choice", ("auto", "eager")),
        "b": ("choice", (True, False)),
        "m": ("choice", (1, "auto")),
    }


def test_numbers_that_differ_in_their_seventh_digit_are_two_values(tmp_path: Path) -> None:
    path = table_of(tmp_path, "f,output_tokens_per_s", "0.12345671,10", "0.12345672,20")
    assert knobs(path)["f"].values == (0.12345671, 0.12345672)


def test_one_number_in_two_spellings_is_one_value(tmp_path: Path) -> None:
    path = table_of(tmp_path, "n,output_tokens_per_s", "16,10", "16.0,20", "32,30")
    assert knobs(path)["n"].values == (16.0, 32.0)
    assert len(read_table(path).rows[Config({"n": 16.0})]) == 2


def test_the_recorded_rate_and_costs_come_back_on_the_recorded_clock(tmp_path: Path) -> None:
    path = table_of(tmp_path, "n,output_tokens_per_s,launch_s,j_per_output_token", "1,50,30,0.2", "2,100,40,")
    found = attempt(path, config(n=1))
    assert rate(found.outcome) == pytest.approx(50)
    assert found.launch_s == 30
    assert found.run_s == pytest.approx((20 + 20 + 100 + 100) / 50)  # two warm-ups and two windows of so many tokens
    assert isinstance(found.outcome, Measurement)
    assert found.outcome.windows[0].energy.gpu_j == pytest.approx(0.2 * 100)
    other = attempt(path, config(n=2)).outcome
    assert isinstance(other, Measurement)
    assert other.windows[0].energy.gpu_j is None
    assert other.windows[0].energy.reason


def test_a_configuration_that_is_not_in_the_table_is_rejected(tmp_path: Path) -> None:
    path = table_of(tmp_path, "a,b,output_tokens_per_s", "1,1,10", "2,2,20")
    outcome = attempt(path, config(a=1, b=2)).outcome
    assert isinstance(outcome, Infeasible)
    assert (outcome.reason, outcome.detail) == ("rejected", "not in the table: a=1 b=2")
    engine = ReplayEngine(EngineOptions(table=path))
    assert engine.space(None, CPU, WORKLOAD).notes == ("2 combinations are not in the table and are rejected",)


@pytest.mark.parametrize(("status", "kind"), [("oom", Infeasible), ("crash", Crashed), ("timeout", TimedOut)])
def test_a_recorded_failure_comes_back_as_that_failure(tmp_path: Path, status: str, kind: type) -> None:
    path = table_of(tmp_path, "n,output_tokens_per_s,status", "1,10,ok", f"2,,{status}", "3,30,")
    outcome = attempt(path, config(n=2)).outcome
    assert isinstance(outcome, kind)
    assert not isinstance(outcome, Infeasible) or outcome.reason == "oom"
    assert rate(attempt(path, config(n=3)).outcome) == pytest.approx(30), "an empty status is ok"


def test_a_recorded_failure_takes_nothing_with_it(tmp_path: Path) -> None:
    path = table_of(tmp_path, "n,output_tokens_per_s,status", "1,10,ok", "2,,oom")
    with bench_on(path) as bench:
        assert isinstance(bench.measure(config(n=2), PLAN).outcome, Infeasible)
        assert rate(bench.measure(config(n=1), PLAN).outcome) == pytest.approx(10)


@pytest.mark.parametrize(
    ("rows", "default"),
    [
        (["4,b,10", "2,b,20", "4,a,30", "2,a,40"], {"n": 2, "w": "b"}),  # lowest number, first word
        (["4,b,10", "2,a,20"], {"n": 4, "w": "b"}),  # 2 with b is not in the table: its first row
    ],
)
def test_the_default_is_the_lowest_corner_if_the_table_has_it_and_the_first_row_otherwise(
    tmp_path: Path, rows: list[str], default: dict[str, object]
) -> None:
    found = knobs(table_of(tmp_path, "n,w,output_tokens_per_s", *rows))
    assert {name: knob.default for name, knob in found.items()} == default


def test_repeated_rows_are_repeats_that_launches_draw_from(tmp_path: Path) -> None:
    path = table_of(tmp_path, "n,output_tokens_per_s", "1,10", "1,20", "1,30")
    assert len(read_table(path).rows[config(n=1)]) == 3
    drawn = {round(rate(attempt(path, config(n=1), seed).outcome)) for seed in range(30)}
    assert drawn == {10, 20, 30}
    assert rate(attempt(path, config(n=1), 3).outcome) == rate(attempt(path, config(n=1), 3).outcome)


def test_ignored_columns_are_no_knobs(tmp_path: Path) -> None:
    path = table_of(tmp_path, "n,note,output_tokens_per_s,run_s", "1,warm,10,3", "2,cold,20,4")
    assert list(knobs(path)) == ["n", "note"]
    assert list(knobs(path, "note")) == ["n"]
    with pytest.raises(UsageError, match="no column speed to ignore"):
        read_table(path, ["speed"])


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([""], "cannot read table"),
        (["n,output_tokens_per_s"], "no rows with a column output_tokens_per_s"),
        (["n,speed", "1,10"], "no rows with a column output_tokens_per_s"),
        (["output_tokens_per_s,status", "10,ok"], "no column that is a knob"),
        (["n,output_tokens_per_s", "1,fast"], "line 2: could not convert"),
        (["n,output_tokens_per_s", "1,10", "2,"], "line 3: output_tokens_per_s must be over 0 where status is ok"),
        (["n,output_tokens_per_s", "1,0"], "line 2: output_tokens_per_s must be over 0"),
        (["n,output_tokens_per_s", "1,-5"], "line 2: output_tokens_per_s must be over 0"),
        (["n,output_tokens_per_s", "1,nan"], "line 2: output_tokens_per_s must be over 0"),
        (["n,output_tokens_per_s", "1,inf"], "line 2: output_tokens_per_s must be over 0"),
        (["n,output_tokens_per_s,status", "1,10,fine"], "line 2: status 'fine' is not one of ok, oom, crash, timeout"),
        (["n,output_tokens_per_s,launch_s", "1,10,long"], "line 2: could not convert"),
        (["n,output_tokens_per_s,launch_s", "1,10,-3"], "line 2: launch_s and j_per_output_token must not be below 0"),
        (["n,output_tokens_per_s,launch_s", "1,10,nan"], "line 2: launch_s"),
        (["n,output_tokens_per_s,j_per_output_token", "1,10,inf"], "line 2: launch_s and j_per_output_token"),
        (["n,output_tokens_per_s", "nan,10", "1,10"], "line 2: n is not a finite number"),
        (["n,output_tokens_per_s", "1,10", "inf,10"], "line 3: n is not a finite number"),
        (["n,output_tokens_per_s", "1,2", "1,2,3"], "cannot read table"),
        (["n,output_tokens_per_s", '"1,10', "2,20"], "cannot read table"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path: Path, lines: list[str], fault: str) -> None:
    path = table_of(tmp_path, *lines)
    with pytest.raises(UsageError) as refused:
        read_table(path)
    assert fault in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_table_of_other_bytes_or_none_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfen,\x00")
    for path in (tmp_path / "bytes.csv", tmp_path / "missing.csv", tmp_path):
        with pytest.raises(UsageError, match="cannot read table|is no table|is not a run"):
            read_table(path)


def test_replay_without_a_table_says_how_to_give_one() -> None:
    with pytest.raises(UsageError, match="--table FILE.csv"):
        ReplayEngine(EngineOptions())


def test_a_run_of_ours_is_replayed_from_its_folder(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "run", header(one_knob(1, 2, 4)))
    ledger.append(trial(0, config(slots=1), 100.0))
    ledger.append(trial(1, config(slots=2), oom()))
    ledger.append(trial(2, config(slots=1), 500.0, "final"))
    table = read_table(tmp_path / "run")
    assert [knob.name for knob in table.knobs] == ["slots"]
    assert [(row.status, row.rate) for row in table.rows[config(slots=1)]] == [("ok", pytest.approx(100.0))]
    assert table.rows[config(slots=2)][0].status == "oom"
    assert config(slots=4) not in table.rows
    assert read_table(tmp_path / "run" / "trials.jsonl").rows.keys() == table.rows.keys()
