"""A configuration as people run it: a command, a systemd unit, a compose file; a hostile name or value stays data."""

import shlex

import pytest
import yaml
from compose_spec import PyCompose

from infertune.domain.device import Device
from infertune.domain.knobs import Config, Scalar
from infertune.domain.models import Model, resolve_model
from infertune.engines import export_served
from infertune.engines.base import Served
from infertune.errors import UsageError

CPU = Device(kind="cpu", name="Some CPU", memory_bytes=16 * 1024**3, cores=4)
GPU = Device(kind="gpu", name="NVIDIA H100", count=1, memory_bytes=80 * 1024**3, cores=16, driver="570.1")
TINY = resolve_model("builtin:tiny")
FILE = "/models/small.Q4_K_M.gguf"
CHANGED: dict[str, Scalar] = {"parallel": 16, "cache_type_k": "q8_0", "load_mode": "mmap+mlock"}
WORDS = [
    "--parallel", "16", "--kv-unified", "--cache-type-k", "q8_0", "--ctx-size", "8192", "--load-mode", "mmap+mlock",
]  # fmt: skip
HOSTILE = [
    "/m/'; touch hacked; '.gguf",
    "/m/$(touch hacked) %h $HOME.gguf",
    '/m/"a\\b".gguf',
    "/m/*x &y #c {a: b}.gguf",
]


def model(path: str = FILE) -> Model:
    return TINY.model_copy(update={"spec": path, "path": path, "weights": "real"})


def exported(form: str, path: str = FILE, device: Device = CPU, version: str = "b11434-1a2b3c4", **more: Scalar) -> str:
    changed = Config({**CHANGED, **more})
    config = changed.updated({"kv_unified": True, "ctx_size": 8192})
    served = Served(model=model(path), device=device, engine_version=version, config=config, changed=changed)
    return export_served("llamacpp", served, form)


def systemd_words(unit: str) -> list[str]:
    """The words of `ExecStart=` as systemd reads them: quotes and escapes taken away, %% and $$ halved."""
    joined = unit.replace("\\\n", " ")
    line = next(line for line in joined.splitlines() if line.startswith("ExecStart="))
    assert "%" not in line.replace("%%", "") and "$" not in line.replace("$$", "")
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line.removeprefix("ExecStart="))]


@pytest.mark.parametrize("path", [FILE, *HOSTILE])
def test_every_form_runs_the_same_command(path: str) -> None:
    command = shlex.split(exported("llama-args", path), comments=True)
    assert command == [
        "llama-server", "--model", path, "--host", "127.0.0.1", "--port", "8080", *WORDS,
    ]  # fmt: skip
    assert systemd_words(exported("systemd", path)) == ["/usr/bin/env", *command]
    service = yaml.safe_load(exported("compose", path))["services"]["llama"]
    inside = [word.replace("$$", "$") for word in service["command"]]
    assert (
        inside[inside.index("--model") + 1] == f"/models/{path.rpartition('/')[2]}" and inside[-len(WORDS) :] == WORDS
    )
    assert service["volumes"][0]["source"].replace("$$", "$") == path.rpartition("/")[0]


def test_a_unit_that_locks_memory_is_allowed_to() -> None:
    assert "LimitMEMLOCK=infinity" in exported("systemd")
    assert "LimitMEMLOCK" not in exported("systemd", load_mode="auto")
    assert yaml.safe_load(exported("compose"))["services"]["llama"]["ulimits"] == {"memlock": -1}


@pytest.mark.parametrize(
    ("device", "version", "image"),
    [
        (CPU, "b11434-1a2b3c4", "server-b11434"),
        (GPU, "b11434", "server-cuda-b11434"),
        (CPU, "build-0123456789ab", "server"),
    ],
)
def test_compose_takes_the_image_of_the_measured_build(device: Device, version: str, image: str) -> None:
    text = exported("compose", device=device, version=version)
    PyCompose.from_yaml(text)
    service = yaml.safe_load(text)["services"]["llama"]
    assert service["image"] == f"ghcr.io/ggml-org/llama.cpp:{image}"
    assert ("deploy" in service) is (device.kind == "gpu")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("lora", "/tmp/x"), ("model", "/etc/passwd"), ("cache_type_k", "q8_0 --agent"), ("tools", "all")],
)
@pytest.mark.parametrize("form", ["llama-args", "systemd", "compose"])
def test_a_profile_cannot_pass_anything_that_reaches_out(form: str, setting: str, value: str) -> None:
    with pytest.raises(UsageError, match="it is not exported"):
        exported(form, **{setting: value})


@pytest.mark.parametrize("path", ["org/name", "/models/folder", "relative.gguf", "/m/a\nb.gguf"])
def test_a_model_that_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(UsageError):
        exported("llama-args", path)


def test_a_built_in_names_the_file_that_a_launch_writes() -> None:
    served = Served(
        model=TINY, device=CPU, engine_version="b1", config=Config({}), changed=Config({}), answer="no better"
    )
    text = export_served("llamacpp", served, "llama-args")
    assert f"--model {TINY.path}/random.gguf" in text and "written by infertune's first launch" in text
