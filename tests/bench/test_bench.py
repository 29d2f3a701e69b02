"""The bench: when it launches, when it does not, and what it makes of what comes back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infertune.bench import bench as benches
from infertune.bench.bench import Bench
from infertune.bench.channel import FailureReply, LoadCommand, LoadedReply, MeasureCommand, MeasuredReply, Plan, Reply
from infertune.bench.isolation import Deadlines
from infertune.domain.knobs import Choice, Config, Int, SearchSpace
from infertune.domain.measurement import Crashed, Infeasible, Measurement, TimedOut
from infertune.domain.workload import parse_workload
from infertune.engines.base import EngineOptions, Failure
from infertune.engines.fake.engine import FakeEngine
from tests.builders import CPU, config, measured

WORKLOAD = parse_workload("synthetic:in=8,out=10")
PLAN = Plan(warmup=WORKLOAD.draw("warmup", 4), requests=WORKLOAD.draw("search", 10))
SPACE = SearchSpace(
    (
        Int("slots", (2, 4, 8), 4, scope="live", live_at_most_launched=True),
        Int("chunk", (1, 2), 1, scope="live"),
        Choice("mode", ("a", "b"), "a"),
    )
)
Answer = Reply | TimedOut | Crashed
SIGKILL = Crashed(stage="run", detail="killed by SIGKILL", signal="SIGKILL")
SIGSEGV = Crashed(stage="run", detail="killed by SIGSEGV", signal="SIGSEGV")
HUNG = TimedOut(stage="load", after_s=60)


def failure(error_type: str, *, survivable: bool = False, message: str = "it failed") -> FailureReply:
    return FailureReply(
        failure=Failure(stage="run", error_type=error_type, message=message, survivable=survivable, elapsed_s=3.0)
    )


@dataclass
class Lab:
    """A bench whose launches are written down and answer as they are told."""

    bench: Bench
    commands: list[LoadCommand | MeasureCommand] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    on_load: Callable[[Config], Answer] = lambda chosen: LoadedReply(elapsed_s=20.0)
    on_measure: Callable[[int], Answer] = lambda n: MeasuredReply(measurement=measured(100.0), elapsed_s=5.0)
    closed: list[str] = field(default_factory=list)

    @property
    def launches(self) -> list[Config]:
        return [command.setup.config for command in self.commands if isinstance(command, LoadCommand)]

    @property
    def measures(self) -> list[MeasureCommand]:
        return [command for command in self.commands if isinstance(command, MeasureCommand)]


class StubHandle:
    """An engine's launch in a `Lab`."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.elapsed_s = 0.0
        self.alive = True

    def _answered(self, command: LoadCommand | MeasureCommand, answer: Answer) -> Answer:
        self._lab.commands.append(command)
        self.elapsed_s = (
            answer.failure.elapsed_s if isinstance(answer, FailureReply) else getattr(answer, "elapsed_s", 60.0)
        )
        self.alive = answer.failure.survivable if isinstance(answer, FailureReply) else hasattr(answer, "elapsed_s")
        return answer

    def load(self, command: LoadCommand, deadlines: Deadlines) -> Answer:
        return self._answered(command, self._lab.on_load(command.setup.config))

    def measure(self, command: MeasureCommand, deadlines: Deadlines) -> Answer:
        return self._answered(command, self._lab.on_measure(len(self._lab.measures)))

    def close(self) -> None:
        self._lab.closed.append("closed")
        self.alive = False

    def kill(self) -> None:
        self._lab.closed.append("killed")
        self.alive = False

    def log_tail(self, lines: int = 40) -> str:
        return "what the engine wrote"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return lab_on(SPACE, tmp_path, monkeypatch)


def lab_on(of: SearchSpace, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Config) -> Lab:
    notes: list[str] = []
    engine = FakeEngine(EngineOptions())
    bench = Bench(engine, EngineOptions(), None, CPU, of, folder, Deadlines(), on_note=notes.append, **options)  # type: ignore[arg-type]
    found = Lab(bench, notes=notes)
    monkeypatch.setattr(benches, "InlineEngine", lambda: StubHandle(found))
    return found


def test_a_live_knob_reuses_the_launch_and_a_launch_knob_does_not(lab: Lab) -> None:
    first = lab.bench.measure(config(slots=4, chunk=1, mode="a"), PLAN)
    live = lab.bench.measure(config(slots=2, chunk=2, mode="a"), PLAN)
    other = lab.bench.measure(config(slots=2, chunk=2, mode="b"), PLAN)
    assert [(a.live, a.launch_number, a.launch_s, a.run_s) for a in (first, live, other)] == [
        (False, 0, 20.0, 5.0), (True, 0, 0.0, 5.0), (False, 1, 20.0, 5.0),
    ]  # fmt: skip
    assert len(lab.launches) == 2
    assert lab.closed == ["closed"], "one engine at a time"


