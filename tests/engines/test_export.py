"""What engines write of a profile: it is what vLLM, Python, compose and Kubernetes read, and a hostile name is data."""

import ast
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose
from hypothesis import given, settings
from hypothesis import strategies as st

from infertune.domain.command import Command
from infertune.domain.device import Device
from infertune.domain.knobs import Config, Scalar
from infertune.domain.models import Model, resolve_model
from infertune.engines import engine_names, export_served, forms_of
from infertune.engines.base import Served
from infertune.engines.exporting import source_of
from infertune.errors import UsageError

CPU = Device(kind="cpu", name="Some CPU", memory_bytes=16 * 1024**3, cores=4)
GPU = Device(kind="gpu", name="NVIDIA H100", count=2, memory_bytes=80 * 1024**3, cores=16, driver="570.1")
TINY = resolve_model("builtin:tiny")
HUB = TINY.model_copy(update={"spec": "Qwen/Qwen3-0.6B", "path": "Qwen/Qwen3-0.6B", "weights": "real"})
VLLM_DEFAULTS: dict[str, Scalar] = {
    "max_num_seqs": 256,
    "max_num_batched_tokens": 8192,
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "enforce_eager": False,
    "dtype": "bfloat16",
    "block_size": None,
}
VLLM_CHANGED: dict[str, Scalar] = {"max_num_seqs": 64, "enable_prefix_caching": False, "enforce_eager": True}
HF: dict[str, Scalar] = {
    "batch_size": 8,
    "request_order": "by_length",
    "attn_implementation": "eager",
    "cache_implementation": "dynamic",
    "threads": 1,
    "dtype": "float32",
}
VLLM_FORMS = ("vllm-args", "vllm-yaml", "python", "compose", "kubernetes")
ALL_FORMS = [*(("vllm", form) for form in VLLM_FORMS), ("hf", "python")]
HOSTILE = [
    "/m/'; touch hacked; '",
    '/m/"; touch hacked; "',
    "/m/$(touch hacked)`touch hacked`",
    "/m/${HOME} $HOME $$",
    "/m/*x &y !z #c {a: b} [c]",
    "/m/a: b",
    "/m/{}{0}{model!r}%s",
    '/m/"""\\',
    "/m/é漢",
]


def served(
    model: Model = HUB,
    changed: dict[str, Scalar] | None = None,
    device: Device = GPU,
    defaults: dict[str, Scalar] | None = None,
    version: str | None = "0.32.0",
) -> Served:
    chosen = VLLM_CHANGED if changed is None else changed
    config = Config({**(VLLM_DEFAULTS if defaults is None else defaults), **chosen})
    return Served(model=model, device=device, engine_version=version, config=config, changed=Config(chosen))


def hf_served(model: Model = HUB, device: Device = CPU, **changes: Scalar) -> Served:
    config = Config({**HF, **changes})
    return Served(model=model, device=device, engine_version="5.19.0", config=config, changed=config)


def exported(engine: str, form: str, what: Served | None = None) -> str:
    return export_served(engine, what or (served() if engine == "vllm" else hf_served()), form)


def folder_model(path: str) -> Model:
    return TINY.model_copy(update={"spec": path, "path": path, "weights": "real"})


def command_of(text: str) -> list[str]:
    return shlex.split(text, comments=True)


def constants(script: str) -> dict[str, object]:
    """Names that a script sets to a literal at its top."""
    found = {}
    for node in ast.parse(script).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def model_in(engine: str, form: str, text: str) -> object:
    """What an export says is to be loaded, as its reader would understand it."""
    if form == "python":
        return constants(text)["MODEL"]
    if form == "vllm-args":
        return command_of(text)[2]
    document = yaml.safe_load(text)
    if form == "vllm-yaml":
        return document["model"]
    if form == "compose":  # which replaces $$ by $
        return document["services"]["vllm"]["volumes"][0]["source"].replace("$$", "$")
    pod = document["spec"]["template"]["spec"]
    return next(volume for volume in pod["volumes"] if volume["name"] == "model")["hostPath"]["path"]


