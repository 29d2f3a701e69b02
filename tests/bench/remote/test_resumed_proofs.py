"""A proof on several devices that is cut and goes on: it is of the same configurations."""

from pathlib import Path

from infertune.domain.request import TuneRequest
from infertune.runs.observer import Observer
from infertune.tuning import tune as tuning
from infertune.tuning.tune import Study
from tests.bench.remote.inline import InlineCluster
from tests.bench.remote.staging import crew
from tests.e2e.test_fake import cut

ENGINE = "fake:plateau,noise=8%,devices=5%"


def study(folder: Path, resume: Path | None = None) -> Study:
    given = {"engine": ENGINE, "device": "cpu", "out": folder, "profiles": folder / "p", "trials": 12, "seed": 2}
    workers = crew(InlineCluster(3), engine=ENGINE)
    return tuning._tune(TuneRequest.model_validate(given), Observer(), resume, workers, None)


def test_a_final_comparison_that_is_resumed_is_of_the_winner_that_it_began_with(tmp_path: Path) -> None:
    whole = study(tmp_path / "whole")
    finals = [trial for trial in whole.ledger.trials if trial.phase == "final"]
    assert {trial.device_id for trial in finals} == {f"simulated-{n}" for n in range(3)}
    for n in (finals[3].number, finals[-1].number):
        folder = cut(tmp_path / "whole" / "trials.jsonl", n, tmp_path / f"cut-{n}")
        again = study(folder, folder)
        compared = {trial.config for trial in again.ledger.trials if trial.phase == "final"}
        assert compared == {trial.config for trial in finals} and len(compared) == 2
        assert (again.summary.answer, again.summary.candidate_config) == (
            whole.summary.answer,
            whole.summary.candidate_config,
        )