def test_every_live_knob_is_sent_with_every_measurement_and_no_launch_knob(lab: Lab) -> None:
    lab.bench.measure(config(slots=2, chunk=2, mode="a"), PLAN)
    assert lab.measures[0].live == config(slots=2, chunk=2)


def test_knobs_that_can_only_be_lowered_are_launched_at_their_top(lab: Lab) -> None:
    lab.bench.measure(config(slots=2, chunk=1, mode="a"), PLAN)
    assert lab.launches == [config(slots=8, chunk=1, mode="a")]
    assert lab.bench.launched == lab.launches[0]
    assert lab.bench.takes(config(slots=8, chunk=2, mode="a"))
    assert not lab.bench.takes(config(slots=2, chunk=1, mode="b"))


def test_where_there_is_no_room_for_the_top_the_configurations_own_values_are_launched(lab: Lab) -> None:
    lab.on_load = lambda c: LoadedReply(elapsed_s=20.0) if c["slots"] != 8 else failure("FakeOutOfMemoryError")
    found = lab.bench.measure(config(slots=4, chunk=1, mode="a"), PLAN)
    assert [c["slots"] for c in lab.launches] == [8, 4]
    assert isinstance(found.outcome, Measurement)
    assert found.launch_s == 3.0 + 20.0, "the launch that failed is paid for too"
    assert "no room to launch with slots=8" in lab.notes[0]
    assert lab.bench.takes(config(slots=2, chunk=1, mode="a"))
    assert not lab.bench.takes(config(slots=8, chunk=1, mode="a"))


def test_a_configuration_without_room_of_its_own_is_infeasible(lab: Lab) -> None:
    lab.on_load = lambda c: failure("FakeOutOfMemoryError")
    found = lab.bench.measure(config(slots=4, chunk=1, mode="a"), PLAN)
    assert isinstance(found.outcome, Infeasible) and found.outcome.reason == "oom"
    assert len(lab.launches) == 2
    assert lab.measures == []
    assert lab.bench.launched is None


def test_a_top_that_failed_by_a_fault_is_not_launched_lower(lab: Lab) -> None:
    lab.on_load = lambda c: failure("RuntimeError")
    assert isinstance(lab.bench.measure(config(slots=4, chunk=1, mode="a"), PLAN).outcome, Crashed)
    assert len(lab.launches) == 1


def test_a_fresh_launch_is_of_exactly_the_configuration_and_never_reused(lab: Lab) -> None:
    chosen = config(slots=2, chunk=1, mode="a")
    attempts = [lab.bench.measure(chosen, PLAN, fresh=True) for _ in range(3)]
    assert lab.launches == [chosen] * 3
    assert [a.launch_number for a in attempts] == [0, 1, 2]
    assert [c.setup.faithful for c in lab.commands if isinstance(c, LoadCommand)] == [True] * 3
    assert not lab.bench.takes(chosen)
    lab.bench.measure(chosen, PLAN)
    assert lab.launches[-1] == config(slots=8, chunk=1, mode="a")


def test_every_launch_has_a_seed_of_its_own(lab: Lab) -> None:
    for _ in range(3):
        lab.bench.measure(SPACE.default, PLAN, fresh=True)
    assert len({c.setup.launch_seed for c in lab.commands if isinstance(c, LoadCommand)}) == 3


def test_a_survivable_failure_keeps_the_launch_and_another_does_not(lab: Lab) -> None:
    answers: list[Answer] = [failure("FakeOutOfMemoryError", survivable=True), failure("ValueError")]
    lab.on_measure = lambda n: answers[n] if n < 2 else MeasuredReply(measurement=measured(1.0), elapsed_s=1.0)
    outcomes = [lab.bench.measure(SPACE.default, PLAN).outcome for _ in range(3)]
    assert [o.reason for o in outcomes if isinstance(o, Infeasible)] == ["oom", "rejected"]
    assert isinstance(outcomes[2], Measurement)
    assert len(lab.launches) == 2


@pytest.mark.parametrize("passing", [SIGKILL, HUNG])
def test_what_looks_like_a_passing_fault_is_tried_once_more_at_its_cost(lab: Lab, passing: Answer) -> None:
    replies: list[Answer] = [passing]
    plain = lab.on_load
    if passing is HUNG:
        lab.on_load = lambda c: replies.pop() if replies else plain(c)
    else:
        measure = lab.on_measure
        lab.on_measure = lambda n: replies.pop() if replies else measure(n)
    found = lab.bench.measure(SPACE.default, PLAN)
    assert isinstance(found.outcome, Measurement)
    assert len(lab.launches) == 2
    assert found.launch_s + found.run_s == 60 + 20 + 5 + (20 if passing is SIGKILL else 0)
    assert "trying once more" in lab.notes[0]


