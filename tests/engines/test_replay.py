"""The replay engine: recorded tables, and what they answer."""

import gzip
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


def test_a_table_is_told_from_another_one_and_from_what_it_was_before(tmp_path: Path) -> None:
    def version(*lines: str, ignore: tuple[str, ...] = ()) -> str | None:
        path = table_of(tmp_path, "a,date,output_tokens_per_s", *lines)
        return ReplayEngine(EngineOptions(table=path, ignore=ignore)).available().version

    first = version("1,3,10", "2,3,20")
    assert first and first.startswith("table ") and first == version("1,3,10", "2,3,20")
    others = {version("1,3,10", "2,3,21"), version("1,3,10", "4,3,20"), version("1,3,10", "2,3,20", ignore=("date",))}
    assert len({first, *others}) == 4


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


@pytest.mark.parametrize("nothing", ["0", "0.0", "", "nan", "NaN", "N/A", "null", "None", "-", " 0 "])
@pytest.mark.parametrize("header", ["n,output_tokens_per_s", "n,output_tokens_per_s,status"])
def test_a_row_without_a_rate_and_a_status_is_a_failed_run_and_is_counted(
    tmp_path: Path, header: str, nothing: str
) -> None:
    empty = "," if "status" in header else ""
    path = table_of(tmp_path, header, f"1,10{empty}", f"2,{nothing}{empty}", f"3,{nothing}{empty}", f"4,5{empty}")
    assert isinstance(attempt(path, config(n=2)).outcome, Crashed)
    assert rate(attempt(path, config(n=4)).outcome) == pytest.approx(5)
    assert ReplayEngine(EngineOptions(table=path)).space(None, CPU, WORKLOAD).notes == (
        "2 rows of the table have no rate (0, empty or NaN) and no status: taken as failed runs, of 4 rows in all",
    )


def test_a_table_of_rates_alone_has_no_note(tmp_path: Path) -> None:
    path = table_of(tmp_path, "n,output_tokens_per_s,status", "1,10,ok", "2,0,failed")
    assert read_table(path).notes == ()


@pytest.mark.parametrize(
    ("words", "kind", "reason"),
    [
        ("OK,Success,succeeded,True,completed, done ", Measurement, None),
        ("OOM,out_of_memory,Out of memory,CUDA out of memory,OutOfMemoryError", Infeasible, "oom"),
        ("failed,FAILURE,error,Crashed,False,exception,killed", Crashed, None),
        ("timed_out,Timed Out,TIMEOUT,TimeoutError", TimedOut, None),
        ("rejected,invalid,unsupported,Not supported", Infeasible, "rejected"),
    ],
)
def test_other_tools_words_for_a_status_are_understood(
    tmp_path: Path, words: str, kind: type, reason: str | None
) -> None:
    spelled = words.split(",")
    rows = [f"{n},20,{word}" for n, word in enumerate(spelled, start=1)]
    path = table_of(tmp_path, "n,output_tokens_per_s,status", "0,10,ok", *rows)
    for n in range(1, len(spelled) + 1):
        outcome = attempt(path, config(n=n)).outcome
        assert isinstance(outcome, kind), spelled[n - 1]
        assert reason is None or (isinstance(outcome, Infeasible) and outcome.reason == reason)


def test_costs_that_are_not_a_number_were_not_recorded(tmp_path: Path) -> None:
    path = table_of(tmp_path, "n,output_tokens_per_s,launch_s,j_per_output_token", "1,10,NaN,nan", "2,10,,")
    assert len({*read_table(path).rows[config(n=1)], *read_table(path).rows[config(n=2)]}) == 1


def test_a_packed_table_is_read_and_a_fault_in_it_names_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"n,output_tokens_per_s\n1,10\n\n2,20,,\n"))
    assert len(read_table(path).rows) == 2
    path.write_bytes(gzip.compress(b'n,w,output_tokens_per_s\n1,"two\nlines",10\n\n2,x,fast\n'))
    with pytest.raises(UsageError, match="line 5: output_tokens_per_s 'fast'"):
        read_table(path)


