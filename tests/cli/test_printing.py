"""What is printed is text: no markup, no escape sequence, no command of CI, wherever the text came from."""

import ast
import io
import json
import math
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

import infertune.cli
from infertune.cli.doctor import Diagnosis, EngineStatus
from infertune.cli.printing import Heading, console, print_json, say, table_of
from infertune.cli.terminal import TerminalObserver
from infertune.domain.knobs import Choice, SearchSpace
from infertune.domain.measurement import Crashed, Infeasible
from tests.builders import CPU, config, header, trial
from tests.cli.test_cli import SMALL, Shell, shell  # noqa: F401 - a fixture is found by its name
from tests.cli.test_profiles import a_profile

HARMFUL = {
    "a bell": "\x07",
    "NUL": "\x00",
    "DEL": "\x7f",
    "colours": "\x1b[31m",
    "the title": "\x1b]0;owned\x07",
    "the clipboard": "\x1b]52;c;b3duZWQ=\x1b\\",
    "a link": "\x1b]8;;http://example.com\x1b\\here\x1b]8;;\x1b\\",
    "C1": "\x9b31m\x9d0;owned\x9c\x85",
    "an override of direction": "\u202e\u2066\u2069\u200f",
    "what cannot be seen": "\u200b\u200d\u2060\ufeff\u00ad",
    "other line ends": "\r\n\u2028\u2029\x0b\x0c\x1c",
    "half a surrogate pair": "\udc80",
    "a private character": "\ue000\U000f0000",
}
ALL = "".join(HARMFUL.values())
MARKUP = "run[1] tt[/b] [red]x[/red] [link=http://example.com]y[/link] :smile: [/] \\[z]"


def safe(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


def on_a_terminal(width: int = 500) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)


