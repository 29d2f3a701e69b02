"""The parent's side: ask the interpreter that has the engine how large a model is, and remember the answer."""

import hashlib
import json
import os
import subprocess
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from infertune.domain.checkpoints import Checkpoint
from infertune.domain.models import cache_folder
from infertune.domain.sizes import FieldSizes, ModelConfig, Sizes
from infertune.engines.base import first_line
from infertune.engines.installed import installed_versions
from infertune.engines.interpreter import run_module
from infertune.errors import UsageError
from infertune.writing import write_inside

_SCHEMA = 3  # of what is kept; another number makes every model counted again
_COUNT_S = 180.0  # importing transformers takes 5 s and counting 1 to 5 s, more on a busy machine
_HUB_S = 30.0


class TransformersSizes:
    """Counts models through transformers, in the interpreter in which the engine runs."""

    def __init__(self, python: Path | None = None) -> None:
        self._python = python

    def sizes(self, config: ModelConfig) -> Sizes:
        """The figures of a model: from the cache, from transformers, or, without it, from config.json alone."""
        if self._version is None:
            where = f" for {self._python}" if self._python else ""
            return FieldSizes(f"it is counted by transformers, which is not installed{where}").sizes(config)
        text = json.dumps(config, sort_keys=True)
        path = self._kept("sizes", text)
        try:
            return Sizes.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            pass
        answer, fault = self._run("count", text, _COUNT_S)
        try:
            counted = Sizes.model_validate_json(answer)
        except ValidationError:
            return FieldSizes(f"transformers {self._version} could not count it: {fault}").sizes(config)
        _keep(path, counted.model_dump_json())
        return counted

    def hub_weights(self, hub_id: str, revision: str | None) -> Checkpoint | None:
        """What the headers of the hub's safetensors files say; None offline, or if the hub does not answer in time."""
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            return None
        question = json.dumps({"hub_id": hub_id, "revision": revision})
        path = self._kept("weights", question)
        try:
            return Checkpoint.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            pass
        answer, _ = self._run("hub", question, _HUB_S)
        try:
            found = Checkpoint.model_validate_json(answer)
        except ValidationError:
            return None
        if revision:  # a name without a commit may mean other files tomorrow
            _keep(path, found.model_dump_json())
        return found

    @cached_property
    def _version(self) -> str | None:
        try:
            found = installed_versions(("transformers", "torch"), self._python)
        except (OSError, subprocess.SubprocessError):
            return None
        return found["transformers"] if len(found) == 2 else None

    def _kept(self, kind: str, question: str) -> Path:
        key = json.dumps([_SCHEMA, self._version, question])
        return cache_folder() / kind / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"

    def _run(self, what: str, question: str, limit_s: float) -> tuple[str, str]:
        """The last line of the child's answer, and the last of its complaints."""
        variables = {"TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}
        if what == "count":
            variables["HF_HUB_OFFLINE"] = "1"  # everything that it needs comes with the question
        child = "infertune.engines.sizes.child"
        try:
            done = run_module(self._python, child, what, within_s=limit_s, question=question, variables=variables)
        except subprocess.TimeoutExpired:
            return "", f"no answer within {limit_s:g} s"
        except OSError as error:
            return "", first_line(str(error))
        complaints = [line for line in done.stderr.splitlines() if line.strip()]
        last = (done.stdout.splitlines() or [""])[-1]
        return last, first_line(complaints[-1] if complaints else f"its process ended with code {done.returncode}")


def _keep(path: Path, text: str) -> None:
    with suppress(UsageError):  # without the cache the next run counts again, no more
        write_inside(cache_folder(), str(path.relative_to(cache_folder())), text, "cache")
