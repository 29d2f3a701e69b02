"""Samplers of third parties: what is loaded, with which arguments, and what is refused."""

import sys
from pathlib import Path

import pytest
from optuna.samplers import NSGAIISampler, QMCSampler

from infertune.domain.knobs import Config
from infertune.domain.request import TuneRequest, make_request
from infertune.errors import BenchmarkError, UsageError
from infertune.runs.continuing import continued
from infertune.runs.ledger import Ledger
from infertune.search import InfertuneSampler, Result, make_searcher
from infertune.search.third_party import load_sampler
from tests.builders import header, one_knob, space
from tests.search.test_search import small_space
from tests.search.trajectories import run_search

_OWN = """
import optuna

print("the module speaks")

class Mine(optuna.samplers.RandomSampler):
    pass

class Broken(Mine):
    def sample_independent(self, *_):
        raise RuntimeError("no idea")

class Leaving(Mine):
    def sample_independent(self, *_):
        raise SystemExit(3)

class BrokenAfter(Mine):
    def after_trial(self, *_):
        raise RuntimeError("no idea")

class OutOfRange(Mine):
    def sample_independent(self, study, trial, name, distribution):
        return getattr(distribution, "choices", [10**6])[0]

class Interrupted(Mine):
    def sample_independent(self, *_):
        raise KeyboardInterrupt

class Talking(Mine):
    def before_trial(self, *_):
        print("before")

    def after_trial(self, *_):
        print("after")

class Thing:
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the folder that the user is in."""
    (tmp_path / "own_samplers_of_a_test.py").write_text(_OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return "own_samplers_of_a_test"


def test_a_class_is_loaded_with_its_arguments_and_the_runs_seed() -> None:
    found = load_sampler("optuna.samplers:NSGAIISampler,population_size=4,mutation_prob=0.5", 3)
    assert isinstance(found, NSGAIISampler) and found._population_size == 4
    assert isinstance(load_sampler("optuna.samplers:QMCSampler,qmc_type=halton", 3), QMCSampler)
    assert isinstance(load_sampler("infertune.search:InfertuneSampler", 3), InfertuneSampler)


def test_the_same_seed_asks_the_same_and_another_something_else() -> None:
    def found(seed: int) -> list[Config]:
        return run_search(
            make_searcher(space(), sampler="optuna.samplers:NSGAIISampler", trials=9, seed=seed), 9
        ).configs

    assert found(1) == found(1) != found(2)


def test_a_module_of_this_folder_is_found(own: str) -> None:
    assert type(load_sampler(f"{own}:Mine", 0)).__name__ == "Mine"


@pytest.mark.parametrize(
    "spec",
    [
        "optuna.samplers:NSGAIISampler,population_size=4",
        "optuna.samplers:BruteForceSampler",
        "infertune.search:InfertuneSampler",
    ],
)
def test_a_third_partys_sampler_searches_a_space_whole_and_keeps_its_rules(spec: str) -> None:
    of = small_space()
    found = run_search(make_searcher(of, sampler=spec, trials=None), 100, lambda chosen: 1.0, of).configs
    assert sorted(c.key for c in found) == sorted(c.key for c in of.grid())


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("no_such_module:A", "No module named 'no_such_module'"),
        ("optuna.samplers:NoSuch", "has no attribute 'NoSuch'"),
        ("optuna.samplers:TPESampler,wrong=1", "unexpected keyword argument 'wrong'"),
        ("optuna.samplers:TPESampler,wrong", "'wrong' is not like NAME=VALUE"),
        ("optuna:Study", "Study is no Optuna sampler"),
        ("optunahub:samplers/x:Y", "optunahub"),
        (":", "sampler"),
    ],
)
def test_what_is_no_sampler_is_refused_in_one_line(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        make_searcher(space(), sampler=spec, trials=5)
    assert "\n" not in str(refused.value) and f"--sampler {spec}" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Broken", "RuntimeError: no idea"), ("Leaving", "SystemExit: 3"), ("OutOfRange", "IndexError: ")],
)
def test_a_sampler_that_fails_in_mid_run_ends_it_with_its_reason(own: str, name: str, reason: str) -> None:
    searcher = make_searcher(space(), sampler=f"{own}:{name}", trials=5)
    first = searcher.ask(None)
    assert first is not None
    searcher.tell(Result(first, 1.0))
    with pytest.raises(BenchmarkError, match=f"the sampler {name} failed: {reason}.*; the trials so far are in"):
        searcher.ask(first)


@pytest.mark.parametrize("how", ["told", "lost"])
def test_a_sampler_that_fails_after_a_trial_ends_the_run_with_its_reason(own: str, how: str) -> None:
    searcher = make_searcher(space(), sampler=f"{own}:BrokenAfter", trials=5)
    first = searcher.ask(None)
    assert first is not None
    searcher.ask(first, [first])
    with pytest.raises(BenchmarkError, match="the sampler BrokenAfter failed: RuntimeError: no idea"):
        searcher.tell(Result(first, 1.0)) if how == "told" else searcher.ask(first)


def test_an_interrupt_in_a_sampler_stays_one(own: str) -> None:
    searcher = make_searcher(space(), sampler=f"{own}:Interrupted", trials=5)
    first = searcher.ask(None)
    assert first is not None
    searcher.tell(Result(first, 1.0))
    with pytest.raises(KeyboardInterrupt):
        searcher.ask(first)


def test_a_module_that_leaves_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_module_of_a_test.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="--sampler leaving_module_of_a_test:A: SystemExit: it says nothing"):
        load_sampler("leaving_module_of_a_test:A", 0)


def test_what_a_sampler_prints_goes_to_standard_error(
    own: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output may have to be one JSON document."""
    monkeypatch.delitem(sys.modules, own, raising=False)
    run_search(make_searcher(space(), sampler=f"{own}:Talking", trials=4), 4)
    said = capsys.readouterr()
    assert said.out == "" and all(word in said.err for word in ("the module speaks", "before", "after"))


def test_only_the_user_names_code(tmp_path: Path) -> None:
    """A configuration file or a ledger may be a stranger's."""
    spec = "optuna.samplers:NSGAIISampler"
    file = tmp_path / "c.yaml"
    file.write_text(f"sampler: {spec}\n")
    with pytest.raises(UsageError, match="c.yaml names the sampler .* give --sampler to allow it"):
        make_request(TuneRequest, {}, file)
    assert make_request(TuneRequest, {"sampler": spec}, file).sampler == spec
    made = header(one_knob(1, 2)).model_copy(update={"request": {"sampler": spec}})
    Ledger.create(tmp_path / "run", made)
    for flags in ({}, {"sampler": "optuna.samplers:QMCSampler"}):
        with pytest.raises(UsageError, match="a program that --resume would run"):
            continued(TuneRequest, made, tmp_path / "run", flags, set())
    assert continued(TuneRequest, made, tmp_path / "run", {"sampler": spec}, set()).sampler == spec
