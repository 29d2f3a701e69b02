"""The model that MODEL means to an engine: a Hugging Face one, a built-in, or a file of the engine's own kind."""

from typing import Protocol, runtime_checkable

from infertune.domain import models
from infertune.domain.models import Model, Weights, resolve_model
from infertune.engines import get_engine
from infertune.engines.base import Engine, EngineOptions
from infertune.engines.sizes.ask import TransformersSizes
from infertune.errors import UsageError


@runtime_checkable
class HasOwnModels(Protocol):
    """An engine whose models are no folders in the Hugging Face format."""

    def resolve(self, spec: str, weights: Weights | None) -> Model:
        """The model that a MODEL argument means.

        Raises:
            UsageError: There is no such model, or it is none for this engine.
        """

    def known_here(self, model: Model) -> str | None:
        """The `config_hash` that a model has here now; None where it is not here."""


def model_for(engine: Engine, options: EngineOptions, spec: str, weights: Weights | None) -> Model:
    """The model that a MODEL argument means to an engine.

    Raises:
        UsageError: There is no such model, or it is none for this engine.
    """
    if isinstance(engine, HasOwnModels):
        return engine.resolve(spec, weights)
    return resolve_model(spec, weights, sizer=TransformersSizes(options.python))


def known_here(name: str, options: EngineOptions | None, model: Model) -> tuple[str | None, str | None]:
    """A model's description by its hash, and its hub revision, as they are here now; None without the network.

    Args:
        name: The engine's.
        options: Where to look for it.
        model: As a profile has it.
    """
    try:
        engine = get_engine(name, options)
    except UsageError:
        return models.known_here(model)
    return (engine.known_here(model), None) if isinstance(engine, HasOwnModels) else models.known_here(model)
