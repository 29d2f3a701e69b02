"""The exceptions of infertune, each with its exit code.

A configuration that fails raises none of them: its trial has an `Outcome` (see `domain/measurement.py`).
"""

EXIT_OK = 0
EXIT_REGRESSION = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_MISMATCH = 4
EXIT_CANNOT_RUN = 5
EXIT_INTERRUPTED = 130


class InfertuneError(Exception):
    """Base of all expected errors. The message is one line and says what to do."""

    exit_code = EXIT_CANNOT_RUN


class UsageError(InfertuneError):
    """A request that cannot be met: an unknown name, a malformed file, a value out of range."""

    exit_code = EXIT_USAGE


class DoesNotFitError(UsageError):
    """A model whose weights and KV cache do not fit the memory of the device."""


class MismatchError(InfertuneError):
    """A profile, or a run to resume, does not match this machine."""

    exit_code = EXIT_MISMATCH


class BenchmarkError(InfertuneError):
    """The benchmark could not run: the default failed, the device is busy or broken, the disk is full."""

    exit_code = EXIT_CANNOT_RUN


class InterruptedRunError(InfertuneError):
    """The user interrupted a run. Its trials are in its folder."""

    exit_code = EXIT_INTERRUPTED
