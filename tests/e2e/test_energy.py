"""Energy from a run to its profile: objectives, limits, the front, and what cannot be measured."""

import json
from pathlib import Path

import pytest

import infertune
from infertune.domain.objective import get_objective
from infertune.errors import BenchmarkError, UsageError
from infertune.landscape import pareto_front
from infertune.tuning.afterwards import profile_from, report_again
from infertune.tuning.tune import Study, resumed_request, tune_request


def tune(folder: Path, **options: object) -> Study:
    study: Study = infertune.tune(
        engine="fake", requests=64, seed=1, out=folder / "run", profiles=folder / "profiles", **options
    )
    return study


def test_tuning_for_energy_uses_fewer_joules_than_the_default(tmp_path: Path) -> None:
    study = tune(tmp_path, trials=30, objective="energy")
    assert study.summary.answer == "better" and study.summary.unit == "J/token"
    assert study.profile_file.name.endswith("--energy.yaml"), "a profile of throughput keeps its own"
    assert study.summary.gain is not None and study.summary.gain.high is not None and study.summary.gain.high < 1
    tuned, default = study.profile.economy, study.profile.default_economy
    assert tuned.j_per_output_token is not None and default.j_per_output_token is not None
    assert tuned.j_per_output_token < default.j_per_output_token


@pytest.mark.slow
def test_throughput_and_energy_want_different_configurations(tmp_path: Path) -> None:
    fast = tune(tmp_path / "fast", trials=30)
    green = tune(tmp_path / "green", trials=30, objective="tokens-per-joule")
    assert fast.profile.config != green.profile.config
    assert (fast.profile.economy.power_w or 0) > (green.profile.economy.power_w or 0)


@pytest.mark.slow
def test_a_limit_is_kept_by_what_is_recommended(tmp_path: Path) -> None:
    free, limited = tune(tmp_path / "free", trials=30), tune(tmp_path / "limited", trials=30, slo=("power_w<400",))
    assert (free.profile.economy.power_w or 0) > 400
    assert limited.summary.answer == "better" and (limited.profile.economy.power_w or 999) <= 400
    assert (free.profile.slo, limited.profile.slo) == ((), ("power_w<400",))


def test_cost_counts_rent_and_electricity(tmp_path: Path) -> None:
    study = tune(tmp_path, trials=12, objective="cost", price_per_hour=2.0, price_per_kwh=0.3)
    rate = 1e6 / (study.profile.economy.cost_per_million_tokens or 0)
    assert rate * 1000 > 1e6 and study.summary.unit == "per million tokens"
    assert "cost per million tokens" in study.report_file.with_name("report.md").read_text()


def test_a_figure_that_cannot_be_measured_is_refused_with_those_that_can(tmp_path: Path) -> None:
    refused = r"ttft_p99_s cannot be measured here .* available are output_tokens_per_s"
    with pytest.raises(BenchmarkError, match=refused):
        tune(tmp_path, trials=4, slo=("ttft_p99_s<1",))
    with pytest.raises(BenchmarkError, match=refused):
        tune_request(resumed_request(tmp_path / "run", {}), resume=tmp_path / "run")


def test_the_front_stands_in_the_report_and_gives_profiles(tmp_path: Path) -> None:
    study = tune(tmp_path, trials=30)
    front = pareto_front(study.ledger.trials, get_objective("throughput"))
    assert len(front) >= 2
    report = study.report_file.with_name("report.md").read_text()
    assert "## Throughput against energy" in report and "greenest" in report
    for place, point in (("fastest", front[0]), ("greenest", front[-1])):
        profile = profile_from(study.ledger.folder, place)
        profile.save(tmp_path / f"{place}.yaml")
        assert infertune.load_profile(tmp_path / f"{place}.yaml") == profile
        assert profile.config == point.config and profile.answer == "unconfirmed"
    with pytest.raises(UsageError, match="fastest, greenest, knee"):
        profile_from(study.ledger.folder, "cheapest")


def test_a_report_is_a_function_of_the_ledger(tmp_path: Path) -> None:
    study = tune(tmp_path, trials=12, price_per_hour=2.0)
    before = {name: (study.ledger.folder / name).read_bytes() for name in ("report.html", "report.md", "landscape.csv")}
    report_again(study.ledger.folder)
    assert before == {name: (study.ledger.folder / name).read_bytes() for name in before}


@pytest.mark.slow
def test_a_real_process_has_modelled_energy_with_its_carbon(tmp_path: Path) -> None:
    """codecarbon for real: the worker waits while its parent reads the meters at the edges of the window."""
    study = infertune.tune(
        engine="fake:faults", requests=8, trials=2, finalists=1, final_launches=(2, 2), carbon_intensity=56,
        set=["fault=no fault"], window="0.2", out=tmp_path / "run", profiles=tmp_path / "profiles",
    )  # fmt: skip
    lines = (tmp_path / "run" / "trials.jsonl").read_text().splitlines()
    energy = json.loads(lines[1])["outcome"]["windows"][0]["energy"]
    assert energy["cpu_j"] > 0 and energy["cpu_source"] in ("modelled", "measured")
    assert energy["gpu_j"] is None and energy["reason"]
    known_j = energy["cpu_j"] + energy["ram_j"]
    assert energy["co2e_g"] == pytest.approx(known_j / 3.6e6 * 56) and "56" in energy["co2e_factor"]
    assert study.profile.default_economy.co2e_g_per_million_tokens is not None
