"""The contract of every engine; a new one adds a line to ENGINES.

What it checks: the space and its rules, that the parent never imports the library, and one real launch on which two
live settings are measured.
"""

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import get_args

import psutil
import pytest

from infertune.bench.channel import (
    AnswerCommand,
    AnsweredReply,
    FailureReply,
    LoadCommand,
    LoadedReply,
    MeasureCommand,
    MeasuredReply,
    Plan,
    Reply,
    ScoreCommand,
    ScoredReply,
)
from infertune.bench.handle import InlineEngine
from infertune.bench.isolation import Deadlines, EngineProcess
from infertune.domain import device as devices
from infertune.domain.knobs import Config, Knob, Scalar, SearchSpace
from infertune.domain.measurement import Measurement, Stage
from infertune.domain.models import resolve_model
from infertune.domain.quality import compare
from infertune.domain.workload import Message, Request, parse_workload
from infertune.engines import export_served, get_engine
from infertune.engines.base import Engine, EngineOptions, Failure, Served, Setup
from infertune.engines.serving.process import ServerProcess
from infertune.errors import UsageError
from tests.engines.serving.loaded_stub import start as start_stub

TABLE = """
batch_size,kernel,output_tokens_per_s,status,j_per_output_token,launch_s
1,plain,100,ok,0.5,10
8,plain,700,ok,0.1,10
1,fused,120,ok,0.5,20
1,fused,125,ok,0.4,20
8,fused,1,oom,,20
"""
WORKLOAD = parse_workload("synthetic:in=16,out=8")
CHAT = tuple(
    Request(
        output_tokens=4,
        messages=(Message("system", "Be brief."), Message("user", f"Question {n}?")),
        answer="An answer." if n % 2 else None,
    )
    for n in range(6)
)
DEVICE = devices.detect()
N_DRAWS = 200


@dataclass(frozen=True)
class Case:
    """An engine as `--engine` names it.

    Attributes:
        spec: Its name and variant.
        model: A small model that it can load; None if it needs none.
        config: Settings that make a launch short.
        table: Text of a table, for an engine that answers from one.
    """

    spec: str
    model: str | None = None
    config: dict[str, Scalar] = field(default_factory=dict)
    table: str = ""


ENGINES = [
    Case("fake"),
    Case("fake:faults"),
    Case("fake-serve"),
    Case("replay", table=TABLE),
    Case("target"),
    pytest.param(Case("hf", "builtin:tiny", {"threads": 1}), marks=pytest.mark.hf),
    pytest.param(Case("vllm", "builtin:tiny", {"enforce_eager": True, "max_num_seqs": 8}), marks=pytest.mark.vllm),
    pytest.param(
        Case("vllm-serve", "builtin:tiny", {"enforce_eager": True, "max_num_seqs": 8}), marks=pytest.mark.vllm
    ),
    pytest.param(Case("llamacpp", "builtin:tiny", {"threads": 1}), marks=pytest.mark.llamacpp),
]


@dataclass(frozen=True)
class Subject:
    """A case with its engine made; it makes no process."""

    case: Case
    options: EngineOptions
    engine: Engine
    space: SearchSpace

    @property
    def random(self) -> random.Random:
        """The same draws in every run."""
        return random.Random(self.case.spec)


@dataclass(frozen=True)
class Launch:
    """One launch from load to close.

    Attributes:
        settings: The live settings measured on it, one after another.
        measurements: What came of each.
        chat: What came of conversations, under the last of the settings.
        answered: The reply to requests to answer.
        scored: What came of scoring the answers: all together, and one at a time from the last on.
        started: The processes of its group when it was closed; none if it is simulated.
        left: Those that were alive afterwards.
    """

    settings: list[Config]
    measurements: list[Measurement]
    chat: Measurement
    answered: Reply
    scored: list[Reply]
    started: list[psutil.Process]
    left: list[psutil.Process]


@pytest.fixture(scope="module", params=ENGINES, ids=lambda case: case.spec)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    case: Case = request.param
    server = ServerProcess(start_stub()) if case.spec == "target" else None
    if server:
        case = replace(case, spec=f"target:http://127.0.0.1:{server.port}")
    table = None
    if case.table:
        table = tmp_path_factory.mktemp("table") / "table.csv"
        table.write_text(case.table.lstrip())
    options = EngineOptions(variant=case.spec.partition(":")[2], table=table)
    engine = get_engine(case.spec, options)
    model = resolve_model(case.model) if case.model else None
    yield Subject(case, options, engine, engine.space(model, DEVICE, WORKLOAD))
    if server:
        server.end()


