"""What the fuzz gives to the program: sound samples, which the program itself made, and changes of them."""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import typer.main
import yaml

from infertune import cli
from tests.benchmarks.fuzz_mutation import HOSTILE_TEXTS, as_json, as_yaml, mutated_bytes, mutated_tree

_SMALL = ("--requests", "4", "--finalists", "1", "--confirm-launches", "1", "--final-launches", "2", "2")
_TUNE = ("tune", "--engine", "fake", "--trials", "2", *_SMALL)
_REPLAY = ("--engine", "replay", "--table")
_PROFILE = "../samples/profile.yaml"
_TABLE = "../samples/table.csv"
_RUN = "run/trials.jsonl"
_PLANTED = ("landscape.csv", "report.html", "report.md", "profile.yaml", "pictures", "logs")
_FORMS = ("vllm-args", "vllm-yaml", "python", "compose", "kubernetes", "fake", "")


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        kind: What was changed, for the tally.
        arguments: The command line after the program's name.
        files: Path within the folder that it runs in → content.
        links: Path within that folder → what it is a link to.
    """

    kind: str
    arguments: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path, samples: "Samples") -> None:
        """Write its files, beside the rest of the folders that they belong to."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name, target in self.links.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(samples.outside / target)


@dataclass(frozen=True)
class Samples:
    """Sound documents, each as values where it has some and as bytes.

    Attributes:
        outside: A folder that no input may change.
        runs: Command → its ledger, line by line as values.
        profile: A profile.
        history: Stored runs of a gate.
        texts: Name → a text that is no JSON or YAML: tables, workloads.
        configs: Command → a configuration file for it.
        odd: Paths of files that are none: pipes, folders, links that lead nowhere.
    """

    outside: Path
    runs: dict[str, list[Any]]
    profile: Any
    history: list[Any]
    texts: dict[str, bytes]
    configs: dict[str, Any]
    odd: tuple[str, ...]


def make_samples(folder: Path, outside: Path) -> Samples:
    """Sound documents in a folder, written by the program's own commands on the simulated engine."""
    folder.mkdir(parents=True)
    texts = _texts()
    for name, content in texts.items():
        (folder / name).write_bytes(content)
    table = ("--engine", "replay", "--table", "table.csv")
    commands = {
        "tune": (*_TUNE[:3], "--trials", "5", *_SMALL[:4], "--confirm-launches", "2", "--final-launches", "2", "2"),
        "landscape": ("landscape", *table, "--requests", "4", "--repeats", "2"),
        "bench": ("bench", "--engine", "fake", "--launches", "2", "2", "--requests", "4"),
    }
    for name, arguments in commands.items():
        _run(folder, *arguments, "--out", name)
    shutil.copy(folder / "tune" / "profile.yaml", folder / "profile.yaml")
    _run(folder, "gate", "profile.yaml", "--requests", "4", "--out", "gate", may_fail=True)
    for number in range(3):
        stored = ("--mode", "stored", "--history", "history", "--launches", "1", "--requests", "4")
        _run(folder, "gate", "profile.yaml", *stored, "--out", f"stored{number}", may_fail=True)
    history = [json.loads(path.read_bytes()) for path in sorted((folder / "history").glob("*.json"))]
    assert len(history) == 3
    runs = {
        name: [json.loads(line) for line in (folder / name / "trials.jsonl").read_text().splitlines()]
        for name in (*commands, "gate")
    }
    configs = {
        "tune": {"engine": "fake", "trials": 2, "requests": 4, "finalists": 1, "confirm_launches": 1, "seed": 3,
                 "final_launches": [2, 2], "slo": ["output_tokens_per_s>1"], "window": "1s", "price_per_hour": 2.5,
                 "objective": "cost", "budget": 60, "patience": 2, "out": "here", "country": "DEU",
                 "workload": "synthetic:in=8-16,out=8", "load_timeout": "1m"},
        "bench": {"engine": "fake", "launches": [1, 2], "windows": 1, "requests": 4, "seed": 1, "run_timeout": 60},
        "landscape": {"engine": "replay", "table": _TABLE, "requests": 4, "repeats": 1, "ignore": ["status"]},
        "gate": {"requests": 4, "margin": "5%", "mode": "paired", "metric": ["output_tokens_per_s"], "seed": 1},
    }  # fmt: skip
    profile = yaml.safe_load((folder / "profile.yaml").read_text())
    return Samples(outside, runs, profile, history, texts, configs, _odd_files(folder / "odd"))


def _run(folder: Path, *arguments: str, may_fail: bool = False) -> None:
    shown = io.StringIO()
    try:
        with (
            contextlib.chdir(folder),
            mock.patch.object(sys, "argv", ["infertune", *arguments]),
            contextlib.redirect_stdout(shown),
            contextlib.redirect_stderr(shown),
        ):
            cli.main()
    except SystemExit as end:
        assert not end.code or may_fail, shown.getvalue()