@pytest.mark.parametrize(("engine", "form"), ALL_FORMS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_name_stays_a_string(engine: str, form: str, name: str) -> None:
    what = served(folder_model(name)) if engine == "vllm" else hf_served(folder_model(name))
    assert model_in(engine, form, exported(engine, form, what)) == name


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40), st.sampled_from(ALL_FORMS))
def test_any_printable_folder_stays_a_string(name: str, how: tuple[str, str]) -> None:
    engine, form = how
    model = folder_model(f"/{name}")
    text = exported(engine, form, served(model) if engine == "vllm" else hf_served(model))
    assert model_in(engine, form, text) == f"/{name}"
    if form == "vllm-args":
        assert command_of(text)[:2] == ["vllm", "serve"] and not text.splitlines()[-1].startswith("#")


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.sampled_from(ALL_FORMS))
def test_a_remark_cannot_end_its_comment(name: str, how: tuple[str, str]) -> None:
    engine, form = how
    device = CPU.model_copy(update={"name": name})
    what = served(HUB, device=device) if engine == "vllm" else hf_served(device=device)
    text = exported(engine, form, what)
    plain = exported(engine, form, what.model_copy(update={"device": CPU}))
    assert text.splitlines()[1:] == plain.splitlines()[1:] and text.startswith("# ")


@pytest.mark.parametrize(("engine", "form"), ALL_FORMS)
@pytest.mark.parametrize("name", ["-x/y", "--trust-remote-code", "s3://bucket/x", "", "a b", "/a\nb", "../x/y/z"])
def test_a_model_that_is_no_name_and_no_folder_is_refused(engine: str, form: str, name: str) -> None:
    model = folder_model(name)
    with pytest.raises(UsageError, match="no hub id and no absolute folder"):
        exported(engine, form, served(model) if engine == "vllm" else hf_served(model))


@pytest.mark.parametrize(("engine", "form"), ALL_FORMS)
def test_the_home_of_nobody_is_refused(engine: str, form: str) -> None:
    model = HUB.model_copy(update={"spec": "~nobody-here/m", "weights": "dummy"})
    with pytest.raises(UsageError, match="'~nobody-here/m' is no hub id and no absolute folder"):
        exported(engine, form, served(model) if engine == "vllm" else hf_served(model))


@pytest.mark.parametrize(("engine", "form"), ALL_FORMS)
@pytest.mark.parametrize(
    ("name", "value"),
    [("trust_remote_code", True), ("host", "0.0.0.0"), ("x); import os; (", 1), ("dtype", "--x"), ("dtype", "a b")],
)
def test_what_is_no_knob_is_not_exported(engine: str, form: str, name: str, value: Scalar) -> None:
    hostile = served(changed={name: value}) if engine == "vllm" else hf_served(**{name: value})
    with pytest.raises(UsageError, match="is not exported"):
        exported(engine, form, hostile)


@pytest.mark.parametrize(
    ("name", "value"),
    [("attn_implementation", "stranger/kernel"), ("batch_size", "8"), ("batch_size", True), ("batch_size", 0),
     ("threads", -1), ("disable_compile", 1), ("dtype", "load"), ("cache_implementation", "offloaded")],
)  # fmt: skip
def test_a_pipeline_takes_only_values_of_its_knobs(name: str, value: Scalar) -> None:
    with pytest.raises(UsageError, match=f"sets {name} to .* not exported"):
        exported("hf", "python", hf_served(**{name: value}))


@pytest.mark.parametrize("engine", [name for name in engine_names() if not forms_of(name)])
def test_an_engine_without_forms_says_so(engine: str) -> None:
    with pytest.raises(UsageError, match=rf"--as python: no such form for the engine {engine}; leave --as out"):
        export_served(engine, None, "python")


