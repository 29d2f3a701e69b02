"""Run by `test_families.py` in one process of its own: models as JSON on standard input, a line for each out."""

import json
import sys

from infertune.domain.device import detect
from infertune.domain.knobs import Config
from infertune.domain.models import Model
from infertune.engines.base import EngineOptions, Prompt, Setup
from infertune.engines.vllm.engine import VllmEngine

HELD = {"max_num_seqs": 8, "max_num_batched_tokens": 512, "enforce_eager": True, "dtype": "float32"}
DEFAULTS = {"max_num_seqs": 256, "max_num_batched_tokens": 4096, "enforce_eager": False, "dtype": "bfloat16"}


def main() -> None:
    """Launch every model, ask it once, and print what came of it."""
    device, engine = detect(), VllmEngine(EngineOptions())
    for name, document in json.load(sys.stdin).items():
        setup = Setup(
            model=Model.model_validate(document), device=device, config=Config(HELD), defaults=Config(DEFAULTS),
            faithful=False,
        )  # fmt: skip
        try:
            loaded = engine.load(setup)
            done = loaded.generate([Prompt(list(range(5, 5 + length)), 4) for length in (8, 20, 13)])
            answer = "ok" if [c.output_tokens for c in done] == [4, 4, 4] else f"answered {done}"
            loaded.close()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}".splitlines()[0]
        print(json.dumps({"name": name, "answer": answer}), flush=True)


if __name__ == "__main__":
    main()
