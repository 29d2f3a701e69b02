"""`--current`: what runs today is measured first, and is what has to be beaten."""

from pathlib import Path

import pytest

from infertune.domain.request import TuneRequest, make_request
from infertune.errors import MismatchError, UsageError
from infertune.profiles.profile import load_profile
from infertune.report.answer import contenders
from infertune.report.words import answer_sentence
from infertune.tuning.current import read_current
from infertune.tuning.tune import Study, resumed_request, tune, tune_request


def fake(out: Path, **options: object) -> Study:
    quick = {"engine": "fake", "trials": 6, "finalists": 2, "confirm_launches": 2, "final_launches": (3, 3)}
    return tune(out=out, profiles=out / "profiles", **{**quick, **options})


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile of a tune that held a setting other than the engine's default."""
    return fake(tmp_path_factory.mktemp("first") / "run", set=["max_num_seqs=128"]).profile_file


@pytest.fixture(scope="module")
def study(profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return fake(tmp_path_factory.mktemp("second") / "run", current=str(profile))


def test_what_runs_today_is_the_first_trial_and_the_engines_default_is_measured_too(
    study: Study, profile: Path
) -> None:
    current = load_profile(profile).changed
    first, second = study.ledger.trials[:2]
    assert current.root.items() <= first.config.root.items()
    assert second.config == study.ledger.header.stock == study.ledger.header.engine_defaults


def test_the_answer_compares_with_what_runs_today_and_shows_the_default(study: Study) -> None:
    summary = study.summary
    rows = contenders(summary)
    assert [row.name for row in rows][:2] == ["current", "default"]
    assert rows[1].estimate is not None and rows[1].gain is not None
    assert summary.default_config == study.ledger.trials[0].config
    assert "current settings" in answer_sentence(summary)


@pytest.mark.parametrize(("budget", "finals"), [(260.0, 2), (1000.0, 3)])
def test_a_budget_without_room_for_the_engines_default_leaves_it_out_of_the_proof(
    tmp_path: Path, budget: float, finals: int
) -> None:
    """After a search of 80 s, launches of 38 s: the short budget has room for four, not for six."""
    slow = fake(tmp_path / "slow", engine="fake:flat", set=["max_num_seqs=16"]).ledger.folder / "profile.yaml"
    found = fake(
        tmp_path / "run", engine="fake:plateau,launch=30s", current=str(slow), budget=budget, trials=10, finalists=1,
        confirm_launches=None, final_launches=(2, 2),
    )  # fmt: skip
    assert len({trial.config for trial in found.ledger.trials if trial.phase == "final"}) == finals
    assert found.summary.answer == "better" and found.summary.stock_config == found.ledger.trials[1].config


def test_reports_call_what_runs_today_current(study: Study) -> None:
    page = (study.ledger.folder / "report.html").read_text()
    assert "| per configuration | current | candidate |" in (study.ledger.folder / "report.md").read_text()
    assert "the ring is the current settings" in page and '"base_name":"current"' in page.replace(": ", ":")


def test_where_the_engines_default_is_best_the_report_says_so(tmp_path: Path) -> None:
    slow = fake(tmp_path / "slow", engine="fake:flat", set=["max_num_seqs=16"]).ledger.folder / "profile.yaml"
    found = fake(tmp_path / "run", engine="fake:plateau,launch=30s", current=str(slow), trials=4, finalists=1)
    assert found.summary.answer == "better" and found.summary.best_config == found.summary.stock_config
    assert (
        "The engine&#39;s own default settings are better than what runs today"
        in (tmp_path / "run" / "report.html").read_text()
    )


def test_a_profile_still_says_what_differs_from_the_engines_own_default(study: Study, profile: Path) -> None:
    best = study.summary.best_config
    assert study.profile.changed.root == {
        name: value for name, value in best.root.items() if value != study.ledger.header.engine_defaults[name]
    }


def test_where_nothing_beats_what_runs_today_the_answer_keeps_it(tmp_path: Path) -> None:
    first = fake(tmp_path / "a", engine="fake:flat", set=["max_num_seqs=128"])
    again = fake(tmp_path / "b", engine="fake:flat", current=str(first.ledger.folder / "profile.yaml"))
    assert again.summary.answer == "no better than current"
    assert again.summary.best_config == again.ledger.trials[0].config
    assert "keep the current settings" in answer_sentence(again.summary)


def test_a_run_that_started_from_a_profile_is_resumed_with_it_and_not_without(study: Study, tmp_path: Path) -> None:
    cut = tmp_path / "run"
    cut.mkdir()
    lines = (study.ledger.folder / "trials.jsonl").read_text().splitlines(keepends=True)
    (cut / "trials.jsonl").write_text("".join(lines[:3]))
    request = resumed_request(cut, {})
    assert request.current == study.ledger.header.request["current"]
    assert tune_request(request, resume=cut).summary.stock_config == study.summary.stock_config
    (cut / "trials.jsonl").write_text("".join(lines[:3]))
    with pytest.raises(MismatchError, match="space was"):
        tune_request(request.model_copy(update={"current": None}), resume=cut)


@pytest.mark.parametrize(
    ("current", "message"),
    [
        ("none.yaml", "there is no such file"),
        ("vllm serve x", "engine fake is not started by a command; give a saved profile"),
    ],
)
def test_what_cannot_be_current_is_refused_in_one_line(current: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_current(make_request(TuneRequest, {"engine": "fake", "current": current}))
    assert "\n" not in str(caught.value)


def test_a_held_setting_wins_over_what_runs_today(profile: Path, tmp_path: Path) -> None:
    study = fake(tmp_path / "run", current=str(profile), set=["max_num_seqs=32"], trials=2)
    assert study.ledger.trials[0].config["max_num_seqs"] == 32
    assert any("max_num_seqs=32 is held" in note for note in study.ledger.header.notes)


def test_a_model_in_a_container_is_tuned_where_it_lies_here(tmp_path: Path) -> None:
    def current(volumes: str, **more: object) -> TuneRequest:
        file = tmp_path / "compose.yaml"
        file.write_text(f"services: {{v: {{image: vllm/vllm-openai, command: --model /m/x, volumes: [{volumes}]}}}}")
        return make_request(TuneRequest, {"engine": "vllm", "current": str(file), **more})

    found = read_current(current("'./weights:/m'"))
    assert found and found.command and found.command.served == str(tmp_path / "weights" / "x")
    assert f"/m/x in the container is {tmp_path}/weights/x here" in found.notes
    with pytest.raises(UsageError, match="the model /m/x lies in the container, .* name the model on this machine"):
        read_current(current("'weights:/m'"))
    assert read_current(current("'weights:/m'", model="builtin:tiny")) is not None
