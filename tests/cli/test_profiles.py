"""`infertune profile …` as a user types it: tables, exit codes, and strangers' files that end in one line."""

import json
import os
import shlex
from pathlib import Path

import pytest
import yaml

from infertune.domain.device import detect
from infertune.domain.models import resolve_model
from infertune.profiles.profile import Profile, fingerprint, load_profile, profile_path
from tests.builders import config, header
from tests.cli.test_cli import CONTROL, SMALL, Answer, Shell, shell  # noqa: F401 - a fixture is found by its name
from tests.profiles.test_profile import profile

HELD = [
    word
    for held in ("compiled=false", "max_num_batched_tokens=2048", "memory_share=0.8", "block_size=16")
    for word in ("--set", held)
]
SETTINGS = config(max_num_seqs=64, max_num_batched_tokens=8192, enforce_eager=True)


@pytest.fixture
def kept(shell: Shell) -> Path:  # noqa: F811
    """A profile of this machine in `profiles`, for vLLM."""
    made = a_profile()
    return made.save(profile_path(Path("profiles"), made.fingerprint))


def a_profile(**changes: object) -> Profile:
    of = header(engine="vllm", engine_version="0.32.0", device=detect(), model=resolve_model("builtin:qwen3-0.6b"))
    return profile(fingerprint=fingerprint(of).model_copy(update=changes), config=SETTINGS, changed=SETTINGS)


def refused(answer: Answer, code: int, *words: str) -> None:
    assert answer.code == code and answer.out == "" and answer.errors.count("\n") == 1
    assert "Traceback" not in answer.errors and not CONTROL.search(answer.errors)
    assert all(word in answer.errors for word in words), answer.errors


def test_profiles_are_listed_one_a_line_and_filtered(shell: Shell, kept: Path) -> None:  # noqa: F811
    answer = shell("profile", "list")
    head, row = answer.out.splitlines()
    assert head.split() == ["device", "engine", "model", "workload", "answer", "settings", "answers", "file"]
    assert "builtin:qwen3-0.6b" in row and "max_num_seqs=64" in row and row.rstrip().endswith(str(kept))
    assert shell("profile", "list", "--model", "QWEN3").out == answer.out
    assert "no profile here of that kind" in shell("profile", "list", "--gpu", "h100").out
    listed = json.loads(shell("profile", "list", "--json").out)["profiles"]
    assert [item["file"] for item in listed] == [str(kept)]
    refused(shell("profile", "list", "--profiles", "absent"), 2, "no folder absent", "--profiles")


def test_what_cannot_be_listed_is_noted_and_steers_no_terminal(shell: Shell, kept: Path) -> None:  # noqa: F811
    hostile = a_profile(engine="\x1b]0;owned\x07[red]x[/red]")
    hostile.save(Path("profiles/a.yaml"))
    Path("profiles/out.yaml").symlink_to("/etc/passwd")
    answer = shell("profile", "list")
    assert answer.code == 0 and not CONTROL.search(answer.out + answer.errors) and "[red]x[/red]" in answer.out
    assert (
        answer.errors
        == "note: skipped: profiles/out.yaml is a link out of profiles: name the file itself that is meant\n"
    )
    for arguments in (["show", "profiles/a.yaml"], ["diff", "profiles/a.yaml", str(kept)]):
        answer = shell("profile", *arguments)
        assert answer.code == 0 and not CONTROL.search(answer.out)


def test_a_link_out_of_the_folder_is_followed_by_no_command(shell: Shell, kept: Path) -> None:  # noqa: F811
    Path("outside").mkdir()
    secret = a_profile().save(Path("outside/secret.yaml"))
    Path("profiles/out.yaml").symlink_to(secret.absolute())
    Path("profiles/folder").symlink_to(secret.parent.absolute(), target_is_directory=True)
    Path("beside.yaml").symlink_to("/etc/passwd")
    Path("circle.yaml").symlink_to("circle.yaml")
    for path in ("profiles/out.yaml", "profiles/folder/secret.yaml", "beside.yaml", "circle.yaml"):
        for command in (["profile", "show"], ["profile", "verify"], ["profile", "export"], ["gate"]):
            refused(shell(*command, path), 2, f"{path} is a link out of ", "name the file itself")
    Path("profiles/latest.yaml").symlink_to(kept.relative_to("profiles"))
    kept.with_name("also.yaml").symlink_to("../../latest.yaml")
    for path in ("profiles/latest.yaml", str(kept.with_name("also.yaml")), "profiles/../outside/secret.yaml"):
        assert shell("profile", "show", path).code == 0


