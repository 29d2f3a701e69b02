"""Any scalar argument of a pipeline's model or of `generate()`, asked of the installed transformers.

`python -m infertune.engines.hf.arguments` reads settings from standard input and prints one JSON line: the defaults of
all arguments, and why a value is refused. It is the only place here that imports the library.
"""

import difflib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from infertune.domain.knobs import Config, Effect, Knob, Scalar, SearchSpace, format_scalar
from infertune.domain.measurement import Frozen
from infertune.engines.asking import Asked, Understood, canonical, check_taken, only_by_the_user
from infertune.engines.base import first_line
from infertune.engines.interpreter import run_module
from infertune.errors import UsageError

_SECONDS = 120.0
# Of `from_pretrained`: name → default. Its other arguments are no scalars, or name what is loaded.
MODEL_ARGUMENTS: dict[str, Scalar] = {
    "low_cpu_mem_usage": None, "use_safetensors": None, "trust_remote_code": False, "use_kernels": False,
    "experts_implementation": None, "local_files_only": False, "code_revision": None, "cache_dir": None,
    "subfolder": None, "variant": None,
}  # fmt: skip
_OPENING = ("trust_remote_code", "use_kernels", "code_revision", "cache_dir", "subfolder", "variant", "custom_generate")
# Set by infertune itself: every output has exactly the length that the workload asks for.
_OURS = (
    "max_new_tokens", "min_new_tokens", "max_length", "min_length", "eos_token_id", "pad_token_id", "bos_token_id",
    "num_return_sequences", "return_dict_in_generate", "output_scores", "output_logits", "output_attentions",
    "output_hidden_states", "max_time", "stop_strings", "token", "cache_implementation", "max_cache_len",
)  # fmt: skip
_EXACT = ("low_cpu_mem_usage", "use_safetensors", "local_files_only", "trust_remote_code", "cache_dir")
_NUMERIC = ("use_cache", "prompt_lookup_num_tokens", "experts_implementation", "use_kernels", "disable_compile")


# Types of generation arguments: the default does not tell them where it is None, as in the newest versions.
_KIND_WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number"}
_KINDS = {
    "bool": (
        "do_sample", "use_cache", "early_stopping", "renormalize_logits", "remove_invalid_values", "disable_compile",
        "token_healing", "low_memory", "is_assistant",
    ),
    "int": (
        "num_beams", "num_beam_groups", "top_k", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
        "prompt_lookup_num_tokens", "max_matching_ngram_size", "num_assistant_tokens", "prefill_chunk_size",
    ),
    "float": (
        "temperature", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty",
        "encoder_repetition_penalty", "length_penalty", "diversity_penalty", "penalty_alpha", "guidance_scale",
    ),
}  # fmt: skip


class Answer(Frozen):
    """What the installed library says.

    Attributes:
        defaults: Its scalar generation arguments, with what its default is.
        faults: Asked name → what it says of the value.
    """

    defaults: dict[str, Scalar]
    faults: dict[str, str] = {}


def understand(asked: Asked, space: SearchSpace, python: Path | None) -> Understood:
    """A pipeline's space with everything in it that was asked for.

    Raises:
        UsageError: There is no such argument, a value is refused, or only the user himself may set it.
    """
    if asked.command:
        raise UsageError("--current: pipelines are started by a script; give a saved profile")
    values = {canonical(name): values for name, values in asked.values().items()}
    others = {name: given for name, given in values.items() if name not in space}
    answer = _ask(others, python) if set(others) - set(MODEL_ARGUMENTS) else Answer(defaults={})
    known = {**answer.defaults, **MODEL_ARGUMENTS}
    for name, given in values.items():
        for value in given:
            _check_allowed(name, value, asked)
        if name in space:
            for value in given:
                _check_value(space[name], value)
            space = space.with_knob(space[name].with_values(given))
        elif name in known:
            if name in answer.faults:
                raise UsageError(f"{name}={_shown(given)}: {answer.faults[name]}")
            space = space.with_new(_knob(name, known[name], given))
        elif name not in {canonical(n) for n in asked.known} or name in asked.held:
            raise _unknown(name, [*space.names, *known])
    held = {canonical(name): value for name, value in asked.held.items()}
    return Understood(
        space=space,
        held=Config(held),
        for_all=Config({name: value for name, value in held.items() if name in others}),
        searched={canonical(name): given for name, given in asked.searched.items()},
        known=Config({canonical(n): given[0] for n, given in asked.known.items() if canonical(n) in space}),
    )


