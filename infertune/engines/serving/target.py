"""`--engine target:URL`: a server that runs already, anywhere. It is measured; nothing is started and nothing changed.

A key is read from the variable INFERTUNE_API_KEY, sent to that server alone and never written down.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar
from urllib.parse import urlsplit

from infertune.domain.device import Device
from infertune.domain.knobs import Choice, Config, SearchSpace
from infertune.domain.load import Load
from infertune.domain.measurement import EngineFacts, Infeasible
from infertune.domain.models import Model
from infertune.domain.workload import Workload, salted
from infertune.engines.base import (
    Availability,
    EngineOptions,
    Failure,
    LoadedEngine,
    NotOfferedError,
    Prompt,
    Served,
    Setup,
    first_line,
)
from infertune.engines.serving.loaded import LoadedServer, ServedModel, ServerAnswerError, ask, served_models
from infertune.engines.serving.sender import Address, GaugeNames
from infertune.engines.vllm.served import LoadedVllmServer
from infertune.errors import UsageError

KEY_VARIABLE = "INFERTUNE_API_KEY"
_VLLM = "vllm"  # who owns the models, as vLLM's list of them says
_SLOTS = 256  # how many requests a warm-up job has at most: how many run at once is not known (vLLM's own default)
_VOCABULARY = 1000  # token ids below it exist in every vocabulary in use (judgement)
_FORM = "http://HOST:PORT"
# Labels of at most 63 characters with a dot between them, or an IPv6 address: what sockets can look up.
_HOST = re.compile(r"(?:[^.:]{1,63}\.)*[^.:]{1,63}\.?|[0-9a-f:.]*:[0-9a-f:.]*(?:%\w+)?")
_REFUSED = (401, 403)
_OTHER_API = (200, 404, 405)  # 200: an answer of another form


class TargetEngine:
    """A server that somebody else runs, with OpenAI's completions API."""

    name: ClassVar[str] = "target"
    needs_model: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ()
    scores: ClassVar[bool] = False
    simulated = False

    def __init__(self, options: EngineOptions) -> None:
        self._url = options.variant
        self._address = address_of(self._url) if self._url else None

    def available(self) -> Availability:
        """The version that the server says; `unknown` where it answers and does not say."""
        if self._address is None:
            return Availability(version=None, reason=f"needs the address of a server: --engine target:{_FORM}")
        try:
            served_models(self._address)
            return Availability(version=_version(self._address))
        except ServerAnswerError as error:
            return Availability(version=None, reason=_refusal(self._url, error))

    def space(self, model: Model | None, device: Device, workload: Workload) -> SearchSpace:
        """Which of the server's models; there is nothing else to choose.

        Raises:
            UsageError: There is no server, or it refuses.
        """
        if self._address is None:
            raise UsageError(f"--engine target: {self.available().reason}")
        try:
            names = tuple(dict.fromkeys(model.name for model in served_models(self._address)))
        except ServerAnswerError as error:
            raise UsageError(_refusal(self._url, error)) from None
        why = "which of the server's models answers"
        notes = ("the server was running already: its settings are not known, and this machine may be another",)
        return SearchSpace((Choice("served_model", names, names[0], effect="lossy", why=why),), notes=notes)

    def classify(self, failure: Failure) -> Infeasible | None:
        """A server that runs refuses nothing."""
        return None

    def export(self, served: Served, form: str) -> str:
        """Nothing of it is known."""
        raise UsageError(f"--as {form}: the engine {self.name} has no such form")

    def load(self, setup: Setup) -> LoadedEngine:
        """Look whether it answers."""
        assert self._address, "a target has an address"
        name = str(setup.config["served_model"])
        try:
            found = next((model for model in served_models(self._address) if model.name == name), None)
        except ServerAnswerError as error:
            raise ServerAnswerError(_refusal(self._url, error), error.status) from None
        if found is None:
            raise ServerAnswerError(f"{self._url} has no model {name}")
        return LoadedTarget(self._address, found, self._url)


