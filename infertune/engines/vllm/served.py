"""A running `vllm serve` under measurement."""

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from infertune.domain.knobs import Config
from infertune.domain.measurement import EngineFacts
from infertune.domain.workload import Message
from infertune.engines.base import NotOfferedError, Prompt, Setup, TokenScores
from infertune.engines.serving.loaded import LoadedServer, ServerAnswerError, served_models
from infertune.engines.serving.process import HOST, ServerProcess
from infertune.engines.serving.sender import Address, GaugeNames
from infertune.engines.vllm.control import Control, Said
from infertune.engines.vllm.table import LIVE
from infertune.errors import BenchmarkError

_AT_ONCE = 64  # questions asked together; the scheduler's own limit decides how many are computed together
_CACHE_LABELS = ("block_size", "cache_dtype", "enable_prefix_caching", "gpu_memory_utilization", "num_gpu_blocks")
_LIVE_NOTE = "the scheduler is vLLM's own with limits that can be lowered while it serves; finalists run without it"
_Given = TypeVar("_Given")
_Found = TypeVar("_Found")


class LoadedVllmServer(LoadedServer):
    """`vllm serve` with one model, and the limits of its scheduler if it was started for the search."""

    gauge_names = GaugeNames(
        path="/metrics",
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        kv_cache_share="vllm:kv_cache_usage_perc",
        preemptions="vllm:num_preemptions_total",
        prefix_hit_tokens="vllm:prefix_cache_hits_total",
        prefix_query_tokens="vllm:prefix_cache_queries_total",
    )

    def __init__(
        self,
        process: ServerProcess,
        setup: Setup,
        versions: Mapping[str, str],
        notes: Sequence[str],
        control: Control | None,
    ) -> None:
        """Take over a server that is ready.

        Args:
            process: Its processes.
            setup: What it was launched for.
            versions: Of what is installed.
            notes: On its environment.
            control: Of its scheduler; None for a stock server.
        """
        address = Address(HOST, process.port)
        self._model = served_models(address)[0]
        super().__init__(address, self._model.name, process)
        self._setup = setup
        self._versions = dict(versions)
        self._notes = tuple(notes)
        self._control = control
        said = self._said()
        self._launched = said.limits if said else {n: int(str(setup.config[n])) for n in LIVE if n in setup.config}
        self._limits = dict(self._launched)

    def fields(self, prompt: Prompt) -> dict[str, object]:
        """Exactly as many tokens as asked; each event says how many it brings; nothing is reused from other jobs."""
        return {"ignore_eos": True, "return_token_ids": True, "cache_salt": self.salt_of(prompt)}

    def apply(self, live: Config) -> None:
        """Set the scheduler's limits, at most to those it was launched with.

        Raises:
            BenchmarkError: A limit cannot be set so on this server; a relaunch can.
        """
        for name, value in live.root.items():
            most = self._launched.get(name)
            if most is None or not isinstance(value, int):
                raise BenchmarkError(f"{name}={value} cannot be changed on a running server")
            if value != self._limits[name] and (self._control is None or value > most):
                raise BenchmarkError(f"{name}={value} needs a relaunch: the server was launched with {most}")
        self._limits |= {name: int(str(value)) for name, value in live.root.items()}
        if self._control:
            self._control.want(self._limits)

    def slots(self) -> int:
        """The limit on running sequences in force."""
        return self._limits["max_num_seqs"]

    def facts(self) -> EngineFacts:
        """The command, and the settings as the server says them: of its scheduler, or of its figures."""
        assert self.process
        said = self._said()
        effective = {**_cache_settings(self.ask_text("GET", self.gauge_names.path)), **(said.effective if said else {})}
        # The scheduler takes limits over in its next step: before one, what it is going to keep.
        effective |= {name: str(value) for name, value in self._limits.items()}
        return EngineFacts(
            versions=self._versions,
            effective=effective
            | {"command": shlex.join(_as_typed(self.process.command)), "process_mode": "server"}
            | ({} if self._control else {"scheduler": "vLLM's own"}),
            notes=(*self._notes, *((_LIVE_NOTE,) if self._control else ())),
            context_tokens=self._model.context_tokens,
        )

    def vocab_size(self) -> int:
        """Of the model's configuration.

        Raises:
            BenchmarkError: It does not say.
        """
        size = self._setup.model.vocab_size if self._setup.model else None
        if size is None:
            raise BenchmarkError("the model's config.json does not say how large its vocabulary is")
        return size

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int] | None:
        """By the chat template that the server has, if it has one."""
        content = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._tokens({"model": self.served_model, "messages": content})
        except ServerAnswerError:
            return None

    def text(self, token_ids: Sequence[int]) -> str:
        """Token ids as text by the model's own tokenizer."""
        answer = self.ask("POST", "/detokenize", {"model": self.served_model, "tokens": list(token_ids)})
        return str(answer.get("prompt", "")) if isinstance(answer, dict) else ""

    def answer(self, prompts: Sequence[Prompt]) -> Sequence[list[int]]:
        """Greedy answers, each at most as long as asked for."""
        return self._together(self._answer, prompts)

    def score(self, sequences: Sequence[Sequence[int]], top: int, firsts: Sequence[int]) -> Sequence[TokenScores]:
        """The server's `prompt_logprobs`; a request that asks for them reads nothing from the prefix cache.

        Raises:
            NotOfferedError: The server was launched without them.
        """
        return self._together(lambda ids: self._score(ids, top), sequences)

    def close(self) -> None:
        """End the server."""
        super().close()
        if self._control:
            self._control.close()

    def _said(self) -> Said | None:
        """What the scheduler says of itself.

        Raises:
            BenchmarkError: It should and does not.
        """
        said = self._control.said() if self._control else None
        if self._control and said is None:
            raise BenchmarkError("the server did not take infertune's scheduler: limits cannot be changed live")
        return said

    def _together(self, ask: Callable[[_Given], _Found], items: Sequence[_Given]) -> list[_Found]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(ask, items))

    def _completion(self, token_ids: Sequence[int], **fields: object) -> Mapping[str, object]:
        """The one choice of an answer that is not streamed."""
        content = {"model": self.served_model, "prompt": list(token_ids), "temperature": 0, **fields}
        answer = self.ask("POST", "/v1/completions", content)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise ServerAnswerError("/v1/completions answered without a choice")
        return choices[0]

    def _answer(self, prompt: Prompt) -> list[int]:
        choice = self._completion(prompt.token_ids, max_tokens=prompt.output_tokens, return_token_ids=True)
        ids = choice.get("token_ids")
        return [int(token) for token in ids] if isinstance(ids, list) else []

    def _score(self, token_ids: Sequence[int], top: int) -> TokenScores:
        try:
            choice = self._completion(token_ids, max_tokens=1, prompt_logprobs=top)
        except ServerAnswerError as error:
            if "logprobs" in str(error):
                raise NotOfferedError(f"the server gives no log probabilities: {error}") from None
            raise
        found = choice.get("prompt_logprobs")
        if not isinstance(found, list) or len(found) != len(token_ids):
            raise NotOfferedError("this vLLM gives no prompt log probabilities")
        logprobs, tops = [], []
        for token, entries in zip(token_ids[1:], found[1:], strict=True):
            ranked = sorted(entries.items(), key=lambda item: item[1].get("rank") or math.inf)
            logprobs.append(float(entries[str(token)]["logprob"]))
            tops.append({int(candidate): float(entry["logprob"]) for candidate, entry in ranked[:top]})
        return TokenScores(logprobs, tops)


def _cache_settings(metrics: str) -> dict[str, str]:
    """What vLLM's figures say of the KV cache's settings."""
    line = next((line for line in metrics.splitlines() if line.startswith("vllm:cache_config_info{")), "")
    labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
    return {name: labels[name] for name in _CACHE_LABELS if name in labels}


def _as_typed(command: Sequence[str]) -> list[str]:
    """A command as people write it: `vllm serve …` in place of the interpreter and its module."""
    return ["vllm", *command[command.index("serve") :]]