def shown(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


@pytest.mark.parametrize("what", HARMFUL)
def test_a_line_and_a_cell_hold_nothing_that_steers_a_terminal(what: str) -> None:
    on = on_a_terminal()
    text = f"before{HARMFUL[what]}after"
    say(on, text, (text, "bold"))
    on.print(table_of([Heading(text), Heading("b", fold=False)], [(text, text)]))
    assert safe(shown(on)) and shown(on).count("before") == 5 == shown(on).count("after")


def test_markup_and_emoji_codes_stay_text_on_any_console() -> None:
    for on in (console(), Console()):
        on.file = io.StringIO()
        on.width = 500
        say(on, MARKUP, (MARKUP, "red"))
        on.print(table_of([Heading(MARKUP)], [(MARKUP,)]))
        assert shown(on).count(MARKUP) == 4


def test_a_console_prints_even_a_plain_text_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(MARKUP, soft_wrap=True)
    assert capsys.readouterr().out == MARKUP + "\n"


@pytest.mark.parametrize("width", [5, 20, 200])
def test_no_line_is_a_command_of_ci(width: int) -> None:
    on = on_a_terminal(width)
    for text in (
        "::error::x",
        "  ::add-mask::x",
        "a ##[error]x",
        "\n::error::x",
        "xx   ::error::x",
        "xxxxx::error::x",
        "x:::error::x",
    ):
        say(on, text)
        on.print(table_of([Heading(text), Heading("b")], [(text, text)]))
    assert not re.search(r"^\s*::|##\[", shown(on), re.M)


def test_a_run_is_shown_without_what_steers_a_terminal() -> None:
    on = on_a_terminal()
    observer = TerminalObserver(on)
    bad = f"x{ALL}{MARKUP}"
    observer.run_starts(Path(bad), config(name="a"))
    observer.phase(bad, 3)
    observer.trial_starts(config(**{bad: bad}), live=False)
    observer.trial_ends(
        trial(0, config(**{bad: bad}), Crashed(stage="run", detail=bad)), figure=None, best=1.0, default=1.0
    )
    observer.note(bad)
    assert observer._bar is not None
    observer._bar.refresh()
    assert "\x1b[" in shown(on), "the bar moves the cursor"
    own = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", shown(on))
    observer.close()
    assert safe(own) and "run[1] tt[/b]" in own and ":smile:" in own


def hostile_run(folder: Path) -> Path:
    """A stranger's run whose every text is hostile."""
    bad = f"{MARKUP} ##[error]x{ALL}".replace("\udc80", "")  # no JSON document holds that
    space = SearchSpace((Choice("eager", (True, False), True, why="w"), Choice("mode", ("a", "b"), "a", why=bad)))
    trials = [trial(0, space.default, 100.0), trial(1, space.default.updated({"eager": False}), 120.0)]
    for outcome in (
        Crashed(stage="run", detail=bad, stderr_tail=bad),
        Infeasible(reason="rejected", stage="load", detail=bad),
    ):
        trials.append(trial(len(trials), space.default.updated({"mode": "b"}), outcome))
    first = header(space).model_dump(mode="json")
    first |= {"notes": [bad], "engine_version": bad, "device": {**first["device"], "name": bad}}
    folder.mkdir()
    lines = [first, *(one.model_dump(mode="json") for one in trials), {"ended": bad}]
    (folder / "trials.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


@pytest.mark.parametrize("as_json", [False, True])
def test_the_report_of_a_strangers_run_steers_no_terminal(shell: Shell, as_json: bool) -> None:  # noqa: F811
    run = hostile_run(shell.folder / "run[1]")
    answer = shell("report", run.name, *(["--json"] if as_json else []))
    assert answer.code == 0 and safe(answer.out) and safe(answer.errors), answer
    assert "##[" not in answer.out or as_json
    assert "run[1]/report.html" in answer.out and (as_json or "tt[/b]" in answer.out)
    if as_json:
        assert json.loads(answer.out)["failures"] and answer.out.isascii()


def test_a_strangers_profile_steers_no_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    bad = f"{ALL}{MARKUP}".replace("\udc80", "")  # a YAML file cannot hold that
    a_profile(engine=bad, engine_version=bad, infertune_version=bad).save(Path("a[1].yaml"))
    a_profile().save(Path("b.yaml"))
    monkeypatch.setenv("COLUMNS", "3000")
    for arguments in (
        ["profile", "show", "a[1].yaml"],
        ["profile", "diff", "a[1].yaml", "b.yaml"],
        ["profile", "diff", "a[1].yaml", "b.yaml", "--json"],
        ["profile", "list", "--profiles", "."],
        ["profile", "list", "--profiles", ".", "--json"],
        ["profile", "verify", "a[1].yaml"],
        ["profile", "export", "a[1].yaml"],
        ["gate", "a[1].yaml"],
    ):
        answer = shell(*arguments)
        assert safe(answer.out) and safe(answer.errors) and "Traceback" not in answer.errors, arguments
        assert answer.out or answer.errors
    assert "a[1].yaml" in shell("profile", "list", "--profiles", ".").out
    assert "a[1].yaml" in shell("profile", "diff", "a[1].yaml", "b.yaml").out


def test_an_error_is_one_line_of_text(shell: Shell) -> None:  # noqa: F811
    for arguments in (
        ["gate", "tt[/b]" + ALL.replace("\0", "")],
        ["space", "--engine", f"[red]{ALL}"],
        [f"[x]{ALL}"],
    ):
        answer = shell(*arguments)
        assert answer.code == 2 and answer.out == "" and safe(answer.errors) and answer.errors.count("\n") == 1
        assert re.search(r"tt\[/b\]|\[red\]|\[x\]", answer.errors)


def test_the_traceback_of_a_bug_steers_no_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def broken(*_: object) -> None:
        raise ValueError(f"{ALL}\n::error::x")

    monkeypatch.setattr("infertune.cli.doctor.diagnose", broken)
    answer = shell("doctor")
    assert answer.code == 5 and safe(answer.errors) and "ValueError" in answer.errors
    assert not re.search(r"^\s*::", answer.errors, re.M)


def test_doctor_names_the_extra_with_its_brackets(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    what = "not installed: pip install infertune[vllm]"
    status = EngineStatus(name="vllm", version=None, usable=False, what=what)
    found = Diagnosis(infertune_version="1", python=f"3 ({MARKUP})", device=CPU, engines=(status,), energy=())
    monkeypatch.setattr("infertune.cli.doctor.diagnose", lambda: found)
    answer = shell("doctor")
    assert what in answer.out and MARKUP in answer.out


def test_a_folder_with_brackets_is_shown_as_it_is_named(shell: Shell) -> None:  # noqa: F811
    answer = shell("tune", *SMALL, "--out", "run[1]", "--profiles", "tt[/b]:smile:")
    assert answer.code == 0
    assert "run: run[1]\n" in answer.errors and "report:  run[1]/report.html\n" in answer.out
    assert "profile: tt[/b]:smile:/" in answer.out


def test_help_is_text(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(sys, "argv", [f"infer{ALL}[tune]"])
    for arguments in ([], ["--help"], ["profile"], ["gate", "--help"]):
        answer = shell(*arguments)
        assert safe(answer.out + answer.errors) and "Usage: infertune" in answer.out + answer.errors
        assert answer.code == (0 if "--help" in arguments else 2)
    app = infertune.cli.app
    assert app.rich_markup_mode is None, "with rich's markup, [vllm] in a help text would vanish"


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": ALL})
    text = capsys.readouterr().out
    assert text.isascii() and safe(text) and json.loads(text) == {"a": ALL}


def test_json_has_no_mark_of_a_workflow_command(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"###[a": "##[error]x"})
    text = capsys.readouterr().out
    assert "##[" not in text and json.loads(text) == {"###[a": "##[error]x"}


def test_json_has_null_where_a_number_is_none_that_json_has(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1.5, math.nan], "b": {"c": (math.inf, 2)}, "d": True})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": [1.5, None], "b": {"c": [None, 2]}, "d": True,
    }  # fmt: skip


def test_consoles_and_tables_are_made_in_one_place() -> None:
    """Elsewhere, a text would be taken for markup, or printed with what is in it."""
    folder = Path(infertune.cli.__file__).parent
    strays = [
        f"{path.name}:{node.lineno}"
        for path in folder.glob("*.py")
        if path.name != "printing.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Console", "Table", "Text")
    ]
    assert strays == []


def test_no_piece_of_a_line_is_a_workflow_command() -> None:
    stream = io.StringIO()
    target = Console(file=stream, width=80, markup=False)
    say(target, "note: ", ("##[error]x", "bold"), " ##[group]y")
    assert "##[" not in stream.getvalue() and "error" in stream.getvalue()
