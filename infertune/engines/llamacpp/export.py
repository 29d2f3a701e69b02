"""A profile's settings as people run llama.cpp's server: a command, a systemd unit, a compose file.

Only plain data goes into what is written: command lines through `shlex`, YAML through a safe dumper, the unit by its
own quoting; and only arguments that infertune knows to name no code, file or address.
"""

import re
import shlex
from dataclasses import replace

from infertune.documents import plain_yaml
from infertune.domain.knobs import Scalar
from infertune.engines.base import Served
from infertune.engines.exporting import Source, comment, known_settings, left_out, source_of
from infertune.engines.llamacpp.asked import is_plain
from infertune.engines.llamacpp.binary import PROGRAM
from infertune.engines.llamacpp.command import setting_words
from infertune.engines.llamacpp.files import random_file
from infertune.engines.llamacpp.space import CURATED
from infertune.engines.llamacpp.today import checked, rewritten
from infertune.errors import UsageError
from infertune.units import printable

FORMS = ("llama-args", "systemd", "compose")
_PORT = 8080
_MOUNT = "/models"
_IMAGE = "ghcr.io/ggml-org/llama.cpp"
_START_SECONDS = 600  # large weights are read from a disk
_BUILD = re.compile(r"b(\d+)(-\w+)?", re.ASCII)


def export(served: Served, form: str) -> str:
    """A profile's settings in one of `FORMS`.

    Raises:
        UsageError: The profile names no model file, or a setting that is not written out.
    """
    source = _source(served)
    match form:
        case "llama-args" if served.running is not None and served.current is not None:
            running = checked(served.running, served.allowed)
            _settings(served)  # refuses what may not be written out
            text, _ = rewritten(running, served.current, served.config, served.held.root)
            source = replace(source, remarks=(*source.remarks, *left_out(served.running, running)))
        case "llama-args":
            text = shlex.join([PROGRAM, *_arguments(served, source.name, "127.0.0.1")])
        case "systemd":
            text = _unit(served, source)
        case _:
            text = plain_yaml(_compose(served, source)).rstrip("\n")
    return f"{comment(served, source)}\n{text}\n"


def _source(served: Served) -> Source:
    """The model's file; of a built-in the one with random weights, which the first launch writes.

    Raises:
        UsageError: The profile names no file.
    """
    model = served.model
    if model.weights == "dummy" and model.spec.startswith("builtin:"):
        remark = f"{model.spec} has no trained weights here: the file is written by infertune's first launch of it."
        return Source(str(random_file(model)), "builtin", None, (remark,))
    source = source_of(model)
    if source.kind == "hub" or not source.name.endswith(".gguf"):
        raise UsageError(f"the profile's model {source.name!r} is no GGUF file: llama-server loads nothing else")
    return source


def _arguments(served: Served, model: str, host: str) -> list[str]:
    return [
        "--model",
        model,
        "--host",
        host,
        "--port",
        str(_PORT),
        *setting_words(_settings(served), served.config.root),
    ]


def _settings(served: Served) -> dict[str, Scalar]:
    """The settings to write, of which each is a knob, can do no harm, or is allowed by the user.

    Raises:
        UsageError: One is none of these.
    """

    def harmless(name: str, value: Scalar) -> bool:
        return name in served.allowed or is_plain(name, value)

    return known_settings(served.changed, CURATED, harmless)


def _unit(served: Served, source: Source) -> str:
    """A unit for systemd; the program is looked for where the system's own search path leads."""
    words = [_quoted(word) for word in _arguments(served, source.name, "127.0.0.1")]
    lines = [
        "[Unit]",
        f"Description=llama.cpp server for {_unspecified(printable(served.model.name))}",
        "After=network.target",
        "",
        "[Service]",
        f"ExecStart=/usr/bin/env {PROGRAM} \\",
        *(f"    {line}" for line in _one_setting_a_line(words)),
        "DynamicUser=yes",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        "PrivateTmp=yes",
        "NoNewPrivileges=yes",
        "Restart=on-failure",
        f"TimeoutStartSec={_START_SECONDS}",
        *(["LimitMEMLOCK=infinity"] if "mlock" in " ".join(words) else []),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines)


def _one_setting_a_line(words: list[str]) -> list[str]:
    """Words with each flag on a line of its own, continued by a backslash."""
    lines: list[str] = []
    for word in words:
        if word.startswith("--") or not lines:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return [*(f"{line} \\" for line in lines[:-1]), *lines[-1:]]


def _unspecified(text: str) -> str:
    """Text in which systemd finds none of its specifiers."""
    return text.replace("%", "%%").replace("\\", "\\\\")


def _quoted(word: str) -> str:
    """A word of `ExecStart=` as systemd reads it: specifiers, variables, quotes and escapes stand for themselves."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w@%+=:,./-]+", escaped, re.ASCII) else f'"{escaped}"'


def _compose(served: Served, source: Source) -> dict[str, object]:
    """A compose file of one service on this machine's loopback."""
    folder, _, name = source.name.rpartition("/")
    words = _arguments(served, f"{_MOUNT}/{name}", "0.0.0.0")
    service: dict[str, object] = {
        "image": f"{_IMAGE}:{_tag(served)}",
        "command": [_uninterpolated(word) for word in words],
        "ports": [f"127.0.0.1:{_PORT}:{_PORT}"],
        "volumes": [{"type": "bind", "source": _uninterpolated(folder) or "/", "target": _MOUNT, "read_only": True}],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "healthcheck": {
            "test": ["CMD", "curl", "-f", f"http://127.0.0.1:{_PORT}/health"],
            "interval": "15s",
            "timeout": "10s",
            "retries": 4,
            "start_period": f"{_START_SECONDS}s",
        },
    }
    if any("mlock" in word for word in words):
        service["ulimits"] = {"memlock": -1}
    if served.device.kind == "gpu":
        wanted = {"driver": "nvidia", "count": served.device.count, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [wanted]}}}
    return {"services": {"llama": service}}


def _tag(served: Served) -> str:
    """The image of the build that was measured; the newest where it has no number."""
    variant = "server-cuda" if served.device.kind == "gpu" else "server"
    build = _BUILD.fullmatch(served.engine_version or "")
    return f"{variant}-b{build[1]}" if build else variant


def _uninterpolated(text: str) -> str:
    """Text that compose, which replaces `$NAME` in every value, leaves as it is."""
    return text.replace("$", "$$")
