"""A started `llama-server`: how it is started, its own fields and questions, what it says of itself, and scores.

Log probabilities of given tokens are not offered by the server. They are had by letting it generate them, one request a
token: a bias makes it the likeliest, and `n_probs` gives the probabilities from before the bias.
"""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from infertune.domain.knobs import Config
from infertune.domain.measurement import EngineFacts
from infertune.domain.workload import Message
from infertune.engines.base import NotOfferedError, Prompt, Setup, TokenScores
from infertune.engines.llamacpp.binary import gpus_of, version_of
from infertune.engines.llamacpp.command import setting_words
from infertune.engines.llamacpp.flags import flags_of
from infertune.engines.llamacpp.random_weights import made_here
from infertune.engines.serving.loaded import LoadedServer, ServerAnswerError
from infertune.engines.serving.process import HOST, ServerProcess, Start
from infertune.engines.serving.sender import Address, GaugeNames

_ENVIRONMENT = ("LLAMA_ARG_", "LLAMA_API_KEY")  # variables that are arguments by another name
_COMPLETION_S = 3600.0  # of one request that is computed; the deadline of its stage ends it before
_FORCED = 1e6  # added to a token's logit: it is then the likeliest, whatever the model says
_NO_TOKEN = 0  # any token: what is left in a slot's cache when it is forgotten
# Lines of the log that say what runs, by the name of the setting.
_SAID = {
    "threads": re.compile(r"n_threads = (\d+)"),
    "kv_unified": re.compile(r"kv_unified = '(\w+)'"),
    "gpu_layers": re.compile(r"offloaded (\d+/\d+) layers to GPU"),
}

T = TypeVar("T")
R = TypeVar("R")


def start(binary: Path, setup: Setup) -> "LoadedLlama":
    """Start a server for a setup and wait until it takes requests.

    Raises:
        ServerEndedError: It ended before that.
        UsageError: It takes no such argument.
    """
    assert setup.model, "llama.cpp needs a model"
    flags = flags_of(binary)
    model = made_here(setup.model) if setup.model.weights == "dummy" else Path(setup.model.path)
    words = setting_words(setup.changed.root, setup.config.root, flags)
    own = ["--metrics", "--slots"]
    if "cache_ram" in flags and "cache_ram" not in setup.changed:
        own += ["--cache-ram", "0"]
    if setup.device.kind == "cpu" and gpus_of(binary):
        own += ["--device", "none"]

    def command(port: int) -> Sequence[str]:
        return [str(binary), "--model", str(model), "--host", HOST, "--port", str(port), *own, *words]

    beginning = Start(command, without=_ENVIRONMENT)
    names = beginning.left_out(os.environ)
    notes = [f"{', '.join(names)}: left out of the server's environment"] if names else []
    return LoadedLlama(ServerProcess(beginning), setup, version_of(binary), notes)


