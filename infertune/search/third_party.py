"""Samplers of third parties: `--sampler MODULE:CLASS`. Their code runs in this process, so only the user names them."""

import importlib
import inspect
import os
import sys
from types import ModuleType

from optuna.samplers import BaseSampler

from infertune.domain.assigning import split_values
from infertune.domain.knobs import Scalar, parse_scalar
from infertune.errors import UsageError

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
    try:  # the code behind this is anybody's, with errors of its own
        found = getattr(_module(module_name), class_name)
        if not (inspect.isclass(found) and issubclass(found, BaseSampler)):
            raise TypeError(f"{class_name} is no Optuna sampler")
        if "seed" in inspect.signature(found).parameters:
            arguments.setdefault("seed", seed)
        return found(**arguments)
    except Exception as error:
        raise UsageError(f"--sampler {spec}: {reason_of(error)}") from None


def reason_of(error: Exception) -> str:
    """What a third party's code raised, in one line."""
    return f"{type(error).__name__}: {(str(error).strip() or 'it says nothing').splitlines()[0]}"


def _module(name: str) -> ModuleType:
    """A module by its name, or a package of OptunaHub's, which is downloaded."""
    hub, colon, package = name.partition(":")
    if colon and hub == _HUB:
        module: ModuleType = importlib.import_module(_HUB).load_module(package)
        return module
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # behind everything that is installed
    return importlib.import_module(name)