def test_an_unknown_form_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="there are vllm-args, vllm-yaml, python, compose, kubernetes"):
        exported("vllm", "helm")
    with pytest.raises(UsageError, match="--as compose: no such form for the engine hf; there are python"):
        exported("hf", "compose")
    with pytest.raises(UsageError, match="unknown engine"):
        export_served("os.system", served(), "python")


def test_a_command_spells_out_what_is_changed_and_the_limits() -> None:
    assert command_of(exported("vllm", "vllm-args")) == [
        "vllm", "serve", "Qwen/Qwen3-0.6B", "--max-num-seqs=64", "--max-num-batched-tokens=8192",
        "--no-enable-prefix-caching", "--enforce-eager",
    ]  # fmt: skip


def test_a_server_is_told_the_limits_even_at_the_measured_default() -> None:
    words = command_of(exported("vllm", "vllm-args", served(changed={})))
    assert words[3:] == ["--max-num-seqs=256", "--max-num-batched-tokens=8192"]
    assert constants(exported("vllm", "python", served(changed={})))["ARGUMENTS"] == {}


def test_a_parallel_size_that_the_weights_need_is_exported_though_it_is_the_default() -> None:
    what = served(changed={}, defaults={**VLLM_DEFAULTS, "tensor_parallel_size": 2})
    assert "--tensor-parallel-size=2" in command_of(exported("vllm", "vllm-args", what))
    service = yaml.safe_load(exported("vllm", "compose", what))["services"]["vllm"]
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["count"] == 2
    pod = yaml.safe_load(exported("vllm", "kubernetes", what))["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 2}
    both = served(changed={}, defaults={**VLLM_DEFAULTS, "tensor_parallel_size": 2, "pipeline_parallel_size": 3})
    pod = yaml.safe_load(exported("vllm", "kubernetes", both))["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 6}


def test_a_revision_goes_along() -> None:
    pinned = HUB.model_copy(update={"revision": "abc123"})
    assert "--revision=abc123" in command_of(exported("vllm", "vllm-args", served(pinned)))
    assert yaml.safe_load(exported("vllm", "vllm-yaml", served(pinned)))["revision"] == "abc123"
    assert constants(exported("hf", "python", hf_served(pinned)))["SOURCE"] == {"revision": "abc123"}


@pytest.mark.parametrize(("engine", "form"), ALL_FORMS)
@pytest.mark.parametrize(
    "revision", ["main\n::add-mask::x", "##[error]x", "--trust-remote-code", "$(id)", "a b", "a\x1b[31m", "x" * 300]
)
def test_a_revision_that_the_hub_cannot_have_is_refused(engine: str, form: str, revision: str) -> None:
    model = HUB.model_copy(update={"revision": revision})
    with pytest.raises(UsageError, match="which is no name of a branch, tag or commit"):
        exported(engine, form, served(model) if engine == "vllm" else hf_served(model))


@pytest.mark.parametrize(("engine", "form"), ALL_FORMS)
def test_no_line_of_an_export_is_a_workflow_command(engine: str, form: str) -> None:
    device = CPU.model_copy(update={"name": "x ##[error]y"})
    text = exported(engine, form, served(HUB, device=device) if engine == "vllm" else hf_served(device=device))
    assert "##[" not in text
    with pytest.raises(UsageError, match="no absolute folder"):
        marked = folder_model("/a##[error]b")
        exported(engine, form, served(marked) if engine == "vllm" else hf_served(marked))


@pytest.mark.parametrize(
    ("spec", "name"),
    [("builtin:qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct"), ("builtin:qwen3-0.6b", "Qwen/Qwen3-0.6B"),
     ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"), ("/models/mine", "/models/mine")],
)  # fmt: skip
def test_dummy_weights_are_exported_as_the_trained_ones(spec: str, name: str) -> None:
    source = source_of(TINY.model_copy(update={"spec": spec, "path": "/stranger/cache"}))
    assert source.name == name and not source.dummy and "dummy weights" in source.remarks[0]


def test_a_builtin_without_trained_weights_runs_on_random_ones_from_a_folder_made_here() -> None:
    foreign = TINY.model_copy(update={"path": "/stranger/cache"})
    words = command_of(exported("vllm", "vllm-args", served(foreign)))
    assert words[2] == TINY.path and "--load-format=dummy" in words
    with pytest.raises(UsageError, match="no built-in"):
        source_of(TINY.model_copy(update={"spec": "builtin:../../etc"}))


@pytest.mark.parametrize("version", [None, "", "0.32.0.dev7+g1", "latest", "0.32.0; x"])
def test_a_version_without_an_image_is_refused(version: str | None) -> None:
    for form in ("compose", "kubernetes"):
        with pytest.raises(UsageError, match="no image of vLLM"):
            exported("vllm", form, served(version=version))


@pytest.mark.parametrize(("device", "image"), [(GPU, "vllm/vllm-openai:v0.32.0"), (CPU, "infertune-cpu:vllm-0.32.0")])
def test_containers_run_the_version_that_was_measured(device: Device, image: str) -> None:
    what = served(device=device, version="0.32.0+cpu")
    assert yaml.safe_load(exported("vllm", "compose", what))["services"]["vllm"]["image"] == image
    pod = yaml.safe_load(exported("vllm", "kubernetes", what))["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == image


@pytest.mark.parametrize("model", [HUB, TINY], ids=["hub", "builtin"])
def test_every_form_tells_a_cpu_how_much_memory_to_take(model: Model) -> None:
    def of(form: str, device: Device = CPU) -> str:
        return exported("vllm", form, served(model, device=device))

    assert command_of(of("vllm-args"))[:3] == ["VLLM_CPU_KVCACHE_SPACE=4", "vllm", "serve"]
    assert "\n# export VLLM_CPU_KVCACHE_SPACE=4\n" in of("vllm-yaml")
    script = of("python")
    assert script.index("os.environ.setdefault('VLLM_CPU_KVCACHE_SPACE', '4')") < script.index("from vllm import")
    service = yaml.safe_load(of("compose"))["services"]["vllm"]
    assert service["environment"]["VLLM_CPU_KVCACHE_SPACE"] == "4"
    [container] = yaml.safe_load(of("kubernetes"))["spec"]["template"]["spec"]["containers"]
    assert {"name": "VLLM_CPU_KVCACHE_SPACE", "value": "4"} in container["env"]
    assert not [form for form in VLLM_FORMS if "VLLM_CPU_KVCACHE_SPACE" in of(form, GPU)]
    ast.parse(of("python", GPU))


def test_a_long_context_gets_a_cache_for_one_sequence() -> None:
    long = HUB.model_copy(update={"kv_bytes_per_sequence": 114_688 * 40_960})
    assert command_of(exported("vllm", "vllm-args", served(long, device=CPU)))[0] == "VLLM_CPU_KVCACHE_SPACE=5"


@pytest.mark.parametrize("model", [HUB, TINY, folder_model("/m/$x: 'y'")], ids=["hub", "builtin", "folder"])
@pytest.mark.parametrize("device", [CPU, GPU], ids=["cpu", "gpu"])
class TestReaders:
    def test_compose_takes_the_file(self, model: Model, device: Device) -> None:
        PyCompose.from_yaml(exported("vllm", "compose", served(model, device=device)))

    def test_kubernetes_takes_the_manifest(self, model: Model, device: Device) -> None:
        manifest = yaml.safe_load(exported("vllm", "kubernetes", served(model, device=device)))
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


PARSE = """
import json, sys
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
ServeSubcommand().subparser_init(parser.add_subparsers(required=False, dest="subparser"))
names, *commands = json.loads(sys.argv[1])
for words in commands:
    found = vars(parser.parse_args(words))
    found["model"] = found.get("model_tag") or found["model"]
    print("\\n" + json.dumps({name: found[name] for name in names}))
"""


@pytest.mark.vllm
def test_the_real_parser_of_vllm_reads_command_and_file_alike(tmp_path: Path) -> None:
    wanted: dict[str, Scalar] = {
        "max_num_seqs": 64, "max_num_batched_tokens": 8192, "enable_prefix_caching": False,
        "enable_chunked_prefill": True, "enforce_eager": True, "dtype": "float32", "gpu_memory_utilization": 0.85,
        "kv_cache_dtype": "fp8", "block_size": 64, "async_scheduling": False, "long_prefill_token_threshold": 512,
        "performance_mode": "throughput", "tensor_parallel_size": 2,
    }  # fmt: skip
    models = [HUB.model_copy(update={"revision": "main"}), *map(folder_model, HOSTILE)]
    commands = []
    for number, model in enumerate(models):
        what = served(model, changed=wanted)
        file = tmp_path / f"{number}.yaml"
        file.write_text(exported("vllm", "vllm-yaml", what))
        commands += [command_of(exported("vllm", "vllm-args", what))[1:], ["serve", "--config", str(file)]]
    asked = json.dumps([["model", "revision", *wanted], *commands])
    answer = subprocess.run([sys.executable, "-c", PARSE, asked], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]
    found = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
    for model, pair in zip(models, (found[i : i + 2] for i in range(0, len(found), 2)), strict=True):
        assert pair[0] == pair[1] == {"model": model.path, "revision": model.revision, **wanted}


def run_script(script: str, folder: Path, prompts: str) -> list[str]:
    path = folder / "exported.py"
    path.write_text(script)
    answer = subprocess.run(
        [sys.executable, str(path)], input=prompts, capture_output=True, text=True, cwd=folder, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout.splitlines()


@pytest.mark.hf
def test_the_script_of_a_pipeline_answers_what_comes_in(tmp_path: Path) -> None:
    script = exported("hf", "python", hf_served(TINY, batch_size=2))
    assert len(run_script(script.replace("print(answer)", "print(repr(answer))"), tmp_path, "a\nlonger one\nb\n")) == 3


@pytest.mark.hf
def test_the_script_of_a_pipeline_keeps_the_order_of_the_prompts(tmp_path: Path) -> None:
    script = exported("hf", "python", hf_served(TINY, batch_size=2, cache_implementation="static"))
    check = (
        "    pipe, prompts = build(), ['a', 'the longest of the prompts', 'bb']\n"
        "    print(answers(pipe, prompts, 4) == [answers(pipe, [prompt], 4)[0] for prompt in prompts])\n"
    )
    head, _, _ = script.partition("    given = ")
    assert run_script(head + check, tmp_path, "") == ["True"]


@pytest.mark.vllm
def test_the_script_of_vllm_runs(tmp_path: Path) -> None:
    script = exported("vllm", "python", served(TINY, {"enforce_eager": True, "max_num_seqs": 8}, CPU))
    lines = run_script(script.replace("print(output.outputs[0].text)", "print(len(output.outputs[0].token_ids))"),
                       tmp_path, "a\nbb\n")  # fmt: skip
    assert lines[-2:] == ["32", "32"]


def test_what_started_a_command_and_is_not_written_out_is_named() -> None:
    running = Command(program=("conda", "run", "-n", "llm", "vllm", "serve"), model="m/x", settings=())
    known = served().model_copy(update={"running": running, "current": Config(VLLM_DEFAULTS)})
    text = export_served("vllm", known, "vllm-args")
    assert "# `vllm serve` stands in the place of: conda run -n" in text
    assert text.splitlines()[-1].startswith("vllm serve m/x --")
    plain = known.model_copy(update={"running": running.model_copy(update={"program": ("uv", "run", "vllm", "serve")})})
    text = export_served("vllm", plain, "vllm-args")
    assert "stands in the place" not in text and text.splitlines()[-1].startswith("uv run vllm serve m/x --")