class LoadedLlama(LoadedServer):
    """A server that was started here."""

    gauge_names = GaugeNames(
        path="/metrics",
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
    )

    def __init__(self, process: ServerProcess, setup: Setup, version: str, notes: Sequence[str]) -> None:
        super().__init__(Address(HOST, process.port), "default", process)
        self._props: Any = self.ask("GET", "/props")
        models: Any = self.ask("GET", "/v1/models")
        self._about = models["data"][0]["meta"]
        self._setup = setup
        self._version = version
        self._notes = tuple(notes)
        self._log = process.log()

    def fields(self, prompt: Prompt) -> dict[str, object]:
        """No end token, so that every output has the length that is asked for."""
        return {"ignore_eos": True}

    def apply(self, live: Config) -> None:
        """Nothing changes on a running server."""

    def slots(self) -> int:
        """How many requests it computes at once."""
        return int(self._props["total_slots"])

    def facts(self) -> EngineFacts:
        """Version and settings, from its own properties and the first lines of its log."""
        said = {name: match[1] for name, form in _SAID.items() if (match := form.search(self._log))}
        return EngineFacts(
            versions={"llama.cpp": self._version},
            effective={"parallel": str(self.slots()), **said, "weights": str(self._about.get("ftype", "unknown"))},
            notes=self._notes,
            context_tokens=int(self._props["default_generation_settings"]["n_ctx"]),
        )

    def tokenize(self, text: str) -> list[int]:
        """Token ids as the server makes them of a prompt."""
        return self._tokens({"content": text, "add_special": True, "parse_special": False})

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int] | None:
        """Token ids by the chat template that the model's file holds."""
        if not self._props.get("chat_template"):
            return None
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            answer: Any = self.ask("POST", "/apply-template", {"messages": turns})
        except ServerAnswerError:  # the template refuses the conversation
            return None
        return self._tokens({"content": answer["prompt"], "add_special": True, "parse_special": True})

    def vocab_size(self) -> int:
        """Size of the model's vocabulary."""
        return int(self._about["n_vocab"])

    def text(self, token_ids: Sequence[int]) -> str:
        """Token ids as text by the model's own tokenizer."""
        answer: Any = self.ask("POST", "/detokenize", {"tokens": list(token_ids)})
        return str(answer["content"])

    def reset(self) -> None:
        """Overwrite what each slot keeps of its last request."""
        self._on_slots(lambda slot, _: self._complete([_NO_TOKEN], 1, id_slot=slot), range(self.slots()))

    def answer(self, prompts: Sequence[Prompt]) -> Sequence[list[int]]:
        """Greedy answers that end where the model does."""
        return self._on_slots(
            lambda slot, prompt: [
                int(token)
                for token in self._complete(prompt.token_ids, prompt.output_tokens, id_slot=slot, return_tokens=True)[
                    "tokens"
                ]
            ],
            prompts,
        )

    def score(self, sequences: Sequence[Sequence[int]], top: int, firsts: Sequence[int]) -> Sequence[TokenScores]:
        """Log probabilities by letting the server generate the very tokens.

        Raises:
            NotOfferedError: This build gives no probabilities.
        """
        pairs = list(zip(sequences, firsts, strict=True))
        return self._on_slots(lambda slot, pair: self._score(slot, *pair, top), pairs)

    def _score(self, slot: int, sequence: Sequence[int], first: int, top: int) -> TokenScores:
        """One request a position; the tokens before it lie in the slot's cache from the request before."""
        logprobs, tops = [], []
        for position in range(first, len(sequence)):
            before, token = sequence[:position], sequence[position]
            likeliest, own = self._step(slot, before, token, top, cached=position > first)
            if own is None:  # part of a character, of which the server gives nothing: all others are asked for
                everything, _ = self._step(slot, before, self._letter, self.vocab_size(), cached=True)
                likeliest, own = dict(islice(everything.items(), top)), everything.get(token)
            if own is None:
                raise NotOfferedError(f"llama-server {self._version} gives no probability of token {token}")
            logprobs.append(own)
            tops.append(likeliest)
        return TokenScores(logprobs, tops, first)

    def _step(
        self, slot: int, before: Sequence[int], token: int, top: int, *, cached: bool
    ) -> tuple[dict[int, float], float | None]:
        """The likeliest tokens after others, and the log probability of a given one; nothing where none comes back."""
        answer = self._complete(
            before, 1, id_slot=slot, n_probs=top, cache_prompt=cached, logit_bias=[[token, _FORCED]]
        )  # fmt: skip
        steps = answer.get("completion_probabilities") or []
        if not steps or steps[0]["id"] != token:
            return {}, None
        return {entry["id"]: entry["logprob"] for entry in steps[0]["top_logprobs"]}, steps[0]["logprob"]

    @cached_property
    def _letter(self) -> int:
        """A token that is a whole character."""
        return self.tokenize("a")[-1]

    def _complete(self, token_ids: Sequence[int], output_tokens: int, **more: object) -> Any:
        """A request outside of a measured job, nothing of it found in a cache."""
        asked = {"prompt": list(token_ids), "n_predict": output_tokens, "temperature": 0, "cache_prompt": False}
        return self.ask("POST", "/completion", {**asked, **more}, within_s=_COMPLETION_S)

    def _on_slots(self, work: Callable[[int, T], R], items: Sequence[T]) -> list[R]:
        """Do something for each item, each slot taking every n-th, all slots at once."""
        n = max(1, min(self.slots(), len(items)))

        def of_slot(slot: int) -> list[R]:
            return [work(slot, item) for item in items[slot::n]]

        with ThreadPoolExecutor(n) as pool:
            done = list(pool.map(of_slot, range(n)))
        return [done[index % n][index // n] for index in range(len(items))]
