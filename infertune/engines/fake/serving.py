"""`--engine fake-serve`: a simulated server with knobs like vLLM's, for demonstrations and for statistics at scale.

Its requests are batched continuously (see `batching.py`) on a simulated clock. `fake-serve:noise=2%,launch=60s` sets
how much launches differ in speed and what one costs.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from infertune.domain.arrivals import Arrivals
from infertune.domain.device import Device
from infertune.domain.judging import service_of
from infertune.domain.knobs import Choice, Config, Constraint, Float, Int, SearchSpace, doubling
from infertune.domain.load import Load
from infertune.domain.measurement import EngineFacts, Infeasible
from infertune.domain.models import Model
from infertune.domain.promise import Promise
from infertune.domain.service import Service, sustained
from infertune.domain.workload import Workload
from infertune.energy import EnergyMeter
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
from infertune.engines.fake.batching import Speed, served
from infertune.engines.fake.faulty import FakeOutOfMemoryError
from infertune.engines.fake.meter import SimulatedMeter
from infertune.engines.fake.scoring import byte_text
from infertune.errors import UsageError
from infertune.units import parse_duration_s, parse_share

_KV_TOKENS = 90_000  # with the default share of memory
_IDLE_W, _BUSY_W = 120.0, 350.0
_LOAD_NOISE = 0.4  # of the launch's own: how much loads on one launch differ
_ROUGH_REQUESTS = 2_000  # of the loads that bracket a true goodput; judgement
_TRUE_CUT_S = 60.0


@dataclass(frozen=True)
class Variant:
    """What stands behind `fake-serve:`.

    Attributes:
        noise: Relative standard deviation of a launch's speed.
        launch_s: Seconds of a launch.
    """

    noise: float = 0.012
    launch_s: float = 45.0

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """The variant of an `--engine` flag.

        Raises:
            UsageError: A setting is unknown, or no share or duration.
        """
        variant = cls()
        for setting in filter(None, text.split(",")):
            key, _, value = setting.partition("=")
            try:
                match key:
                    case "noise":
                        variant = replace(variant, noise=parse_share(value))
                    case "launch":
                        variant = replace(variant, launch_s=parse_duration_s(value))
                    case _:
                        raise ValueError("is neither noise=SHARE nor launch=DURATION")
            except ValueError as error:
                raise UsageError(f"--engine fake-serve:{text}: {setting!r}: {error}") from None
        return variant


class FakeServeEngine:
    """`--engine fake-serve[:SETTINGS]`."""

    name: ClassVar[str] = "fake-serve"
    needs_model: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ()
    scores: ClassVar[bool] = False
    serves: ClassVar[bool] = True
    simulated = True

    def __init__(self, options: EngineOptions) -> None:
        self._variant = Variant.parse(options.variant)

    def available(self) -> Availability:
        """Always there."""
        return Availability(version="1")

    def space(self, model: Model | None, device: Device, workload: Workload) -> SearchSpace:
        """Four knobs like vLLM's."""
        return SearchSpace(
            knobs=(
                Int("max_num_seqs", doubling(8, 256), 256, scope="live", is_concurrency=True, effect="exact",
                    why="requests that run at once: more share each step, and each of them waits longer for a token"),
                Int("max_num_batched_tokens", doubling(256, 8192), 2048, scope="live", unit="tokens", effect="exact",
                    why="prompt tokens in one step: more bring first tokens sooner and hold up all others"),
                Choice("compiled", (False, True), False, effect="numeric", why="faster steps, more memory"),
                Float("gpu_memory_utilization", (0.7, 0.8, 0.9, 0.95), 0.9, effect="exact", why="room for the cache"),
            ),
            constraints=(_TOKENS_FOR_EVERY_SEQUENCE,),
        )  # fmt: skip

    def classify(self, failure: Failure) -> Infeasible | None:
        """This engine's own out-of-memory error."""
        if failure.error_type != FakeOutOfMemoryError.__name__:
            return None
        return Infeasible(reason="oom", stage=failure.stage, detail=failure.message)

    def export(self, served: Served, form: str) -> str:
        """Nobody serves it."""
        raise UsageError(f"--as {form}: the engine {self.name} has no such form")

    def load(self, setup: Setup) -> LoadedEngine:
        """The simulation."""
        return LoadedFakeServe(self._variant, setup)

    def true_goodput(
        self,
        config: Config,
        promise: Promise,
        arrivals: Arrivals,
        draw: Callable[[int], Sequence[Prompt]],
        n_requests: int = 20_000,
    ) -> float:
        """Requests a second that keep the promise at the highest rate that does, without noise; 0 where none does.

        Args:
            config: All knobs.
            promise: Limits and share.
            arrivals: An open loop other than a trace.
            draw: Gives so many prompts of the workload.
            n_requests: Of each load.
        """
        prompts, speed = draw(n_requests), speed_of(config)

        def look(rate: float, n: int = n_requests) -> Service:
            load = served(speed, prompts[:n], arrivals.due_s(n, rate, "truth"), _TRUE_CUT_S)
            return service_of(load, promise, str(arrivals), rate)

        low, high = 0.1, 1.0
        if look(low, _ROUGH_REQUESTS).excess > 0:
            return 0.0
        while look(high, _ROUGH_REQUESTS).excess <= 0:
            low, high = high, 1.4 * high
        low = 0.8 * low
        while high / low > 1.01:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if look(middle).excess > 0 else (middle, high)
        found = sustained([look(low), look(high)])
        return found.goodput_per_s if found else low * promise.attain