class LoadedTarget(LoadedServer):
    """A server that somebody else runs."""

    def __init__(self, address: Address, model: ServedModel, url: str) -> None:
        super().__init__(address, model.name)
        self._model = model
        self._url = url
        self._is_vllm = model.owner == _VLLM
        self.gauge_names = LoadedVllmServer.gauge_names if self._is_vllm else GaugeNames()

    def fields(self, prompt: Prompt) -> dict[str, object]:
        """What makes the output as long as asked; what only vLLM takes is sent to vLLM alone."""
        more = {"return_token_ids": True, "cache_salt": self.salt_of(prompt)} if self._is_vllm else {}
        return {"ignore_eos": True, **more}

    def _load(
        self, prompts: Sequence[Prompt], due_s: Sequence[float], *, cut_after_s: float, concurrency: int | None = None
    ) -> Load:
        if not self._is_vllm:
            prompts = [self._salted(prompt) if prompt.drawn else prompt for prompt in prompts]
        load = super()._load(prompts, due_s, cut_after_s=cut_after_s, concurrency=concurrency)
        first = load.sent[0].error if load.sent and all(sent.error for sent in load.sent) else ""
        status = next((status for status in _REFUSED if first.startswith(f"HTTP {status}")), None)
        if status:  # some servers list their models without a key
            error = ServerAnswerError(f"/v1/completions: {first}", status)
            raise ServerAnswerError(_refusal(self._url, error), status)
        return load

    def _salted(self, prompt: Prompt) -> Prompt:
        """A prompt with the salt in its own tokens, for a server that takes none beside them."""
        return replace(prompt, token_ids=salted(prompt.token_ids, self.vocab_size(), self.salt_of(prompt)))

    def apply(self, live: Config) -> None:
        """There is nothing to change."""

    def slots(self) -> int:
        """Not known: as many as vLLM runs at once by default."""
        return _SLOTS

    def facts(self) -> EngineFacts:
        """What the server says of itself."""
        notes = ["the server was running already: nothing was started or changed"]
        if not self._is_vllm:
            notes.append("its prefix cache is not emptied: a text that was sent before may be found there")
        return EngineFacts(
            versions={self._model.owner or "server": _version(self.address)},
            effective={"target": self._url, "served_model": self.served_model},
            notes=tuple(notes),
            context_tokens=self._model.context_tokens,
        )

    def tokenize(self, text: str) -> list[int]:
        """Token ids by the server's `/tokenize`, as vLLM or llama.cpp have it.

        Raises:
            NotOfferedError: It has none.
        """
        with contextlib.suppress(ServerAnswerError):
            if (found := super().tokenize(text)) or not text:
                return found  # llama.cpp's finds no text in this form, and answers with no token
        try:
            return self._tokens({"content": text, "add_special": True})
        except ServerAnswerError as error:
            if error.status in _REFUSED:
                raise ServerAnswerError(_refusal(self._url, error), error.status) from None
            raise NotOfferedError(f"the server gives no token ids ({error}): take a synthetic workload") from None

    def vocab_size(self) -> int:
        """Of token ids that every vocabulary has; how large the server's is, is not known."""
        return _VOCABULARY


def address_of(url: str) -> Address:
    """Where a URL points to, with the key of the environment.

    Raises:
        UsageError: It is no URL of a server, or has something in it that must not be stored.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"the target {first_line(url, 80)!r} is no URL; write {_FORM}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise UsageError(f"the target {first_line(url, 80)!r} is no URL of a server; write {_FORM}")
    if not url.isascii():
        raise UsageError(
            f"the target {first_line(url, 80)!r} has characters that no URL has: write a path in percent-encoding, "
            "a name in its xn-- form"
        )
    if not _HOST.fullmatch(parts.hostname):
        raise UsageError(f"the target {first_line(url, 80)!r} has no name of a host; write {_FORM}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(f"a target is a URL without user, password and query; a key is read from {KEY_VARIABLE}")
    tls = parts.scheme == "https"
    key = os.environ.get(KEY_VARIABLE, "")
    if not key.isprintable() or not key.isascii():
        raise UsageError(f"{KEY_VARIABLE} holds characters that no key has")
    return Address(
        host=parts.hostname,
        port=port or (443 if tls else 80),
        tls=tls,
        prefix=parts.path.rstrip("/").removesuffix("/v1"),
        headers=(("Authorization", f"Bearer {key}"),) if key else (),
    )


def _refusal(url: str, error: ServerAnswerError) -> str:
    """Why a server cannot be measured, and what helps."""
    said = first_line(str(error))
    if error.status is None:
        return f"no server at {url}: {said}"
    if error.status in _REFUSED:
        if os.environ.get(KEY_VARIABLE):
            return f"{url} refuses the key in {KEY_VARIABLE}: {said}"
        return f"{url} wants a key: put it into the environment variable {KEY_VARIABLE}: {said}"
    if error.status in _OTHER_API:
        return f"no OpenAI-compatible API at {url}, or it is under another path of that server: {said}"
    return f"the server at {url} cannot be measured: {said}"


def _version(address: Address) -> str:
    """What the server says at `/version`, where vLLM and others have it."""
    try:
        answer = ask(address, "GET", "/version")
    except ServerAnswerError:
        return "unknown"
    return first_line(str(answer.get("version", "unknown")), 40) if isinstance(answer, dict) else "unknown"