def test_a_passing_fault_that_comes_again_is_the_outcome(lab: Lab) -> None:
    lab.on_load = lambda c: HUNG
    told = HUNG.model_copy(update={"stderr_tail": "what the engine wrote"})
    assert lab.bench.measure(SPACE.default, PLAN).outcome == told
    assert len(lab.launches) == 2


@pytest.mark.parametrize("lasting", [SIGSEGV, TimedOut(stage="run", after_s=60), failure("FakeOutOfMemoryError")])
def test_a_lasting_fault_is_not_tried_again(lab: Lab, lasting: Answer) -> None:
    lab.on_measure = lambda n: lasting
    assert not isinstance(lab.bench.measure(SPACE.default, PLAN).outcome, Measurement)
    assert len(lab.launches) == 1


def test_a_fault_is_told_with_its_first_line_and_what_the_engine_wrote(lab: Lab) -> None:
    lab.on_measure = lambda n: failure("RuntimeError", message="\n  broken pipe\n  at line 5\n")
    outcome = lab.bench.measure(SPACE.default, PLAN).outcome
    assert isinstance(outcome, Crashed)
    assert outcome.detail == "RuntimeError: broken pipe"
    assert "what the engine wrote" in outcome.stderr_tail


def test_an_error_ends_the_engine_at_once_and_a_normal_end_closes_it(lab: Lab) -> None:
    with lab.bench as bench:
        bench.measure(SPACE.default, PLAN)
    assert lab.closed == ["closed"]
    with pytest.raises(KeyboardInterrupt), lab.bench as bench:
        bench.measure(SPACE.default, PLAN)
        raise KeyboardInterrupt
    assert lab.closed[1] == "killed"


def test_a_setting_held_by_the_user_is_still_told_to_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = SPACE.with_knob(SPACE["mode"].restricted(("b",)))
    lab = lab_on(held, tmp_path, monkeypatch, engine_defaults=SPACE.default)
    lab.bench.measure(held.default, PLAN, fresh=True)
    command = lab.commands[0]
    assert isinstance(command, LoadCommand)
    assert command.setup.changed == config(mode="b")


@pytest.fixture
def fake(tmp_path: Path) -> Bench:
    engine = FakeEngine(EngineOptions())
    return Bench(engine, EngineOptions(), None, CPU, engine.space(None, CPU, WORKLOAD), tmp_path, Deadlines())


def test_the_fake_engine_is_measured_inline_near_its_true_rate(fake: Bench) -> None:
    engine = FakeEngine(EngineOptions())
    default = engine.space(None, CPU, WORKLOAD).default
    attempts = [fake.measure(default.updated({"max_num_seqs": n}), PLAN) for n in (64, 128)]
    for n, attempt in zip((64, 128), attempts, strict=True):
        assert isinstance(attempt.outcome, Measurement)
        true_rate = engine.true_rate(default.updated({"max_num_seqs": n}))
        assert attempt.outcome.output_tokens_per_s == pytest.approx(true_rate, rel=0.06)
    assert [(a.launch_s, a.live) for a in attempts] == [(30.0, False), (0.0, True)]


def test_the_fake_engine_out_of_memory_is_infeasible_at_the_stage_where_it_ran_out(fake: Bench) -> None:
    default = FakeEngine(EngineOptions()).space(None, CPU, WORKLOAD).default
    huge = default.updated({"max_num_seqs": 512, "memory_share": 0.95})
    found = [fake.measure(huge, PLAN).outcome, fake.measure(default, PLAN).outcome]
    assert isinstance(found[0], Infeasible) and (found[0].reason, found[0].stage) == ("oom", "load")
    assert isinstance(found[1], Measurement)


def test_a_launch_ahead_is_the_launch_of_the_measurement_that_runs_on_it_though_it_took_no_time(lab: Lab) -> None:
    lab.on_load = lambda chosen: LoadedReply(elapsed_s=0.0)
    chosen = config(slots=4, chunk=1, mode="a")
    lab.bench.launch_ahead(chosen)
    first, second = lab.bench.measure(chosen, PLAN), lab.bench.measure(chosen, PLAN)
    assert len(lab.launches) == 1 and (first.launch_s, first.live, second.live) == (0.0, False, True)


def test_the_seconds_of_a_launch_ahead_that_is_not_used_are_told_with_the_next_measurement(lab: Lab) -> None:
    lab.bench.launch_ahead(config(slots=4, chunk=1, mode="a"))
    fresh = lab.bench.measure(config(slots=4, chunk=1, mode="a"), PLAN, fresh=True)
    assert len(lab.launches) == 2 and (fresh.launch_s, fresh.live) == (40.0, False)
    lab.bench.launch_ahead(config(slots=4, chunk=1, mode="a"))
    other = lab.bench.measure(config(slots=4, chunk=1, mode="b"), PLAN)
    assert (other.launch_s, other.live) == (40.0, False)
