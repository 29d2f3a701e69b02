"""The documentation: its links and anchors lead somewhere, and the commands, flags and fields that it shows exist."""

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel, RootModel

from infertune.cli import app
from infertune.cli.doctor import Diagnosis
from infertune.domain.quality import Check as AnswersCheck
from infertune.domain.record import Header
from infertune.domain.request import GateRequest, JobRequest, TuneRequest
from infertune.domain.trial import Trial
from infertune.domain.workload.readers import READERS
from infertune.engines import engine_names
from infertune.engines.exporting import left_out
from infertune.engines.vllm.command import read_command
from infertune.engines.vllm.table import CURATED
from infertune.gating.history import StoredRun
from infertune.gating.result import GateResult
from infertune.profiles.comparing import Check
from infertune.profiles.profile import Profile
from infertune.report.table import COLUMNS
from infertune.runs.summary import Summary
from infertune.tuning.study.plan import Plan
from infertune.tuning.study.record import StudyRecord
from infertune.tuning.sweep import BenchRequest, BenchResult, LandscapeRequest
from infertune.version import __version__

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "tests/**/*.md", "reports/**/*.md", "profiles/README.md")
    for path in ROOT.glob(pattern)
)
WRITTEN = [page for page in PAGES if page.name != "report.md"]  # those were written by `infertune report`
SOURCES = [
    path
    for folder in ("infertune", "tests", "docker", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and path.suffix in (".py", ".sh", ".Dockerfile", ".yaml", "")
] + [ROOT / "Makefile", ROOT / "action.yml", ROOT / "pyproject.toml"]
COMMAND = re.compile(r"(?:^|[`\"'(]|-m |&& |: )infertune +(?P<words>[a-z].*)")


class Shown(NamedTuple):
    """A piece of code that a page shows: where it stands, and its text."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.text}"


def shown(page: Path) -> Iterator[Shown]:
    """Every line of a page's code blocks, long ones joined at their backslash, and every span of inline code."""
    lines = page.read_text(encoding="utf-8").split("\n")
    number = 0
    while number < len(lines):
        start, text = number, lines[number]
        number += 1
        if not text.startswith("    "):
            continue
        while text.endswith("\\") and number < len(lines):
            text = f"{text[:-1]} {lines[number].strip()}"
            number += 1
        yield Shown(page, start + 1, text.strip())
    prose = "\n".join("" if line.startswith("    ") else line for line in lines)
    for span in re.finditer(r"`([^`]+)`", prose):
        yield Shown(page, prose.count("\n", 0, span.start()) + 1, " ".join(span[1].split()))


def commands(code: Shown) -> Iterator[str]:
    """The words behind `infertune` in a piece of code, without a comment behind them."""
    if found := COMMAND.search(code.text):
        yield re.split(r"\s#|[`;|&)]", found["words"])[0]


def flags_of(command: Any) -> set[str]:
    return {"--help", *(name for option in command.params for name in (*option.opts, *option.secondary_opts))}


def fault(shown_command: str) -> str:
    """What is wrong with the words behind `infertune`; empty if nothing is."""
    try:
        words = shlex.split(shown_command)  # a quoted command of another program is one word
    except ValueError:  # a quote that is an apostrophe, or was cut off
        words = shown_command.split()
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands") or word.startswith("-") or not re.fullmatch(r"[a-z-]+", word):
            break
        if word not in command.commands:
            return f"there is no command {word!r}"
        command = command.commands[word]
    flags = [word.partition("=")[0].rstrip(",.") for word in words if re.fullmatch(r"--?[a-z][\w-]*(=.*)?[,.]?", word)]
    unknown = [flag for flag in flags if flag not in flags_of(command)]
    return f"{command.name} has no {', '.join(unknown)}" if unknown else ""


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    lines = page.read_text(encoding="utf-8").split("\n")
    return {slug(line.lstrip("#")) for line in lines if re.match(r"#{1,6} ", line)}


def sections(page: Path) -> dict[str, str]:
    """Heading of the second level → its text."""
    parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    lines = [line for line in page.read_text(encoding="utf-8").split("\n") if not line.startswith("    ")]
    text = re.sub(r"`[^`]*`", "", "\n".join(lines))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(ROOT) or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_the_index_of_the_documentation_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index] == ["README.md"]


def test_the_readme_is_one_page_of_first_steps() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= 220


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_shows_exists_with_its_flags(page: Path) -> None:
    wrong = [f"{code} ({why})" for code in shown(page) for command in commands(code) if (why := fault(command))]
    assert wrong == []


def test_the_check_of_commands_sees_unknown_commands_and_flags() -> None:
    assert fault("tune MODEL --budget 30m --slo ttft_p99_s<2") == ""
    assert fault("profile export RUN --as vllm-args") == ""
    assert "optimise" in fault("optimise MODEL")
    assert "--bugdet" in fault("tune MODEL --bugdet=30m")
    assert "shelve" in fault("profile shelve")
    assert fault('tune MODEL --current "vllm serve MODEL --max-num-seqs 128"') == ""
    shown_here = Shown(ROOT / "x.md", 1, "script: infertune gate P.yaml --juint F  # a comment with --anything")
    assert list(map(fault, commands(shown_here))) == ["gate has no --juint"]
    assert len([command for page in WRITTEN for code in shown(page) for command in commands(code)]) > 50


