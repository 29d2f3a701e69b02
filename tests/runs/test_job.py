"""From a request to a job: what is refused before anything is touched, and what is chosen for the user."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infertune.domain.device import Survey
from infertune.domain.request import JobRequest, make_request
from infertune.errors import MismatchError, UsageError
from infertune.runs import job as jobs
from infertune.runs.continuing import continued
from infertune.runs.job import Job, prepare, restrict
from infertune.runs.ledger import Ledger
from tests.builders import CPU, header, space


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs, "survey_to_measure", lambda wanted: Survey(CPU))
    monkeypatch.chdir(tmp_path)


def job(**flags: Any) -> Job:
    return prepare(make_request(JobRequest, {"engine": "fake", **flags}))


@pytest.mark.parametrize(
    ("flags", "cure"),
    [
        ({"engine": "turbo"}, "unknown engine 'turbo'; there are"),
        ({"engine": "fake:desert"}, "no fake landscape 'desert'; there are plateau"),
        ({"engine": "replay"}, "--table FILE.csv"),
        ({"model": "builtin:tiny"}, "takes no MODEL; leave 'builtin:tiny' out"),
        ({"set": ["speed=9"]}, "unknown knob 'speed'; there are max_num_seqs"),
        ({"set": ["max_num_seqs=many"]}, "not a number of the kind 4, 8"),
        ({"set": ["max_num_seqs=9999"]}, "max_num_seqs=9999 is out of range 4 to 4096"),
        ({"set": ["max_num_seqs=8.5"]}, "not a number of the kind"),
        ({"set": ["max_num_seqs=true"]}, "not a number of the kind"),
        ({"set": ["memory_share=nan"]}, "no finite number"),
        ({"set": ["compiled=1"]}, "compiled=1 is not one of false, true"),
        ({"knob": ["block_size=16,16"]}, "a value is given twice"),
        ({"knob": ["block_size"]}, "'block_size' is not like NAME=VALUE"),
        ({"workload": "trace:none.csv"}, "cannot read workload file none.csv"),
        ({"engine_python": Path("no/such/python")}, "is no executable interpreter"),
        ({"engine_python": Path(".")}, "is no executable interpreter"),
        ({"engine_binary": Path("no/such/server")}, "is no executable program"),
        ({"engine_binary": Path(sys.executable)}, "engine fake is no program of its own"),
        ({"table": Path("t.csv")}, "--table: engine fake answers from no table; leave it out, or take one that does"),
        ({"ignore": ("date",)}, "--ignore: engine fake answers from no table"),
        (
            {"set": ["max_num_seqs=8"], "knob": ["max-num-seqs=8,16"]},
            "--set max_num_seqs=8 and --knob max_num_seqs=8,16 exclude each other",
        ),
        (
            {"set": ["max_num_seqs=8"], "knob": ["max_num_seqs=16"]},
            "exclude each other: an argument is held or searched",
        ),
    ],
)
def test_a_request_that_cannot_be_is_refused_with_the_cure(flags: dict[str, Any], cure: str) -> None:
    with pytest.raises(UsageError) as refused:
        job(**flags)
    assert cure in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(Path.cwd().iterdir()) == [], "nothing was touched"


def test_an_executable_interpreter_is_taken() -> None:
    assert job(engine_python=Path(sys.executable)).options.python == Path(sys.executable)


@pytest.mark.parametrize("name", ["engine_python", "engine_binary"])
def test_a_program_that_a_ledger_names_is_run_only_where_the_user_names_it_again(name: str, tmp_path: Path) -> None:
    started = header(request={"engine": "fake", name: "/other/program", "set": {"compiled": True}})

    def resumed(**flags: Any) -> Any:
        return continued(JobRequest, started, tmp_path, flags, set())

    for flags in ({}, {name: Path("/third")}):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} /other/program, a program that --resume"):
            resumed(**flags)
    assert getattr(resumed(**{name: Path("/other/program")}), name) == Path("/other/program")
    assert resumed(**{name: Path("/other/program"), "set": ["compiled=true"]}).typed_names == {"compiled"}


def test_held_and_restricted_knobs_shrink_the_space() -> None:
    found = job(set=["block_size=32"], knob=["max_num_seqs=8,64"]).space
    assert found["block_size"].values == (32,)
    assert found["max_num_seqs"].values == (8, 64)
    assert found.default["max_num_seqs"] == 64


def test_a_held_setting_is_the_baseline_but_not_the_engines_default() -> None:
    found = job(set=["block_size=32"])
    assert found.space.default["block_size"] == 32
    assert found.engine_defaults["block_size"] == 16


def test_a_knob_that_is_searched_over_the_value_that_it_is_held_at_alone_is_no_contradiction() -> None:
    assert job(set=["block_size=32"], knob=["block_size=32"]).space["block_size"].values == (32,)


def test_a_value_between_the_rungs_may_be_asked_for() -> None:
    found = restrict(space(), {"slots": 100}, {"share": (0.75, 0.9)})
    assert found["slots"].values == (100,)
    assert found["share"].values == (0.75, 0.9)


def test_the_rules_still_hold_in_a_restricted_space() -> None:
    found = restrict(space(), {"slots": 100}, {"budget": (96, 4096)})
    assert found.repair(found.default.updated({"budget": 96}))["budget"] == 4096


def test_what_is_chosen_for_the_user_depends_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (job().workload.spec, job().window_s) == ("synthetic:in=32-128,out=32", 2.0)
    gpu = CPU.model_copy(update={"kind": "gpu", "uuids": ("GPU-1",)})
    monkeypatch.setattr(jobs, "survey_to_measure", lambda wanted: Survey(gpu))
    assert (job().workload.spec, job().window_s) == ("synthetic:in=512,out=128", 10.0)
    assert job(window="3s").window_s == 3.0


def test_a_simulated_engine_holds_no_device_and_a_real_one_does() -> None:
    assert job().lock_names == ()
    assert job(engine="fake:faults").lock_names[0].startswith("cpu")


def test_the_search_has_the_same_job_for_everyone_once_its_size_is_known() -> None:
    found = job()
    free = found.plan("search", None)
    assert free.window_s == 2.0
    fixed = found.plan("search", 50)
    assert fixed.window_s is None
    assert fixed.requests == free.requests[:50], "the job found for the default is everyone's"
    assert len(free.requests) == 2048


def test_a_job_has_enough_requests_to_tell_concurrencies_apart() -> None:
    assert job().plan("search", None).fewest == 256
    assert job(knob=["max_num_seqs=4,8"]).plan("search", None).fewest == 32


def test_parts_and_rounds_of_a_plan_have_other_requests() -> None:
    found = job()
    plans = [found.plan("search", 20), *(found.plan("confirm", 20, n) for n in range(2)), found.plan("final", 20)]
    seeds = {r.seed for plan in plans for r in plan.requests}
    assert len(seeds) == 80
    assert not seeds & {r.seed for r in plans[0].warmup}


def test_fewer_texts_than_were_asked_for_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f'{{"prompt": "{n}"}}\n' for n in range(50)))
    notes = job(workload=f"jsonl:{path}", requests=40).notes
    assert "the workload has 20 requests for the search, fewer than the 40 asked for" in notes


def test_the_header_holds_the_request_so_that_it_can_be_made_again() -> None:
    found = job(set=["block_size=32"], seed=3)
    head = found.header("tune")
    assert make_request(JobRequest, dict(head.request)) == found.request
    assert (head.engine, head.model, head.device) == ("fake", None, CPU)
    assert head.space == found.space.record()


def test_a_run_folder_is_named_for_its_day_device_and_engine_and_numbered() -> None:
    first = job().new_folder()
    second = job().new_folder()
    assert first.parent == Path("reports") and first.is_dir()
    assert first.name.endswith("-cpu-test-cpu-4-cores-fake-no-model")
    assert second.name == f"{first.name}-2"
    assert job(engine="fake:flat").new_folder().name.endswith("-fake-flat")


def test_a_run_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another --out"):
        job(out=tmp_path / "file" / "run").new_folder()


def test_a_run_is_not_continued_on_another_board_of_the_same_kind(tmp_path: Path) -> None:
    job = prepare(JobRequest(engine="fake"))
    board = CPU.model_copy(update={"kind": "gpu", "name": "H100", "driver": "580", "uuids": ("GPU-1",)})
    Ledger.create(tmp_path, replace(job, device=board).header("tune"))
    with pytest.raises(MismatchError, match="device was GPU-1: .* and is now GPU-2: "):
        replace(job, device=board.model_copy(update={"uuids": ("GPU-2",)})).resume(tmp_path)


BOARD = CPU.model_copy(
    update={"kind": "gpu", "name": "H100", "driver": "580", "power_limit_w": 700.0, "cores": 96, "uuids": ("GPU-1",)}
)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"uuids": ()}, {}),  # begun with workers, goes on without
        ({}, {"uuids": ()}),
        ({"uuids": ()}, {"uuids": (), "cores": 64}),  # another node is the first
        ({"uuids": ()}, {"uuids": (), "memory_bytes": CPU.memory_bytes + 2**20}),
        ({}, {"power_limit_w": 700.2}),
    ],
)
def test_a_run_goes_on_on_a_device_of_which_the_figures_compare(
    tmp_path: Path, then: dict[str, Any], now: dict[str, Any]
) -> None:
    job = prepare(JobRequest(engine="fake"))
    Ledger.create(tmp_path, replace(job, device=BOARD.model_copy(update=then)).header("tune"))
    replace(job, device=BOARD.model_copy(update=now)).resume(tmp_path).close()


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"driver": "570"}, "driver was 580 and is now 570;"),
        ({"power_limit_w": 600.0}, "power limit was 700 W and is now 600 W;"),
        ({"count": 2}, "number of GPUs was 1 and is now 2;"),
        ({"name": "H200"}, "device was H100 and is now H200;"),
        ({"memory_bytes": 2 * CPU.memory_bytes}, "memory was 8.0 GiB and is now 16.0 GiB;"),
    ],
)
def test_a_run_is_not_continued_where_figures_do_not_compare_and_the_message_names_the_field(
    tmp_path: Path, now: dict[str, Any], told: str
) -> None:
    job = prepare(JobRequest(engine="fake"))
    Ledger.create(tmp_path, replace(job, device=BOARD.model_copy(update={"uuids": ()})).header("tune"))
    with pytest.raises(MismatchError) as refused:
        replace(job, device=BOARD.model_copy(update=now)).resume(tmp_path)
    assert f"cannot be continued: {told} its trials would not compare" in str(refused.value)


def test_a_processor_with_other_cores_is_another_device(tmp_path: Path) -> None:
    job = prepare(JobRequest(engine="fake"))
    Ledger.create(tmp_path, job.header("tune"))
    with pytest.raises(MismatchError, match="number of cores was 4 and is now 8;"):
        replace(job, device=CPU.model_copy(update={"cores": 8})).resume(tmp_path)


def test_timeouts_become_deadlines() -> None:
    with job(load_timeout="30s", run_timeout="1m").bench(Path("run")) as bench:
        assert (bench.deadlines.load_s, bench.deadlines.warmup_s, bench.deadlines.run_s) == (30, 60, 60)
