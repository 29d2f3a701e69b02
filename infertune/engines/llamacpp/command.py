"""A configuration as the words of a `llama-server` command; the same for infertune's launches and for exports."""

from collections.abc import Mapping

from infertune.domain.knobs import Scalar
from infertune.engines.llamacpp.space import CURATED
from infertune.engines.serving.arguments import Flag, words_of

# Arguments that only turn on; every other one whose value is true or false has an opposite with --no-.
_SWITCHES = ("mlock", "no_host", "swa_full", "cpu_moe", "check_tensors", "offline", "spec_default", "backend_sampling")

TOGETHER = ("parallel", "kv_unified", "ctx_size")


def setting_words(
    changed: Mapping[str, Scalar], config: Mapping[str, Scalar], flags: Mapping[str, Flag] | None = None
) -> list[str]:
    """Settings that differ from the server's defaults, as words.

    The number of slots, whether they share a cache, and its size are spelled out together: one given alone changes what
    the server makes of the others.

    Args:
        changed: Name → value.
        config: Every knob's value.
        flags: The installed server's arguments; None writes them as servers since 2025 spell them.

    Raises:
        UsageError: An argument takes no such value.
    """
    settings = dict(changed)
    if not settings.keys().isdisjoint(TOGETHER):
        settings = {name: config[name] for name in TOGETHER if name in config} | settings
    order = {name: place for place, name in enumerate(CURATED)}
    words: list[str] = []
    for name in sorted(settings, key=lambda name: (order.get(name, len(order)), name)):
        flag = flags.get(name) if flags is not None else None
        words += words_of(flag or usual_flag(name, settings[name]), settings[name])
    return words


def usual_flag(name: str, value: Scalar) -> Flag:
    """An argument as servers since 2025 spell it."""
    dashed = name.replace("_", "-")
    if name in _SWITCHES:
        return Flag(name, f"--{dashed}", kind="switch")
    if isinstance(value, bool):
        return Flag(name, f"--{dashed}", f"--no-{dashed}", "pair")
    return Flag(name, f"--{dashed}")