def test_every_flag_named_in_a_text_is_one_of_ours_or_stands_in_a_file_of_ours() -> None:
    def all_flags(command: Any) -> set[str]:
        below = getattr(command, "commands", {}).values()
        return flags_of(command).union(*map(all_flags, below))

    ours = all_flags(typer.main.get_command(app))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path != Path(__file__))
    named = {
        flag: str(code)
        for page in WRITTEN
        for code in shown(page)
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code.text.partition(" # ")[0])
    }
    assert {flag: where for flag, where in named.items() if flag not in ours and flag not in sources} == {}


def test_every_benchmark_and_make_target_that_a_page_shows_exists() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    wrong = []
    for page in WRITTEN:
        for code in shown(page):
            for name in re.findall(r"python -m (tests[\w.]*)", code.text):
                if importlib.util.find_spec(name) is None:
                    wrong.append(str(code))
            if found := re.match(r"make ((?:[a-z][a-z-]* ?)+)", code.text.partition("#")[0]):
                wrong += [str(code) for target in found[1].split() if target not in targets]
    assert wrong == []


def test_pages_that_sources_name_exist() -> None:
    named = {
        name: path
        for path in SOURCES
        if path != Path(__file__)
        for name in re.findall(r"docs/[\w-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert {name: path for name, path in named.items() if not (ROOT / name).is_file()} == {}


DOCUMENTS: dict[str, tuple[type[BaseModel], ...]] = {
    "trials.jsonl": (Header, Trial, AnswersCheck),
    "profile.yaml": (Profile,),
    "gate.json": (GateResult,),
    "Stored runs": (StoredRun,),
    "Configuration files": (JobRequest, TuneRequest, LandscapeRequest, BenchRequest, GateRequest),
    "Study plans": (Plan,),
    "study.json": (StudyRecord,),
    "JSON output": (Summary, BenchResult, Diagnosis, Check),
}


KINDS = {"measured", "infeasible", "timed_out", "crashed", "checked"}  # of an outcome: values, not fields


def parts(document: type[BaseModel]) -> set[type[BaseModel]]:
    """A document's class and those of the objects in it."""
    found, waiting = {document}, [field.annotation for field in document.model_fields.values()]
    while waiting:
        annotation = waiting.pop()
        waiting += get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in found:
            found.add(annotation)
            waiting += [field.annotation for field in annotation.model_fields.values()]
    return {part for part in found if not issubclass(part, RootModel)}


@pytest.mark.parametrize("section", DOCUMENTS)
def test_the_page_of_file_formats_names_every_field_and_the_schema_version(section: str) -> None:
    page = sections(ROOT / "docs" / "file-formats.md")
    text = page[section]
    for document in set().union(*map(parts, DOCUMENTS[section])):
        home = text if document in DOCUMENTS[section] else "".join(page.values())
        for name, field in document.model_fields.items():
            assert f"`{field.alias or name}`" in home, f"{document.__name__}.{name}"
            if name == "schema_version":
                assert f"chema version {field.default}" in text, document.__name__


@pytest.mark.parametrize("section", ["trials.jsonl", "profile.yaml", "gate.json", "Stored runs", "study.json"])
def test_the_page_of_file_formats_names_no_field_that_is_not_there(section: str) -> None:
    fields = {
        field.alias or name
        for document in set().union(*map(parts, DOCUMENTS[section]))
        for name, field in document.model_fields.items()
    }
    named = set(re.findall(r"`([a-z_0-9]+)`", sections(ROOT / "docs" / "file-formats.md")[section]))
    assert named - fields - KINDS == set()


def test_the_page_of_workloads_names_every_format() -> None:
    text = (ROOT / "docs" / "workloads.md").read_text(encoding="utf-8")
    assert [reader.name for reader in READERS if f"`{reader.name}:FILE" not in text] == []


def test_the_page_of_engines_names_every_engine() -> None:
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert [name for name in engine_names() if f"| `{name}` |" not in text] == []


def test_the_page_of_engines_names_every_argument_of_vllm_that_is_searched() -> None:
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    names = [entry.name for entry in CURATED if entry.cpu or entry.gpu]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_page_of_knobs_shows_how_an_export_names_what_it_leaves_out() -> None:
    command = read_command("vllm serve m/x --api-key k")
    (said,) = left_out(command, command)
    assert "not known from the script" in said and said in (ROOT / "docs/knobs.md").read_text()


def test_the_page_of_file_formats_explains_every_column_of_the_table() -> None:
    text = sections(ROOT / "docs" / "file-formats.md")["landscape.csv"]
    assert [name for name, meaning in COLUMNS.items() if f"| `{name}` | {meaning} |" not in text] == []


def test_the_citation_and_the_package_have_one_version_licence_and_address() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"] == __version__
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").split()[:4] == ["Apache", "License", "Version", "2.0,"]
    home = citation["repository-code"]
    assert project["urls"]["Repository"] == home
    elsewhere = {
        address
        for path in [*WRITTEN, ROOT / "pyproject.toml", ROOT / "CITATION.cff", ROOT / "action.yml"]
        for address in re.findall(r"https://github\.com/[\w.-]+/infertune", path.read_text(encoding="utf-8"))
    }
    assert elsewhere == {home}
