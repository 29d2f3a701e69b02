"""A worker like infertune's whose pipeline sleeps after every batch: a regression of a known size.

Run as the interpreter that `delayed_python` writes: it hands everything else on to the real one.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import infertune.engines.hf.engine as hf
from infertune.bench import worker

_SECONDS = "INFERTUNE_TEST_DELAY_S"


def delayed_python(folder: Path, delay_s: float) -> Path:
    """An interpreter in a folder whose workers are slower by some seconds a batch."""
    path = folder / "delayed-python"
    path.write_text(
        "#!/bin/sh\n"
        f"export {_SECONDS}={delay_s}\n"
        'if [ "$1" = -m ] && [ "$2" = infertune.bench.worker ]; then shift 2;\n'
        f'exec "{sys.executable}" -P "{__file__}" "$@"; fi\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    path.chmod(0o755)
    return path


def _main() -> None:
    delay_s = float(os.environ[_SECONDS])
    original = hf.token_pipeline_class

    def slowed() -> type[Any]:
        class SlowPipeline(original()):  # type: ignore[misc]
            def __call__(self, *arguments: Any, **settings: Any) -> Any:
                answer = super().__call__(*arguments, **settings)
                time.sleep(delay_s)
                return answer

        return SlowPipeline

    hf.token_pipeline_class = slowed
    worker.main()


if __name__ == "__main__":
    _main()
