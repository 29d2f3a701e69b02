"""Samplers of third parties: `--sampler MODULE:CLASS`. Their code runs in this process, so only the user names them."""

import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType

from optuna.samplers import BaseSampler

from infertune.domain.assigning import split_values
from infertune.domain.knobs import Scalar, parse_scalar
from infertune.errors import InfertuneError, UsageError

_HUB = "optunahub"


def load_sampler(spec: str, seed: int) -> BaseSampler:
    """The sampler that a user names.

    Args:
        spec: `MODULE:CLASS`, a class of Optuna's interface that is installed or lies in this folder, or
            `optunahub:PACKAGE:CLASS`; then keyword arguments, such as `MODULE:CLASS,population_size=8`.
        seed: Given to a class that takes one, unless the user gave another.

    Raises:
        UsageError: It cannot be imported or made, or is no sampler.
    """
    place, *given = split_values(spec)
    module_name, _, class_name = place.rpartition(":")
    arguments: dict[str, Scalar] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--sampler {spec}: {text!r} is not like NAME=VALUE")
        arguments[name] = parse_scalar(value)
    with foreign_code(UsageError, f"--sampler {spec}"):
        found = getattr(_module(module_name), class_name)
        if not (inspect.isclass(found) and issubclass(found, BaseSampler)):
            raise TypeError(f"{class_name} is no Optuna sampler")
        if "seed" in inspect.signature(found).parameters:
            arguments.setdefault("seed", seed)
        made: BaseSampler = found(**arguments)
    return made


@contextmanager
def foreign_code(error_class: type[InfertuneError], failed: str, advice: str = "") -> Iterator[None]:
    """Run a third party's code: what it prints goes to standard error, and what it raises becomes an expected error.

    Args:
        error_class: What is raised where the code raises anything, `SystemExit` included.
        failed: What has failed, before the reason in its message.
        advice: What comes behind the reason.
    """
    try:
        with redirect_stdout(sys.stderr):  # standard output may be a program's input, as with --json
            yield
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {(str(error).strip() or 'it says nothing').splitlines()[0]}"
        raise error_class(f"{failed}: {reason}{advice}") from None


def _module(name: str) -> ModuleType:
    """A module by its name, or a package of OptunaHub's, which is downloaded."""
    hub, colon, package = name.partition(":")
    if colon and hub == _HUB:
        module: ModuleType = importlib.import_module(_HUB).load_module(package)
        return module
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # behind everything that is installed
    return importlib.import_module(name)
