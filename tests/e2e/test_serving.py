"""Serving from end to end on the simulated server: loads at a rate, tunes for goodput, what is kept of them."""

import gzip
import json
from pathlib import Path

import pytest

import infertune
from infertune.domain.measurement import Window
from infertune.domain.promise import Promise
from infertune.domain.request import make_request
from infertune.domain.service import LoadCounts
from infertune.errors import BenchmarkError, UsageError
from infertune.profiles.profile import load_profile
from infertune.report.serving import load_sentences
from infertune.runs.ledger import Ledger
from infertune.runs.samples import SAMPLES_NAME
from infertune.tuning.sweep import BenchRequest, bench_request
from infertune.tuning.tune import Study, resumed_request, tune_request

LIMITS = ("ttft_s<0.5", "tpot_s<0.03")
SERVER = {"engine": "fake-serve:launch=20s", "device": "cpu", "workload": "synthetic:in=128,out=16"}


def bench(folder: Path, **options: object) -> BenchRequest:
    return make_request(BenchRequest, {**SERVER, "out": folder / "run", "launches": (2, 2), "windows": 1, **options})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("serving")
    return infertune.tune(
        **SERVER, objective="goodput", slo=LIMITS, attain="90%", trials=8, window="5s", trust="quick",
        out=folder / "run", profiles=folder / "profiles",
    )  # fmt: skip


def test_a_load_at_a_rate_gives_the_figures_of_its_requests(tmp_path: Path) -> None:
    result = bench_request(bench(tmp_path, rate=20, duration="10s", slo=LIMITS))
    figures = result.figures
    assert figures["completed_per_s"].mean == pytest.approx(20, rel=0.05)
    assert figures["attainment"].mean == 1.0
    assert figures["ttft_p50_s"].mean < figures["ttft_p99_s"].mean < 0.5
    ledger = Ledger.open(tmp_path / "run")
    assert [window.n_requests for window in ledger.trials[0].measurement.windows] == [200]  # type: ignore[union-attr]
    assert result.loads == LoadCounts(n_loads=2, n_late=0, n_kept=2, n_growing=0, broken=dict.fromkeys(LIMITS, 0))
    assert load_sentences(result.loads) == ["The promise was kept in 2 of 2 loads."]


def test_every_launch_of_a_bench_sends_other_requests(tmp_path: Path) -> None:
    """A server that runs already may keep those of the launch before in its prefix cache."""
    bench_request(bench(tmp_path, workload="synthetic:in=64-512,out=8-32", rate=20, duration="2s"))
    lines = gzip.decompress((tmp_path / "run" / SAMPLES_NAME).read_bytes()).decode().splitlines()
    first, second = (json.loads(line)["requests"] for line in lines)
    assert first["output_tokens"] != second["output_tokens"] and first["due_s"] != second["due_s"]
    trials = Ledger.open(tmp_path / "run").trials
    warmups = {trial.measurement.warmup_s for trial in trials if trial.measurement}
    assert len(warmups) == 2, "nor is the warm-up the same"


def test_more_loads_on_a_launch_than_its_line_of_the_ledger_takes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="^--windows 8: a launch takes at most 7 loads of a server; give more --launches"
    ):
        bench_request(bench(tmp_path, rate=20, duration="2s", windows=8))
    assert not (tmp_path / "run").exists()
    bench_request(bench(tmp_path, engine="fake", workload="synthetic:in=64,out=8", windows=8, requests=4))


def test_limits_that_are_broken_and_a_queue_that_grows_are_named(tmp_path: Path) -> None:
    result = bench_request(bench(tmp_path, rate=2000, duration="5s", slo=("ttft_s<900", "tpot_s<0.001")))
    assert result.loads
    assert load_sentences(result.loads) == [
        "The promise was kept in 0 of 2 loads: tpot_s<0.001 was broken in 2.",
        "The queue grew in 2 of 2 loads: requests come faster than they are answered.",
    ]
    assert "The queue grew in 2 of 2 loads" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize("arrivals", ["constant", "gamma:2", "concurrency:4", "all-at-once"])
def test_every_kind_of_arrival_can_be_measured(tmp_path: Path, arrivals: str) -> None:
    rate = {} if arrivals in ("concurrency:4", "all-at-once") else {"rate": 10}
    result = bench_request(bench(tmp_path, arrivals=arrivals, duration="5s", **rate))
    assert result.figures["latency_p50_s"].mean > 0 and "attainment" not in result.figures
    service = Ledger.open(tmp_path / "run").trials[0].measurement.windows[0].service  # type: ignore[union-attr]
    assert service and service.promise == Promise() and service.arrivals == arrivals


