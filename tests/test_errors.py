"""Errors and the exit codes that they end the program with."""

from infertune import errors


def test_every_kind_of_error_has_the_exit_code_of_its_documentation() -> None:
    codes = {
        errors.UsageError: 2,
        errors.DoesNotFitError: 2,
        errors.MismatchError: 4,
        errors.BenchmarkError: 5,
        errors.InterruptedRunError: 130,
    }
    assert {kind: kind("why").exit_code for kind in codes} == codes