@pytest.fixture(scope="module")
def launch(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """The engine, launched the way that a bench launches it, measured on two live settings and closed."""
    space = subject.space
    config = space.repair(space.default.updated(subject.case.config))
    model = resolve_model(subject.case.model) if subject.case.model else None
    setup = Setup(model=model, device=DEVICE, config=config, defaults=space.default, faithful=False)
    plan = Plan(warmup=WORKLOAD.draw("warmup", 8), requests=WORKLOAD.draw("search", 8))
    handle: InlineEngine | EngineProcess
    if subject.engine.simulated:
        handle, group = InlineEngine(), None
    else:
        handle = EngineProcess(tmp_path_factory.mktemp("launch") / "worker.log")
        group = handle.pid
    measurements, settings = [], live_settings(space, config)
    try:
        command = LoadCommand(engine=subject.engine.name, options=subject.options, setup=setup)
        loaded = handle.load(command, Deadlines())
        assert isinstance(loaded, LoadedReply), (loaded, handle.log_tail())
        for live in settings:
            reply = handle.measure(MeasureCommand(live=live, plan=plan), Deadlines())
            assert isinstance(reply, MeasuredReply), (reply, handle.log_tail())
            measurements.append(reply.measurement)
        talk = Plan(warmup=CHAT[:2], requests=CHAT[2:])
        chat = handle.measure(MeasureCommand(live=settings[-1], plan=talk), Deadlines())
        assert isinstance(chat, MeasuredReply), (chat, handle.log_tail())
        answered, scored = answers_and_scores(handle, settings[-1])
        started = members(group) if group else []
    finally:
        handle.close()
    # A killed process is gone a moment after the kill.
    _, left = psutil.wait_procs([*started, *(members(group) if group else [])], timeout=60)
    yield Launch(
        settings,
        measurements,
        chat.measurement,
        answered,
        scored,
        started,
        [process for process in left if not is_dead(process)],
    )


def answers_and_scores(handle: InlineEngine | EngineProcess, live: Config) -> tuple[Reply, list[Reply]]:
    """What a loaded engine answers to four requests, and how it scores its own answers in two ways."""
    requests = (*WORKLOAD.draw("quality", 2), *CHAT[:2])
    answered = handle.ask(
        AnswerCommand(live=live, requests=requests, most_prompt_tokens=32, most_answer_tokens=6), Deadlines()
    )
    if not isinstance(answered, AnsweredReply):
        assert isinstance(answered, FailureReply), answered
        return answered, []
    forwards = ScoreCommand(live=live, sequences=answered.answered, vocabulary=answered.vocabulary, top=5)
    backwards = forwards.model_copy(update={"sequences": answered.answered[::-1], "batch": 1})
    replies = [handle.ask(command, Deadlines()) for command in (forwards, backwards)]
    assert all(isinstance(reply, ScoredReply) for reply in replies), (replies, handle.log_tail())
    return answered, [reply for reply in replies if isinstance(reply, ScoredReply)]


def live_settings(space: SearchSpace, config: Config) -> list[Config]:
    """The live part of a configuration and, if the engine has live knobs, the same with one of them changed."""
    live = {knob.name for knob in space.knobs if knob.scope == "live"}
    if not live:
        return [config.subset(live)]
    knob = next(knob for knob in space.knobs if knob.name in live and len(knob.values) > 1)
    at = knob.values.index(config[knob.name])
    changed = config.updated({knob.name: knob.values[at - 1] if at else knob.values[1]})  # lower: always allowed
    assert space.repair(changed) == changed
    return [config.subset(live), changed.subset(live)]


def members(group: int) -> list[psutil.Process]:
    """The processes of a group, whoever their parent is by now."""

    def group_of(pid: int) -> int | None:
        try:
            return os.getpgid(pid)
        except ProcessLookupError:
            return None

    return [process for process in psutil.process_iter() if group_of(process.pid) == group]


def is_dead(process: psutil.Process) -> bool:
    """Whether it has ended, even if nobody has asked for its exit code."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def drawn(space: SearchSpace, rng: random.Random) -> Config:
    """Any value for any knob, now and then one off its ladder or none."""
    values: dict[str, Scalar] = {knob.name: rng.choice(knob.values) for knob in space.knobs}
    for knob in space.knobs:
        if rng.random() < 0.1:
            values[knob.name] = rng.choice([3, 1e9, -1, "no such value", None])
        elif rng.random() < 0.05:
            del values[knob.name]
    return Config(values)


def ranges(knob: Knob) -> list[tuple[Scalar, ...]]:
    """Its default alone, and its values up to the default and from it on."""
    at = knob.values.index(knob.default)
    return [(knob.default,), knob.values[: at + 1], knob.values[at:]]


def assert_rules_are_kept(space: SearchSpace, rng: random.Random, n: int) -> None:
    for _ in range(n):
        config = drawn(space, rng)
        repaired = space.repair(config)
        assert not space.violations(repaired), f"{config} became {repaired}"
        assert space.repair(repaired) == repaired
        assert repaired.root.keys() == set(space.names)


def test_knobs_have_names_of_their_own_and_say_what_they_trade(subject: Subject) -> None:
    names = subject.space.names
    assert names and len(set(names)) == len(names)
    assert all(knob.why for knob in subject.space.knobs) or subject.case.table


def test_the_default_is_in_the_space_and_its_own_repair(subject: Subject) -> None:
    default = subject.space.default
    assert not subject.space.violations(default)
    assert subject.space.repair(default) == default


def test_a_repaired_configuration_keeps_every_rule(subject: Subject) -> None:
    assert_rules_are_kept(subject.space, subject.random, N_DRAWS)


def test_a_restricted_space_keeps_every_rule(subject: Subject) -> None:
    rng = subject.random
    for knob in subject.space.knobs:
        for values in ranges(knob):
            space = subject.space.with_knob(knob.restricted(values))
            assert space.default == subject.space.default
            assert_rules_are_kept(space, rng, N_DRAWS // 10)


def test_the_parent_knows_the_engine_without_importing_its_library(subject: Subject) -> None:
    program = (
        "import json, sys\n"
        "from infertune.domain import device, models, workload\n"
        "from infertune.engines import get_engine\n"
        "from infertune.engines.base import EngineOptions\n"
        "spec, options, model = json.loads(sys.argv[1])\n"
        "engine = get_engine(spec, EngineOptions.model_validate_json(options))\n"
        "print(engine.available().version)\n"
        "engine.space(models.resolve_model(model) if model else None, device.detect(),"
        " workload.parse_workload('synthetic:in=16,out=8'))\n"
        "print(sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    asked = json.dumps([subject.case.spec, subject.options.model_dump_json(), subject.case.model])
    answer = subprocess.run([sys.executable, "-c", program, asked], capture_output=True, text=True, check=True)
    version, imported = answer.stdout.splitlines()
    assert version == str(subject.engine.available().version) and version != "None"
    assert imported == "[]"


def test_every_form_that_it_offers_is_written_and_no_other(subject: Subject) -> None:
    name = subject.engine.name
    if subject.case.model is None:
        assert subject.engine.forms == ()
    else:
        chosen = subject.space.repair(subject.space.default.updated(subject.case.config))
        served = Served(
            model=resolve_model(subject.case.model),
            device=DEVICE,
            engine_version=subject.engine.available().version,
            config=chosen,
            changed=Config({n: v for n, v in chosen.root.items() if v != subject.space.default[n]}),
        )
        assert subject.engine.forms
        for form in subject.engine.forms:
            assert export_served(name, served, form).strip()
    with pytest.raises(UsageError, match=f"no such form for the engine {name}"):
        export_served(name, None, "parchment")


@pytest.mark.parametrize("stage", get_args(Stage))
def test_an_exception_that_it_does_not_know_is_a_fault(subject: Subject, stage: Stage) -> None:
    failure = Failure(stage=stage, error_type="UnheardOfError", message="something else", trace_tail="Traceback …")
    assert subject.engine.classify(failure) is None


def test_a_launch_gives_every_token_and_plausible_times(launch: Launch) -> None:
    assert launch.measurements
    for measurement in launch.measurements:
        assert measurement.load_s >= 0 and measurement.warmup_s > 0
        for window in measurement.windows:
            assert (window.n_requests, window.prompt_tokens, window.output_tokens) == (8, 8 * 16, 8 * 8)
            assert window.duration_s > 0
            assert len(window.latency_s) in (0, 8)
            assert all(0 < latency <= window.duration_s + 1e-6 for latency in window.latency_s)


def test_conversations_are_run_through_a_template_or_as_joined_text(launch: Launch) -> None:
    (window,) = launch.chat.windows
    assert window.n_requests == 4
    assert window.prompt_tokens > 4 * 3, "the words of both turns"
    assert window.output_tokens > 4 * 2, "an answer's length is counted by the tokenizer"


def test_a_launch_says_what_really_ran(launch: Launch) -> None:
    for live, measurement in zip(launch.settings, launch.measurements, strict=True):
        facts = measurement.facts
        assert facts.versions and all(facts.versions.values())
        read_back = {name: facts.effective[name] for name in live.root if name in facts.effective}
        assert read_back == {name: str(live[name]) for name in read_back}


def test_two_live_settings_are_measured_on_one_launch(subject: Subject, launch: Launch) -> None:
    live = len(subject.space.knobs) > len(subject.space.launch_names)
    assert len(launch.measurements) == len(set(launch.settings)) == (2 if live else 1)


def test_closing_leaves_no_process(subject: Subject, launch: Launch) -> None:
    assert bool(launch.started) is not subject.engine.simulated
    assert launch.left == []


def test_every_knob_says_what_it_does_to_answers(subject: Subject) -> None:
    record = subject.space.record()
    assert all(knob.effect in ("exact", "numeric", "lossy") for knob in record.knobs)
    if subject.engine.name not in ("replay", "target"):  # a table does not say, a target's model may be any
        assert any(knob.effect == "exact" or knob.effect == "numeric" for knob in record.knobs)


def test_answers_come_with_token_ids_or_are_typed_as_not_offered(subject: Subject, launch: Launch) -> None:
    if not subject.engine.scores:
        assert isinstance(launch.answered, FailureReply)
        assert launch.answered.failure.error_type == "NotOfferedError"
        return
    assert isinstance(launch.answered, AnsweredReply)
    drawn, _, *talks = launch.answered.answered
    assert (drawn.prompt_tokens, drawn.first, drawn.prompt) == (16, 16, ""), "a prompt is not scored itself"
    for answered in launch.answered.answered:
        assert answered.prompt_tokens <= 32 and 1 <= len(answered.token_ids) - answered.prompt_tokens <= 6
    assert all(talk.first == talk.prompt_tokens and talk.prompt for talk in talks)


def test_scores_are_logarithms_of_probabilities_at_every_position(subject: Subject, launch: Launch) -> None:
    if not subject.engine.scores:
        return
    assert isinstance(launch.answered, AnsweredReply)
    forwards = launch.scored[0]
    assert isinstance(forwards, ScoredReply)
    for answered, scores in zip(launch.answered.answered, forwards.scores, strict=True):
        assert len(scores.logprobs) == len(answered.token_ids) - answered.first
        for token, logprob, ids, values in zip(
            answered.token_ids[answered.first :], scores.logprobs, scores.top_ids, scores.top_logprobs, strict=True
        ):
            assert list(values) == sorted(values, reverse=True) and 1 <= len(ids) <= 5
            assert sum(map(math.exp, values)) <= 1.001
            if token in ids:
                assert values[ids.index(token)] == logprob
            else:
                assert logprob <= values[-1] + 1e-5


def test_scores_do_not_depend_on_order_and_batch_by_much(subject: Subject, launch: Launch) -> None:
    if not subject.engine.scores:
        return
    forwards, backwards = launch.scored
    assert isinstance(forwards, ScoredReply) and isinstance(backwards, ScoredReply)
    figures = compare(forwards.scores, backwards.scores[::-1])
    assert figures.kl_nats.mean < 0.01 and figures.agreement.mean > 0.9


def test_its_own_greedy_answer_is_what_it_finds_likeliest(subject: Subject, launch: Launch) -> None:
    """Where it were not, token ids and scores would be shifted against each other."""
    if not subject.engine.scores:
        return
    assert isinstance(launch.answered, AnsweredReply) and isinstance(launch.scored[0], ScoredReply)
    answered, scores = launch.answered.answered, launch.scored[0].scores
    likeliest = [
        ids[0] == token
        for one, of in zip(answered, scores, strict=True)
        for token, ids in list(zip(one.token_ids[one.first :], of.top_ids, strict=True))[
            one.prompt_tokens - one.first :
        ]
    ]
    assert sum(likeliest) >= 0.8 * len(likeliest)