def is_plain(name: str, value: Scalar) -> bool:
    """Whether a setting is a number, a switch or a word, of an argument that names no code and no file."""
    return name.isidentifier() and name not in _OPENING and (not isinstance(value, str) or value.isalnum())


def _check_allowed(name: str, value: Scalar, asked: Asked) -> None:
    hub_kernel = name == "attn_implementation" and isinstance(value, str) and "/" in value
    if not hub_kernel and (name not in _OPENING or value in (None, False)):
        return
    if name not in {canonical(typed) for typed in asked.typed}:
        setting = f"{name}={_shown((value,))}"
        raise only_by_the_user(asked.source, setting, again=setting)


def _check_value(knob: Knob, value: Scalar) -> None:
    """Numbers may lie beyond a ladder; words may not."""
    beyond = knob.kind == "int" and isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**20
    if not beyond:
        check_taken(knob, value)


def _knob(name: str, default: Scalar, given: tuple[Scalar, ...]) -> Knob:
    values = tuple(dict.fromkeys((default, *given)))
    whole = all(type(value) is int for value in values)
    return Knob.model_validate(
        {
            "name": name,
            "kind": "int" if whole else "choice",
            "values": tuple(sorted(values, key=lambda value: float(value or 0))) if whole else values,
            "default": default,
            "effect": effect_of(name),
            "why": "an argument of transformers that was asked for",
        }
    )


def effect_of(name: str) -> Effect:
    """What an argument of transformers that is no knob of ours does to answers."""
    return "exact" if name in _EXACT else "numeric" if name in _NUMERIC else "lossy"


def _unknown(name: str, known: list[str]) -> UsageError:
    if name in _OURS:
        return UsageError(f"{name}: infertune sets it itself, since the workload says how long outputs are")
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    shown = f"; did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"transformers has no scalar argument {first_line(name, 60)!r}{shown}")


def _shown(given: tuple[Scalar, ...]) -> str:
    return first_line(",".join(map(format_scalar, given)), 60)


def _ask(asked: Mapping[str, tuple[Scalar, ...]], python: Path | None) -> Answer:
    """Ask the installed library in a short process of its own.

    Raises:
        UsageError: It does not answer.
    """
    try:
        done = run_module(python, "infertune.engines.hf.arguments", within_s=_SECONDS, question=json.dumps(asked))
        return Answer.model_validate_json((done.stdout.splitlines() or [""])[-1])
    except (OSError, subprocess.TimeoutExpired, ValidationError) as error:
        raise UsageError(f"transformers does not answer: {first_line(str(error), 120)}") from None


def _answer(asked: Mapping[str, list[Scalar]]) -> Answer:
    """What the library of this process says."""
    import transformers

    transformers.logging.set_verbosity_error()
    scalars = {
        name: value
        for name, value in vars(transformers.GenerationConfig()).items()
        if isinstance(value, bool | int | float | str | None) and not name.startswith("_") and name not in _OURS
    }
    faults = {}
    for name, values in asked.items():
        for value in values if name in scalars else ():
            kind = next((kind for kind, names in _KINDS.items() if name in names), type(scalars[name]).__name__)
            try:
                if not _is_of(kind, value):
                    raise ValueError(f"it is {_KIND_WORDS.get(kind, kind)}")
                transformers.GenerationConfig(**{name: value}).validate(strict=False)
            except Exception as error:  # whatever it says is the user's answer
                faults[name] = first_line(str(error), 200)
    return Answer(defaults=scalars, faults=faults)


def _is_of(kind: str, value: Scalar) -> bool:
    """Whether a value is of the kind that an argument takes; the library's own check does not look."""
    if value is None or kind not in _KIND_WORDS:
        return True
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    return isinstance(value, int) or (kind == "float" and isinstance(value, float))


if __name__ == "__main__":
    print(f"\n{_answer(json.loads(sys.stdin.read())).model_dump_json()}", flush=True)
