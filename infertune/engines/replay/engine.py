"""An engine that answers from a recorded table: how search strategies are compared without paying for launches.

A configuration that is not in the table is rejected.
"""

import math
import random
from collections.abc import Sequence
from typing import ClassVar

from infertune.domain.device import Device
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.measurement import Energy, EngineFacts, Infeasible
from infertune.domain.models import Model
from infertune.domain.workload import Workload
from infertune.energy import EnergyMeter, Reading
from infertune.engines.base import (
    Availability,
    Completion,
    EngineOptions,
    Failure,
    LoadedEngine,
    Prompt,
    Served,
    Setup,
)
from infertune.engines.replay.table import Row, Table, read_table
from infertune.errors import UsageError


class RecordedOutOfMemoryError(Exception):
    """The table says that this configuration ran out of memory."""


class NotInTableError(Exception):
    """The table has no such configuration."""


class RecordedRejectionError(Exception):
    """The table says that the engine refused this configuration."""


class RecordedCrashError(Exception):
    """The table says that this configuration crashed."""


class ReplayEngine:
    """`--engine replay --table FILE.csv`."""

    name: ClassVar[str] = "replay"
    takes_table: ClassVar[bool] = True
    needs_model: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ()
    scores: ClassVar[bool] = False
    simulated = True

    def __init__(self, options: EngineOptions) -> None:
        if options.table is None:
            raise UsageError("--engine replay answers from a table: give one with --table FILE.csv")
        self._table = read_table(options.table, options.ignore)

    def available(self) -> Availability:
        """Always there; what it answers depends on the table as that of other engines does on their version."""
        return Availability(version=f"table {self._table.mark}")

    def space(self, model: Model | None, device: Device, workload: Workload) -> SearchSpace:
        """The knobs of the table."""
        missing = math.prod(len(knob.values) for knob in self._table.knobs) - len(self._table.rows)
        notes = (f"{missing} combinations are not in the table and are rejected",) if missing else ()
        return SearchSpace(self._table.knobs, notes=(*self._table.notes, *notes))

    def classify(self, failure: Failure) -> Infeasible | None:
        """The recorded failures: out of memory, refused, or not in the table; a recorded crash is a fault."""
        reasons = {
            RecordedOutOfMemoryError.__name__: "oom",
            RecordedRejectionError.__name__: "rejected",
            NotInTableError.__name__: "rejected",
        }
        reason = reasons.get(failure.error_type)
        if reason is None:
            return None
        return Infeasible.model_validate({"reason": reason, "stage": failure.stage, "detail": failure.message})

    def export(self, served: Served, form: str) -> str:
        """Not called: a table has no form but the profile."""
        raise UsageError(f"--as {form}: the engine {self.name} has no such form")

    def load(self, setup: Setup) -> LoadedEngine:
        """Look the configuration up."""
        return LoadedReplay(self._table, setup)


class LoadedReplay(LoadedEngine):
    """One recorded configuration on a clock that moves as it was recorded."""

    def __init__(self, table: Table, setup: Setup) -> None:
        self._rng = random.Random(f"{setup.launch_seed}/{setup.config.key}")
        self._table = table
        self._config = setup.config
        self._now_s = self._look_up().launch_s
        self._row = self._look_up()
        self.clock = lambda: self._now_s
        self._meter = _RecordedMeter()

    def apply(self, live: Config) -> None:
        """Look another configuration up, as recorded on this launch's settings."""
        self._config = self._config.updated(live.root)
        self._row = self._look_up()
        if self._row.status == "oom":
            raise RecordedOutOfMemoryError(f"recorded: out of memory at {self._config}")
        if self._row.status == "timeout":
            raise TimeoutError(f"recorded: timed out at {self._config}")
        if self._row.status == "crash":
            raise RecordedCrashError(f"recorded: crashed at {self._config}")
        if self._row.status == "rejected":
            raise RecordedRejectionError(f"recorded: rejected at {self._config}")

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion]:
        """Advance the clock by what the job would take at the recorded rate."""
        tokens = sum(prompt.output_tokens for prompt in prompts)
        duration_s = tokens / self._row.rate
        self._now_s += duration_s
        per_token = self._row.j_per_output_token
        self._meter.energy = Energy(
            gpu_j=None if per_token is None else per_token * tokens,
            gpu_source="none" if per_token is None else "measured",
            reason="the table has no j_per_output_token" if per_token is None else "",
        )
        return [Completion(prompt.output_tokens, latency_s=duration_s) for prompt in prompts]

    def slots(self) -> int:
        """Unknown: one job is one batch."""
        return 1

    def facts(self) -> EngineFacts:
        """The format of the table; it has no settings to read back."""
        return EngineFacts(versions={"replay": "1"}, notes=("replayed from a table: nothing was run",))

    def tokenize(self, text: str) -> list[int]:
        """One token a byte."""
        return list(text.encode())

    def vocab_size(self) -> int:
        """A small vocabulary."""
        return 1000

    def meter(self) -> EnergyMeter | None:
        """The recorded energy."""
        return self._meter

    def recover(self, error: Exception) -> bool:
        """Always usable again: a table has no state that an error could damage."""
        return True

    def _look_up(self) -> Row:
        rows = self._table.rows.get(self._config)
        if not rows:
            raise NotInTableError(f"not in the table: {self._config}")
        return self._rng.choice(rows)


class _RecordedMeter:
    """Gives the energy that the table has for the last job."""

    def __init__(self) -> None:
        self.energy = Energy()

    def measure_idle(self) -> None:
        """Nothing to measure: tables have no idle power."""

    def begin(self) -> None:
        """Nothing to start."""

    def end(self) -> Reading:
        """The recorded energy of the last job."""
        return Reading(self.energy)

    def close(self) -> None:
        """Nothing to close."""