def test_a_profile_of_here_verifies_and_a_foreign_one_ends_with_4(shell: Shell, kept: Path) -> None:  # noqa: F811
    here = a_profile(engine="fake", engine_version="1")
    answer = shell("profile", "verify", str(here.save(Path("here.yaml"))))
    assert answer.code == 0 and all(line.startswith("same ") for line in answer.out.splitlines()), answer
    other = a_profile(engine="fake", engine_version="1", device=detect().model_copy(update={"name": "NVIDIA H100"}))
    path = other.save(Path("other.yaml"))
    answer = shell("profile", "verify", str(path))
    assert answer.code == 4 and "differs  device: NVIDIA H100, here" in answer.out
    assert "other.yaml does not hold here (device): tune again" in answer.errors
    answer = shell("profile", "verify", str(path), "--json")
    assert answer.code == 4 and json.loads(answer.out)["matches"] is False


def test_an_upgraded_engine_is_called_stale(shell: Shell) -> None:  # noqa: F811
    path = a_profile(engine="fake", engine_version="0").save(Path("p.yaml"))
    answer = shell("profile", "verify", str(path))
    assert answer.code == 4 and "differs  engine version: fake 0, here fake 1 (stale" in answer.out


def test_two_profiles_are_compared(shell: Shell, kept: Path) -> None:  # noqa: F811
    other = a_profile(engine_version="0.33.0").save(Path("other.yaml"))
    answer = shell("profile", "diff", str(kept), str(other))
    assert answer.code == 0 and "engine version" in answer.out and len(answer.out.splitlines()) == 2
    found = json.loads(shell("profile", "diff", str(kept), str(other), "--json").out)["differences"]
    assert found == [{"field": "engine version", "first": "0.32.0", "second": "0.33.0"}]
    assert shell("profile", "diff", str(kept), str(kept)).out == "no difference\n"


def test_an_export_is_exactly_its_text_on_stdout_or_in_a_file(shell: Shell, kept: Path) -> None:  # noqa: F811
    answer = shell("profile", "export", str(kept), "--as", "vllm-args")
    assert answer.errors == "" and shlex.split(answer.out, comments=True) == [
        "VLLM_CPU_KVCACHE_SPACE=5", "vllm", "serve", "Qwen/Qwen3-0.6B", "--max-num-seqs=64",
        "--max-num-batched-tokens=8192", "--enforce-eager",
    ]  # fmt: skip
    assert answer.out.startswith("# Exported by infertune. The tune said: better (+99.0%)")
    for form in ("vllm-yaml", "python", "compose", "kubernetes"):
        text = shell("profile", "export", str(kept), "--as", form).out
        written = shell("profile", "export", str(kept), "--as", form, "--out", f"deep/{form}")
        assert written.out == f"deep/{form}: {SETTINGS}\n"
        assert Path("deep", form).read_text() == text
    assert yaml.safe_load(Path("deep/vllm-yaml").read_text())["model"] == "Qwen/Qwen3-0.6B"


def test_a_run_is_exported_as_recommended_or_at_a_point(shell: Shell) -> None:  # noqa: F811
    assert shell("tune", *SMALL, "--out", "run").code == 0
    recommended = shell("profile", "export", "run").out
    Path("again.yaml").write_text(recommended)
    assert load_profile("again.yaml") == load_profile("run/profile.yaml")
    answer = shell("profile", "export", "run", "--point", "greenest", "--out", "green.yaml")
    assert answer.code == 0 and load_profile("green.yaml").answer == "unconfirmed"
    refused(shell("profile", "export", "run", "--point", "best"), 2, "fastest, greenest, knee")
    refused(shell("profile", "export", "green.yaml", "--point", "knee"), 2, "name a run's folder")
    refused(shell("profile", "export", "run", "--as", "python"), 2, "no such form for the engine fake")


def test_a_tune_says_that_its_question_was_answered(shell: Shell) -> None:  # noqa: F811
    first = shell("tune", *SMALL, "--out", "run")
    assert "has answered this" not in first.errors
    assert "has answered this: " in shell("tune", *SMALL, "--out", "run2").errors
    assert (
        "has answered this" not in shell("tune", *SMALL, "--out", "run3", "--workload", "synthetic:in=9,out=9").errors
    )


def test_an_unconfirmed_answer_leaves_a_proven_profile_in_its_place(shell: Shell) -> None:  # noqa: F811
    few = ["--engine", "fake", "--requests", "8", "--trials", "1"]
    shell("tune", *few, "--out", "first")
    [path] = Path("profiles").rglob("*.yaml")
    assert not load_profile(path).proven
    assert "is kept" not in shell("tune", *SMALL, "--trials", "12", "--out", "proof").out
    proven = load_profile(path)
    assert proven.proven, "a proven answer replaces an unconfirmed one"
    for number, flags in enumerate((["--trials", "1"], ["--budget", "1s"], ["--trials", "1", "--json"])):
        answer = shell("tune", *few[:4], *flags, "--out", f"run{number}")
        said = answer.errors if "--json" in flags else answer.out
        own = Path(f"run{number}/profile.yaml")
        assert answer.code == 0 and load_profile(path) == proven and load_profile(own).answer == "unconfirmed"
        [line] = [line for line in said.splitlines() if "the proven profile is kept" in line]
        assert f"infertune profile export {own} --out {path}" in line and proven.verdict() in line
        assert list(Path("profiles").rglob("*.yaml")) == [path]
    assert shell("profile", "export", str(own), "--out", str(path)).code == 0
    assert load_profile(path).answer == "unconfirmed", "the command that the line names puts it in place"


