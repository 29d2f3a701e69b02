"""A Hugging Face pipeline with a profile's settings, as a script that runs."""

import re

from infertune.domain.knobs import Scalar
from infertune.engines.base import Served
from infertune.engines.exporting import Source, comment, known_settings, source_of
from infertune.engines.hf.arguments import MODEL_ARGUMENTS, is_plain
from infertune.engines.hf.space import CURATED
from infertune.errors import UsageError

FORMS = ("python",)
# An attention implementation may also name a kernel on the hub, which is code: only these are written.
_ALLOWED: dict[str, tuple[str, ...]] = {
    "request_order": ("as_given", "by_length"),
    "attn_implementation": ("sdpa", "eager", "flash_attention_2"),
    "cache_implementation": ("dynamic", "static"),
}
_DTYPE = re.compile(r"b?float\d+(_\w+)?", re.ASCII)
_NUMBERS = ("batch_size", "threads")
_SWITCHES = ("disable_compile",)

_SCRIPT = '''{remarks}
"""A Hugging Face pipeline, tuned by infertune: python FILE < prompts.txt (one a line; a sample without any)."""

import sys

import torch
import transformers

{load}
BATCH_SIZE = {batch_size}
BY_LENGTH = {by_length}  # longest first: less padding in a batch
GENERATE = {generate}


def build() -> transformers.Pipeline:
    """The pipeline, with the tuned settings."""
{threads}    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL, **SOURCE, padding_side="left")
    if tokenizer.pad_token_id is None:  # a pipeline cannot batch without one
        tokenizer.pad_token = tokenizer.eos_token
{network}
    return transformers.pipeline("text-generation", model=model.eval(), tokenizer=tokenizer, device=DEVICE)


def answers(pipe: transformers.Pipeline, prompts: list[str], max_new_tokens: int) -> list[str]:
    """Completions in the order of the prompts."""
    order = sorted(range(len(prompts)), key=lambda i: -len(pipe.tokenizer(prompts[i])["input_ids"]))
    order = order if BY_LENGTH else list(range(len(prompts)))
    records = pipe(
        [prompts[i] for i in order],
        batch_size=BATCH_SIZE,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        return_full_text=False,
        **GENERATE,
    )
    found = {{i: record[0]["generated_text"] for i, record in zip(order, records, strict=True)}}
    return [found[i] for i in range(len(prompts))]


if __name__ == "__main__":
    given = [] if sys.stdin.isatty() else [line.rstrip("\\n") for line in sys.stdin if line.strip()]
    for answer in answers(build(), given or ["The capital of France is"], max_new_tokens=32):
        print(answer)
'''
_TRAINED = """    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, **SOURCE, **LOAD)"""
_RANDOM = """    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(MODEL)
    model = transformers.AutoModelForCausalLM.from_config(config, **LOAD)"""


def export(served: Served, form: str) -> str:
    """A script: `build()` makes the pipeline, `answers()` runs it.

    Raises:
        UsageError: The profile names no model, or a setting that is no knob of a pipeline.
    """
    assert form in FORMS, form
    settings, extra = _settings(served)
    source = source_of(served.model)
    load: dict[str, Scalar] = {"dtype": settings.get("dtype", served.model.dtype)}
    _check("dtype", load["dtype"])
    if (attention := settings.get("attn_implementation", "sdpa")) != "sdpa":
        load["attn_implementation"] = attention
    generate = {
        name: settings[name] for name in ("cache_implementation", "disable_compile") if _matters(name, settings)
    }
    load |= {name: value for name, value in extra.items() if name in MODEL_ARGUMENTS}
    generate |= {name: value for name, value in extra.items() if name not in MODEL_ARGUMENTS}
    threads = f"    torch.set_num_threads({settings['threads']!r})\n" if "threads" in served.changed else ""
    return _SCRIPT.format(
        remarks=comment(served, source),
        load=_constants(source, load, "cuda:0" if served.device.kind == "gpu" else "cpu"),
        batch_size=repr(settings.get("batch_size", 1)),
        by_length=repr(settings.get("request_order") == "by_length"),
        generate=repr(generate),
        threads=threads,
        network=_RANDOM if source.dummy else _TRAINED,
    )


def _constants(source: Source, load: dict[str, Scalar], device: str) -> str:
    model = f"MODEL = {source.name!r}"
    if source.kind == "builtin":
        model = f"MODEL = resolve_model({source.name!r}).path  # a folder with config and tokenizer, made on the spot"
        model = f"from infertune.domain.models import resolve_model\n\n{model}"
    revision = {"revision": source.revision} if source.revision else {}
    return f"{model}\nSOURCE = {revision!r}\nLOAD = {load!r}\nDEVICE = {device!r}"


def _settings(served: Served) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
    """The settings of a pipeline, each of them of its kind, and further arguments that can do no harm.

    Raises:
        UsageError: One is no knob, no value of one, or can load code.
    """

    def harmless(name: str, value: Scalar) -> bool:
        return name in served.changed and name not in CURATED and (name in served.allowed or is_plain(name, value))

    settings = known_settings(served.config, CURATED, harmless)
    for name, value in settings.items():
        if name in CURATED:
            _check(name, value)
    own = {name: value for name, value in settings.items() if name in CURATED}
    return own, {name: value for name, value in settings.items() if name not in CURATED}


def _check(name: str, value: Scalar) -> None:
    fits = value in _ALLOWED.get(name, ())
    if name in _NUMBERS:
        fits = isinstance(value, int) and not isinstance(value, bool) and value > 0
    elif name in _SWITCHES:
        fits = isinstance(value, bool)
    elif name == "dtype":
        fits = isinstance(value, str) and _DTYPE.fullmatch(value) is not None
    if not fits:
        raise UsageError(f"the profile sets {name} to {value!r}, which is no value of a knob: it is not exported")


def _matters(name: str, settings: dict[str, Scalar]) -> bool:
    """Whether a setting of generate() has an effect: compiling applies to static caches only."""
    if settings.get("cache_implementation") != "static":
        return False
    return name in settings and settings[name] is not False
