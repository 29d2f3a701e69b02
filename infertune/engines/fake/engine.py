"""A simulated engine with a known landscape: for demos, for statistics at scale, and for faults.

`--engine fake` has a plateau, a cliff, an out-of-memory region, interacting knobs, launch cost and noise, on a
simulated clock: a whole tune takes seconds. `fake:flat` is a landscape on which nothing beats the default, `fake:slope`
gains 3% at one knob and nothing elsewhere, and `fake:ragged` drops at every second batch size, as Hugging Face
pipelines do. `fake:NAME,noise=3%,launch=75s` sets the noise of a launch and what one costs, `loss=2%` adds a lossy knob
(see `scoring.py`), and `devices=3%` makes devices of one model differ. `fake:faults` is another matter (see
`faulty.py`): a real child process with a real clock and a helper process of its own, that fails in the way that its
knob `fault` names.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from infertune.domain.device import Device
from infertune.domain.knobs import Choice, Config, Constraint, Float, Int, Scalar, SearchSpace, doubling
from infertune.domain.measurement import EngineFacts, Infeasible
from infertune.domain.models import Model
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
    TokenScores,
)
from infertune.engines.fake.faulty import FAULTS, FakeOutOfMemoryError, LoadedFaulty
from infertune.engines.fake.meter import SimulatedMeter
from infertune.engines.fake.scoring import SPEED, byte_text, greedy_answers, token_scores, true_loss
from infertune.errors import UsageError
from infertune.units import parse_duration_s, parse_share

_LAUNCH_S = 30.0
_NOISE = 0.013  # of one window on a launch of its own: most of it is the launch's
_LAUNCH_SHARE, _WINDOW_SHARE = 12 / 13, 5 / 13  # of that noise; their squares sum to 1
_PREFILL = 0.05  # tokens scored in the time of one generated; slow, so that tests score few prompts; judgement


def _plateau(c: Mapping[str, float]) -> float:
    """Output tokens per second: saturating in slots, a token budget that starves them, a cliff past 256 slots."""
    slots, budget = c["max_num_seqs"], c["max_num_batched_tokens"]
    rate = 9000 * slots / (slots + 48)
    rate *= min(1.0, 0.55 + 0.15 * math.log2(budget / 256)) if budget < 2048 else 1.0
    rate *= 1.22 if c["compiled"] else 1.0
    if slots > 256:  # the cache no longer holds every request, and some are computed twice
        rate *= 0.72
    return rate * (1.015 if c["block_size"] == 32 else 1.0)


def _flat(c: Mapping[str, float]) -> float:
    """Nothing beats the default: fewer slots are slower, more change nothing, the other knobs do nothing."""
    return 5000 * min(1.0, 0.5 + c["max_num_seqs"] / 128)


def _ragged(c: Mapping[str, float]) -> float:
    """The plateau, with a drop of 20% at every second batch size."""
    odd_rung = round(math.log2(c["max_num_seqs"])) % 2
    return _plateau(c) * (0.8 if odd_rung else 1.0)


def _slope(c: Mapping[str, float]) -> float:
    """Nothing but compiling helps, and that by 3%."""
    return _flat(c) * (1.03 if c["compiled"] else 1.0)


@dataclass(frozen=True)
class Variant:
    """What `fake:NAME,noise=3%,launch=75s` names.

    Attributes:
        landscape: A name in `LANDSCAPES`, or `faults`.
        noise: Relative standard deviation of a window's rate on a launch of its own.
        launch_s: Seconds of a launch.
        loss: By which share 8 bits raise the perplexity; None for no such knob.
        devices: Relative standard deviation of how fast devices of one model are.
    """

    landscape: str = "plateau"
    noise: float = _NOISE
    launch_s: float = _LAUNCH_S
    loss: float | None = None
    devices: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """The variant of an `--engine` flag.

        Raises:
            UsageError: There is no such landscape or setting, or a value is no share or duration.
        """
        name, *settings = text.split(",")
        known = (*LANDSCAPES, "faults")
        if (name or cls.landscape) not in known:
            raise UsageError(f"no fake landscape {name!r}; there are {', '.join(known)}")
        variant = cls(name or cls.landscape)
        for setting in settings:
            key, _, value = setting.partition("=")
            try:
                match key:
                    case "noise":
                        variant = replace(variant, noise=parse_share(value))
                    case "launch":
                        variant = replace(variant, launch_s=parse_duration_s(value))
                    case "loss":
                        variant = replace(variant, loss=parse_share(value))
                    case "devices":
                        variant = replace(variant, devices=parse_share(value))
                    case _:
                        raise ValueError("is neither noise=SHARE nor launch=DURATION nor loss=SHARE nor devices=SHARE")
            except ValueError as error:
                raise UsageError(f"--engine fake:{text}: {setting!r}: {error}") from None
        return variant


@dataclass(frozen=True)
class Landscape:
    """A closed form and where it runs out of memory."""

    rate: Callable[[Mapping[str, float]], float]
    memory: Callable[[Mapping[str, float]], float]


def _memory(c: Mapping[str, float]) -> float:
    """Share of the memory in use; over 1 the engine does not load."""
    return c["memory_share"] + c["max_num_seqs"] / 4096 + c["max_num_batched_tokens"] / 131072


LANDSCAPES = {
    "plateau": Landscape(_plateau, _memory),
    "flat": Landscape(_flat, _memory),
    "ragged": Landscape(_ragged, _memory),
    "slope": Landscape(_slope, _memory),
}


class FakeEngine:
    """`--engine fake[:LANDSCAPE]`, and `fake:faults`."""

    name: ClassVar[str] = "fake"
    needs_model: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ()
    scores: ClassVar[bool] = True

    def __init__(self, options: EngineOptions) -> None:
        self._variant = Variant.parse(options.variant)
        self.simulated = self._variant.landscape != "faults"

    def available(self) -> Availability:
        """Always there."""
        return Availability(version="1")

    def space(self, model: Model | None, device: Device, workload: Workload) -> SearchSpace:
        """Six knobs like vLLM's, or the faults."""
        if not self.simulated:
            speeds = Int(
                "speed", doubling(1, 8), 1, scope="live", effect="exact", why="the work takes 1/speed of the time"
            )
            size = Int("size", (1, 2), 1, effect="exact", why="nothing but a launch")
            faults = Choice("fault", FAULTS, "no fault", effect="exact", why="how to fail")
            return SearchSpace((faults, speeds, size))
        bits = Choice("bits", (16, 8, 4), 16, effect="lossy", why="fewer are faster and answer worse")
        return SearchSpace(
            knobs=(
                Int("max_num_seqs", doubling(4, 512), 64, scope="live", is_concurrency=True, effect="exact", most=4096,
                    why="requests that run at once"),
                Int("max_num_batched_tokens", doubling(256, 16384), 2048, scope="live", unit="tokens",
                    effect="exact", most=131072,
                    why="tokens in one step; too few starve the slots"),
                Choice("compiled", (False, True), False, effect="numeric", why="faster steps for a longer launch"),
                Int("block_size", (16, 32, 64), 16, unit="tokens", effect="exact", why="hardly matters"),
                Float("memory_share", (0.7, 0.8, 0.9, 0.95), 0.8, effect="exact",
                      why="room for the cache, until it does not load"),
                *((bits,) if self._variant.loss is not None else ()),
            ),
            constraints=(_TOKENS_FOR_EVERY_SEQUENCE,),
        )  # fmt: skip

    def classify(self, failure: Failure) -> Infeasible | None:
        """This engine's own out-of-memory error, and ValueError for settings that it refuses."""
        reasons = {FakeOutOfMemoryError.__name__: "oom", ValueError.__name__: "rejected"}
        reason = reasons.get(failure.error_type)
        if reason is None:
            return None
        return Infeasible.model_validate({"reason": reason, "stage": failure.stage, "detail": failure.message})

    def export(self, served: Served, form: str) -> str:
        """Not called: a simulated engine has no form but the profile."""
        raise UsageError(f"--as {form}: the engine {self.name} has no such form")

    def load(self, setup: Setup) -> LoadedEngine:
        """The simulation, or the engine that fails."""
        if self.simulated:
            return LoadedFake(self._variant, setup)
        return LoadedFaulty(setup)

    def fits(self, config: Config) -> bool:
        """Whether a configuration loads."""
        return LANDSCAPES[self._variant.landscape].memory(_numbers(config)) <= 1

    def optimum(self, space: SearchSpace) -> tuple[Config, float]:
        """The best configuration of the landscape and its rate without noise, found by looking at all of them."""
        best = max(filter(self.fits, space.grid()), key=self.true_rate)
        return best, self.true_rate(best)

    def true_rate(self, config: Config) -> float:
        """Output tokens per second of a configuration without noise."""
        return _rate(LANDSCAPES[self._variant.landscape], config)

    def true_loss(self, config: Config) -> float:
        """By which share a configuration raises the perplexity."""
        return true_loss(_numbers(config), self._variant.loss or 0.0)


