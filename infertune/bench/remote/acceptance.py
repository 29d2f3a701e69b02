"""Which workers a run takes (of the driver's versions, with devices of one model), and how long it waits for one."""

import time
from collections.abc import Callable, Iterable, Sequence

from pydantic import ValidationError

from infertune.bench.remote.terms import Hello
from infertune.errors import BenchmarkError, MismatchError
from infertune.version import __version__

_NOBODY_FOR_S = 600.0  # without any worker, before a run ends (judgement: a cluster needs minutes for a new node)


def read_hello(version: str, text: str, engine: str, engine_version: str | None) -> Hello:
    """Who a worker is.

    Args:
        version: Its infertune's.
        text: What it said.
        engine: The engine's name.
        engine_version: That of the driver.

    Raises:
        MismatchError: It has another version of infertune or of the engine.
    """
    if version != __version__:
        raise MismatchError(
            f"a worker has infertune {version}, the driver has {__version__}; install one of them on both"
        )
    try:
        hello = Hello.model_validate_json(text)
    except ValidationError:
        raise MismatchError(f"a worker has another infertune {version} than the driver; install the same") from None
    if not hello.fault and hello.engine_version != engine_version:
        raise MismatchError(
            f"{hello.host} has {engine} {hello.engine_version}, the driver has {engine_version}; "
            "install one of them on both"
        )
    return hello


def models_of(hellos: Iterable[Hello]) -> dict[str, list[Hello]]:
    """Workers by the model of their device, its slug; most of them first."""
    found: dict[str, list[Hello]] = {}
    for hello in hellos:
        if hello.device:
            found.setdefault(hello.device.slug, []).append(hello)
    return dict(sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0])))


def check_one_model(hellos: Iterable[Hello]) -> None:
    """Refuse devices of different models in one run.

    Raises:
        MismatchError: There are several; the message counts them.
    """
    models = models_of(hellos)
    if len(models) > 1:
        counted = ", ".join(f"{len(of)} × {of[0].device} ({of[0].host})" for of in models.values())
        raise MismatchError(
            f"the workers' devices are of different models: {counted}; their figures would not compare: start a "
            "cluster of one model, or one run for each of them with `infertune landscape --workers`"
        )


def counted(hellos: Sequence[Hello]) -> str:
    """How many workers there are and on which machines, in words."""
    hosts = [hello.host for hello in hellos]
    where = ", ".join(f"{hosts.count(host)} on {host}" for host in dict.fromkeys(hosts))
    return f"{len(hosts)} worker{'s' if len(hosts) != 1 else ''}: {where}"


class Patience:
    """For how long a crew goes on without anybody."""

    def __init__(self, on_note: Callable[[str], None]) -> None:
        """Nobody has been waited for yet.

        Args:
            on_note: Is told when the waiting begins.
        """
        self._on_note = on_note
        self._since: float | None = None

    def check(self, somebody: bool) -> None:
        """Give up where nobody has been there for long.

        Args:
            somebody: Whether a worker is there now.

        Raises:
            BenchmarkError: None has been.
        """
        if somebody:
            self._since = None
        elif self._since is None:
            self._since = time.perf_counter()
            self._on_note("no worker is left; waiting for one")
        elif time.perf_counter() - self._since > _NOBODY_FOR_S:
            raise BenchmarkError(
                f"no worker has been there for {_NOBODY_FOR_S / 60:.0f} minutes; the trials are safe: "
                "continue with --resume"
            )
