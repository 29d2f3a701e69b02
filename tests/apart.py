"""`infertune` with device locks of its own, for tests that run it in a process: `python -P tests/apart.py NAME …`."""

import signal
import sys
from pathlib import Path

from infertune.bench import locks
from infertune.cli import main


def command(namespace: Path | str) -> list[str]:
    """The start of a command line: `infertune` whose runs exclude only those of the same namespace."""
    return [sys.executable, "-P", __file__, str(namespace)]


if __name__ == "__main__":
    locks.NAMESPACE = sys.argv.pop(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would this
    main()