def test_a_trace_is_replayed_at_its_own_times(tmp_path: Path) -> None:
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [f"2024-05-10 00:00:{n // 10:02d}.{n % 10}00000,64,8" for n in range(300)]
    (tmp_path / "trace.csv").write_text("\n".join(rows) + "\n")
    workload = f"trace:{tmp_path / 'trace.csv'}"
    bench_request(bench(tmp_path, workload=workload, arrivals="trace:2", requests=100))
    service = Ledger.open(tmp_path / "run").trials[0].measurement.windows[0].service  # type: ignore[union-attr]
    assert service and service.rate_per_s == pytest.approx(20, rel=0.05)


def windows(folder: Path) -> list[Window]:
    return [window for trial in Ledger.open(folder / "run").trials for window in trial.measurement.windows]  # type: ignore[union-attr]


@pytest.mark.parametrize("clients", [1, 64, 256])
def test_a_closed_loop_lasts_about_as_long_as_was_asked_and_nothing_of_it_fails(tmp_path: Path, clients: int) -> None:
    bench_request(bench(tmp_path, arrivals=f"concurrency:{clients}", duration="60s"))
    for window in windows(tmp_path):
        assert 30 < window.duration_s < 120 and window.service and window.service.n_failed == 0


def test_a_closed_loop_that_takes_longer_than_usual_is_waited_for(tmp_path: Path) -> None:
    slow = "synthetic:in=128,out=256"
    bench_request(bench(tmp_path, workload=slow, arrivals="concurrency:1", requests=400, launches=(1, 1)))
    assert [window.service.n_failed for window in windows(tmp_path) if window.service] == [0]
    assert all(window.duration_s > 600 and window.n_requests == 400 for window in windows(tmp_path))


