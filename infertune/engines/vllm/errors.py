"""What vLLM's errors mean; the only place that reads their text.

The cause of a failure may be far from it: in the default multi-process mode an error in the engine core comes back as
"Engine core initialization failed", and the error itself is in the log.
"""

import re

from infertune.domain.measurement import Infeasible
from infertune.engines.base import Failure, first_line, last_statement

_OUT_OF_MEMORY_TYPES = ("OutOfMemoryError", "MemoryError")
_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|CUDA error: out of memory|No available memory for the cache blocks|Available memory on node"
    r"|Free memory on device|can't allocate memory|Cannot allocate memory|available KV cache memory"
    r"|To serve at least one request",
)
_REFUSALS = ("ValidationError", "ValueError", "AssertionError", "TypeError", "NotImplementedError")
_REFUSAL = re.compile(
    r"No common block size|_OpNamespace|expected at most 0 argument|no kernel image|Could not run '"
    r"|not implemented for '|error: argument |error: unrecognized arguments"
)
# What the worker says of a server that failed: the cause is in the server's log.
_OF_SERVERS = ("ServerEndedError", "ServerNotReadyError", "RequestFailedError")
_WRAPPER = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|EngineCore encountered an issue"
    r"|Worker failed with error '(?P<quoted>.*?)', please check|failed to be inspected\. Please check the logs"
)
_COUNT = re.compile(r"\d+ validation errors? for \w+$")
_LOGGED = re.compile(r"^\(.*?\) ERROR .*?\] ?")
_ERROR_LINE = re.compile(r"^(?:\w+\.)*(\w+(?:Error|Exception))(?:: (.*))?$")


def infeasible(failure: Failure) -> Infeasible | None:
    """Out of memory (at any stage), a setting refused (while loading), or None for a fault."""
    kind, detail = root_cause(failure)
    if kind in _OUT_OF_MEMORY_TYPES or _OUT_OF_MEMORY.search(detail):
        return Infeasible(reason="oom", stage=failure.stage, detail=first_line(detail))
    if failure.stage == "load" and (kind in _REFUSALS or _REFUSAL.search(detail)):
        return Infeasible(reason="rejected", stage=failure.stage, detail=first_line(detail))
    return None


def explained(failure: Failure) -> str:
    """The error behind a failure in one line; empty where the failure says it itself, or nothing more is known."""
    if failure.error_type not in _OF_SERVERS and not _WRAPPER.search(failure.message):
        return ""
    kind, detail = root_cause(failure)
    cause = first_line(detail)
    if _WRAPPER.search(cause) or cause == first_line(failure.message):
        return ""
    return f"{kind}: {cause}" if kind else cause


def root_cause(failure: Failure) -> tuple[str, str]:
    """Type and text of the error behind a failure: its own, or that in the log of the process where it happened.

    The type is empty where only the wrapper that quotes the error is in the log.
    """
    if failure.error_type and failure.error_type not in _OF_SERVERS and not _WRAPPER.search(failure.message):
        return failure.error_type, _said(failure.message)
    lines = [_LOGGED.sub("", line).strip() for line in failure.trace_tail.splitlines()]
    quoted = ""
    for number, line in reversed(list(enumerate(lines))):
        wrapper, match = _WRAPPER.search(line), _ERROR_LINE.match(line)
        if wrapper:
            quoted = quoted or wrapper["quoted"] or ""
        elif match and match[1] not in _OF_SERVERS:
            words = [match[2], *lines[number + 1 : number + 3]] if match[2] else [last_statement(lines[:number])]
            said = _said("\n".join(words))
            if not _WRAPPER.search(said.partition("\n")[0]):
                return match[1], said
            quoted = quoted or said
    return "", quoted or failure.message


def why_not_inspected(told: str) -> str:
    """What keeps vLLM from running a model at all, in one line; empty where it does not say.

    Args:
        told: What it wrote when it was asked.
    """
    _, cause = root_cause(Failure(stage="load", error_type="", message="", trace_tail=told))
    if "contains custom code" in cause:
        return "it comes with code of its own, which only --set trust_remote_code=true runs"
    return first_line(cause)


def _said(message: str) -> str:
    """The sentence of an error: pydantic first counts errors and names a field, the sentence follows."""
    lines = [line.strip() for line in message.splitlines()]
    sentence = next((line for line in lines if line.startswith("Value error, ")), message)
    if sentence is message and len(lines) > 2 and _COUNT.match(lines[0]):
        sentence = f"{lines[1]}: {lines[2]}"
    return re.sub(r"^Value error, |\s*\[type=.*$", "", sentence.strip())
