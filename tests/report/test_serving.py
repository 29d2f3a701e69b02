"""What a report says of serving: promise, highest rates, where time goes; and nothing of it for offline jobs."""

from dataclasses import replace
from pathlib import Path

import pytest

import infertune
from infertune.domain.objective import get_objective
from infertune.domain.request import make_request
from infertune.domain.trial import Trial
from infertune.report import find
from infertune.report.findings import Findings
from infertune.report.markdown import to_markdown
from infertune.report.page import to_html
from infertune.report.serving import HEADINGS, serving_sentences, time_rows
from infertune.report.serving_picture import serving
from infertune.runs.ledger import Ledger
from infertune.tuning.sweep import BenchRequest, bench_request
from tests.builders import config, ledger_of, one_knob


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("run")
    infertune.tune(
        engine="fake-serve:launch=5s", device="cpu", workload="synthetic:in=256,out=64", objective="goodput",
        slo=("ttft_p99_s<0.5", "tpot_s<0.03"), attain="90%", knob={"compiled": (False, True)},
        set={"max_num_batched_tokens": 2048, "max_num_seqs": 256, "gpu_memory_utilization": 0.9},
        trials=2, window="5s", trust="quick", out=folder / "run", profiles=folder / "profiles",
    )  # fmt: skip
    return find(Ledger.open(folder / "run"), get_objective("goodput", ("ttft_p99_s<0.5", "tpot_s<0.03")))


def test_the_promise_and_the_highest_rates_stand_in_sentences(found: Findings) -> None:
    lines = serving_sentences(found)
    assert lines[0] == "The promise: 90% of the requests keep `ttft_p99_s<0.5`, `tpot_s<0.03`."
    assert [line.partition(":")[0] for line in lines[2:4]] == ["default", "tuned"]


def test_a_requests_time_is_split_into_queue_prompt_and_tokens(found: Findings) -> None:
    rows = time_rows(found)
    assert [row[0] for row in rows] == ["default", "tuned"] and all(len(row) == len(HEADINGS) for row in rows)
    assert float(rows[1][1]) > float(rows[0][1])


def test_loads_that_were_sent_late_say_nothing_of_where_time_goes(found: Findings) -> None:
    def with_late_load(trial: Trial) -> Trial:
        """Its last load again, at a rate above all others, late."""
        if not trial.measurement:
            return trial
        last = trial.measurement.windows[-1]
        assert last.service
        late = last.service.model_copy(update={"rate_per_s": 9e4, "late": True, "strain": 0.5, "growing": False})
        windows = (*trial.measurement.windows, last.model_copy(update={"service": late}))
        return trial.model_copy(update={"outcome": trial.measurement.model_copy(update={"windows": windows})})

    ledger = found.ledger
    ledger = Ledger(ledger.folder, ledger.header, [with_late_load(trial) for trial in ledger.trials])
    assert time_rows(replace(found, ledger=ledger)) == time_rows(found)


def test_the_share_that_kept_a_fixed_rate_is_of_loads_on_time(tmp_path: Path) -> None:
    bench_request(
        make_request(
            BenchRequest,
            {"engine": "fake-serve:launch=5s", "device": "cpu", "workload": "synthetic:in=64,out=8", "rate": 20,
             "duration": "2s", "slo": ("ttft_s<0.5",), "launches": (1, 1), "windows": 2, "out": tmp_path / "run"},
        )
    )  # fmt: skip
    ledger = Ledger.open(tmp_path / "run")
    (trial,) = ledger.trials
    assert trial.measurement
    on_time, other = trial.measurement.windows
    assert other.service
    late = other.model_copy(update={"service": other.service.model_copy(update={"late": True, "attainment": 0.0})})
    measurement = trial.measurement.model_copy(update={"windows": (on_time, late)})
    ledger.trials[0] = trial.model_copy(update={"outcome": measurement})
    lines = serving_sentences(find(ledger, get_objective("throughput")))
    assert "100% of the requests kept it." in lines


def test_the_picture_has_a_panel_and_a_line_for_each_limit(found: Findings) -> None:
    picture = serving(found)
    assert picture and "ttft of 99% of the requests" in picture and "tpot of 90% of the requests" in picture
    assert picture.count('class="b-line"') >= 3 and picture.count("<circle") >= 4


def test_a_default_that_cannot_run_leaves_its_series_out_of_the_picture(tmp_path: Path) -> None:
    study = infertune.tune(
        engine="fake-serve:launch=5s", device="cpu", workload="synthetic:in=256,out=64", objective="goodput",
        slo=("ttft_s<0.5", "tpot_s<0.03"), attain="90%", knob={"gpu_memory_utilization": (0.8, 0.95)},
        set={"max_num_batched_tokens": 2048, "max_num_seqs": 256, "compiled": True},
        trials=2, window="5s", trust="quick", out=tmp_path / "run", profiles=tmp_path / "profiles",
    )  # fmt: skip
    run = find(Ledger.open(study.ledger.folder), get_objective("goodput", ("ttft_s<0.5", "tpot_s<0.03")))
    picture = serving(run)
    assert picture and "ttft of 90% of the requests" in picture and ">default<" not in picture
    assert "The default cannot run here" in to_markdown(run) and 'id="serving"' in to_html(run)


def test_page_and_text_have_the_section(found: Findings) -> None:
    assert "## Serving" in to_markdown(found) and 'id="serving"' in to_html(found)
    assert "requests a load" in to_markdown(found)


def test_reports_of_offline_jobs_say_nothing_of_serving(tmp_path: Path) -> None:
    rows = [("search", 0, config(slots=1), 10.0), ("search", 0, config(slots=2), 20.0)]
    offline = find(ledger_of(*rows, of=one_knob()), get_objective("throughput"))  # type: ignore[arg-type]
    assert serving_sentences(offline) == [] and serving(offline) is None
    assert "## Serving" not in to_markdown(offline)