def test_two_workload_files_of_one_name_have_a_profile_each(shell: Shell) -> None:  # noqa: F811
    for folder, prompt in (("a", "hello"), ("b", "good morning to all")):
        Path(folder).mkdir()
        lines = (f'{{"prompt": "{prompt} {n}", "output_tokens": {8 + n % 3}}}\n' for n in range(400))
        Path(folder, "p.jsonl").write_text("".join(lines))
        shell(
            "tune", "--engine", "fake", "--trials", "1", "--workload", f"jsonl:{folder}/p.jsonl", "--out", f"r{folder}"
        )
    first, second = sorted(Path("profiles").rglob("*.yaml"), key=lambda path: len(path.name))
    found = load_profile(second).fingerprint.workload
    assert first.name == "no-model--jsonl-p.yaml" and second.name == f"no-model--jsonl-p-{found.content_hash[:8]}.yaml"
    assert load_profile(first).fingerprint.workload.spec == "jsonl:a/p.jsonl" and found.spec == "jsonl:b/p.jsonl"
    assert str(second) in shell("profile", "list").out.replace("\n", "")


@pytest.mark.parametrize("flag", ["--engine-python", "--engine-binary"])
def test_a_program_that_is_not_there_is_named_by_its_flag(shell: Shell, flag: str) -> None:  # noqa: F811
    path = str(a_profile(engine="fake", engine_version="1").save(Path("p.yaml")))
    refused(shell("profile", "verify", path, flag, "/nope"), 2, f"{flag} /nope is no executable")


STRANGERS = {
    "future": ("schema_version: 9\n", "upgrade infertune"),
    "object": ("x: !!python/object/apply:os.system ['touch hacked']\n", "could not determine a constructor"),
    "laughs": ("a: &a [x]\nb: [*a, *a]\n", "line 2: aliases are not allowed"),
    "empty": ("", "no profile"),
    "escape": ("schema_version: 1\n\x1b[31mred: 1\n", "not YAML"),
}


@pytest.mark.parametrize("command", ["show", "verify", "export"])
@pytest.mark.parametrize("name", [*STRANGERS, "large", "pipe", "folder", "absent"])
def test_a_strangers_file_is_refused_in_one_line(shell: Shell, command: str, name: str) -> None:  # noqa: F811
    path, word = Path("p.yaml"), "cannot read profile"
    if name in STRANGERS:
        text, word = STRANGERS[name]
        path.write_text(text)
    elif name == "large":
        with path.open("wb") as file:
            file.truncate(100 * 1024**2)
        word = "too large to be a profile"
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
        word = "is not a run" if command == "export" else word
    refused(shell("profile", command, str(path)), 2, str(path), word)
    assert not Path("hacked").exists()


def test_a_tampered_profile_passes_the_engine_nothing_but_knobs(shell: Shell) -> None:  # noqa: F811
    path = a_profile().save(Path("p.yaml"))
    path.write_text(path.read_text().replace("enforce_eager: true", "trust_remote_code: true"))
    refused(shell("profile", "export", str(path), "--as", "vllm-args"), 2, "'trust_remote_code'", "not exported")


def test_a_profile_says_what_its_settings_do_to_answers_and_whether_they_were_checked(shell: Shell) -> None:  # noqa: F811
    knobs = ("--knob", "bits=16,8", "--knob", "max_num_seqs=64,128", *HELD, "--trials", "4")
    assert shell("tune", "--engine", "fake:plateau,loss=0.01%", *knobs, "--out", "run").code == 0
    found = load_profile("run/profile.yaml")
    assert found.effects == {"max_num_seqs": "exact", "bits": "lossy"}
    assert found.answers and found.answers.verdict == "pass" and found.answers.figures and found.answers.limits
    shown = shell("profile", "show", "run/profile.yaml").out
    assert "answers: not changed by max_num_seqs; perhaps spoiled by bits" in shown
    assert f"answers checked with {found.answers.n_prompts} prompts: perplexity " in shown
    assert "likeliest token agrees 100.0% (" in shown and " pass " in shell("profile", "list").out
    Path("table.csv").write_text("kernel,output_tokens_per_s\n" + "a,10\nb,20\n" * 3)
    assert shell("tune", "--engine", "replay", "--table", "table.csv", "--out", "replayed").code == 0
    shown = shell("profile", "show", "replayed/profile.yaml").out
    assert "answers: perhaps spoiled by kernel\nanswers not checked\n" in shown
    unlike = shell("profile", "diff", "run/profile.yaml", "replayed/profile.yaml").out
    assert "pass (perplexity " in unlike and "not checked" in unlike
