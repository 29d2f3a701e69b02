"""Short ways to make what tests need: spaces, measurements, ledgers and engines that do as they are told."""

from collections.abc import Callable, Sequence
from pathlib import Path

from infertune.domain.device import Device
from infertune.domain.knobs import Choice, Config, Constraint, Float, Int, Scalar, SearchSpace, doubling
from infertune.domain.measurement import EngineFacts, Infeasible, Measurement, Outcome, Window
from infertune.domain.record import Header
from infertune.domain.trial import Phase, Trial
from infertune.domain.workload import WorkloadRecord
from infertune.engines.base import Completion, LoadedEngine, Prompt
from infertune.runs.ledger import Ledger

CPU = Device(kind="cpu", name="Test CPU", memory_bytes=8 * 1024**3, cores=4)
WHEN = "2025-01-02T03:04:05+00:00"


def config(**values: Scalar) -> Config:
    return Config(values)


def tokens_for_every_sequence(budget: str = "budget", slots: str = "slots") -> Constraint:
    return Constraint(
        name="tokens for every sequence",
        reason=f"{budget} must be at least {slots}",
        holds=lambda c: float(c[budget] or 0) >= float(c[slots] or 0),
        mend=lambda c: {budget: c[slots]},
    )


def space() -> SearchSpace:
    """Two live knobs under a rule, three of the launch; 7·7·2·3·4 = 1,176 combinations."""
    return SearchSpace(
        knobs=(
            Int("slots", doubling(4, 256), 32, scope="live", is_concurrency=True),
            Int("budget", doubling(64, 4096), 512, scope="live"),
            Choice("compiled", (False, True), False),
            Int("block", (16, 32, 64), 16),
            Float("share", (0.7, 0.8, 0.9, 0.95), 0.8),
        ),
        constraints=(tokens_for_every_sequence(),),
    )


def one_knob(*values: int) -> SearchSpace:
    return SearchSpace((Int("slots", values or (1, 2, 4), (values or (1,))[0]),))


def measured(rate: float, *more_rates: float, n_requests: int = 10) -> Measurement:
    """Windows of 1,000 output tokens at these rates, in tokens per second."""
    windows = tuple(
        Window(duration_s=1000 / r, n_requests=n_requests, prompt_tokens=500, output_tokens=1000)
        for r in (rate, *more_rates)
    )
    return Measurement(load_s=2.0, warmup_s=1.0, warmed_up=True, windows=windows)


def oom() -> Infeasible:
    return Infeasible(reason="oom", stage="load", detail="no memory left")


def trial(
    number: int, chosen: Config, outcome: Outcome | float, phase: Phase = "search", round_number: int = 0
) -> Trial:
    return Trial(
        number=number,
        phase=phase,
        round_number=round_number,
        config=chosen,
        outcome=measured(outcome) if isinstance(outcome, int | float) else outcome,
        started_at=WHEN,
        launch_number=number,
        launch_s=2.0,
        run_s=3.0,
    )


def header(of: SearchSpace | None = None, **changes: object) -> Header:
    fields: dict[str, object] = {
        "infertune_version": "0.1.0",
        "python_version": "3.11.0",
        "created_at": WHEN,
        "command": "tune",
        "request": {"engine": "fake"},
        "engine": "fake",
        "engine_version": "1",
        "model": None,
        "device": CPU,
        "workload": WorkloadRecord(
            name="synthetic-in-8-out-4", spec="synthetic:in=8,out=4", content_hash="ab12", n_requests=None, seed=0
        ),
        "space": (of or space()).record(),
        "engine_defaults": (of or space()).default,
    }
    return Header.model_validate({**fields, **changes})


def ledger_of(*rows: tuple[Phase, int, Config, Outcome | float], of: SearchSpace, ended: str | None = "done") -> Ledger:
    """A ledger in memory only: rows are phase, round, configuration, and the outcome or a rate."""
    trials = [trial(n, chosen, outcome, phase, r) for n, (phase, r, chosen, outcome) in enumerate(rows)]
    ledger = Ledger(Path("nowhere"), header(of), trials)
    ledger.ending = ended
    return ledger


class ScriptedEngine(LoadedEngine):
    """An engine on a clock of its own that takes `seconds(job, prompts)` for its n-th job and may spoil the answer."""

    def __init__(
        self,
        seconds: Callable[[int, Sequence[Prompt]], float] = lambda job, prompts: 1.0,
        spoil: Callable[[int, list[Completion]], list[Completion]] = lambda job, completions: completions,
        slots: int = 4,
        context_tokens: int | None = None,
    ) -> None:
        self.now_s = 0.0
        self.clock = lambda: self.now_s
        self.jobs: list[Sequence[Prompt]] = []
        self.applied: list[Config] = []
        self._seconds = seconds
        self._spoil = spoil
        self._slots = slots
        self._context_tokens = context_tokens

    def apply(self, live: Config) -> None:
        self.applied.append(live)

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion]:
        took_s = self._seconds(len(self.jobs), prompts)
        self.now_s += took_s
        answer = self._spoil(len(self.jobs), [Completion(p.output_tokens, latency_s=took_s) for p in prompts])
        self.jobs.append(prompts)
        return answer

    def slots(self) -> int:
        return self._slots

    def facts(self) -> EngineFacts:
        return EngineFacts(versions={"scripted": "1"}, context_tokens=self._context_tokens)

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def vocab_size(self) -> int:
        return 1000
