"""The registry of engines: the only place outside the adapters that knows their names."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType

from infertune.domain.command import Command
from infertune.domain.knobs import Config
from infertune.engines.base import Engine, EngineOptions, Served
from infertune.errors import UsageError

# name → "module:factory"; a factory takes EngineOptions. In the order in which a default is looked for.
_BUILTIN = {
    "vllm": "infertune.engines.vllm.engine:VllmEngine",
    "vllm-serve": "infertune.engines.vllm.serve:VllmServeEngine",
    "hf": "infertune.engines.hf.engine:HfEngine",
    "target": "infertune.engines.serving.target:TargetEngine",
    "llamacpp": "infertune.engines.llamacpp.engine:LlamaCppEngine",
    "sglang": "infertune.engines.sglang.engine:SglangEngine",
    "fake": "infertune.engines.fake.engine:FakeEngine",
    "fake-serve": "infertune.engines.fake.serving:FakeServeEngine",
    "replay": "infertune.engines.replay.engine:ReplayEngine",
}
DEMO_ENGINE = "fake"
TARGET_ENGINE = "target"  # a server that runs already: measured, never tuned


def engine_names() -> list[str]:
    """Every engine that `--engine` takes, third parties' included."""
    return list(_registry())


def get_engine(spec: str, options: EngineOptions | None = None) -> Engine:
    """The engine that `--engine NAME` or `--engine NAME:VARIANT` means.

    Raises:
        UsageError: There is no such engine, or its options make no sense.
    """
    name, _, variant = spec.partition(":")
    return _factory(name)((options or EngineOptions()).model_copy(update={"variant": variant}))


def installed_version(name: str, options: EngineOptions | None = None) -> str | None:
    """The version of an engine that is installed here; None if it is not, or cannot say without more options.

    Args:
        name: The engine's.
        options: Where to look for it; None looks where a run without options would.

    Raises:
        UsageError: There is no such engine.
    """
    factory = _factory(name)
    try:
        return factory(options or EngineOptions()).available().version
    except UsageError:  # it answers from a table, and there is none
        return None


def takes_binary(name: str) -> bool:
    """Whether an engine is a program of its own, which `--engine-binary` may name.

    Raises:
        UsageError: There is no such engine.
    """
    return bool(getattr(_factory(name), "takes_binary", False))


def takes_table(name: str) -> bool:
    """Whether an engine answers from a recorded table, which `--table` names.

    Raises:
        UsageError: There is no such engine.
    """
    return bool(getattr(_factory(name), "takes_table", False))


def forms_of(name: str) -> tuple[str, ...]:
    """What `profile export --as` takes for an engine.

    Raises:
        UsageError: There is no such engine.
    """
    forms: tuple[str, ...] = getattr(_factory(name), "forms", ())
    return forms


def export_served(name: str, served: Served | None, form: str) -> str:
    """A configuration in one of an engine's own forms.

    Args:
        name: The engine's.
        served: What to write; None for an engine that needs no model.
        form: One of the engine's `forms`.

    Raises:
        UsageError: There is no such engine or form, or the configuration cannot be written so.
    """
    factory = _factory(name)
    # Of the class, since making a replay engine takes a table; engines older than `export` have none.
    forms = forms_of(name)
    if form not in forms or served is None:
        there = f"there are {', '.join(forms)}" if forms else "leave --as out: it has no other form than the profile"
        raise UsageError(f"--as {form}: no such form for the engine {name}; {there}")
    return factory(EngineOptions()).export(served, form)


def read_command(
    name: str, text: str, *, file: str = "", service: str = "", options: EngineOptions | None = None
) -> Command:
    """A command that starts a server of an engine, taken apart.

    Args:
        name: The engine's.
        text: The command, or the text of a file that holds one.
        file: The file; empty where the command itself is given.
        service: Which service of the file; empty where it has one only.
        options: Where the engine is found.

    Raises:
        UsageError: The engine has no server, or it is no command of it.
    """
    factory = _factory(name)
    if getattr(factory, "read_command", None) is None:
        raise UsageError(f"--current: engine {name} is not started by a command; give a saved profile")
    read: Callable[..., Command] = factory(options or EngineOptions()).read_command  # type: ignore[attr-defined]
    return read(text, file=file, service=service)


def command_changes(name: str, command: Command, current: Config, tuned: Config, held: Config) -> tuple[str, ...]:
    """What to change in the command that runs today for a configuration; empty where the engine cannot say.

    Args:
        name: The engine's.
        command: The command.
        current: Every knob's value under it.
        tuned: Every knob's value to use.
        held: Arguments that are held for the whole run.
    """
    change: Callable[..., tuple[str, ...]] | None = getattr(_factory(name), "command_changes", None)
    return change(command, current, tuned, held) if change else ()


def default_engine_name() -> str:
    """The first real engine that is usable here.

    Raises:
        UsageError: None is installed.
    """
    for name in _registry():
        engine = get_engine(name) if name != "replay" else None
        if engine and engine.needs_model and not engine.available().reason:
            return name
    raise UsageError(
        "no inference engine is installed here: pip install infertune[vllm], infertune[hf] or infertune[llamacpp]; "
        f"or try infertune without one: infertune tune --engine {DEMO_ENGINE}"
    )


def _factory(name: str) -> Callable[[EngineOptions], Engine]:
    registry = _registry()
    if name not in registry:
        raise UsageError(f"unknown engine {name!r}; there are {', '.join(registry)}")
    module, _, attribute = registry[name].partition(":")
    factory: Callable[[EngineOptions], Engine] = getattr(import_module(module), attribute)
    return factory


@cache  # reading what is installed takes 20 ms, and every launch asks
def _registry() -> Mapping[str, str]:
    third_parties = {point.name: point.value for point in entry_points(group="infertune.engines")}
    return MappingProxyType({**third_parties, **_BUILTIN})