def test_a_trace_at_its_own_times_lasts_as_long_as_was_asked(tmp_path: Path) -> None:
    rows = [f"2024-05-10 00:{n // 60:02d}:{n % 60:02d},64,8" for n in range(600)]
    (tmp_path / "trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    workload = f"trace:{tmp_path / 'trace.csv'}"
    bench_request(bench(tmp_path, workload=workload, arrivals="trace:2", duration="30s"))
    assert {window.n_requests for window in windows(tmp_path)} == {60}
    assert all(window.duration_s == pytest.approx(30, rel=0.05) for window in windows(tmp_path))


def test_requests_that_take_minutes_are_not_cut_where_only_their_first_token_is_limited(tmp_path: Path) -> None:
    options = {"workload": "synthetic:in=64,out=9000", "rate": 0.15, "duration": "60s", "slo": ("ttft_s<1",)}
    result = bench_request(bench(tmp_path, launches=(1, 1), **options))
    assert result.loads and load_sentences(result.loads) == ["The promise was kept in 1 of 1 loads."]


def trace_of(folder: Path, days: list[int]) -> str:
    """A workload of one request on each day of May."""
    rows = [f"2024-05-{day:02d} 00:00:00,64,8" for day in days]
    (folder / "days.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    return f"trace:{folder / 'days.csv'}"


@pytest.mark.parametrize("options", [{}, {"rate": 5}])
def test_a_trace_of_a_single_moment_is_refused_before_anything_is_sent(
    tmp_path: Path, options: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match="^--arrivals trace: all times of this trace are the same"):
        bench_request(bench(tmp_path, workload=trace_of(tmp_path, [1] * 60), arrivals="trace", **options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("requests", [1, 2, 20])
def test_a_trace_with_many_requests_of_one_moment_is_replayed(tmp_path: Path, requests: int) -> None:
    workload = trace_of(tmp_path, [1] * 59 + [2])
    bench_request(bench(tmp_path, workload=workload, arrivals="trace:1000", requests=requests))
    service = Ledger.open(tmp_path / "run").trials[0].measurement.windows[0].service  # type: ignore[union-attr]
    assert service and service.rate_per_s == (None if requests == 1 else pytest.approx(requests / 86.4))


def test_a_trace_that_lasts_too_long_is_refused_and_a_faster_one_is_not(tmp_path: Path) -> None:
    workload = trace_of(tmp_path, [*range(1, 31)] * 2)
    with pytest.raises(UsageError, match="a load of 60 requests would last longer than 277h .* faster trace:SPEEDUP"):
        bench_request(bench(tmp_path, workload=workload, arrivals="trace", requests=60))
    assert not (tmp_path / "run").exists()
    with pytest.raises(BenchmarkError, match="requests at this trace's times are due over more than 277h"):
        bench_request(bench(tmp_path, workload=workload, arrivals="trace:3", slo=LIMITS))  # 300 requests at least
    bench_request(bench(tmp_path, workload=workload, arrivals="trace:1000", requests=60, out=tmp_path / "faster"))


def test_a_tune_for_goodput_proves_its_winner_and_its_profile_holds_the_load(study: Study) -> None:
    summary = study.summary
    assert summary.answer == "better" and summary.unit == "req/s" and summary.gain and summary.gain.mean > 1.1
    assert summary.best_config["compiled"] is True
    profile = load_profile(study.profile_file)
    assert profile.slo == LIMITS and profile.serving
    assert (profile.serving.arrivals, profile.serving.attain) == ("poisson", 0.9)
    assert profile.serving.rate_per_s == pytest.approx(summary.candidate.mean / 0.9, rel=0.15)  # type: ignore[union-attr]


def test_a_configuration_takes_few_looks_and_its_line_of_the_ledger_is_short(study: Study) -> None:
    measured = [trial.measurement for trial in study.ledger.trials if trial.measurement]
    assert max(len(found.windows) for found in measured) <= 6
    lines = (study.ledger.folder / "trials.jsonl").read_text().splitlines()
    assert max(map(len, lines)) < 20_000


def test_every_request_is_kept_in_a_side_file(study: Study) -> None:
    lines = gzip.decompress((study.ledger.folder / SAMPLES_NAME).read_bytes()).decode().splitlines()
    found = {(line["trial"], line["window"]): line["requests"] for line in map(json.loads, lines)}
    for trial in study.ledger.trials:
        for number, window in enumerate(trial.measurement.windows if trial.measurement else ()):
            assert len(found[trial.number, number]["due_s"]) == window.n_requests


@pytest.mark.slow
def test_a_tune_for_goodput_that_was_cut_goes_on_where_it_was(study: Study, tmp_path: Path) -> None:
    lines = (study.ledger.folder / "trials.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "trials.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:50])
    again = tune_request(resumed_request(tmp_path, {"profiles": tmp_path / "profiles"}), resume=tmp_path)
    assert [trial.config for trial in again.ledger.trials[:4]] == [trial.config for trial in study.ledger.trials[:4]]
    assert again.ledger.ending == study.ledger.ending


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "fake", "rate": 5}, "engine fake is no server"),
        ({"arrivals": "poisson"}, "needs --rate"),
        ({"arrivals": "concurrency:2", "rate": 5}, "--rate is of no meaning"),
        ({"arrivals": "soon", "rate": 5}, "is no arrival"),
        ({"arrivals": "trace"}, "this workload has no times"),
        ({"rate": 5, "target": "http://127.0.0.1:1"}, "leave out --engine"),
        ({"rate": 5, "attain": "150%"}, "--attain 150%: '150%' is not over 0% and under 100%"),
        (
            {"rate": 5, "attain": "95%"},
            "--attain is of limits on the requests of a server's load, and there",
        ),
        (
            {"attain": "95%", "slo": LIMITS},
            "--attain is of limits .* give --slo 'ttft_s<0.5' and --rate",
        ),
        ({"rate": 5, "slo": ("ttft<1",)}, "there is no figure 'ttft'"),
        ({"slo": LIMITS}, "is of a server's load: give --rate"),
        ({"rate": 5, "slo": (*LIMITS, "power_w<200")}, "--slo power_w<200 is on a figure of a launch"),
        ({"rate": 5, "duration": "10s", "requests": 3}, "--requests and --duration both say how long a load is"),
        ({"rate": 0.0001, "requests": 1000}, "a load of 1000 requests would last longer than 277h .* --rate"),
        ({"rate": 1e6, "duration": "1000s"}, "are 1,000,000,000 requests, and a load has 1,000,000 at most: .* --rate"),
        ({"rate": 5, "arrivals": "trace:10"}, "--rate sets the rate, so a speed-up is of no meaning: give trace"),
        ({"rate": 1e-9}, "a load of 1 requests would last longer than 277h"),
        ({"rate": 5, "arrivals": "trace:1e-6"}, "--arrivals trace:1e-6: .*the speed-up must be from 0.001 to 1,000"),
    ],
)
def test_a_load_that_cannot_be_is_refused_in_one_line(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bench_request(bench(tmp_path, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "goodput"}, "needs a limit on requests"),
        ({"objective": "goodput", "slo": ("peak_memory_gib<1",)}, "needs a limit on requests"),
        ({"arrivals": "poisson"}, "--arrivals is for --objective goodput"),
        ({"attain": "95%", "slo": ("ttft_p99_s<2",)}, "--attain is of limits"),
        ({"objective": "goodput", "slo": LIMITS, "arrivals": "concurrency:2"}, "come at a rate"),
        ({"objective": "goodput", "slo": LIMITS, "arrivals": "trace:2"}, "a speed-up is of no meaning: give trace"),
    ],
)
def test_a_tune_for_goodput_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        infertune.tune(**SERVER, out=tmp_path / "run", profiles=tmp_path / "profiles", **options)


def test_a_promise_that_no_rate_keeps_is_told_after_the_default_was_measured(tmp_path: Path) -> None:
    options = {"objective": "goodput", "slo": ("ttft_s<0.000001",), "trials": 1}
    with pytest.raises(BenchmarkError, match=r"the promise is kept at no rate .* [\d,]+ times the limit is used"):
        infertune.tune(**SERVER, out=tmp_path / "run", profiles=tmp_path / "profiles", **options)
