"""The arguments of the installed SGLang, asked of its own `ServerArgs` in a process of its own.

`python -m infertune.engines.sglang.arguments` prints them as one JSON line; it is the only place that imports SGLang.
"""

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from infertune.domain.knobs import format_scalar
from infertune.engines.asking import canonical
from infertune.engines.base import first_line
from infertune.engines.interpreter import run_module
from infertune.engines.serving.arguments import Flag
from infertune.errors import UsageError

_ASK_S = 180.0  # importing it imports torch
_FLAGS = TypeAdapter(list[Flag])


@cache
def flags_of(version: str, python: Path | None) -> Mapping[str, Flag]:
    """Every argument of the installed SGLang by its canonical name.

    Args:
        version: The installed one; another version is asked anew.
        python: The interpreter that has it; None for this one.

    Raises:
        UsageError: It does not answer.
    """
    try:
        done = run_module(
            python, "infertune.engines.sglang.arguments", within_s=_ASK_S, variables={"CUDA_VISIBLE_DEVICES": ""}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"SGLang does not answer: {first_line(str(error), 120)}") from None
    try:
        found = _FLAGS.validate_json((done.stdout.splitlines() or [""])[-1])
    except ValidationError:
        complaints = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise UsageError(f"SGLang {version} does not say its arguments: {first_line(complaints[-1], 200)}") from None
    return {flag.name: flag for flag in found}


def _answer() -> list[dict[str, object]]:
    """The arguments of the library of this process."""
    import argparse

    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser(add_help=False)
    ServerArgs.add_cli_args(parser)
    found: list[dict[str, object]] = []
    for action in parser._actions:
        longs = [option for option in action.option_strings if option.startswith("--")]
        if not longs:
            continue
        switch = action.nargs == 0
        default = action.default
        words = [str(word) for word in action.choices or ()]
        found.append(
            {
                "name": canonical(action.dest),
                "on": longs[0],
                "kind": "switch" if switch else "value",
                "aliases": sorted({canonical(option) for option in action.option_strings} - {canonical(action.dest)}),
                "words": words,
                "default": format_scalar(default)
                if isinstance(default, bool | int | float) or default in words
                else None,
                "help": " ".join(str(action.help or "").split())[:200],
            }
        )
    return found


if __name__ == "__main__":
    print(f"\n{json.dumps(_answer())}", flush=True)
