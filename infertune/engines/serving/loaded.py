"""A server under measurement, whichever it is: jobs, open loops, token ids and figures over its OpenAI-compatible API.

An engine on top says how its server is started, what it takes besides the standard fields, and what its settings are.
"""

import http.client
import json
import secrets
import ssl
import time
from abc import abstractmethod
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from infertune.domain.load import Load
from infertune.engines.base import Completion, LoadedEngine, Prompt
from infertune.engines.serving.process import ServerProcess, resident_peak_bytes
from infertune.engines.serving.sender import Address, GaugeNames, Outgoing, Sender, read_gauges

_COMPLETIONS = "/v1/completions"
_JOB_S = 86_400.0  # a job has no limit of its own: the deadline of the stage ends it
_ANSWER_WITHIN_S = 60.0  # of a question that is no request of a load (judgement)
_IDLE_WITHIN_S = 15.0  # until a server has dropped the requests that were cut (judgement)
_IDLE_LOOKS_EVERY_S = 0.1


class RequestFailedError(Exception):
    """Requests of a job failed; the message counts them and quotes the first."""


class ServerAnswerError(Exception):
    """The server answered a question with an error, or with something else than asked.

    Attributes:
        status: Of HTTP; None where it gave no answer at all.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class LoadedServer(LoadedEngine):
    """A server that takes requests, started here or not.

    Attributes:
        gauge_names: What the server calls its own figures.
    """

    gauge_names: GaugeNames = GaugeNames()

    def __init__(self, address: Address, served_model: str, process: ServerProcess | None = None) -> None:
        """Take over a server that is ready.

        Args:
            address: Where it listens.
            served_model: The model's name in requests.
            process: Its processes; None for a server that somebody else started.
        """
        self.address = address
        self.served_model = served_model
        self.process = process
        self._sender = Sender()
        self._sender.start()  # here: what is started after loading is taken for somebody else's load
        self._salt = secrets.token_hex(8)
        self._token_ids: dict[str, array[int]] = {}  # of what was asked for: every load has much of the same text

    @abstractmethod
    def fields(self, prompt: Prompt) -> dict[str, object]:
        """The fields of a request besides the standard ones: at least what makes the output as long as asked."""

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion]:
        """Send all prompts at once and wait for all; none may fail.

        Raises:
            RequestFailedError: One did.
            ServerEndedError: The server is gone.
        """
        load = self._load(prompts, [0.0] * len(prompts), cut_after_s=_JOB_S)
        failed = [sent for sent in load.sent if sent.error]
        if failed:
            raise RequestFailedError(f"{len(failed)} of {len(prompts)} requests failed, the first: {failed[0].error}")
        return [Completion(sent.output_tokens, sent.latency_s, sent.ttft_s) for sent in load.sent]

    def serve(
        self, prompts: Sequence[Prompt], due_s: Sequence[float], *, cut_after_s: float, concurrency: int | None = None
    ) -> Load:
        """Send every prompt when it is due; see `LoadedEngine.serve`.

        Raises:
            ServerEndedError: The server is gone.
        """
        load = self._load(prompts, due_s, cut_after_s=cut_after_s, concurrency=concurrency)
        if any(sent.error for sent in load.sent):
            self.wait_until_idle()
        return load

    def reset(self) -> None:
        """Another salt, where `fields` passes it on: nothing of an earlier job is found in the prefix cache."""
        self._salt = secrets.token_hex(8)

    def salt_of(self, prompt: Prompt) -> str:
        """What the prefix cache of a prompt is kept apart by: the job, and within it repeats of all prompts."""
        return f"{self._salt}-{prompt.repeat}" if prompt.repeat else self._salt

    def tokenize(self, text: str) -> list[int]:
        """Token ids, by the path that vLLM and its like have.

        Raises:
            ServerAnswerError: The server has none.
        """
        return self._tokens({"model": self.served_model, "prompt": text})

    def peak_memory_bytes(self) -> int | None:
        """Resident memory of its processes, each at its own peak; None for a server that was not started here."""
        return resident_peak_bytes(self.process.family()) if self.process else None

    def recover(self, error: Exception) -> bool:
        """A server that is still there and has dropped everything can go on."""
        if self.process is None or not isinstance(error, RequestFailedError):
            return False
        self.process.check()
        return self.wait_until_idle()

    def close(self) -> None:
        """End the generator, and the server if it was started here."""
        self._sender.close()
        if self.process:
            self.process.end()

    def wait_until_idle(self) -> bool:
        """Wait until the server has nothing to do, so that one load leaves nothing to the next.

        Returns:
            Whether it has: True where it has no such figures, False where they cannot be read.
        """
        if not self.gauge_names.running:
            return True
        deadline = self.clock() + _IDLE_WITHIN_S
        while self.clock() < deadline:
            try:
                text = self.ask_text("GET", self.gauge_names.path)
            except ServerAnswerError:
                return False
            gauges = read_gauges(0.0, text, self.gauge_names.names)
            if not gauges.running and not gauges.waiting:
                return True
            time.sleep(_IDLE_LOOKS_EVERY_S)
        return False

    def ask(self, method: str, path: str, content: object = None, *, within_s: float = _ANSWER_WITHIN_S) -> object:
        """What the server answers to a question, from JSON.

        Args:
            method: Of HTTP.
            path: What is asked.
            content: Sent as JSON; None sends nothing.
            within_s: Longest wait; a question that is answered by computing may take as long as its stage.

        Raises:
            ServerAnswerError: An error, or no JSON.
        """
        return ask(self.address, method, path, content, within_s=within_s)

    def ask_text(self, method: str, path: str, content: object = None) -> str:
        """The text that the server answers to a question.

        Raises:
            ServerAnswerError: An error, or nothing.
        """
        return ask_text(self.address, method, path, content)

    def _load(
        self, prompts: Sequence[Prompt], due_s: Sequence[float], *, cut_after_s: float, concurrency: int | None = None
    ) -> Load:
        requests = [
            Outgoing(due, prompt.output_tokens, json.dumps(self._body(prompt), separators=(",", ":")))
            for prompt, due in zip(prompts, due_s, strict=True)
        ]
        load = self._sender.run(
            self.address,
            _COMPLETIONS,
            requests,
            cut_after_s=cut_after_s,
            concurrency=concurrency,
            gauges=self.gauge_names,
            check=self.process.check if self.process else lambda: None,
        )
        if self.process:
            self.process.check()  # a server that died refuses what comes, one error a request
        return load

    def _body(self, prompt: Prompt) -> dict[str, object]:
        return {
            "model": self.served_model,
            "prompt": prompt.token_ids,
            "max_tokens": prompt.output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.fields(prompt),
        }

    def _tokens(self, content: object) -> list[int]:
        asked = json.dumps(content)
        if asked not in self._token_ids:
            answer = self.ask("POST", "/tokenize", content)
            tokens = answer.get("tokens") if isinstance(answer, dict) else None
            if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
                raise ServerAnswerError("/tokenize answered no token ids")
            self._token_ids[asked] = array("q", tokens)
        return self._token_ids[asked].tolist()


@dataclass(frozen=True)
class ServedModel:
    """A model as a server lists it.

    Attributes:
        name: In requests.
        context_tokens: The longest prompt plus output; None where the server does not say.
        owner: Whom the server names as its owner: vLLM itself; empty where it does not say.
    """

    name: str
    context_tokens: int | None
    owner: str


def served_models(address: Address) -> list[ServedModel]:
    """The models that a server lists, one at least.

    Raises:
        ServerAnswerError: It lists none.
    """
    found = []
    try:
        for entry in ask(address, "GET", "/v1/models")["data"]:  # type: ignore[index]
            context, owner = entry.get("max_model_len"), entry.get("owned_by")
            tokens = context if isinstance(context, int) and context > 0 else None
            found.append(ServedModel(str(entry["id"]), tokens, owner if isinstance(owner, str) else ""))
    except (KeyError, TypeError, AttributeError):
        found = []
    if not found:
        raise ServerAnswerError("/v1/models lists no model", 200)
    return found


def ask(
    address: Address, method: str, path: str, content: object = None, *, within_s: float = _ANSWER_WITHIN_S
) -> object:
    """What a server answers to a question, from JSON.

    Raises:
        ServerAnswerError: An error, or no JSON.
    """
    text = ask_text(address, method, path, content, within_s=within_s)
    try:
        answer: object = json.loads(text)
    except ValueError:
        raise ServerAnswerError(f"{path} answered no JSON", 200) from None
    return answer


def ask_text(
    address: Address, method: str, path: str, content: object = None, *, within_s: float = _ANSWER_WITHIN_S
) -> str:
    """The text that a server answers to a question.

    Raises:
        ServerAnswerError: An error, or nothing.
    """
    made = (
        http.client.HTTPSConnection(address.host, address.port, timeout=within_s, context=ssl.create_default_context())
        if address.tls
        else http.client.HTTPConnection(address.host, address.port, timeout=within_s)
    )
    body = None if content is None else json.dumps(content)
    headers = {**dict(address.headers), **({"Content-Type": "application/json"} if body is not None else {})}
    try:
        made.request(method, f"{address.prefix}{path}", body, headers)
        response = made.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise ServerAnswerError(f"{path}: no answer: {error or type(error).__name__}") from None
    finally:
        made.close()
    if response.status != 200:
        said = address.hidden(" ".join(text.split()))[:200]
        raise ServerAnswerError(f"{path}: HTTP {response.status}: {said}", response.status)
    return text
