"""The engine that fails: a real process that works by waiting, and fails as its knob `fault` says."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from infertune.domain.knobs import Config
from infertune.domain.measurement import EngineFacts
from infertune.engines.base import Completion, LoadedEngine, NotOfferedError, Prompt, Setup, TokenScores
from infertune.engines.fake.scoring import byte_text, greedy_answers, token_scores

FAULTS = (
    "no fault", "oom at load", "oom in run", "rejected", "exception", "segfault", "exit", "hang at load",
    "hang at warmup", "hang in run", "short answer", "nan", "nan logits", "no logits",
    "other vocabulary",
)  # fmt: skip


class FakeOutOfMemoryError(Exception):
    """What this engine raises where a real one runs out of memory."""


class LoadedFaulty(LoadedEngine):
    """A real process that works by waiting, and fails as it is told to."""

    def __init__(self, setup: Setup) -> None:
        self._fault = str(setup.config["fault"])
        self._speed = 1.0
        self._measuring = False
        # Stands for the processes that engines start for themselves: it must be gone when the worker is.
        self._helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self._fail_if("load", setup)

    def apply(self, live: Config) -> None:
        """Take over live settings."""
        self._speed = float(live["speed"] or 1)
        self._measuring = False

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion]:
        """Sleep for as long as the work would take, or fail."""
        started = self.clock()
        self._fail_if("run" if self._measuring else "warmup", None)
        time.sleep(0.1 / self._speed)
        latency_s = math.nan if self._fault == "nan" else self.clock() - started
        missing = 1 if self._fault == "short answer" else 0
        return [Completion(prompt.output_tokens - missing, latency_s=latency_s) for prompt in prompts]

    def answer(self, prompts: Sequence[Prompt]) -> Sequence[list[int]]:
        """Random tokens, seeded by the prompt, as the simulation has."""
        return greedy_answers(prompts, self.vocab_size())

    def score(self, sequences: Sequence[Sequence[int]], top: int, firsts: Sequence[int]) -> Sequence[TokenScores]:
        """Simulated log probabilities; NaN or none at all where the fault says so."""
        if self._fault == "no logits":
            raise NotOfferedError("this engine gives no log probabilities")
        found = token_scores(sequences, {}, 0.0, 0)
        if self._fault == "nan logits":
            found[0].logprobs[-1] = math.nan
        return found

    def text(self, token_ids: Sequence[int]) -> str:
        """A byte a token, as in `tokenize`."""
        return byte_text(token_ids)

    def reset(self) -> None:
        """Called before each window: faults of the stage `run` happen from here on."""
        self._measuring = True

    def slots(self) -> int:
        """Eight requests run at once."""
        return 8

    def facts(self) -> EngineFacts:
        """The version of the simulation; it has no settings to read back."""
        return EngineFacts(versions={"fake": "1"})

    def tokenize(self, text: str) -> list[int]:
        """One token a byte."""
        return list(text.encode())

    def vocab_size(self) -> int:
        """A small vocabulary, or another one."""
        return 1001 if self._fault == "other vocabulary" else 1000

    def close(self) -> None:
        """End the helper."""
        self._helper.kill()
        self._helper.wait()

    def _fail_if(self, stage: str, setup: Setup | None) -> None:
        match self._fault, stage:
            case ("oom at load", "load") | ("oom in run", "run"):
                raise FakeOutOfMemoryError("out of memory: 120% of the device would be needed")
            case ("rejected", "load"):
                raise ValueError("this engine does not take that setting")
            case ("exception", "run"):
                raise RuntimeError("an internal error")
            case ("segfault", "run"):
                os.kill(os.getpid(), signal.SIGSEGV)
            case ("exit", "run"):
                print("the engine says goodbye", file=sys.stderr, flush=True)
                os._exit(3)
            case ("hang at load", "load") | ("hang at warmup", "warmup") | ("hang in run", "run"):
                time.sleep(3600)
            case _:
                return