def test_a_word_in_place_of_the_rate_is_the_status(tmp_path: Path) -> None:
    path = table_of(tmp_path, "n,output_tokens_per_s", "1,10", "2,OOM", "3,error", "4,timed out")
    kinds = [type(attempt(path, config(n=n)).outcome) for n in (2, 3, 4)]
    assert kinds == [Infeasible, Crashed, TimedOut]
    assert read_table(path).notes == ()


def test_the_default_is_a_configuration_with_a_rate(tmp_path: Path) -> None:
    found = knobs(table_of(tmp_path, "n,w,output_tokens_per_s", "1,a,0", "4,a,10", "2,b,20"))
    assert {name: knob.default for name, knob in found.items()} == {"n": 4, "w": "a"}


def test_a_byte_order_mark_windows_line_ends_and_blanks_in_the_header_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbfn, output_tokens_per_s ,status\r\n1, 10 , ok \r\n2,0,\r\n")
    assert list(knobs(path)) == ["n"]
    assert rate(attempt(path, config(n=1)).outcome) == pytest.approx(10)
    assert len(read_table(path).notes) == 1


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
        ([], "cannot read table"),
        (["n,output_tokens_per_s"], "has no rows"),
        (
            ["n,throughput", "1,10"],
            "no column output_tokens_per_s; its columns are 'n', 'throughput': rename the one that holds output tokens",
        ),
        (["output_tokens_per_s,status", "10,ok"], "no column that is a knob"),
        (["n,output_tokens_per_s", "1,fast"], "line 2: output_tokens_per_s 'fast' is not a number"),
        (["n,output_tokens_per_s,status", "1,10,", "2,,ok"], "line 3: output_tokens_per_s must be over 0 where status"),
        (["n,output_tokens_per_s,status", "1,0,success"], "line 2: output_tokens_per_s must be over 0 where status"),
        (["n,output_tokens_per_s,status", "1,nan,True"], "line 2: output_tokens_per_s must be over 0 where status"),
        (["n,output_tokens_per_s", "1,0", "2,", "3,nan"], "no row with a rate: every one is a failure"),
        (["n,n,output_tokens_per_s", "1,1,10"], "two columns 'n'"),
        (["n, n ,output_tokens_per_s", "1,1,10"], "two columns 'n'"),
        (["n,output_tokens_per_s", "1,-5"], "line 2: output_tokens_per_s must be over 0"),
        (["n,output_tokens_per_s", "1,inf"], "line 2: output_tokens_per_s must be over 0"),
        (
            ["n,output_tokens_per_s,status", "1,10,fine"],
            "line 2: status 'fine' is not one of ok, oom, crash, timeout, rejected",
        ),
        (["n,output_tokens_per_s,launch_s", "1,10,long"], "line 2: launch_s 'long' is not a number"),
        (["n,output_tokens_per_s,launch_s", "1,10,-3"], "line 2: launch_s must be a finite number not below 0"),
        (["n,output_tokens_per_s,j_per_output_token", "1,10,inf"], "line 2: j_per_output_token must be a finite"),
        (["n,output_tokens_per_s", "nan,10", "1,10"], "line 2: 'n' is no finite number"),
        (["n,output_tokens_per_s", "1,10", "inf,10"], "line 3: 'n' is no finite number"),
        (["n,output_tokens_per_s", f"{10**400},10"], "line 2: 'n' is a number of more than 64 bits"),
        (["n,output_tokens_per_s", "1,1e-320"], "line 2: output_tokens_per_s must be over 0"),
        (["n" + "," * 5000, "1"], "more than 1,000 columns"),
        (["n,output_tokens_per_s", "1,2", "", "1,2,3"], "line 4: 3 values for 2 columns"),
        (["", "n", "1"], "its first line names no columns"),
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