def _texts() -> dict[str, bytes]:
    rng = random.Random(1)
    rows = [f"2024-01-01 00:00:{n % 60:02d}.5,{rng.randrange(1, 99)},{rng.randrange(1, 20)}" for n in range(30)]
    trace = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n"
    prompts = "".join(json.dumps({"prompt": f"Question {n}?", "output_tokens": 8}) + "\n" for n in range(24))
    human = "".join(json.dumps({"task_id": f"t/{n}", "prompt": f"def f{n}():"}) + "\n" for n in range(24))
    table = "batch,mode,status,output_tokens_per_s,j_per_output_token,launch_s\n" + "".join(
        f"{batch},{mode},{'oom' if batch == 8 else 'ok'},{100 + batch * 10 + len(mode)},0.5,3\n"
        for batch in (1, 2, 4, 8)
        for mode in ("fast", "safe")
    )
    return {
        "trace.csv": trace.encode(),
        "prompts.jsonl": prompts.encode(),
        "human.jsonl": human.encode(),
        "trace.csv.gz": gzip.compress(trace.encode(), mtime=0),
        "table.csv": table.encode(),
    }


def _odd_files(folder: Path) -> tuple[str, ...]:
    """Files that are none, or are not what anybody wants to read."""
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "file").write_text("kept\n")
    (folder / "link").symlink_to(folder / "file")  # one that the user names is followed, as by any program
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(folder):  # a socket's path is short
        listener.bind("socket")
    with (folder / "sparse").open("wb") as file:
        file.truncate(2**40)
    aliases = "".join(f"l{n}: &l{n} [*l{n - 1}, *l{n - 1}]\n" for n in range(1, 40))
    contents = {
        "empty": b"",
        "nul": bytes(1000),
        "bomb.gz": gzip.compress(bytes(16 * 1024**2), mtime=0) * 64,
        "deep.json": b"[" * 100_000,
        "deep.yaml": b"- " * 20_000,
        "alias.yaml": f"l0: &l0 [a]\n{aliases}".encode(),
        "long.csv": b"a,output_tokens_per_s\n" + b"1" * 300_000 + b",1\n",
        "wide.csv": b"," * 200_000 + b"\n",
        "latin1": "é\n".encode("latin-1") * 100,
        "utf16": "a: 1\n".encode("utf-16"),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return tuple(f"../samples/odd/{path.name}" for path in sorted(folder.iterdir()))


def make_case(kind: str, number: int, samples: Samples) -> Case:
    """An input of a kind of `KINDS`; the number decides what is changed and how."""
    return _MAKERS[kind](Random(number), samples)


def sound_cases(samples: Samples) -> list[Case]:
    """One input of each kind before anything is changed: the program takes all of them."""

    def ledger(name: str) -> dict[str, bytes]:
        return {_RUN: b"".join(as_json(line) + b"\n" for line in samples.runs[name])}

    stored = ("--mode", "stored", "--history", "h", "--launches", "1", "--requests", "4", "--on-inconclusive", "pass")
    history = {f"h/{number}.json": as_json(run) for number, run in enumerate(samples.history)}
    gate = ("--on-inconclusive", "pass", "--config", "c.yaml")
    return [
        *(Case("ledger", ("report", "run"), ledger(name)) for name in samples.runs if name != "gate"),
        Case("profile", ("profile", "show", "p.yaml"), {"p.yaml": as_yaml(samples.profile)}),
        *(
            Case("config", (name, *((_PROFILE, *gate) if name == "gate" else gate[2:])), {"c.yaml": as_yaml(config)})
            for name, config in samples.configs.items()
        ),
        Case("table", ("space", *_REPLAY, "t.csv"), {"t.csv": samples.texts["table.csv"]}),
        *(
            Case("workload", ("space", "--engine", "fake", "--workload", f"{kind}:w"), {"w": samples.texts[name]})
            for kind, name in (("trace", "trace.csv.gz"), ("jsonl", "prompts.jsonl"), ("humaneval", "human.jsonl"))
        ),
        Case("history", ("gate", _PROFILE, *stored), history),
        *(Case("command line", (*name.split(), *arguments)) for name, arguments in _START.items() if name != "gate"),
    ]


def _ledger_case(random: Random, samples: Samples) -> Case:
    of = random.choice(list(samples.runs))
    lines = samples.runs[of]
    if random.random() < 0.75:
        lines = list(lines)
        at = random.choice((0, random.randrange(len(lines))))
        lines[at] = mutated_tree(random, lines[at])
        content = b"".join(as_json(line) + b"\n" for line in lines)
    else:
        content = mutated_bytes(random, b"".join(as_json(line) + b"\n" for line in lines))
    commands: tuple[tuple[str, ...], ...] = (
        ("report", "run"),
        ("report", "run", "--json"),
        ("report", "run", "--to-optuna", "sqlite:///o.db"),
        ("report", "run", "../samples/tune", "--out", "compared"),
        ("profile", "export", "run"),
        ("profile", "export", "run", "--point", random.choice(("fastest", "greenest", "knee"))),
        ("profile", "export", "run", "--as", random.choice(_FORMS)),
        ("tune", "--resume", "run"),
        ("landscape", "--resume", "run"),
        (*_TUNE, "--from", "run"),
        ("space", *_REPLAY, "run"),
        ("tune", *_REPLAY, _RUN, "--trials", "2", *_SMALL),
    )
    links = {}
    if random.random() < 0.05:
        name = random.choice(_PLANTED)
        links[f"run/{name}"] = "folder" if name in ("pictures", "logs") else "precious"
    return Case("ledger", random.choice(commands), {_RUN: content}, links)


def _profile_case(random: Random, samples: Samples) -> Case:
    content = as_yaml(mutated_tree(random, samples.profile))
    if random.random() < 0.25:
        content = mutated_bytes(random, as_yaml(samples.profile))
    name = "profiles/p.yaml"
    commands: tuple[tuple[str, ...], ...] = (
        ("profile", "show", name),
        ("profile", "show", name, "--json"),
        ("profile", "list"),
        ("profile", "verify", name),
        ("profile", "diff", name, _PROFILE),
        ("profile", "diff", _PROFILE, name, "--json"),
        ("profile", "export", name),
        ("profile", "export", name, "--as", random.choice(_FORMS), "--out", "exported"),
        ("gate", name, "--requests", "4"),
        ("gate", name, "--requests", "4", "--calibrate", "--json"),
        ("gate", _PROFILE, "--requests", "4", "--against", name, "--junit", "j.xml"),
        (*_TUNE, "--from", name),
        (*_TUNE, "--current", name),
    )
    return Case("profile", random.choice(commands), {name: content})


def _config_case(random: Random, samples: Samples) -> Case:
    of = random.choice(list(samples.configs))
    content = as_yaml(mutated_tree(random, samples.configs[of]))
    if random.random() < 0.25:
        content = mutated_bytes(random, as_yaml(samples.configs[of]))
    command = (of, _PROFILE) if of == "gate" else (of,)
    return Case("config", (*command, "--config", "c.yaml"), {"c.yaml": content})


def _table_case(random: Random, samples: Samples) -> Case:
    content = mutated_bytes(random, samples.texts["table.csv"])
    commands: tuple[tuple[str, ...], ...] = (
        ("space", *_REPLAY, "t.csv"),
        ("space", *_REPLAY, "t.csv", "--ignore", "mode", "--json"),
        ("tune", *_REPLAY, "t.csv", "--trials", "2", *_SMALL),
        ("bench", *_REPLAY, "t.csv", "--launches", "1", "1", "--requests", "4"),
    )
    return Case("table", random.choice(commands), {"t.csv": content})


def _workload_case(random: Random, samples: Samples) -> Case:
    name = random.choice([name for name in samples.texts if name != "table.csv"])
    content = mutated_bytes(random, samples.texts[name])
    spec = f"{random.choice(('trace', 'jsonl', 'humaneval'))}:w{random.choice(('', ',out=8', ',out=0'))}"
    if random.random() < 0.6:
        spec = f"{'trace' if 'trace' in name else 'humaneval' if 'human' in name else 'jsonl'}:w"
    commands: tuple[tuple[str, ...], ...] = (
        ("space", "--engine", "fake", "--workload", spec),
        (*_TUNE, "--workload", spec),
        ("gate", _PROFILE, "--requests", "4", "--workload", spec),
    )
    return Case("workload", random.choice(commands), {"w": content})


def _history_case(random: Random, samples: Samples) -> Case:
    files = {f"h/{number}.json": as_json(run) for number, run in enumerate(samples.history)}
    at = random.choice(list(files))
    tree = mutated_tree(random, json.loads(files[at]))
    files[at] = as_json(tree) if random.random() < 0.75 else mutated_bytes(random, files[at])
    stored = ("--mode", "stored", "--history", "h", "--launches", "1", "--requests", "4")
    return Case("history", ("gate", _PROFILE, *stored), files)


def _command_case(random: Random, samples: Samples) -> Case:
    """A command with some of its options, their values sound or not."""
    name, command = random.choice(_commands())
    arguments = list(_START[name])
    options = [p for p in command.params if p.param_type_name == "option" and p.name not in ("help", "version")]
    for option in random.sample(options, min(len(options), random.choice((0, 1, 1, 2, 4)))):
        arguments.append(random.choice(option.opts))
        if not option.is_flag:
            arguments += [_value(random, option, samples) for _ in range(option.nargs)]
    if random.random() < 0.15 and arguments:
        arguments[random.randrange(len(arguments))] = random.choice(HOSTILE_TEXTS).replace("--help", "-x")
    return Case("command line", (*name.split(), *arguments))


_START: dict[str, tuple[str, ...]] = {
    "tune": ("--engine", "fake", "--trials", "2", *_SMALL),
    "bench": ("--engine", "fake", "--launches", "1", "1", "--requests", "4"),
    "landscape": (*_REPLAY, _TABLE, "--requests", "4", "--repeats", "1"),
    "space": ("--engine", "fake"),
    "fake": ("flat", "--trials", "1"),
    "gate": (_PROFILE, "--requests", "4"),
    "report": ("../samples/tune",),
    "profile list": ("--profiles", "../samples/profiles"),
    "profile show": (_PROFILE,),
    "profile diff": (_PROFILE, _PROFILE),
    "profile verify": (_PROFILE,),
    "profile export": (_PROFILE,),
}
_NUMBERS = ("-1", "0", "1", "2", "x", "", "1e400", "9" * 400, "nan", "inf", "-inf", "2147483648", "0x1", "1.5", "1_0")
_DURATIONS = ("1s", "0", "-1s", "1e400", "9" * 400 + "s", "nan", "inf", "99999999999h", "1m1", "s", "1\0s", "")
_ENGINES = ("fake", "fake:flat", "fake:nope", "fake:", "replay", "nope", "", "fake\0", "x" * 300, "Fake", "fake:../x")


_MAKERS: dict[str, Callable[[Random, Samples], Case]] = {
    "ledger": _ledger_case,
    "profile": _profile_case,
    "config": _config_case,
    "table": _table_case,
    "workload": _workload_case,
    "history": _history_case,
    "command line": _command_case,
}
KINDS = tuple(_MAKERS)


def _commands() -> list[tuple[str, Any]]:
    group: Any = typer.main.get_command(cli.app)
    found = [(name, command) for name, command in group.commands.items() if not hasattr(command, "commands")]
    found += [(f"profile {name}", command) for name, command in group.commands["profile"].commands.items()]
    return [(name, command) for name, command in found if name in _START]


def _value(random: Random, option: Any, samples: Samples) -> str:
    paths = (
        *samples.odd, "../samples/tune", "../samples/gate", _PROFILE, _TABLE, "../samples/trace.csv", "nothing",
        "a" * 300,
        "a/" * 3000, "a\0b", "", ".", "..", "~nobody/x", "-", "a\nb", "\udcff", "new/folder", "[bold]", "run[1]",
    )  # fmt: skip
    choices: dict[str, tuple[str, ...]] = {
        "engine": _ENGINES,
        "window": _DURATIONS, "budget": _DURATIONS, "load_timeout": _DURATIONS, "run_timeout": _DURATIONS,
        "workload": tuple(f"{kind}:{path}" for kind in ("trace", "jsonl", "humaneval", "") for path in paths)
        + ("synthetic:in=8,out=8", "synthetic:in=8", "synthetic:in=0,out=1", "synthetic:in=lognormal(8,9),out=8"),
        "to_optuna": ("sqlite:///o.db", "sqlite:///no/folder/o.db", "nope", "", "sqlite://", "sqlite:///a\0b", "x://y"),
        "margin": ("5%", "0", "1", "nan", "-5%", "1e400", "%", ""),
        "slo": ("power_w<1", "x<1", "<", "ttft_p99_s<nan", "ttft_p99_s<1e400", "latency_p99_s>-1", ""),
        "set_": ("batch=1", "x", "=", "a=", "max_num_seqs=nan", "max_num_seqs=" + "9" * 400, "max_num_seqs=8", "a\0=1"),
        "model": ("builtin:tiny", "builtin:x", "~nobody/x", *paths),
        "country": ("DEU", "deu", "XXX", "", "D\0"),
    }  # fmt: skip
    choices |= {"knob": choices["set_"], "baseline_set": choices["set_"]}
    if random.random() < 0.1:
        return random.choice(HOSTILE_TEXTS)
    if option.name in choices:
        return random.choice(choices[str(option.name)])
    if option.nargs > 1 or option.type_descriptor.annotation in (int, float):
        return random.choice(_NUMBERS)
    return random.choice((*paths, *HOSTILE_TEXTS) if random.random() < 0.3 else paths)
