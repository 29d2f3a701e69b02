"""What infertune raises, and the exit code that each error ends the program with.

A failing *configuration* is no error: it is an `Outcome` (see `measurement.py`). These are for what stops a run.
"""

EXIT_OK = 0
EXIT_REGRESSION = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_MISMATCH = 4
EXIT_CANNOT_RUN = 5
EXIT_INTERRUPTED = 130


class InfertuneError(Exception):
    """Base of every error that infertune raises on purpose; the message is one line and names the cure."""

    exit_code = EXIT_CANNOT_RUN


class UsageError(InfertuneError):
    """What the user asked for cannot be: an unknown name, a malformed file, a value out of range."""

    exit_code = EXIT_USAGE


class MismatchError(InfertuneError):
    """A profile and the environment it is used in do not match."""

    exit_code = EXIT_MISMATCH


class BenchmarkError(InfertuneError):
    """The benchmark could not run at all: no default measurement, a busy device, a full disk."""

    exit_code = EXIT_CANNOT_RUN


class InterruptedRunError(InfertuneError):
    """The user ended a run; what it has measured is in its folder."""

    exit_code = EXIT_INTERRUPTED