class LoadedFakeServe(LoadedEngine):
    """The simulation: its clock moves only when it works."""

    def __init__(self, variant: Variant, setup: Setup) -> None:
        self._noise = variant.noise
        self._config = setup.config
        self._rng = random.Random(f"{setup.launch_seed}/{setup.config.key}")
        self._slowness = math.exp(self._rng.gauss(0, variant.noise))
        self._now_s = variant.launch_s * (2.0 if setup.config["compiled"] else 1.0)
        self.clock = lambda: self._now_s
        self._meter = SimulatedMeter(_IDLE_W)
        if setup.config["compiled"] and float(str(setup.config["gpu_memory_utilization"])) > 0.9:
            raise FakeOutOfMemoryError("out of memory: compiling leaves no room for the cache")

    def apply(self, live: Config) -> None:
        """Take over live settings."""
        self._config = self._config.updated(live.root)

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion]:
        """All at once."""
        load = self.serve(prompts, (0.0,) * len(prompts), cut_after_s=math.inf)
        return [Completion(one.output_tokens, one.latency_s, one.ttft_s) for one in load.sent]

    def serve(
        self, prompts: Sequence[Prompt], due_s: Sequence[float], *, cut_after_s: float, concurrency: int | None = None
    ) -> Load:
        """Batch them as they come."""
        slowness = self._slowness * math.exp(self._rng.gauss(0, _LOAD_NOISE * self._noise))
        load = served(speed_of(self._config, slowness), prompts, due_s, cut_after_s, concurrency)
        duration_s = max(one.end_s for one in load.sent)
        tokens = sum(one.output_tokens for one in load.sent)
        self._now_s += duration_s
        self._meter.gpu_j = _IDLE_W * duration_s + (_BUSY_W - _IDLE_W) * min(duration_s, tokens / 2000)
        return load

    def meter(self) -> EnergyMeter:
        """Its power is simulated too."""
        return self._meter

    def slots(self) -> int:
        """Requests that run at once."""
        return int(str(self._config["max_num_seqs"]))

    def facts(self) -> EngineFacts:
        """Nothing real ran."""
        return EngineFacts(versions={"fake-serve": "1"}, notes=("simulated: these figures are of no real server",))

    def tokenize(self, text: str) -> list[int]:
        """One token a byte."""
        return list(text.encode())

    def vocab_size(self) -> int:
        """The least: only the lengths of prompts count, and ids take longer to draw than to serve."""
        return 4

    def text(self, token_ids: Sequence[int]) -> str:
        """A byte a token, as in `tokenize`."""
        return byte_text(token_ids)


def speed_of(config: Config, slowness: float = 1.0) -> Speed:
    """What a step takes under a configuration."""
    faster = slowness * (0.8 if config["compiled"] else 1.0)
    share = float(str(config["gpu_memory_utilization"]))
    slots = int(str(config["max_num_seqs"]))
    return Speed(
        step_s=(0.006 + 0.000015 * slots) * faster,  # steps are padded to the slots
        sequence_s=0.00006 * faster,
        prompt_token_s=0.000015 * slowness,
        kv_token_s=5e-8 * slowness,
        slots=slots,
        step_tokens=int(str(config["max_num_batched_tokens"])),
        kv_tokens=int(_KV_TOKENS * (share - 0.6) / 0.3),
    )


_TOKENS_FOR_EVERY_SEQUENCE = Constraint(
    name="tokens for every sequence",
    reason="max_num_batched_tokens must be at least max_num_seqs",
    holds=lambda c: float(str(c["max_num_batched_tokens"])) >= float(str(c["max_num_seqs"])),
    mend=lambda c: {"max_num_batched_tokens": max(512, int(str(c["max_num_seqs"])))},
)