class LoadedFake(LoadedEngine):
    """The simulation: its clock moves only when it works."""

    def __init__(self, variant: Variant, setup: Setup) -> None:
        self._landscape = LANDSCAPES[variant.landscape]
        self._noise = variant.noise
        self._loss = variant.loss or 0.0
        self._launch_seed = setup.launch_seed
        self._config = setup.config
        self._rng = random.Random(f"{setup.launch_seed}/{setup.config.key}")
        own = random.Random("/".join(setup.device.uuids)).gauss(0, variant.devices)  # of the device, in every launch
        self._launch_factor = math.exp(self._rng.gauss(0, _LAUNCH_SHARE * variant.noise) + own)
        self._now_s = variant.launch_s
        self.clock = lambda: self._now_s
        self._meter = SimulatedMeter(120.0)
        self._check_memory()

    def apply(self, live: Config) -> None:
        """Take over live settings."""
        self._config = self._config.updated(live.root)
        self._check_memory()

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion]:
        """Advance the clock by what the job would take."""
        rate = _rate(self._landscape, self._config) * self._launch_factor
        rate *= math.exp(self._rng.gauss(0, _WINDOW_SHARE * self._noise))
        duration_s = sum(prompt.output_tokens for prompt in prompts) / rate
        self._now_s += duration_s
        self._meter.gpu_j = power_w(_numbers(self._config)) * duration_s
        return [Completion(prompt.output_tokens, latency_s=duration_s) for prompt in prompts]

    def answer(self, prompts: Sequence[Prompt]) -> Sequence[list[int]]:
        """Random tokens, seeded by the prompt; the clock advances as for a job."""
        self.generate(prompts)
        return greedy_answers(prompts, self.vocab_size())

    def score(self, sequences: Sequence[Sequence[int]], top: int, firsts: Sequence[int]) -> Sequence[TokenScores]:
        """Simulated log probabilities with a known loss."""
        self._now_s += sum(map(len, sequences)) / (_PREFILL * _rate(self._landscape, self._config))
        return token_scores(sequences, _numbers(self._config), self._loss, self._launch_seed)

    def text(self, token_ids: Sequence[int]) -> str:
        """A byte a token, as in `tokenize`."""
        return byte_text(token_ids)

    def meter(self) -> EnergyMeter:
        """The simulated energy meter."""
        return self._meter

    def slots(self) -> int:
        """Requests that run at once."""
        return int(_numbers(self._config)["max_num_seqs"])

    def facts(self) -> EngineFacts:
        """The version of the simulation; it has no settings to read back."""
        return EngineFacts(versions={"fake": "1"}, notes=("simulated: these figures are of no real engine",))

    def tokenize(self, text: str) -> list[int]:
        """One token a byte."""
        return list(text.encode())

    def vocab_size(self) -> int:
        """A small vocabulary."""
        return 1000

    def recover(self, error: Exception) -> bool:
        """True after an out-of-memory error: the simulation goes on."""
        return isinstance(error, FakeOutOfMemoryError)

    def _check_memory(self) -> None:
        share = self._landscape.memory(_numbers(self._config))
        if share > 1:
            raise FakeOutOfMemoryError(f"out of memory: {share:.0%} of the device would be needed")


def _rate(landscape: Landscape, config: Config) -> float:
    """Output tokens per second without noise."""
    numbers = _numbers(config)
    return landscape.rate(numbers) * SPEED[int(numbers.get("bits", 16))]


def power_w(c: Mapping[str, float]) -> float:
    """Power in watts: more with more slots, and so much more with a compiled model that an eager one is greener."""
    return 120 + 400 * c["max_num_seqs"] / (c["max_num_seqs"] + 100) + (150 if c["compiled"] else 0)


_TOKENS_FOR_EVERY_SEQUENCE = Constraint(
    name="tokens for every sequence",
    reason="max_num_batched_tokens must be at least max_num_seqs",
    holds=lambda c: _number(c["max_num_batched_tokens"]) >= _number(c["max_num_seqs"]),
    mend=lambda c: {"max_num_batched_tokens": max(512, int(_number(c["max_num_seqs"])))},
)


def _number(value: Scalar) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _numbers(config: Config) -> dict[str, float]:
    return {name: float(value) for name, value in config.root.items() if isinstance(value, int | float)}
